"""What a run says while it goes on and when it is over: lines for people or JSON, the sum, the page, the exit."""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from denoised.cli.batch import Record, Tally
from denoised.cli.exits import Failed, Unreachable, failures_in_one_line
from denoised.cli.plan import Plan
from denoised.cli.progress import Progress
from denoised.errors import ServerUnavailableError
from denoised.results import CleanResult

if TYPE_CHECKING:
    from denoised.cli.gallery import Gallery

# Lines and a sum; a line about the only image; objects.
Form = Literal["sum", "line", "json"]


def tell_run(
    records: Iterable[Record],
    plan: Plan,
    progress: Progress,
    form: Form,
    *,
    gallery: "Gallery | None",
    page: Path | None,
) -> None:
    """Says what becomes of each input of the plan, and exits as the worst of it wants.

    Raises:
        Unreachable: the run ended because no server answers.
        Failed: an image failed, and ``form`` is a line about it.
        SystemExit: images failed.
    """
    tally, left_count, unreachable = Tally(plan.input_count), plan.input_count, None
    try:
        for record in records:
            tally.add(record)
            left_count -= 1
            _tell(record, progress, form)
            if gallery is not None:
                gallery.add(record)
            if isinstance(record.error, ServerUnavailableError):
                unreachable = record.error
            elif record.state == "done":
                unreachable = None
    except KeyboardInterrupt:
        tally.failed += left_count
        progress.say(f"stopped with {left_count} images not done; --skip-existing takes it up again")
    progress.close()
    tally.check()
    _sum_up(tally, form)
    if gallery is not None and page is not None:
        with failures_in_one_line():
            gallery.write(page, tally)
    if unreachable is not None:
        raise Unreachable.because(unreachable)
    if tally.failed:
        sys.exit(Failed.exit_code)


def _sum_up(tally: Tally, form: Form) -> None:
    if form == "json":
        click.echo(json.dumps(tally.to_json()))
    elif form == "sum":
        click.echo(str(tally))


def what_was_done(result: CleanResult[bytes]) -> str:
    """One line about one image."""
    if result.tile_count == 0:
        return f"unchanged at strength 0, {result.timings.total_s:.2f} s"
    done = f"{result.timings.total_s:.2f} s with {result.model.name} {result.model.version}"
    if result.noise_sigma is None:
        return f"noise removed, its level is unknown to this model, {done}"
    beyond = ", outside of what the model was trained for" if result.sigma_in_trained_range is False else ""
    return f"noise of {result.noise_sigma:.1f} levels of 255{beyond}, {done}"


def _tell(record: Record, progress: Progress, form: Form) -> None:
    if record.state != "skipped":
        progress.settled(str(record.source), is_failed=record.state == "failed")
    if form == "json":
        click.echo(json.dumps(record.to_json()))
    if record.state == "failed":
        # What no server was there for is said once, at the end.
        if record.is_tried:
            progress.say(f"{'Error' if form == 'line' else record.source}: {record.message}")
    elif form == "line":
        progress.close()
        done = record.message if record.result is None else f"{record.target}: {what_was_done(record.result)}"
        click.echo(done)
