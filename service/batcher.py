"""The asyncio shell around the scheduler: takes work in, keeps the lanes busy, completes the waiters.

Work-conserving and without timers: whenever something arrives, ends or is taken back, :meth:`Batcher._dispatch`
looks at the whole state and starts what can start. It is a plain function, so there is no loop that could die.
The event loop's thread owns all state; only :meth:`_run_batch` and what it calls run in a lane's thread.
"""

import asyncio
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import structlog

from service.engine import Engine
from service.errors import DeadlineExceeded, ModelFailed, QueueFull, ServiceError
from service.metrics import Metrics, Release
from service.scheduler import Decision, Scheduler, Ticket, TicketsRefused
from service.types import Units

_log = structlog.get_logger()


class Unit(Protocol):
    """A piece of an image: reads its own pixels just before it runs and writes its result just after.

    Both are called in a lane's thread, so an image's units are cut when they run and never wait in memory.
    """

    def read(self) -> Units:
        """(1, C, h, w)."""
        ...

    def write(self, denoised: Units, sigma_map: Units | None) -> None:
        """(1, C, h, w) and (1, 1, h', w'), None without a map. Raises what shall become of the unit's request."""
        ...


@dataclass(frozen=True, slots=True)
class Client:
    """Who sent a request: ``share`` is what fairness is kept between, ``connection`` is only counted."""

    share: Hashable
    connection: Hashable


@dataclass(frozen=True, slots=True)
class Group:
    """Units of one group can be stacked into one batch."""

    model: Hashable
    height_px: int
    width_px: int


@dataclass(slots=True)
class WorkReport:
    """How a request's units ran. Times are on the batcher's clock."""

    offered_at_s: float
    started_at_s: float = float("inf")
    ended_at_s: float = 0.0
    shared_request_count: int = 0
    shared_client_count: int = 0


@dataclass(slots=True, eq=False)
class _Work:
    """A request's units on their way; ``done`` is completed exactly once, by :func:`_settle`."""

    client: Client
    done: "asyncio.Future[WorkReport]"
    report: WorkReport
    remaining_count: int


@dataclass(frozen=True, slots=True)
class _Item:
    unit: Unit
    work: _Work


@dataclass(frozen=True, slots=True)
class _BatchOutcome:
    """What a lane's thread brings back: for each ticket, None or what went wrong."""

    errors: Sequence[ServiceError | None]
    started_at_s: float
    ended_at_s: float
    failure_count: int


class Batcher:
    """Runs units of many requests through the engines' lanes."""

    def __init__(
        self,
        scheduler: Scheduler[_Item],
        *,
        lane_count: int,
        batch_pixel_count: int,
        executor: Executor,
        clock: Callable[[], float],
        metrics: Metrics,
    ) -> None:
        """``executor`` has at least ``lane_count`` threads; ``clock`` is monotonic and callable from any thread."""
        self._scheduler = scheduler
        self._idle_lanes = list(range(lane_count))
        self._lane_count = lane_count
        self._batch_pixel_count = batch_pixel_count
        self._executor = executor
        self._clock = clock
        self._metrics = metrics
        self._engines: dict[Hashable, Engine] = {}
        self._running: set[asyncio.Future[_BatchOutcome]] = set()
        self._seconds_per_pixel: float | None = None
        metrics.lanes.set(lane_count)

    def add_engine(self, model: Hashable, engine: Engine) -> None:
        """Makes ``model`` a valid part of a group."""
        self._engines[model] = engine

    def predicted_wait_s(self, pixel_count: int) -> float:
        """Seconds until ``pixel_count`` more pixels would be done if they had to wait for all that is queued.

        From the measured pace of past batches; 0 before there is one. An upper bound: a fair queue may take
        this client's work earlier.
        """
        if self._seconds_per_pixel is None:
            return 0.0
        return self._seconds_per_pixel * (self._scheduler.queued_pixel_count + pixel_count) / self._lane_count

    async def submit(self, units: Sequence[Unit], *, group: Group, client: Client, deadline_s: float) -> WorkReport:
        """Runs all units and returns how they ran; takes back what is still queued when it is cancelled or fails.

        Raises:
            QueueFull: they don't fit in the queue now.
            DeadlineExceeded: the deadline passed while some were queued.
            ServiceError: what a unit raised, or ModelFailed when the network did.
            ValueError: there are no units, so that nothing would ever complete.
        """
        if not units:
            raise ValueError("a request without units has nothing to wait for; submit at least one")
        work = _Work(
            client,
            asyncio.get_running_loop().create_future(),
            WorkReport(offered_at_s=self._clock()),
            remaining_count=len(units),
        )
        pixel_count = group.height_px * group.width_px
        tickets = [Ticket(_Item(unit, work), client.share, group, pixel_count, deadline_s) for unit in units]
        try:
            self._scheduler.offer(tickets)
        except TicketsRefused as error:
            raise QueueFull(
                f"the queue is full: {error}; send again later, or to another replica",
                retry_after_s=max(0.05, self.predicted_wait_s(0)),
            ) from error
        try:
            self._dispatch()
            return await work.done
        finally:
            self._drop([ticket for ticket in tickets if ticket.is_queued], reason="cancelled")
            self._dispatch()

    async def idle(self) -> None:
        """Returns when no batch is running."""
        while self._running:
            await asyncio.wait(self._running)

    def _drop(self, tickets: Sequence[Ticket[_Item]], *, reason: str) -> None:
        if tickets:
            self._scheduler.discard(tickets)
            self._metrics.units_dropped.labels(reason).inc(len(tickets))

    def _dispatch(self) -> None:
        """Starts batches while a lane is idle and something is queued; refuses what has expired."""
        while self._idle_lanes:
            share = max(1, -(-self._scheduler.queued_pixel_count // self._lane_count))
            limit = min(self._batch_pixel_count, share)
            decision = self._scheduler.poll(self._clock(), batch_pixel_count=limit)
            self._expire(decision)
            if not decision.batch:
                break
            self._count_release(decision, limit)
            self._start(self._idle_lanes.pop(), decision.batch)
        self._metrics.queued_pixels.set(self._scheduler.queued_pixel_count)
        self._metrics.queued_units.set(self._scheduler.queued_ticket_count)
        self._metrics.busy_lanes.set(self._lane_count - len(self._idle_lanes))

    def _expire(self, decision: Decision[_Item]) -> None:
        if decision.expired:
            self._metrics.units_dropped.labels("expired").inc(len(decision.expired))
        for ticket in decision.expired:
            _settle(
                ticket.item.work.done,
                DeadlineExceeded("the deadline passed while the image waited for the network; allow more time"),
            )

    def _count_release(self, decision: Decision[_Item], limit: int) -> None:
        with_one_more = sum(ticket.pixel_count for ticket in decision.batch) + decision.batch[0].pixel_count
        if with_one_more > self._batch_pixel_count:
            release = Release.FULL
        elif with_one_more > limit and self._scheduler.queued_ticket_count:
            release = Release.LANE_SHARE
        else:
            release = Release.NO_MORE
        self._metrics.batch_releases.labels(release.value).inc()

    def _start(self, lane: int, batch: Sequence[Ticket[_Item]]) -> None:
        works = {id(ticket.item.work): ticket.item.work for ticket in batch}.values()
        client_count = len({work.client.connection for work in works})
        for work in works:
            report = work.report
            report.shared_request_count = max(report.shared_request_count, len(works))
            report.shared_client_count = max(report.shared_client_count, client_count)
        self._metrics.batch_units.observe(len(batch))
        self._metrics.batch_requests.observe(len(works))
        self._metrics.batch_clients.observe(client_count)
        self._metrics.computed_pixels.inc(sum(ticket.pixel_count for ticket in batch))
        group = batch[0].group
        assert isinstance(group, Group)
        engine = self._engines[group.model]
        future = asyncio.get_running_loop().run_in_executor(
            self._executor, _run_batch, engine, lane, [ticket.item.unit for ticket in batch], self._clock
        )
        self._running.add(future)
        future.add_done_callback(lambda ended: self._finish(lane, batch, ended))

    def _finish(self, lane: int, batch: Sequence[Ticket[_Item]], ended: "asyncio.Future[_BatchOutcome]") -> None:
        """A batch ended: completes its waiters, frees the lane, starts the next."""
        self._running.discard(ended)
        self._idle_lanes.append(lane)
        outcome = ended.result()
        self._learn_pace(batch, outcome)
        self._metrics.batch_failures.inc(outcome.failure_count)
        for ticket, error in zip(batch, outcome.errors, strict=True):
            work = ticket.item.work
            report = work.report
            report.started_at_s = min(report.started_at_s, outcome.started_at_s)
            report.ended_at_s = max(report.ended_at_s, outcome.ended_at_s)
            work.remaining_count -= 1
            if error is not None:
                _settle(work.done, error)
            elif work.remaining_count == 0:
                _settle(work.done, report)
        self._dispatch()

    def _learn_pace(self, batch: Sequence[Ticket[_Item]], outcome: _BatchOutcome) -> None:
        seconds = outcome.ended_at_s - outcome.started_at_s
        self._metrics.batch_seconds.observe(seconds)
        pace = seconds / sum(ticket.pixel_count for ticket in batch)
        # An eighth of the newest: steady under mixed sizes, and settled after some twenty batches.
        self._seconds_per_pixel = pace if self._seconds_per_pixel is None else (self._seconds_per_pixel * 7 + pace) / 8


def _settle(future: "asyncio.Future[WorkReport]", outcome: WorkReport | ServiceError) -> None:
    """Completes a waiter; one that has gone, or was completed before, is left alone."""
    if future.done():
        return
    if isinstance(outcome, ServiceError):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


def _run_batch(engine: Engine, lane: int, units: Sequence[Unit], clock: Callable[[], float]) -> _BatchOutcome:
    """In a lane's thread: reads, computes and writes the units. Never raises; each unit has its own outcome."""
    started_at_s = clock()
    errors: list[ServiceError | None] = [None] * len(units)
    try:
        failure_count = _run_part(engine, lane, units, range(len(units)), errors)
    except Exception as error:  # noqa: BLE001 -- a lane that raised would never answer its waiters
        errors, failure_count = [_as_service_error(error)] * len(units), 1
    return _BatchOutcome(errors, started_at_s, clock(), failure_count)


def _run_part(
    engine: Engine, lane: int, units: Sequence[Unit], indices: Sequence[int], errors: list[ServiceError | None]
) -> int:
    """Runs some of the units as one batch; one that fails is halved until the culprit is alone.

    Returns how many runs failed.
    """
    readable, arrays = [], []
    for index in indices:
        try:
            arrays.append(units[index].read())
            readable.append(index)
        except Exception as error:  # noqa: BLE001 -- whatever a unit raises is its request's outcome
            errors[index] = _as_service_error(error)
    if not readable:
        return 0
    try:
        images, sigma_maps = engine.run(np.concatenate(arrays) if len(arrays) > 1 else arrays[0], lane=lane)
    except Exception as error:  # noqa: BLE001 -- ONNX Runtime's exceptions have no common public base
        if len(readable) == 1:
            errors[readable[0]] = _as_service_error(error)
            return 1
        _log.warning("batch failed, splitting it", unit_count=len(readable), exc_info=True)
        half = len(readable) // 2
        return (
            1
            + _run_part(engine, lane, units, readable[:half], errors)
            + _run_part(engine, lane, units, readable[half:], errors)
        )
    for position, index in enumerate(readable):
        try:
            part = slice(position, position + 1)
            units[index].write(images[part], None if sigma_maps is None else sigma_maps[part])
        except Exception as error:  # noqa: BLE001 -- whatever a unit raises is its request's outcome
            errors[index] = _as_service_error(error)
    return 0


def _as_service_error(error: Exception) -> ServiceError:
    if isinstance(error, ServiceError):
        return error
    _log.error("the network failed on a unit", exc_info=error)
    return ModelFailed("the network failed on this image; the cause is in the service's log")
