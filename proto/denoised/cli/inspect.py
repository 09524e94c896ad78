"""``denoised inspect``: what the server finds in images, without denoised ones."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, Literal

import click

from denoised._energy_messages import STATISTIC_NAMES, Statistic
from denoised._order import DEFAULT_TIMEOUT_S, DEFAULT_TIMEOUT_S_PER_MEGAPIXEL, SERVICE_CLASSES, InspectOptions
from denoised.cli.connection import Connection, connection_options
from denoised.cli.exits import Failed, failures_in_one_line
from denoised.errors import DenoisedError, ServerUnavailableError
from denoised.results import InspectResult

# What a model without a code, or an image of one channel, has not.
_UNDEFINED: Final[Mapping[str, str]] = {
    "channel_correlation": "the image has one channel",
    "compression_nats": "the model has no latent code",
    "total_bits_per_pixel": "the model has no latent code",
}


@click.command()
@click.argument(
    "sources",
    metavar="IMAGE...",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@connection_options
@click.option("--model", default="", help="Name of the model.  [default: the server's choice]")
@click.option(
    "--level",
    "report_level",
    type=click.Choice(["fast", "sure"]),
    help="sure also estimates the answer's error, from two more passes of a part of the image.  [default: fast]",
)
@click.option(
    "--noise-sigma",
    type=click.FloatRange(min=0, min_open=True, max=255),
    help="The noise level in 8-bit levels, where you know it; for --level sure.",
)
@click.option("--black-level", type=float, help="The sample value that is black.  [default: 0, or the model's]")
@click.option(
    "--white-level", type=float, help="The sample value that is white.  [default: the largest, or the model's]"
)
@click.option(
    "--class",
    "service_class",
    type=click.Choice(list(SERVICE_CLASSES)),
    help="What share of the server it gets while others wait: bulk may take the night.  [default: normal]",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True),
    help="Seconds for each image, retries included.  "
    f"[default: {DEFAULT_TIMEOUT_S:g}, and {DEFAULT_TIMEOUT_S_PER_MEGAPIXEL:g} for each megapixel]",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each image, each on its line.")
def inspect(
    sources: tuple[Path, ...],
    connection: Connection,
    model: str,
    report_level: Literal["fast", "sure"] | None,
    noise_sigma: float | None,
    black_level: float | None,
    white_level: float | None,
    service_class: Literal["interactive", "normal", "bulk"] | None,
    timeout_s: float | None,
    as_json: bool,  # noqa: FBT001 -- click passes options by name
) -> None:
    """Tell how much noise PNG and JPEG files have, and how far a denoised form could be trusted.

    Each statistic comes with its value, its quantile among images like those that the model was made for (0 to 1; near
    an end it is unusual) and the value from which it is a verdict. What the verdicts mean is in docs/energy.md.

    \b
    Examples:
      denoised inspect noisy.png
      denoised inspect noisy.png --level sure --noise-sigma 25
      denoised inspect photos/*.jpg --json | jq .verdicts

    \b
    Exit codes:
      0  every image was looked at, whatever was found
      1  some images failed; standard error says which and why
      2  the command was wrong
      3  no server answers
    """  # noqa: D301 -- click reads \b as "keep these lines as they are"
    options = InspectOptions(
        model=model,
        report_level=report_level,
        noise_sigma=noise_sigma,
        black_level=black_level,
        white_level=white_level,
        service_class=service_class,
    )
    failed_count = 0
    with connection.client() as client, failures_in_one_line():
        for source in sources:
            try:
                result = client.inspect(source, timeout_s=timeout_s, **options)
            except ServerUnavailableError:
                raise
            except DenoisedError as error:
                failed_count += 1
                click.echo(f"{source}: {error}", err=True)
                continue
            click.echo(_as_json(source, result) if as_json else _table(source, result))
    if failed_count:
        raise Failed(f"{failed_count} of {len(sources)} images failed")


def _as_json(source: Path, result: InspectResult) -> str:
    """Undefined statistics are null."""
    energy = asdict(result.energy)
    energy["statistics"] = {name: energy["statistics"].get(name) for name in STATISTIC_NAMES}
    document: dict[str, Any] = {"file": str(source), **energy, "model": asdict(result.model)}
    return json.dumps(document)


def _table(source: Path, result: InspectResult) -> str:
    statistics = result.energy.statistics
    lines = [f"{source}: {', '.join(result.energy.verdicts)}", f"  {'':32}{'value':>11}{'quantile':>10}{'limit':>11}"]
    lines += [_line(name, statistics.get(name)) for name in STATISTIC_NAMES]
    sure = result.energy.sure
    if sure is not None:
        estimate = "no positive error" if sure.psnr_db is None else f"{sure.psnr_db:.2f} dB"
        given = "given" if sure.noise_sigma_is_given else "found, so only comparisons mean something"
        lines.append(f"  PSNR by SURE: {estimate}, for noise of {sure.noise_sigma:.1f} levels ({given})")
    return "\n".join(lines)


def _line(name: str, statistic: Statistic | None) -> str:
    label = f"  {name.replace('_', ' '):32}"
    if statistic is None:
        return f"{label}{'undefined':>11}  ({_UNDEFINED.get(name, 'not for this image')})"
    quantile = "-" if statistic.quantile is None else f"{statistic.quantile:.3f}"
    limit = "-" if statistic.threshold is None or math.isinf(statistic.threshold) else f"{statistic.threshold:.4g}"
    verdict = "" if statistic.verdict in ("OK", "") else f"  {statistic.verdict}"
    return f"{label}{statistic.value:>11.4g}{quantile:>10}{limit:>11}{verdict}"
