"""The command line: ``denoised clean`` and ``denoised models``.

Results and summaries go to standard output, progress and complaints to standard error. Exit codes: 0 all well,
1 some images failed, 2 the command was wrong, 3 no server answers.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import click
from tqdm import tqdm

from denoised._calls import DEFAULT_TARGET
from denoised._files import CONTAINER_OF_SUFFIX, FolderPlan, Job, plan_folder, refuse_overlap, write_whole
from denoised._order import (
    DEFAULT_TIMEOUT_S,
    DEFAULT_TIMEOUT_S_PER_MEGAPIXEL,
    SERVICE_CLASSES,
    CleanOptions,
)
from denoised.client import Client
from denoised.errors import DenoisedError, ServerUnavailableError
from denoised.load.command import load
from denoised.results import CleanResult, Model

_server_option = click.option(
    "--server",
    default=DEFAULT_TARGET,
    envvar="DENOISED_SERVER",
    show_default=True,
    show_envvar=True,
    help="host:port, or dns:///host:port to spread images over all addresses of the name.",
)
_SECONDS = click.FloatRange(min=0, min_open=True)


class _Failed(click.ClickException):
    """One line on standard error: an image failed."""

    exit_code = 1


class _Unreachable(click.ClickException):
    """One line on standard error: no server answers."""

    exit_code = 3


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Denoise images with a denoised server.

    \b
    Try:
      denoised clean noisy.png -o clean.png
      denoised clean photos/ -o cleaned/
      denoised models
    """  # noqa: D301 -- click reads \b as "keep these lines as they are"


@main.command()
@click.argument("source", metavar="IN", type=click.Path(exists=True, path_type=Path))
@click.option(
    "-o",
    "--output",
    "target",
    metavar="OUT",
    required=True,
    type=click.Path(path_type=Path),
    help="Where the result goes: a file for a file, a folder for a folder.",
)
@_server_option
@click.option("--model", default="", help="Name of the model.  [default: the server's choice]")
@click.option(
    "--strength",
    type=click.FloatRange(0, 1),
    help="Blend of input (0) and denoised image (1).  [default: 1]",
)
@click.option("--black-level", type=float, help="The sample value that is black.  [default: 0, or the model's]")
@click.option(
    "--white-level",
    type=float,
    help="The sample value that is white, such as 4095 of 12 bits in a 16-bit file.  [default: the largest, or the "
    "model's]",
)
@click.option("--jpeg-quality", type=click.IntRange(1, 100), help="For outputs in JPEG.  [default: 95]")
@click.option(
    "--class",
    "service_class",
    type=click.Choice(list(SERVICE_CLASSES)),
    help="What share of the server it gets while others wait: bulk may take the night.  [default: normal]",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=_SECONDS,
    help="Seconds for each image, retries included.  "
    f"[default: {DEFAULT_TIMEOUT_S:g}, and {DEFAULT_TIMEOUT_S_PER_MEGAPIXEL:g} for each megapixel]",
)
@click.option("--skip-existing", is_flag=True, help="In a folder, leave images whose output exists already.")
def clean(
    source: Path,
    target: Path,
    server: str,
    model: str,
    strength: float | None,
    black_level: float | None,
    white_level: float | None,
    jpeg_quality: int | None,
    service_class: Literal["interactive", "normal", "bulk"] | None,
    timeout_s: float | None,
    skip_existing: bool,  # noqa: FBT001 -- click passes options by name
) -> None:
    """Denoise a PNG or JPEG file, or all of them in a folder.

    Bit depth, alpha, colour profile and size stay as they are. The ending of OUT chooses the format: a PNG
    becomes a JPEG with -o clean.jpg. Of a folder the whole tree is mirrored; files that are neither PNG nor
    JPEG are skipped. Outputs appear whole or not at all, and originals are never overwritten. A file that does
    not fit one message goes in chunks, by itself.

    \b
    Examples:
      denoised clean noisy.png -o clean.png
      denoised clean noisy.png -o clean.jpg --jpeg-quality 90
      denoised clean photos/ -o cleaned/ --skip-existing
      denoised clean night.png -o night-half.png --strength 0.5
      denoised clean twelve-bit.png -o clean.png --white-level 4095
      denoised clean archive/ -o cleaned/ --class bulk
      DENOISED_SERVER=gpu-box:50051 denoised clean photos/ -o cleaned/

    \b
    Exit codes:
      0  every image was denoised or skipped
      1  some images failed; standard error says which and why
      2  the command was wrong
      3  no server answers
    """  # noqa: D301 -- click reads \b as "keep these lines as they are"
    options = CleanOptions(
        model=model,
        strength=strength,
        black_level=black_level,
        white_level=white_level,
        jpeg_quality=jpeg_quality,
        service_class=service_class,
    )
    if source.is_file() and target.is_dir():
        target /= source.name
    try:
        refuse_overlap(source, target)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    with Client(server) as client:
        if source.is_dir():
            if target.exists() and not target.is_dir():
                raise click.UsageError(f"output {target} is a file, but the input is a folder: name a folder")
            _clean_folder(client, plan_folder(source, target, skip_existing=skip_existing), timeout_s, options)
        else:
            _clean_file(client, Job(source, target), timeout_s, options)


main.add_command(_server_option(load))


@main.command()
@_server_option
@click.option(
    "--timeout",
    "timeout_s",
    type=_SECONDS,
    default=DEFAULT_TIMEOUT_S,
    show_default=True,
    help="Seconds, retries included.",
)
def models(server: str, timeout_s: float) -> None:
    """List the models that the server has loaded; * marks the default one."""
    with Client(server) as client, _failures_in_one_line():
        click.echo(_table(client.models(timeout_s=timeout_s)))


def _clean_file(client: Client, job: Job, timeout_s: float | None, options: CleanOptions) -> None:
    container = CONTAINER_OF_SUFFIX.get(job.target.suffix.lower())
    if container is None:
        raise click.UsageError(
            f"output {job.target} ends in {job.target.suffix or 'nothing'!r}; "
            f"one of {', '.join(CONTAINER_OF_SUFFIX)} chooses the format"
        )
    options["output_container"] = container
    with _failures_in_one_line():
        with tqdm(
            total=1.0, desc=job.source.name, bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}", disable=None
        ) as bar:

            def show(done_share: float) -> None:
                bar.n = done_share
                bar.refresh()

            result = client.clean(job.source, timeout_s=timeout_s, on_progress=show, **options)
        write_whole(job.target, result.image)
    click.echo(f"{job.target}: {_what_was_done(result)}")


def _clean_folder(client: Client, plan: FolderPlan, timeout_s: float | None, options: CleanOptions) -> None:
    done_count = 0
    unreachable: ServerUnavailableError | None = None
    outcomes = client.clean_many((job.source for job in plan.jobs), timeout_s=timeout_s, **options)
    with tqdm(total=len(plan.jobs), unit="image", disable=None) as progress:
        for index, outcome in outcomes:
            job = plan.jobs[index]
            progress.set_postfix_str(job.source.name)
            complaint = str(outcome) if isinstance(outcome, DenoisedError) else _written(job, outcome)
            if complaint is None:
                done_count += 1
            else:
                tqdm.write(f"{job.source}: {complaint}", file=sys.stderr)
            progress.update()
            if isinstance(outcome, ServerUnavailableError):
                unreachable = outcome
                break
    failed_count = len(plan.jobs) - done_count
    click.echo(
        f"in {len(plan.jobs) + plan.skipped_count} = done {done_count} + skipped {plan.skipped_count} "
        f"+ failed {failed_count}"
    )
    if unreachable is not None:
        raise _no_server(unreachable)
    if failed_count:
        sys.exit(_Failed.exit_code)


def _written(job: Job, result: CleanResult[bytes]) -> str | None:
    """Writes the result; what went wrong, if anything."""
    try:
        write_whole(job.target, result.image)
    except OSError as error:
        return f"{job.target} can't be written: {error.strerror or error}"
    return None


def _what_was_done(result: CleanResult[bytes]) -> str:
    if result.tile_count == 0:
        return f"unchanged at strength 0, {result.timings.total_s:.2f} s"
    done = f"{result.timings.total_s:.2f} s with {result.model.name} {result.model.version}"
    if result.noise_sigma is None:
        return f"noise removed, its level is unknown to this model, {done}"
    beyond = ", outside of what the model was trained for" if result.sigma_in_trained_range is False else ""
    return f"noise of {result.noise_sigma:.1f} levels of 255{beyond}, {done}"


def _table(loaded: tuple[Model, ...]) -> str:
    rows = [("", "NAME", "VERSION", "KIND", "PRECISION", "CHANNELS", "SIZE", "SIGMA", "GMAC/MP", "LICENCE", "SUMMARY")]
    rows += [
        (
            "*" if model.is_default else "",
            model.name,
            model.version,
            model.kind,
            model.precision,
            str(model.channel_count),
            f"{model.fixed_side_px}x{model.fixed_side_px}" if model.fixed_side_px else "any",
            f"{model.sigma_min:g}-{model.sigma_max:g}",
            f"{model.gmac_per_megapixel:g}",
            model.license,
            model.summary,
        )
        for model in loaded
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


@contextmanager
def _failures_in_one_line() -> Iterator[None]:
    try:
        yield
    except ServerUnavailableError as error:
        raise _no_server(error) from error
    except (DenoisedError, OSError) as error:
        raise _Failed(str(error)) from error


def _no_server(error: ServerUnavailableError) -> _Unreachable:
    return _Unreachable(f"{error}; name another server with --server or DENOISED_SERVER")


if __name__ == "__main__":
    main()
