"""The shell around the scheduler: takes images in, keeps the lanes busy, tells each image when it is done.

Work-conserving: whenever something arrives, ends or is taken back, :meth:`Batcher._dispatch` looks at the whole state
and starts what can start; arrivals of one turn of the event loop are looked at together, so that they share a lane's
wake-up. It is a plain function, so there is no loop that could die. The event loop's thread owns all state.

An image offers a few of its units at a time, and the next ones as these are taken, so a large image never owns the
queue. :meth:`Batcher.tick` is called now and then: it ends what has outlived its deadline, and finds lanes that hang.
"""

import asyncio
import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

import structlog

from service.cost import CostModel
from service.engine import WIDE_LANE, Engine
from service.errors import DeadlineExceeded, LaneStuck, NetworkHung, ServiceError
from service.lanes import Batch, Lane, Tiles
from service.metrics import Drop, Metrics, Release
from service.metrics import Lane as LaneKind
from service.scheduler import Decision, Scheduler, Ticket
from service.types import ServiceClass

_log = structlog.get_logger()

# Waking a second thread costs more CPU than this much work is worth while another lane is about to be free.
_WAKE_S = 0.0005
# When to look again at a lane that was about to be free; event loops' timers know no less.
_LOOK_AGAIN_S = 0.001
# The event loop may stand still for so long.
ON_LOOP_S = 0.001
# A lone unit shorter than this gains nothing from more threads.
_LEAST_WIDE_S = 0.004
_NOTHING_S = 1e-9


@dataclass(frozen=True, slots=True)
class Client:
    """Who sent a request: ``share`` is what fairness is kept between, ``connection`` is only counted."""

    share: Hashable
    connection: Hashable


@dataclass(frozen=True, slots=True)
class Group:
    """Units of one group can be stacked into one batch."""

    model: Hashable
    channels: int
    height_px: int
    width_px: int

    @property
    def pixel_count(self) -> int:
        return self.height_px * self.width_px


@dataclass(slots=True, eq=False)
class Submission:
    """An image's units on their way. ``on_done`` is called at most once: with what went wrong, or None.

    Attributes:
        pack_count: most units that are queued and run as one.
        available_count: units that may be offered; fewer than ``unit_count`` while the image is still arriving.
        on_unit: told of each unit that ended, and how; see :meth:`Batcher.submit`.
        offered_at_s, started_at_s, ended_at_s: on the batcher's clock; of the first and the last unit.
        shared_request_count, shared_client_count: the most images, and client connections, in one batch with it.
    """

    tiles: Tiles
    group: Group
    client: Client
    service_class: ServiceClass
    deadline_s: float
    unit_count: int
    pack_count: int
    available_count: int
    unit_cost_s: float
    offered_at_s: float
    on_done: Callable[["Submission", ServiceError | None], None]
    on_unit: Callable[["Submission", int, ServiceError | None], None] | None = None
    units_fail_alone: bool = False
    started_at_s: float = float("inf")
    ended_at_s: float = 0.0
    shared_request_count: int = 0
    shared_client_count: int = 0
    next_index: int = 0
    remaining_count: int = 0
    running_count: int = 0
    is_over: bool = False
    queued: "set[Ticket[_Pack]]" = field(default_factory=set)
    on_still: Callable[[], None] | None = None


class _Pack:
    """Units of a submission that are queued as one, as lanes see them."""

    __slots__ = ("count", "first", "submission", "tiles")

    def __init__(self, submission: Submission, first: int, count: int) -> None:
        self.submission = submission
        self.tiles = submission.tiles
        self.first = first
        self.count = count

    def is_wanted(self, now_s: float) -> bool:
        return not self.submission.is_over and now_s < self.submission.deadline_s


@dataclass(frozen=True, slots=True)
class BatcherOptions:
    """How units become batches.

    Attributes:
        batch_pixels, batch_units: a batch holds at most this many pixels, or one unit, and this many units.
        staged_units_per_image: units of one image that wait at once.
        wide_units: whether a lone unit on an idle service gets all cores.
        stuck_factor, stuck_after_s: a lane hangs when it takes so many times as long as expected, and at least this.
    """

    batch_pixels: int
    batch_units: int
    staged_units_per_image: int
    wide_units: bool
    stuck_factor: float
    stuck_after_s: float


class Batcher:
    """Runs units of many images through the lanes."""

    def __init__(
        self,
        scheduler: "Scheduler[_Pack]",
        *,
        lane_count: int,
        options: BatcherOptions,
        costs: CostModel,
        clock: Callable[[], float],
        metrics: Metrics,
        lane_of: Callable[..., Lane] = Lane,
    ) -> None:
        """``clock`` is monotonic and callable from any thread; ``lane_of`` makes lanes, for tests that turn them."""
        self._scheduler = scheduler
        self._options = options
        self._costs = costs
        self._clock = clock
        self._metrics = metrics
        self._engines: dict[Hashable, Engine] = {}
        self._lanes = [lane_of(f"lane-{i}", clock=clock, on_done=self._finish) for i in range(lane_count)]
        self._loop_lane = lane_of("loop", clock=clock, on_done=self._finish)
        self._idle = self._lanes[::-1]
        self._running: dict[Lane, Batch] = {}
        self._stuck: set[Lane] = set()
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._is_wide = False
        self._will_dispatch = False
        self._will_look_again = False
        self._live: set[Submission] = set()
        # Predicted work of live images that is not offered yet, in all and of each client that has some.
        self._unoffered_s = 0.0
        self._unoffered_by_share_s: dict[Hashable, float] = {}
        metrics.lanes.set(lane_count)
        metrics.queued_pixels.follow(lambda: scheduler.queued_pixel_count)
        metrics.queued_units.follow(lambda: scheduler.queued_unit_count)
        metrics.queued_work_seconds.follow(lambda: self.queued_s)
        metrics.busy_lanes.follow(lambda: len(self._running))
        metrics.stuck_lanes.follow(lambda: len(self._stuck))

    def start(self) -> None:
        """Starts the lanes' threads; on the event loop."""
        for lane in self._lanes:
            lane.start()

    def close(self, timeout_s: float) -> bool:
        """Ends the lanes' threads; False when one is still at work after that time."""
        ended = [lane.close(timeout_s) for lane in self._lanes]
        return all(ended)

    @property
    def lane_count(self) -> int:
        """Those that work: a lane that hangs is none until it comes back."""
        return len(self._lanes) - len(self._stuck)

    @property
    def stuck_lane_count(self) -> int:
        return len(self._stuck)

    def require_lane(self) -> None:
        """Raises LaneStuck when every lane hangs: what is offered now would only wait for its deadline."""
        if not self.lane_count:
            raise _no_lane()

    @property
    def is_at_rest(self) -> bool:
        """Nothing runs, and nothing waits to run."""
        return not (self._running or self._live)

    def add_engine(self, model: Hashable, engine: Engine) -> None:
        """Makes ``model`` a valid part of a group."""
        self._engines[model] = engine

    def backlog_s(self, client: Client, service_class: ServiceClass) -> float:
        """Predicted seconds of lane time before work that this client offers now would run."""
        queued_s = self._scheduler.backlog_s(client.share, service_class)
        own_s = self._unoffered_by_share_s.get(client.share, 0.0)
        # While its own images pass, fairness lets as much of the others' pass.
        unoffered_s = own_s + min(self._unoffered_s - own_s, own_s + queued_s)
        return queued_s + unoffered_s + self.running_s

    @property
    def queued_s(self) -> float:
        """Predicted seconds of lane time of all that waits."""
        return self._scheduler.queued_cost_s + self._unoffered_s

    @property
    def running_s(self) -> float:
        """Predicted seconds of lane time until all that runs is done."""
        if not self._running:
            # Asked for every image; mostly nothing runs while a message's images come in.
            return 0.0
        now_s = self._clock()
        return sum(max(0.0, b.sent_at_s + b.expected_s - now_s) for b in self._running.values())

    def submit(
        self,
        tiles: Tiles,
        *,
        group: Group,
        unit_count: int,
        pack_count: int = 1,
        available_count: int | None = None,
        client: Client,
        service_class: ServiceClass,
        deadline_s: float,
        on_done: Callable[[Submission, ServiceError | None], None],
        on_unit: Callable[[Submission, int, ServiceError | None], None] | None = None,
        units_fail_alone: bool = False,
    ) -> Submission:
        """Offers an image's units; ``on_done`` is called on the event loop, never before this returns.

        Args:
            unit_count: at least 1.
            pack_count: units that may be queued and run as one; small ones cost less so.
            available_count: units that may run now, in the order of their numbers; None for all. See :meth:`extend`.
            deadline_s: absolute, on the clock.
            on_unit: called with the number of each unit that ended, and what went wrong, before ``on_done``.
            units_fail_alone: whether a unit that fails is its own matter; else it ends the image.
        """
        if not unit_count:
            raise ValueError("an image without units has nothing to wait for; submit at least one")
        submission = Submission(
            tiles=tiles,
            group=group,
            client=client,
            service_class=service_class,
            deadline_s=deadline_s,
            unit_count=unit_count,
            pack_count=pack_count,
            available_count=unit_count if available_count is None else available_count,
            unit_cost_s=self._costs.predict_s(group.model, group.height_px, group.width_px),
            offered_at_s=self._clock(),
            on_done=on_done,
            on_unit=on_unit,
            units_fail_alone=units_fail_alone,
            remaining_count=unit_count,
        )
        self._live.add(submission)
        self._count_unoffered(submission, unit_count - self._offer(submission))
        self._dispatch_soon()
        return submission

    def fitting_pack_count(self, group: Group, unit_count: int) -> int:
        """How many of so many small units should be queued as one: enough for each lane, unless that is too little."""
        most = min(self._options.batch_units, max(1, self._options.batch_pixels // group.pixel_count))
        unit_s = self._costs.predict_s(group.model, group.height_px, group.width_px)
        even = -(-unit_count // len(self._lanes))
        return min(most, max(even, math.ceil(_WAKE_S / unit_s)))

    def run_at_once(
        self,
        tiles: Tiles,
        *,
        group: Group,
        unit_count: int,
        client: Client,
        service_class: ServiceClass,
        deadline_s: float,
        on_unit: Callable[[Submission, int, ServiceError | None], None],
    ) -> bool:
        """Runs a few small units that fail alone here and now, where nobody else is kept waiting by that.

        ``on_unit`` is called for each before this returns. False, and nothing done, when something runs or waits, or
        when it is too much for the event loop's thread: then :meth:`submit` them.
        """
        expected_s = self._costs.predict_s(group.model, group.height_px, group.width_px, unit_count)
        if not self.is_at_rest or expected_s > ON_LOOP_S:
            return False
        now_s = self._clock()
        submission = Submission(
            tiles=tiles,
            group=group,
            client=client,
            service_class=service_class,
            deadline_s=deadline_s,
            unit_count=unit_count,
            pack_count=unit_count,
            available_count=unit_count,
            unit_cost_s=expected_s,
            offered_at_s=now_s,
            on_done=_ignore,
            on_unit=on_unit,
            units_fail_alone=True,
            shared_request_count=unit_count,
            shared_client_count=1,
            remaining_count=unit_count,
            running_count=unit_count,
        )
        pack = _Pack(submission, 0, unit_count)
        batch = Batch(
            engine=self._engines[group.model],
            engine_lane=0,
            shape=(group.channels, group.height_px, group.width_px),
            packs=(pack,),
            unit_count=unit_count,
            expected_s=expected_s,
            sent_at_s=now_s,
        )
        self._count(group, unit_count, unit_count, 1)
        self._loop_lane.run(batch)
        self._tell_packs(batch, LaneKind.LOOP)
        return True

    def extend(self, submission: Submission, available_count: int) -> None:
        """More of an image has arrived: its first ``available_count`` units may run."""
        submission.available_count = available_count
        if not submission.is_over:
            self._offer_more(submission)
            self._dispatch_soon()

    def withdraw(self, submission: Submission, *, on_still: Callable[[], None]) -> None:
        """Drops what has not run; its ``on_done`` is not called any more.

        ``on_still`` is called once none of its units runs, which may be at once: until then lanes use its memory.
        """
        if not submission.is_over:
            self._end(submission, Drop.CANCELLED)
        if submission.running_count:
            submission.on_still = on_still
        else:
            on_still()

    async def idle(self, timeout_s: float) -> bool:
        """True once no batch is running; False when the time is up."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._is_idle.wait()
        except TimeoutError:
            return False
        return True

    def tick(self) -> None:
        """Ends images whose deadline has passed, and looks for lanes that hang."""
        now_s = self._clock()
        for submission in [s for s in self._live if s.deadline_s <= now_s]:
            self._settle(
                submission,
                DeadlineExceeded("the deadline passed before the image was done; allow more time"),
            )
        for lane, batch in self._running.items():
            limit_s = max(self._options.stuck_after_s, self._options.stuck_factor * batch.expected_s)
            if lane not in self._stuck and now_s - batch.sent_at_s > limit_s:
                self._give_up(lane, batch, now_s - batch.sent_at_s)
        if not self.lane_count:
            for submission in tuple(self._live):
                self._settle(submission, _no_lane())
        self._dispatch()

    def _give_up(self, lane: Lane, batch: Batch, waited_s: float) -> None:
        """A lane hangs: its images fail now, and it takes no more until it comes back."""
        self._stuck.add(lane)
        # Nothing runs beside a wide lane, but nobody waits for one that hangs.
        self._is_wide = False
        _log.error("a lane hangs", waited_s=round(waited_s, 3), expected_s=round(batch.expected_s, 3))
        for pack in batch.packs:
            assert isinstance(pack, _Pack)
            self._settle(
                pack.submission,
                NetworkHung(
                    f"the network has not answered for {waited_s:.1f} s; do not send this image again as it is, "
                    "it may be what the network hangs on"
                ),
            )

    def _offer_more(self, submission: Submission) -> None:
        self._count_unoffered(submission, -self._offer(submission))

    def _offer(self, submission: Submission) -> int:
        """Queues the next units of an image, a few at a time; returns how many."""
        last = min(submission.available_count, submission.unit_count)
        room = self._options.staged_units_per_image - len(submission.queued)
        stop = min(last, submission.next_index + room * submission.pack_count)
        if stop <= submission.next_index:
            return 0
        tickets = []
        for first in range(submission.next_index, stop, submission.pack_count):
            count = min(submission.pack_count, stop - first)
            tickets.append(
                Ticket(
                    _Pack(submission, first, count),
                    submission.client.share,
                    submission.service_class,
                    submission.group,
                    submission.group.pixel_count * count,
                    submission.unit_cost_s * count,
                    submission.deadline_s,
                    count,
                )
            )
        offered_count = stop - submission.next_index
        submission.next_index = stop
        submission.queued.update(tickets)
        self._scheduler.offer(tickets)
        return offered_count

    def _count_unoffered(self, submission: Submission, unit_count: int) -> None:
        """Adds to, or takes from, the work that live images have not offered yet."""
        if not unit_count:
            return
        share, shares = submission.client.share, self._unoffered_by_share_s
        seconds = submission.unit_cost_s * unit_count
        shares[share] = shares.get(share, 0.0) + seconds
        self._unoffered_s += seconds
        # What sums of floats leave of nothing.
        if shares[share] < _NOTHING_S:
            del shares[share]
        if not shares:
            self._unoffered_s = 0.0

    def _dispatch_soon(self) -> None:
        """Once for all that happens in this turn of the event loop."""
        if not self._will_dispatch:
            self._will_dispatch = True
            asyncio.get_running_loop().call_soon(self._dispatch)

    def _dispatch(self) -> None:
        """Starts batches while a lane is idle and something is queued; refuses what has expired."""
        self._will_dispatch = False
        scheduler = self._scheduler
        while self._idle and not self._is_wide and scheduler.queued_ticket_count:
            now_s = self._clock()
            if self._is_soon_free(now_s):
                self._look_again_soon()
                break
            decision = scheduler.poll(
                now_s, batch_pixel_count=self._batch_limit(), batch_unit_count=self._options.batch_units
            )
            self._expire(decision)
            # An image that expired by one of its units takes no lane for another.
            batch = [ticket for ticket in decision.batch if not ticket.item.submission.is_over]
            if batch:
                self._start(batch, now_s)

    def _is_soon_free(self, now_s: float) -> bool:
        """Whether what is queued is so little, and a lane free so soon, that waking another is a waste.

        A lane that is overdue by as much may be so for long: nobody waits for it.
        """
        return self._scheduler.queued_cost_s < _WAKE_S and any(
            abs(batch.sent_at_s + batch.expected_s - now_s) < _WAKE_S for batch in self._running.values()
        )

    def _look_again_soon(self) -> None:
        if not self._will_look_again:
            self._will_look_again = True
            asyncio.get_running_loop().call_later(_LOOK_AGAIN_S, self._look_again)

    def _look_again(self) -> None:
        self._will_look_again = False
        self._dispatch()

    def _batch_limit(self) -> int:
        """Pixels of the next batch: so that all idle lanes get some, unless that is not worth their waking."""
        scheduler = self._scheduler
        most = self._options.batch_pixels
        if scheduler.queued_cost_s < _WAKE_S * len(self._idle):
            return most
        return min(most, -(-scheduler.queued_pixel_count // len(self._idle)))

    def _expire(self, decision: "Decision[_Pack]") -> None:
        for ticket in decision.expired:
            self._settle(
                ticket.item.submission,
                DeadlineExceeded("the deadline passed while the image waited for the network; allow more time"),
            )

    def _start(self, tickets: "Sequence[Ticket[_Pack]]", now_s: float) -> None:
        group = tickets[0].group
        assert isinstance(group, Group)
        engine = self._engines[group.model]
        packs = [ticket.item for ticket in tickets]
        unit_count = sum(pack.count for pack in packs)
        submissions = {pack.submission for pack in packs}
        for ticket in tickets:
            ticket.item.submission.queued.discard(ticket)
            ticket.item.submission.running_count += ticket.item.count
        client_count = len({submission.client.connection for submission in submissions})
        # Of units that fail alone each is an image.
        image_count = sum(pack.count for pack in packs if pack.submission.units_fail_alone)
        image_count += sum(not submission.units_fail_alone for submission in submissions)
        for submission in submissions:
            submission.shared_request_count = max(submission.shared_request_count, image_count)
            submission.shared_client_count = max(submission.shared_client_count, client_count)
            if submission.next_index < submission.available_count:
                self._offer_more(submission)
        expected_s = self._costs.predict_s(group.model, group.height_px, group.width_px, unit_count)
        self._is_wide = self._takes_all_cores(unit_count, expected_s)
        self._count(group, unit_count, image_count, client_count)
        batch = Batch(
            engine=engine,
            engine_lane=WIDE_LANE if self._is_wide else 0,
            shape=(group.channels, group.height_px, group.width_px),
            packs=packs,
            unit_count=unit_count,
            expected_s=expected_s,
            sent_at_s=now_s,
        )
        if self._is_on_loop(expected_s):
            self._loop_lane.run(batch)
            self._tell_packs(batch, LaneKind.LOOP)
            return
        lane = self._idle.pop()
        if not self._is_wide:
            batch.engine_lane = self._lanes.index(lane)
        self._running[lane] = batch
        self._is_idle.clear()
        lane.put(batch)

    def _is_on_loop(self, expected_s: float) -> bool:
        """Whether so little is to be done that handing it to a thread and back would cost more.

        Each of a lane's dozen calls into NumPy gives the interpreter away and waits to get it back from the loop, which
        costs more than a small image. Engine lane 0 is free then, because no lane runs.
        """
        return not self._running and self._scheduler.queued_cost_s + expected_s <= ON_LOOP_S

    def _takes_all_cores(self, unit_count: int, expected_s: float) -> bool:
        """A unit that is alone in the service, and found it idle."""
        return (
            self._options.wide_units
            and unit_count == 1
            and len(self._live) == 1
            and len(self._idle) == len(self._lanes) > 1
            and not self._scheduler.queued_ticket_count
            and expected_s >= _LEAST_WIDE_S
        )

    def _count(self, group: Group, unit_count: int, image_count: int, client_count: int) -> None:
        with_one_more = group.pixel_count * (unit_count + 1)
        if self._is_wide:
            release = Release.ALONE
        elif with_one_more > self._options.batch_pixels:
            release = Release.FULL
        elif self._scheduler.queued_ticket_count:
            release = Release.LANE_SHARE
        else:
            release = Release.NO_MORE
        self.count_batches(1, release, group, unit_count, image_count, client_count)

    def count_batches(
        self, count: int, release: Release, group: Group, unit_count: int, image_count: int, client_count: int
    ) -> None:
        """Shows ``count`` batches that are alike."""
        metrics = self._metrics
        pixel_count = group.pixel_count * unit_count
        metrics.batch_releases[release].inc(count)
        metrics.batch_units.observe_many(unit_count, count)
        metrics.batch_requests.observe_many(image_count, count)
        metrics.batch_clients.observe_many(client_count, count)
        metrics.batch_fill.observe_many(min(1.0, pixel_count / self._options.batch_pixels), count)
        metrics.computed_pixels.inc(pixel_count * count)

    def _finish(self, lane: Lane, batch: Batch) -> None:
        """A batch ended: tells its images, frees the lane, starts the next."""
        del self._running[lane]
        self._idle.append(lane)
        if lane in self._stuck:
            self._stuck.discard(lane)
            _log.warning("a lane that hung has come back")
        kind = LaneKind.WIDE if batch.engine_lane == WIDE_LANE else LaneKind.NARROW
        self._is_wide = False
        self._tell_packs(batch, kind)
        if self._scheduler.queued_ticket_count:
            self._dispatch()
        if not self._running:
            self._is_idle.set()

    def _tell_packs(self, batch: Batch, kind: LaneKind) -> None:
        self._learn(batch, kind)
        at = 0
        for pack in batch.packs:
            assert isinstance(pack, _Pack)
            self._finish_pack(pack, batch, batch.errors[at : at + pack.count])
            at += pack.count

    def _finish_pack(self, pack: _Pack, batch: Batch, errors: Sequence[ServiceError | None]) -> None:
        submission = pack.submission
        submission.running_count -= pack.count
        submission.remaining_count -= pack.count
        submission.started_at_s = min(submission.started_at_s, batch.started_at_s)
        submission.ended_at_s = batch.ended_at_s
        if not submission.is_over:
            if submission.on_unit is not None:
                for index, error in enumerate(errors, pack.first):
                    _tell(submission.on_unit, submission, index, error)
            error = None if submission.units_fail_alone else next(filter(None, errors), None)
            if error is not None or submission.remaining_count == 0:
                self._settle(submission, error)
        if submission.running_count == 0 and submission.on_still is not None:
            _tell(submission.on_still)
            submission.on_still = None

    def _learn(self, batch: Batch, kind: LaneKind) -> None:
        seconds = batch.ended_at_s - batch.started_at_s
        self._metrics.batch_seconds.observe(seconds)
        self._metrics.lane_busy_seconds[kind].inc(seconds)
        if batch.failure_count:
            self._metrics.batch_failures.inc(batch.failure_count)
        elif kind is not LaneKind.WIDE and not any(batch.errors):
            _, height_px, width_px = batch.shape
            pack = batch.packs[0]
            assert isinstance(pack, _Pack)
            self._costs.observe(pack.submission.group.model, height_px, width_px, batch.unit_count, seconds)

    def _settle(self, submission: Submission, error: ServiceError | None) -> None:
        """Ends an image once; one that is over is left alone."""
        if submission.is_over:
            return
        on_done = submission.on_done
        self._end(submission, Drop.EXPIRED if isinstance(error, DeadlineExceeded) else Drop.FAILED)
        _tell(on_done, submission, error)

    def _end(self, submission: Submission, drop: Drop) -> None:
        submission.is_over = True
        # Whoever waits knows the submission; else both would wait for the garbage collector.
        submission.on_done, submission.on_unit = _ignore, None
        self._live.discard(submission)
        self._count_unoffered(submission, submission.next_index - submission.unit_count)
        if submission.queued:
            self._metrics.units_dropped[drop].inc(sum(ticket.item.count for ticket in submission.queued))
            self._scheduler.discard(submission.queued)
            submission.queued.clear()
            self._dispatch_soon()


def _ignore(_: Submission, __: ServiceError | None) -> None:
    """Nobody waits for units that fail alone as a whole."""


def _no_lane() -> LaneStuck:
    return LaneStuck("no lane answers any more; send again, another replica will take it")


def _tell(listener: Callable[..., None], *news: object) -> None:
    """Whoever waits for the others in this batch must be told, too, even if this one fails to listen."""
    try:
        listener(*news)
    except Exception:  # noqa: BLE001 -- the listener's failure must not be the batcher's
        _log.exception("an image could not be told what became of it")
