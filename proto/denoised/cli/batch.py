"""A run over many files: sends what a plan holds, writes what comes back, and accounts for every input once."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from denoised._files import remove_leftovers, write_whole
from denoised._order import CleanOptions
from denoised.cli.plan import Job, Plan
from denoised.client import Client
from denoised.errors import DenoisedError, ServerUnavailableError
from denoised.results import CleanResult
from denoised.retry import RetryPolicy

# A run outlives the restart of a server; whether there is one at all is asked before it begins.
PATIENT: Final = RetryPolicy(try_count=12, longest_pause_s=8.0, budget_reserve=100.0)

# That many images in a row for which no server was there, each after all its tries, and there is none.
_GIVEN_UP_AFTER: Final = 8

UNWRITABLE: Final = "OUTPUT_UNWRITABLE"
NOT_TRIED: Final = "NOT_TRIED"

State = Literal["done", "skipped", "failed"]


@dataclass(frozen=True, slots=True)
class Record:
    """What became of one input.

    Attributes:
        target: where its output is, or was to be; None when it was not to be sent.
        reason: for programs; empty unless it failed.
        message: why it was skipped or has failed, for people.
        error: what the client raised, if that is why.
        result: what the server said; None unless it is done.
    """

    source: Path
    target: Path | None
    state: State
    reason: str = ""
    message: str = ""
    error: DenoisedError | None = None
    result: CleanResult[bytes] | None = None

    @property
    def is_tried(self) -> bool:
        """Whether a server was there for it."""
        return self.reason != NOT_TRIED and not isinstance(self.error, ServerUnavailableError)

    def to_json(self) -> dict[str, Any]:
        """Plain values, without the image."""
        values: dict[str, Any] = {"input": str(self.source), "state": self.state}
        if self.target is not None:
            values["output"] = str(self.target)
        if self.message:
            values["message"] = self.message
        if self.reason:
            values["reason"] = self.reason
        if self.result is not None:
            values |= {
                "noise_sigma": self.result.noise_sigma,
                "sigma_in_trained_range": self.result.sigma_in_trained_range,
                "clipped_sample_count": self.result.clipped_sample_count,
                "tile_count": self.result.tile_count,
                "model": self.result.model.name,
                "model_version": self.result.model.version,
                "total_s": self.result.timings.total_s,
            }
        return values


@dataclass(slots=True)
class Tally:
    """Counts records; what it has counted must add up to what went in."""

    input_count: int
    done: int = 0
    skipped: int = 0
    failed: int = 0

    def add(self, record: Record) -> None:
        setattr(self, record.state, getattr(self, record.state) + 1)

    def __str__(self) -> str:
        return f"in {self.input_count} = done {self.done} + skipped {self.skipped} + failed {self.failed}"

    def to_json(self) -> dict[str, int]:
        return {"in": self.input_count, "done": self.done, "skipped": self.skipped, "failed": self.failed}

    def check(self) -> None:
        """Holds the run to its sum.

        Raises:
            AssertionError: an input was lost or counted twice.
        """
        if self.input_count != self.done + self.skipped + self.failed:
            raise AssertionError(f"the run lost count: {self}")


def run_plan(
    connect: Callable[[RetryPolicy], Client],
    plan: Plan,
    *,
    timeout_s: float | None,
    options: CleanOptions,
    on_share: Callable[[float], None],
) -> Iterator[Record]:
    """Every input of the plan once, as it is settled.

    Whether there is a server at all is asked before many images are sent, patiently; when none answers any more, what
    is left is not tried. A lone image is sent by itself, and ``on_share`` is told how much of it is done.
    """
    for passed in plan.skipped:
        yield Record(passed.source, None, "skipped", message=passed.why)
    for passed in plan.refused:
        yield Record(passed.source, None, "failed", reason=passed.reason, message=passed.why)
    if not plan.jobs:
        return
    for folder in {job.target.parent for job in plan.jobs}:
        remove_leftovers(folder)
    if len(plan.jobs) == 1:
        with connect(RetryPolicy()) as client:
            yield _settled(plan.jobs[0], _alone(client, plan.jobs[0], timeout_s, options, on_share))
        return
    with connect(RetryPolicy()) as client:
        absence = _why_absent(client)
    if absence is not None:
        yield _settled(plan.jobs[0], absence)
        yield from map(_not_tried, plan.jobs[1:])
        return
    with connect(PATIENT) as client:
        yield from _many(client, plan.jobs, timeout_s, options)


def _why_absent(client: Client) -> ServerUnavailableError | None:
    try:
        client.models()
    except ServerUnavailableError as error:
        return error
    except DenoisedError:
        return None  # it is there, and will say the same of each image
    return None


def _many(client: Client, jobs: Sequence[Job], timeout_s: float | None, options: CleanOptions) -> Iterator[Record]:
    open_jobs = dict(enumerate(jobs))
    unavailable_count = 0
    with closing(client.clean_many((job.source for job in jobs), timeout_s=timeout_s, **options)) as outcomes:
        for index, outcome in outcomes:
            yield _settled(open_jobs.pop(index), outcome)
            unavailable_count = unavailable_count + 1 if isinstance(outcome, ServerUnavailableError) else 0
            if unavailable_count == _GIVEN_UP_AFTER:
                break
    yield from map(_not_tried, open_jobs.values())


def _not_tried(job: Job) -> Record:
    return Record(job.source, job.target, "failed", reason=NOT_TRIED, message="not tried, because no server answers")


def _alone(
    client: Client, job: Job, timeout_s: float | None, options: CleanOptions, on_share: Callable[[float], None]
) -> CleanResult[bytes] | DenoisedError:
    try:
        return client.clean(job.source, timeout_s=timeout_s, on_progress=on_share, **options)
    except DenoisedError as error:
        return error


def _settled(job: Job, outcome: CleanResult[bytes] | DenoisedError) -> Record:
    if isinstance(outcome, DenoisedError):
        return Record(job.source, job.target, "failed", reason=outcome.reason, message=str(outcome), error=outcome)
    try:
        write_whole(job.target, outcome.image)
    except OSError as error:
        message = f"{job.target} can't be written: {error.strerror or error}"
        return Record(job.source, job.target, "failed", reason=UNWRITABLE, message=message)
    return Record(job.source, job.target, "done", result=outcome)
