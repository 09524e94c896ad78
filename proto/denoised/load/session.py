"""One run, from the options to what is printed and written."""

import asyncio
import json
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final, TypedDict

import click

from denoised._files import write_whole
from denoised.load.arrivals import Arrivals
from denoised.load.clock import WallClock
from denoised.load.driver import Driver
from denoised.load.gates import parse_gate
from denoised.load.kinds import Colour, Container, SampleType, parse_mix
from denoised.load.page import page
from denoised.load.pictures import make_pictures
from denoised.load.plan import LoadPlan, parse_rates
from denoised.load.results import LoadResult
from denoised.load.summary import summary
from denoised.load.table import progress_line, report
from denoised.load.wire import Method

_LIVE_PERIOD_S: Final = 1.0
_PLAIN_PERIOD_S: Final = 5.0
_WIPE_LINE: Final = "\r\x1b[K"


class LoadOptions(TypedDict):
    """The options of the command line, as click hands them on."""

    server: str
    rates: tuple[str, ...]
    duration_s: float
    arrivals: Arrivals
    method: Method
    batch_images: int
    mix: tuple[str, ...]
    container: Container
    samples: SampleType
    colour: Colour
    images: int
    model: str
    timeout_s: float
    verify: bool
    connections: int
    slow_readers: float
    slow_pause: float
    cancel: float
    cancel_after: float
    max_in_flight: int
    warm_up: float
    capacity_seconds: float
    capacity_in_flight: int
    seed: int
    metrics: str
    gates: tuple[str, ...]


def plan_of(options: LoadOptions) -> LoadPlan:
    """The plan that the options ask for.

    Raises:
        ValueError: an option is wrong, or two don't go together.
    """
    slow_connection_count = round(options["slow_readers"] * options["connections"])
    if options["slow_readers"] and not slow_connection_count:
        raise ValueError(
            f"--slow-readers {options['slow_readers']:g} of {options['connections']} connections is none; "
            "raise one of the two"
        )
    return LoadPlan(
        target=options["server"],
        method=options["method"],
        rates=parse_rates(options["rates"]),
        duration_s=options["duration_s"],
        arrivals=options["arrivals"],
        seed=options["seed"],
        kinds=parse_mix(
            options["mix"],
            container=options["container"],
            sample_type=options["samples"],
            colour=options["colour"],
        ),
        pictures_per_kind=options["images"],
        timeout_s=options["timeout_s"],
        connection_count=options["connections"],
        slow_connection_count=slow_connection_count,
        slow_pause_s=options["slow_pause"],
        cancel_share=options["cancel"],
        cancel_after_s=options["cancel_after"],
        batch_images=options["batch_images"],
        max_in_flight=options["max_in_flight"],
        warm_up_s=options["warm_up"],
        capacity_s=options["capacity_seconds"],
        capacity_in_flight=options["capacity_in_flight"],
        is_verified=options["verify"],
        model=options["model"],
        metrics_url=options["metrics"],
        gates=tuple(parse_gate(text) for text in options["gates"]),
    )


def carry_out(plan: LoadPlan) -> LoadResult:
    """Makes the images, runs the plan, and says on standard error how far it is.

    Raises:
        DenoisedError: see ``Driver.run``.
        MetricsUnreadableError: likewise.
    """
    pictures = make_pictures(plan.kinds, each_count=plan.pictures_per_kind, seed=plan.seed, model=plan.model)
    return asyncio.run(_run(Driver(plan, pictures, clock=WallClock(), say=_say)))


def hand_over(result: LoadResult, *, json_file: Path | None, html_file: Path | None) -> None:
    """Prints the tables and writes the files that were asked for.

    Raises:
        OSError: one can't be written.
    """
    click.echo(report(result))
    if json_file is not None:
        write_whole(json_file, (json.dumps(summary(result), indent=1) + "\n").encode())
    if html_file is not None:
        write_whole(html_file, page(result).encode())
        click.echo(f"\n{html_file}")


async def _run(driver: Driver) -> LoadResult:
    loop = asyncio.get_running_loop()

    def stop() -> None:
        _say("stopping: nothing more is sent, what is under way is waited for; Ctrl-C again leaves at once")
        driver.stop()
        loop.remove_signal_handler(signal.SIGINT)

    with suppress(NotImplementedError):  # Windows: Ctrl-C ends it at once there
        loop.add_signal_handler(signal.SIGINT, stop)
    watcher = asyncio.create_task(_watch(driver))
    try:
        return await driver.run()
    finally:
        watcher.cancel()
        await asyncio.wait((watcher,))
        with suppress(NotImplementedError):
            loop.remove_signal_handler(signal.SIGINT)
        if sys.stderr.isatty():
            click.echo(_WIPE_LINE, err=True, nl=False)


async def _watch(driver: Driver) -> None:
    is_terminal = sys.stderr.isatty()
    while True:
        await asyncio.sleep(_LIVE_PERIOD_S if is_terminal else _PLAIN_PERIOD_S)
        if driver.progress is not None:
            line = progress_line(driver.progress)
            click.echo(_WIPE_LINE + line if is_terminal else line, err=True, nl=not is_terminal)


def _say(line: str) -> None:
    """A step of the run; on a terminal it takes the live line's place."""
    click.echo(_WIPE_LINE + line if sys.stderr.isatty() else line, err=True)
