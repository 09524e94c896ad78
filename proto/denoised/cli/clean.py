"""``denoised clean``: files, folders and patterns, or standard input to standard output."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

import click

from denoised._file_header import read_file_header
from denoised._files import CONTAINER_OF_SUFFIX, Container, write_whole
from denoised._order import DEFAULT_TIMEOUT_S, DEFAULT_TIMEOUT_S_PER_MEGAPIXEL, SERVICE_CLASSES, CleanOptions
from denoised.cli.batch import run_plan
from denoised.cli.connection import Connection, connection_options
from denoised.cli.exits import Failed, failures_in_one_line
from denoised.cli.plan import WHOLE, Plan, Shard, is_one_file, plan_file, plan_folder
from denoised.cli.progress import Progress
from denoised.cli.telling import Form, tell_run, what_was_done

if TYPE_CHECKING:
    from denoised.cli.gallery import Gallery

_PIPE: Final = "-"
# Enough of a file to find its size in.
_HEADER_BYTES: Final = 2**16


def _shard(_: click.Context, parameter: click.Parameter, text: str | None) -> Shard:
    try:
        return WHOLE if text is None else Shard.parse(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param=parameter) from error


@click.command()
@click.argument("inputs", metavar="IN...", nargs=-1, required=True, type=click.Path())
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    required=True,
    type=click.Path(),
    help="Where results go: a file for a file, a folder for anything else (or with a / at its end), - for standard "
    "output.",
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
@click.option(
    "--format",
    "container",
    type=click.Choice(get_args(Container)),
    help="Of the outputs.  [default: by the ending of OUT; in folders and pipes, that of each input]",
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
    type=click.FloatRange(min=0, min_open=True),
    help="Seconds for each image, retries included.  "
    f"[default: {DEFAULT_TIMEOUT_S:g}, and {DEFAULT_TIMEOUT_S_PER_MEGAPIXEL:g} for each megapixel]",
)
@click.option("--skip-existing", is_flag=True, help="Leave images whose output exists already.")
@click.option(
    "--shard",
    metavar="I/N",
    callback=_shard,
    help="Only part i of n, from 0: n runs, anywhere, share a folder.  [default: all]",
)
@click.option("--dry-run", is_flag=True, help="Say what would be done, and send nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each input, and one with the sum.")
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a page there: before and after, the noisiest first.  Needs Pillow.",
)
def clean(
    inputs: tuple[str, ...],
    output: str,
    connection: Connection,
    container: Container | None,
    timeout_s: float | None,
    skip_existing: bool,  # noqa: FBT001 -- click passes options by name
    shard: Shard,
    dry_run: bool,  # noqa: FBT001
    as_json: bool,  # noqa: FBT001
    report: Path | None,
    **options: Any,
) -> None:
    """Denoise files, all images in folders, or standard input.

    Bit depth, alpha, colour profile and size stay as they are. Of a folder the whole tree is mirrored; files that are
    no images are skipped, and so are hidden ones. Outputs appear whole or not at all, and originals are never
    overwritten. A file that does not fit one message goes in chunks, by itself. A run that was stopped is taken up
    again with --skip-existing.

    \b
    Examples:
      denoised clean noisy.png -o clean.png
      denoised clean noisy.png -o clean.jpg --jpeg-quality 90
      denoised clean photos/ -o cleaned/ --skip-existing
      denoised clean 'photos/**/*.png' -o cleaned/ --format jpeg
      denoised clean - -o - <noisy.png >clean.png
      denoised clean photos/ -o cleaned/ --report cleaned.html
      denoised clean night.png -o night-half.png --strength 0.5
      denoised clean twelve-bit.png -o clean.png --white-level 4095
      denoised clean archive/ -o cleaned/ --class bulk --shard 0/4
      DENOISED_SERVER=gpu-box:50051 denoised clean photos/ -o cleaned/

    \b
    Exit codes:
      0  every image was denoised or skipped
      1  some images failed; standard error says which and why
      2  the command was wrong
      3  no server answers
    """  # noqa: D301 -- click reads \b as "keep these lines as they are"
    settings = CleanOptions(**options)  # type: ignore[typeddict-item]  # click hands on what the decorators say
    if _PIPE in (*inputs, output):
        if as_json or dry_run or report is not None or len(inputs) > 1:
            raise click.UsageError("- is for one image; it does not go with --json, --dry-run, --report or more inputs")
        _clean_pipe(connection, inputs[0], output, container, timeout_s, settings)
        return
    plan, is_single = _plan_of(inputs, output, container, skip_existing=skip_existing, shard=shard)
    settings["output_container"] = _container_of(Path(output), container) if is_single else container
    if dry_run:
        _say_what_would_be_done(plan, as_json=as_json)
        return
    gallery = None if report is None else _gallery()
    progress = Progress(len(plan.jobs), sys.stderr)
    records = run_plan(
        connection.client,
        plan,
        timeout_s=timeout_s,
        options=settings,
        on_share=lambda share: progress.under_way(inputs[0], share),
    )
    form: Form = "json" if as_json else "line" if is_single else "sum"
    tell_run(records, plan, progress, form, gallery=gallery, page=report)


def _gallery() -> "Gallery":
    try:
        from denoised.cli.gallery import Gallery
    except ImportError as error:
        raise click.UsageError(f"--report needs Pillow ({error}): pip install 'denoised[images]'") from error
    return Gallery()


def _plan_of(
    inputs: tuple[str, ...], output: str, container: Container | None, *, skip_existing: bool, shard: Shard
) -> tuple[Plan, bool]:
    """The plan, and whether it is for one file under the very name that was given."""
    target = Path(output)
    try:
        if is_one_file(inputs) and not target.is_dir() and not output.endswith("/"):
            _container_of(target, container)
            return plan_file(Path(inputs[0]), target, skip_existing=skip_existing), True
        if target.exists() and not target.is_dir():
            raise click.UsageError(f"output {target} is a file, but the inputs are several: name a folder")
        plan = plan_folder(inputs, target, skip_existing=skip_existing, container=container, shard=shard)
    except (ValueError, FileNotFoundError) as error:
        raise click.UsageError(str(error)) from error
    return plan, False


def _container_of(target: Path, container: Container | None) -> Container:
    """What the output is to be: its ending says it, or the option does where its ending says nothing."""
    named = CONTAINER_OF_SUFFIX.get(target.suffix.lower())
    if named is None and container is None:
        raise click.UsageError(
            f"output {target} ends in {target.suffix or 'nothing'!r}; one of {', '.join(CONTAINER_OF_SUFFIX)} chooses "
            "the format, or --format does; a folder ends in /"
        )
    if named is not None and container not in (None, named):
        raise click.UsageError(f"output {target} is a {named} by its ending, but --format is {container}")
    return named or container  # type: ignore[return-value]  # one of them is there


def _say_what_would_be_done(plan: Plan, *, as_json: bool) -> None:
    """Reads the headers of the inputs, and sends nothing."""
    pixel_count = size_bytes = 0
    for job in plan.jobs:
        width_px, height_px, length = _measured(job.source)
        pixel_count, size_bytes = pixel_count + width_px * height_px, size_bytes + length
        if as_json:
            values = {"input": str(job.source), "output": str(job.target), "state": "to do", "bytes": length}
            click.echo(json.dumps(values | {"width_px": width_px, "height_px": height_px}))
        else:
            size = f"{width_px} x {height_px}" if width_px else "size unknown"
            click.echo(f"{job.source} -> {job.target}  {size}")
    for passed, state in [*((each, "skipped") for each in plan.skipped), *((each, "failed") for each in plan.refused)]:
        if as_json:
            click.echo(json.dumps({"input": str(passed.source), "state": state, "message": passed.why}))
        else:
            click.echo(f"{passed.source}: {state}, {passed.why}")
    counts = {
        "in": plan.input_count,
        "to_do": len(plan.jobs),
        "skipped": len(plan.skipped),
        "failed": len(plan.refused),
    }
    if as_json:
        click.echo(json.dumps(counts | {"pixels": pixel_count, "bytes": size_bytes}))
    else:
        click.echo(
            f"in {plan.input_count} = to do {len(plan.jobs)} + skipped {len(plan.skipped)} + failed "
            f"{len(plan.refused)}; {pixel_count / 1e6:.1f} megapixels in {size_bytes / 1e6:.1f} MB"
        )
    if plan.refused:
        sys.exit(Failed.exit_code)


def _measured(path: Path) -> tuple[int, int, int]:
    """Width, height and length in bytes; 0 of what can't be told."""
    try:
        with path.open("rb") as file:
            header = read_file_header(file.read(_HEADER_BYTES))
        length = path.stat().st_size
    except OSError:
        return 0, 0, 0
    return (0, 0, length) if header is None else (header.width_px, header.height_px, length)


def _clean_pipe(
    connection: Connection,
    source: str,
    output: str,
    container: Container | None,
    timeout_s: float | None,
    options: CleanOptions,
) -> None:
    """One image from standard input, to standard output, or both; all that is said goes to standard error."""
    image: bytes | Path = Path(source)
    if source == _PIPE:
        image = sys.stdin.buffer.read()
    elif not Path(source).is_file():
        raise click.UsageError(f"input {source} is no file")
    if output != _PIPE:
        options["output_container"] = _container_of(Path(output), container)
    elif sys.stdout.isatty():
        raise click.UsageError("output - is this terminal: send it to a file or a pipe, or name a file with -o")
    else:
        options["output_container"] = container
    with connection.client() as client, failures_in_one_line():
        result = client.clean(image, timeout_s=timeout_s, **options)
        if output != _PIPE:
            write_whole(Path(output), result.image)
        else:
            sys.stdout.buffer.write(result.image)
            sys.stdout.buffer.flush()
    click.echo(f"{output}: {what_was_done(result)}", err=True)
