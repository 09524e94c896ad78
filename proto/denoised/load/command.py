"""``denoised load``: its options, profiles that set them, and how it exits.

What a run needs is imported when one is asked for, so that --help and the other commands don't wait for it.
"""

import sys
import tomllib
from pathlib import Path
from typing import Any, cast

import click

from denoised.cli.connection import Connection, connection_options
from denoised.cli.exits import Failed, Unreachable
from denoised.errors import DenoisedError, ServerUnavailableError


def _profile(context: click.Context, _: click.Parameter, path: Path | None) -> Path | None:
    """Makes a profile's values the defaults of the options that are named alike."""
    if path is None:
        return None
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise click.BadParameter(f"{path} can't be read: {error}") from error
    values.pop("about", None)
    known = {
        option.removeprefix("--").replace("-", "_"): parameter.name
        for parameter in context.command.params
        for option in parameter.opts
        if option.startswith("--") and parameter.name not in ("profile", "help")
    }
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise click.BadParameter(f"{path}: no option is called {', '.join(unknown)}; there are {', '.join(known)}")
    context.default_map = {known[name]: value for name, value in values.items()}
    return path


_share = click.FloatRange(0, 1)
_positive = click.FloatRange(0, min_open=True)


@click.command(context_settings={"show_default": True})
@connection_options
@click.option(
    "--profile",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    is_eager=True,
    callback=_profile,
    expose_value=False,
    help="A TOML file of values for these options, by their names with _ for -; options given here win.",
)
@click.option(
    "--rate",
    "rates",
    multiple=True,
    default=("x0.5", "x1", "x2"),
    help="Images a second (50), or a multiple of the capacity that is measured first (x2). Several, or a list with "
    "commas, make several stages.",
)
@click.option(
    "--duration", "duration_s", type=_positive, default=10.0, help="Seconds of each stage, until its last arrival."
)
@click.option("--arrivals", type=click.Choice(["poisson", "constant"]), default="poisson", help="How they are spaced.")
@click.option("--method", type=click.Choice(["unary", "batch", "stream"]), default="unary", help="How images travel.")
@click.option("--batch-images", type=click.IntRange(1), default=8, help="Images in a request of --method batch.")
@click.option(
    "--mix",
    multiple=True,
    default=("256x256",),
    help="Sizes and their shares: 256x256:0.9,1024x1024:0.1. An entry may also say /raw, /png or /jpeg, /u8 or /u16, "
    "/grey or /colour: 640x480/png/u16/grey:0.2.",
)
@click.option("--container", type=click.Choice(["raw", "png", "jpeg"]), default="raw", help="Where the mix says none.")
@click.option("--samples", type=click.Choice(["u8", "u16"]), default="u8", help="Likewise.")
@click.option("--colour", type=click.Choice(["grey", "colour"]), default="colour", help="Likewise.")
@click.option("--images", type=click.IntRange(1), default=4, help="Different images of each kind of the mix.")
@click.option("--model", default="", show_default=False, help="Name of the model.  [default: the server's choice]")
@click.option(
    "--timeout", "timeout_s", type=_positive, default=2.0, help="Deadline: seconds from when a request is due."
)
@click.option(
    "--verify/--no-verify",
    default=True,
    help="Compare each answer with the one that the same image got alone, before the run.",
)
@click.option("--connections", type=click.IntRange(1), default=4, help="Each looks like a client of its own.")
@click.option("--slow-readers", type=_share, default=0.0, help="Share of the connections that read answers slowly.")
@click.option("--slow-pause", type=_positive, default=0.5, help="Seconds they wait before they read an answer.")
@click.option("--cancel", type=_share, default=0.0, help="Share of the requests that are taken back.")
@click.option("--cancel-after", type=_positive, default=0.05, help="Mean seconds until they are, exponential.")
@click.option(
    "--max-in-flight",
    type=click.IntRange(1),
    default=2000,
    help="Images sent and not settled. What is due beyond it counts as not sent.",
)
@click.option("--warm-up", type=click.FloatRange(0), default=1.0, help="Seconds that aren't counted.")
@click.option("--capacity-seconds", type=_positive, default=3.0, help="Length of the closed loop for x rates.")
@click.option("--capacity-in-flight", type=click.IntRange(1), default=16, help="Requests under way in it.")
@click.option("--seed", type=click.IntRange(0), default=1, help="Of times, images, and who is taken back.")
@click.option(
    "--metrics", default="", show_default=False, help="URL of the service's metrics, for its CPU time and memory."
)
@click.option(
    "--gate",
    "gates",
    multiple=True,
    default=(),
    help="What every stage must hold, such as 'late_share <= 0.01' or 'p99_ms < 200'; may be given often.",
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the figures there.")
@click.option("--html", "html_file", type=click.Path(path_type=Path), help="Write a page with plots there.")
def load(connection: Connection, json_file: Path | None, html_file: Path | None, **options: Any) -> None:
    """Load a server as a crowd would: images come at their own pace, whether it keeps up or not.

    Latency and deadline run from the moment at which an image was due to be sent. Nothing is sent twice. Every image
    ends as exactly one of: ok, late, refused, cancelled, wrong, failed, lost, not sent.

    \b
    Examples:
      denoised load
          half, once and twice the capacity, which is measured first
      denoised load --rate 50 --duration 30 --timeout 0.5 --gate 'late_share <= 0.01'
          can it do 50 images a second, each within half a second?
      denoised load --rate x0.5,x1,x2,x5,x10 --html load.html --json load.json
          does goodput stay flat past saturation?
      denoised load --mix 256x256:0.9,1024x1024/png:0.1 --method stream
          small images beside large ones
      denoised load --cancel 0.3 --slow-readers 0.25 --rate 100
          callers that give up, and callers that don't read
      denoised load --profile tests/load/overload.toml --server gpu-box:50051

    Ctrl-C stops sending, waits for what is under way and shows what was found so far.

    \b
    Exit codes:
      0  every answer was right, nothing was lost or failed, all gates held
      1  something was wrong, lost or failed, or a gate did not hold
      2  the command or the profile was wrong
      3  no server answers
    """  # noqa: D301 -- click reads \b as "keep these lines as they are"
    from denoised.load.server_use import MetricsUnreadableError
    from denoised.load.session import LoadOptions, carry_out, hand_over, plan_of

    if not connection.is_plain:
        raise click.UsageError(
            "load speaks plain text and shows no token; load the service from where it listens to these, without the "
            "--tls options and --token-file"
        )
    try:
        # click hands on what the decorators say
        plan = plan_of(cast("LoadOptions", {"server": connection.target, **options}))
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    try:
        result = carry_out(plan)
    except ServerUnavailableError as error:
        raise Unreachable.because(error) from error
    except (DenoisedError, MetricsUnreadableError) as error:
        raise Failed(str(error)) from error
    try:
        hand_over(result, json_file=json_file, html_file=html_file)
    except OSError as error:
        raise Failed(f"{error.filename or 'the result'} can't be written: {error.strerror or error}") from error
    if result.problems():
        sys.exit(Failed.exit_code)
