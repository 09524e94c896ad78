"""Small raw images of one kind that came in one turn of the event loop: queued, run, counted and reported as one.

Each still has its own deadline, outcome and place in the ledger.
"""

import asyncio
from collections.abc import Callable

from service.batcher import Batcher
from service.errors import ServiceError
from service.image_observer import ImageObserver
from service.image_tiles import noise_sigma_levels
from service.job import Findings, Job, Outcome, RawOrder, Timings, tell_unless_closed
from service.stack import Stack
from service.submission import Client, Submission
from service.types import Container

# Images whose deadlines lie this much apart, as a share of the time left, still go side by side.
_DEADLINE_STEP = 0.1


class StackPath:
    """The way of small images that meet others."""

    def __init__(self, *, batcher: Batcher, clock: Callable[[], float], observe: ImageObserver) -> None:
        self._batcher = batcher
        self._clock = clock
        self._observe = observe
        self._stacks: dict[tuple[RawOrder, Client, int], list[Job]] = {}

    def add(self, job: Job, order: RawOrder, now_s: float) -> None:
        """An admitted image, whose order ``is_small``, joins those of its kind and client in this turn of the loop."""
        key = (order, job.client, int((job.deadline_s - now_s) / _DEADLINE_STEP))
        jobs = self._stacks.get(key)
        if jobs is None:
            jobs = self._stacks[key] = []
            asyncio.get_running_loop().call_soon(self._start_stack, key)
        jobs.append(job)

    def _start_stack(self, key: tuple[RawOrder, Client, int]) -> None:
        order, client, _ = key
        jobs = [job for job in self._stacks.pop(key) if job.running is None]
        if not jobs:
            return
        try:
            self._run_stack(jobs, order, client)
        except Exception as error:  # noqa: BLE001 -- nobody else is there to tell the images that wait
            for job in jobs:
                job.running = None
                asyncio.get_running_loop().call_soon(tell_unless_closed, job, error)

    def _run_stack(self, jobs: list[Job], order: RawOrder, client: Client) -> None:
        group, service_class = order.geometry.group, order.options.service_class
        deadline_s = min(job.deadline_s for job in jobs)
        stack = Stack(order, [job.data for job in jobs])
        run = _StackRun(stack, jobs, order, batcher=self._batcher, clock=self._clock, observe=self._observe)
        if self._batcher.run_at_once(
            stack,
            group=group,
            unit_count=len(jobs),
            client=client,
            service_class=service_class,
            deadline_s=deadline_s,
            on_unit=run.end_one,
        ):
            run.show()
            return
        run.submission = self._batcher.submit(
            stack,
            group=group,
            unit_count=len(jobs),
            pack_count=self._batcher.fitting_pack_count(group, len(jobs)),
            client=client,
            service_class=service_class,
            deadline_s=deadline_s,
            on_done=run.end,
            on_unit=run.end_one,
            units_fail_alone=True,
        )


class _StackRun:
    """Small images side by side: each is told by itself, and leaves by itself."""

    # None before the batcher has them, and when they run at once.
    submission: Submission | None = None

    def __init__(
        self,
        stack: Stack,
        jobs: list[Job],
        order: RawOrder,
        *,
        batcher: Batcher,
        clock: Callable[[], float],
        observe: ImageObserver,
    ) -> None:
        self._stack = stack
        self._order = order
        self._batcher = batcher
        self._clock = clock
        self._observe = observe
        # None once it was told, or closed.
        self._waiting: list[Job | None] = list(jobs)
        self._waiting_count = len(jobs)
        # Closed while a lane may use its samples; None once its unit has ended.
        self._leaving: list[Job | None] = [None] * len(jobs)
        self._has_ended = [False] * len(jobs)
        self._answered_count = 0
        self._nothing_found: Findings | None = None
        self._timings: Timings | None = None
        self._timed_at_s = 0.0
        self._admission_s = 0.0
        for index, job in enumerate(jobs):
            job.running = _StackMember(self, index, job)

    def end_one(self, submission: Submission, index: int, error: ServiceError | None) -> None:
        """A unit ended."""
        self._has_ended[index] = True
        job = self._take(index)
        if job is None:
            self._release(index)
            return
        if error is not None:
            job.on_done(job, error)
            return
        timings = self._timings_of(job, submission)
        self._answered_count += 1
        job.on_done(
            job, Outcome(Container.RAW, self._stack.answer(index), None, self._findings_of(index, submission), timings)
        )

    def show(self) -> None:
        """Counts those that were answered; a pack at a time, because it costs as much as for one."""
        count, self._answered_count = self._answered_count, 0
        if count and self._timings is not None:
            outcome = Outcome(Container.RAW, b"", None, None, self._timings)
            order = self._order
            self._observe(outcome, order.geometry, order.model, admission_s=self._admission_s, count=count)

    def end(self, submission: Submission, error: ServiceError | None) -> None:
        """All units have ended, or none will any more."""
        del submission
        self.show()
        for index in range(len(self._waiting)):
            job = self._take(index)
            if job is not None:
                assert error is not None
                job.on_done(job, error)

    def close(self, index: int, job: Job) -> None:
        """Nobody waits for one of the images."""
        self._take(index)
        self._leaving[index] = job
        if self._has_ended[index]:
            self._release(index)
        elif self._waiting_count == 0 and self.submission is not None:
            self.show()
            self._batcher.withdraw(self.submission, on_still=self._release_all)

    def _release(self, index: int) -> None:
        job, self._leaving[index] = self._leaving[index], None
        if job is not None:
            job.release()

    def _release_all(self) -> None:
        for index in range(len(self._leaving)):
            self._release(index)

    def _take(self, index: int) -> Job | None:
        job = self._waiting[index]
        if job is not None:
            self._waiting[index] = None
            self._waiting_count -= 1
            job.leave_queue()
        return job

    def _findings_of(self, index: int, submission: Submission) -> Findings:
        """One for all in which nothing was found: whoever writes replies then writes the same again."""
        mean_sigma, outside_count = self._stack.mean_sigmas[index], self._stack.outside_counts[index]
        if mean_sigma is None and not outside_count:
            if self._nothing_found is None:
                self._nothing_found = _single_findings(None, 0, submission)
            return self._nothing_found
        sigma = None if mean_sigma is None else noise_sigma_levels(mean_sigma)
        if sigma is not None:
            self._observe.noise_sigma(sigma)
        return _single_findings(sigma, outside_count, submission)

    def _timings_of(self, job: Job, submission: Submission) -> Timings:
        """The same for all images of a pack: they came in one turn of the event loop, and ran together."""
        if self._timings is None or self._timed_at_s != submission.ended_at_s:
            self.show()
            self._timed_at_s = submission.ended_at_s
            now_s = self._clock()
            self._admission_s = submission.offered_at_s - job.arrived_at_s
            self._timings = Timings(
                decode_s=0.0,
                queue_s=submission.started_at_s - submission.offered_at_s,
                compute_s=submission.ended_at_s - submission.started_at_s,
                encode_s=now_s - submission.ended_at_s,
                total_s=now_s - job.arrived_at_s,
            )
        return self._timings


class _StackMember:
    """One of the images side by side."""

    __slots__ = ("_index", "_job", "_run")

    def __init__(self, run: _StackRun, index: int, job: Job) -> None:
        self._run = run
        self._index = index
        self._job = job

    def close(self) -> None:
        self._run.close(self._index, self._job)


def _single_findings(noise_sigma: float | None, outside_count: int, submission: Submission) -> Findings:
    shared = (submission.shared_request_count, submission.shared_client_count)
    return Findings(noise_sigma, outside_count, 1, *shared)
