"""``denoised clean``: a file or a folder."""

import sys
from pathlib import Path
from typing import Literal

import click
from tqdm import tqdm

from denoised._files import CONTAINER_OF_SUFFIX, FolderPlan, Job, plan_folder, refuse_overlap, write_whole
from denoised._order import (
    DEFAULT_TIMEOUT_S,
    DEFAULT_TIMEOUT_S_PER_MEGAPIXEL,
    SERVICE_CLASSES,
    CleanOptions,
)
from denoised.cli.connection import Connection, connection_options
from denoised.cli.exits import Failed, Unreachable, failures_in_one_line
from denoised.client import Client
from denoised.errors import DenoisedError, ServerUnavailableError
from denoised.results import CleanResult

_SECONDS = click.FloatRange(min=0, min_open=True)


@click.command()
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
@connection_options
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
    connection: Connection,
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
    with connection.client() as client:
        if source.is_dir():
            if target.exists() and not target.is_dir():
                raise click.UsageError(f"output {target} is a file, but the input is a folder: name a folder")
            _clean_folder(client, plan_folder(source, target, skip_existing=skip_existing), timeout_s, options)
        else:
            _clean_file(client, Job(source, target), timeout_s, options)


def _clean_file(client: Client, job: Job, timeout_s: float | None, options: CleanOptions) -> None:
    container = CONTAINER_OF_SUFFIX.get(job.target.suffix.lower())
    if container is None:
        raise click.UsageError(
            f"output {job.target} ends in {job.target.suffix or 'nothing'!r}; "
            f"one of {', '.join(CONTAINER_OF_SUFFIX)} chooses the format"
        )
    options["output_container"] = container
    with failures_in_one_line():
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
        raise Unreachable.because(unreachable)
    if failed_count:
        sys.exit(Failed.exit_code)


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
