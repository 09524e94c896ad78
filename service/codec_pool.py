"""Threads that decode and encode: fair over clients, and never a small image behind large ones.

Two lanes, each with threads and a queue of its own. Small images have ``thread_count`` threads that large ones never
hold. Large ones have one thread less, at a lower priority: a lane of the engine that shares a core with one keeps
three quarters of it. In both lanes :class:`service.scheduler.Scheduler` decides who is next.

The event loop owns all state. A thread gets one job at a time through a queue, and hands it back through the loop;
between the two it touches nothing but the job.
"""

import asyncio
import contextlib
import math
import os
import sys
import threading
from collections.abc import Callable, Hashable
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from service.errors import DeadlineExceeded
from service.metrics import Metrics
from service.scheduler import Scheduler, Ticket
from service.types import ServiceClass

R = TypeVar("R")

LARGE_PIXELS = 4_000_000
"""Images with more than this are large: decoding one takes from 20 ms on."""

_LARGE_NICE = 5
_NO_GROUP = ""


class _Job(Generic[R]):
    """A function on its way through a thread. Keeps nothing alive once it is settled."""

    __slots__ = (
        "back",
        "ended_at_s",
        "error",
        "function",
        "future",
        "is_in_thread",
        "loop",
        "offered_at_s",
        "result",
        "started_at_s",
    )

    def __init__(self, function: Callable[[], R], loop: asyncio.AbstractEventLoop) -> None:
        self.function: Callable[[], R] | None = function
        self.loop = loop
        self.future: asyncio.Future[R] | None = loop.create_future()
        self.result: R | None = None
        self.error: BaseException | None = None
        self.is_in_thread = False
        self.offered_at_s = self.started_at_s = self.ended_at_s = 0.0
        self.back: asyncio.Future[None] | None = None

    def run(self) -> None:
        """In the thread."""
        function, self.function = self.function, None
        assert function is not None
        try:
            self.result = function()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it belongs to the one who waits
            self.error = error

    def fail(self, error: BaseException) -> None:
        """On the loop, before it ran."""
        self.function, self.error = None, error
        self.settle()

    def cancel(self) -> None:
        """On the loop, before it ran."""
        if self.future is not None:
            self.future.cancel()

    async def until_back(self) -> None:
        """On the loop: returns when no thread works on it."""
        if self.is_in_thread:
            self.back = self.loop.create_future()
            await self.back

    def settle(self) -> None:
        """On the loop. Whoever stopped waiting gets nothing."""
        self.is_in_thread = False
        if self.back is not None and not self.back.done():
            self.back.set_result(None)
        # An error's traceback leads to this job, which must not lead back: an image would hang on the cycle.
        future, result, error = self.future, self.result, self.error
        self.future = self.result = self.error = None
        if future is None or future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]  # an R, unless there is an error


class CodecPool:
    """Runs functions in threads. All methods belong to the event loop's thread."""

    def __init__(self, *, thread_count: int, clock: Callable[[], float], metrics: Metrics) -> None:
        """
        Args:
            thread_count: threads for small images, at least 1.
            clock: seconds, on the clock of the deadlines; callable from any thread.
        """
        large_count = max(1, thread_count - 1)
        self._small = _Lane("codec", thread_count, clock, metrics, nice=0)
        self._large = _Lane("codec-large", large_count, clock, metrics, nice=_LARGE_NICE)
        metrics.codec_threads.set(thread_count + large_count)
        metrics.codec_jobs_queued.follow(lambda: self.queued_count)
        metrics.codec_jobs_busy.follow(lambda: self.busy_count)

    @property
    def queued_count(self) -> int:
        """Jobs that wait for a thread."""
        return self._small.queue.queued_ticket_count + self._large.queue.queued_ticket_count

    @property
    def busy_count(self) -> int:
        """Threads that work."""
        return self._small.busy_count + self._large.busy_count

    async def run(
        self,
        function: Callable[[], R],
        *,
        client: Hashable,
        service_class: ServiceClass,
        pixel_count: int,
        cost_s: float,
        deadline_s: float,
    ) -> R:
        """The function's result.

        Cancelling takes a waiting function back. One that a thread has can't be stopped: the cancelled call ends when
        the function does, so that whoever waits for the call knows that nothing uses the function's memory any more.

        Args:
            function: touches nothing that the loop touches meanwhile.
            client: whose share the time is charged to.
            service_class: how urgent it is.
            pixel_count: of the image; above LARGE_PIXELS it is a large one.
            cost_s: seconds that it is predicted to take.
            deadline_s: absolute, on the clock; it is looked at when a thread is free.

        Raises:
            DeadlineExceeded: the deadline passed, or became unreachable, before the function began.
        """
        lane = self._large if pixel_count > LARGE_PIXELS else self._small
        job = _Job(function, asyncio.get_running_loop())
        ticket = Ticket(
            item=job,
            client=client,
            service_class=service_class,
            group=_NO_GROUP,
            pixel_count=pixel_count,
            cost_s=cost_s,
            deadline_s=deadline_s,
        )
        future = job.future
        assert future is not None
        lane.offer(ticket)
        try:
            return await future
        except asyncio.CancelledError:
            await job.until_back()
            raise
        finally:
            lane.queue.discard((ticket,))
            del job, future  # an error's traceback leads here, too

    def close(self) -> None:
        """Waits for the functions that run; those that wait are cancelled."""
        for lane in (self._small, self._large):
            lane.close()


class _Lane:
    """Some threads and the queue before them."""

    def __init__(
        self, name: str, thread_count: int, clock: Callable[[], float], metrics: Metrics, *, nice: int
    ) -> None:
        self.queue: Scheduler[_Job[Any]] = Scheduler()
        self.busy_count = 0
        self._clock = clock
        self._wait_seconds = metrics.codec_wait_seconds
        self._busy_seconds = metrics.codec_busy_seconds
        self._jobs: SimpleQueue[_Job[Any] | None] = SimpleQueue()
        # They are daemons because a program that fails before ``close`` shall end.
        self._threads = [
            threading.Thread(target=self._work, args=(nice,), name=f"{name}-{number}", daemon=True)
            for number in range(thread_count)
        ]
        for thread in self._threads:
            thread.start()

    def offer(self, ticket: Ticket[_Job[Any]]) -> None:
        ticket.item.offered_at_s = self._clock()
        self.queue.offer((ticket,))
        self._feed()

    def close(self) -> None:
        while self.queue.queued_ticket_count:
            decision = self.queue.poll(-math.inf, batch_pixel_count=1)
            for ticket in decision.batch:
                ticket.item.cancel()
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def _feed(self) -> None:
        """Gives work to idle threads."""
        while self.queue.queued_ticket_count and self.busy_count < len(self._threads):
            decision = self.queue.poll(self._clock(), batch_pixel_count=1)
            for ticket in decision.expired:
                ticket.item.fail(
                    DeadlineExceeded(
                        "the deadline passed, or left too little time, before the image could be decoded or encoded; "
                        "allow more time or send less at once"
                    )
                )
            for ticket in decision.batch:
                self.busy_count += 1
                ticket.item.is_in_thread = True
                self._jobs.put(ticket.item)

    def _work(self, nice: int) -> None:
        """What a thread does."""
        _lower_priority(nice)
        while (job := self._jobs.get()) is not None:
            job.started_at_s = self._clock()
            job.run()
            job.ended_at_s = self._clock()
            try:
                job.loop.call_soon_threadsafe(self._take_back, job)
            except RuntimeError:
                return  # the loop is closed, so nobody waits any more
            del job  # else its result would live until the next one

    def _take_back(self, job: _Job[Any]) -> None:
        self.busy_count -= 1
        self._wait_seconds.observe(job.started_at_s - job.offered_at_s)
        self._busy_seconds.inc(job.ended_at_s - job.started_at_s)
        # The next function first: it runs while the loop deals with this result.
        self._feed()
        job.settle()


def _lower_priority(nice: int) -> None:
    """For the calling thread alone, where the system can: on Linux a thread has a priority of its own."""
    if nice and sys.platform == "linux":
        thread_id = threading.get_native_id()
        with contextlib.suppress(OSError):  # a sandbox may forbid it; the answers are the same
            os.setpriority(os.PRIO_PROCESS, thread_id, os.getpriority(os.PRIO_PROCESS, thread_id) + nice)
