"""The shell around the scheduler: takes images in, keeps the lanes busy, tells each image when it is done.

Work-conserving: whenever something arrives, ends or is taken back, :meth:`Batcher._dispatch` looks at the whole state
and starts what can start; arrivals of one turn of the event loop are looked at together, so that they share a lane's
wake-up. It is a plain function, so there is no loop that could die. The event loop's thread owns all state.

An image offers a few of its units at a time, and the next ones as these are taken, so a large image never owns the
queue. :meth:`Batcher.tick` is called now and then: it ends what has outlived its deadline, and finds lanes that hang.
"""

import asyncio
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import structlog

from service import dispatch
from service.batch_observer import BatchObserver
from service.cost import CostModel
from service.engine import WIDE_LANE, Engine
from service.errors import DeadlineExceeded, LaneStuck, NetworkHung, ServiceError
from service.lanes import Batch, Lane, Tiles
from service.metrics import Drop, Metrics, Release
from service.metrics import Lane as LaneKind
from service.scheduler import Decision, Scheduler, Ticket
from service.submission import Client, Group, Pack, Submission
from service.types import ServiceClass
from service.unoffered import Unoffered
from service.watchdog import Watchdog

_log = structlog.get_logger()

# When to look again at a lane that was about to be free; event loops' timers know no less.
_LOOK_AGAIN_S = 0.001


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
    """Runs units of many images through the lanes.

    Attributes:
        observe: counts its batches, and those that others run at once.
    """

    def __init__(
        self,
        scheduler: "Scheduler[Pack]",
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
        self.observe = BatchObserver(metrics, batch_pixels=options.batch_pixels)
        self._units_dropped = metrics.units_dropped
        self._engines: dict[Hashable, Engine] = {}
        self._lanes = [lane_of(f"lane-{i}", clock=clock, on_done=self._finish) for i in range(lane_count)]
        self._loop_lane = lane_of("loop", clock=clock, on_done=self._finish)
        self._idle = self._lanes[::-1]
        self._running: dict[Lane, Batch] = {}
        self._watchdog = Watchdog(stuck_factor=options.stuck_factor, stuck_after_s=options.stuck_after_s)
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._is_wide = False
        self._will_dispatch = False
        self._will_look_again = False
        self._live: set[Submission] = set()
        # Of live images, what is not offered yet.
        self._unoffered = Unoffered()
        metrics.lanes.set(lane_count)
        metrics.queued_pixels.follow(lambda: scheduler.queued_pixel_count)
        metrics.queued_units.follow(lambda: scheduler.queued_unit_count)
        metrics.queued_work_seconds.follow(lambda: self.queued_s)
        metrics.queued_clients.follow(lambda: len(self._queued_by_client_s()))
        metrics.largest_client_work_seconds.follow(lambda: max(self._queued_by_client_s().values(), default=0.0))
        metrics.busy_lanes.follow(lambda: len(self._running))
        metrics.stuck_lanes.follow(lambda: self._watchdog.stuck_count)

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
        return len(self._lanes) - self._watchdog.stuck_count

    @property
    def stuck_lane_count(self) -> int:
        return self._watchdog.stuck_count

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

    def remove_engine(self, model: Hashable) -> None:
        """Nothing asks for ``model`` any more, and nothing of it waits or runs."""
        self._engines.pop(model, None)

    def backlog_s(self, client: Client, service_class: ServiceClass) -> float:
        """Predicted seconds of lane time before work that this client offers now would run."""
        queued_s = self._scheduler.backlog_s(client.share, service_class)
        return queued_s + self._unoffered.before_s(client.share, queued_s) + self.running_s

    @property
    def queued_s(self) -> float:
        """Predicted seconds of lane time of all that waits."""
        return self._scheduler.queued_cost_s + self._unoffered.total_s

    def _queued_by_client_s(self) -> dict[Hashable, float]:
        """The same for each client that has some."""
        queued_s = self._scheduler.queued_by_client_s()
        for share, seconds in self._unoffered.by_share_s().items():
            queued_s[share] = queued_s.get(share, 0.0) + seconds
        return queued_s

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
        self._unoffered.add(submission.client.share, submission.unit_cost_s * (unit_count - self._offer(submission)))
        self._dispatch_soon()
        return submission

    def fitting_pack_count(self, group: Group, unit_count: int) -> int:
        """How many of so many small units should be queued as one: enough for each lane, unless that is too little."""
        most = min(self._options.batch_units, max(1, self._options.batch_pixels // group.pixel_count))
        unit_s = self._costs.predict_s(group.model, group.height_px, group.width_px)
        return dispatch.fitting_pack_count(unit_count, most=most, lane_count=len(self._lanes), unit_s=unit_s)

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
        if not self.is_at_rest or expected_s > dispatch.ON_LOOP_S:
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
        pack = Pack(submission, 0, unit_count)
        batch = Batch(
            engine=self._engines[group.model],
            engine_lane=0,
            shape=group.unit_shape,
            packs=(pack,),
            unit_count=unit_count,
            expected_s=expected_s,
            sent_at_s=now_s,
        )
        self.observe.started(self._release_of(group, unit_count), group, unit_count, unit_count, 1)
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
        for batch in self._watchdog.look(self._running, now_s):
            self._give_up(batch, now_s - batch.sent_at_s)
        if not self.lane_count:
            for submission in tuple(self._live):
                self._settle(submission, _no_lane())
        self._dispatch()

    def _give_up(self, batch: Batch, waited_s: float) -> None:
        """A lane hangs: its images fail now, and it takes no more until it comes back."""
        # Nothing runs beside a wide lane, but nobody waits for one that hangs.
        self._is_wide = False
        for pack in batch.packs:
            assert isinstance(pack, Pack)
            self._settle(
                pack.submission,
                NetworkHung(
                    f"the network has not answered for {waited_s:.1f} s; do not send this image again as it is, "
                    "it may be what the network hangs on"
                ),
            )

    def _offer_more(self, submission: Submission) -> None:
        self._unoffered.add(submission.client.share, submission.unit_cost_s * -self._offer(submission))

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
                    Pack(submission, first, count),
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
            if dispatch.is_lane_soon_free(
                now_s,
                queued_s=scheduler.queued_cost_s,
                due_s=(batch.sent_at_s + batch.expected_s for batch in self._running.values()),
            ):
                self._look_again_soon()
                break
            batch_pixels = dispatch.batch_pixel_limit(
                self._options.batch_pixels,
                queued_s=scheduler.queued_cost_s,
                queued_pixels=scheduler.queued_pixel_count,
                idle_count=len(self._idle),
            )
            decision = scheduler.poll(now_s, batch_pixel_count=batch_pixels, batch_unit_count=self._options.batch_units)
            self._expire(decision)
            # An image that expired by one of its units takes no lane for another.
            batch = [ticket for ticket in decision.batch if not ticket.item.submission.is_over]
            if batch:
                self._start(batch, now_s)

    def _look_again_soon(self) -> None:
        if not self._will_look_again:
            self._will_look_again = True
            asyncio.get_running_loop().call_later(_LOOK_AGAIN_S, self._look_again)

    def _look_again(self) -> None:
        self._will_look_again = False
        self._dispatch()

    def _expire(self, decision: "Decision[Pack]") -> None:
        for ticket in decision.expired:
            self._settle(
                ticket.item.submission,
                DeadlineExceeded("the deadline passed while the image waited for the network; allow more time"),
            )

    def _start(self, tickets: "Sequence[Ticket[Pack]]", now_s: float) -> None:
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
        may_widen = self._options.wide_units and group.is_widened
        self._is_wide = may_widen and dispatch.is_for_all_cores(
            expected_s,
            unit_count=unit_count,
            live_count=len(self._live),
            queued_count=self._scheduler.queued_ticket_count,
            idle_count=len(self._idle),
            lane_count=len(self._lanes),
        )
        self.observe.started(self._release_of(group, unit_count), group, unit_count, image_count, client_count)
        batch = Batch(
            engine=engine,
            engine_lane=WIDE_LANE if self._is_wide else 0,
            shape=group.unit_shape,
            packs=packs,
            unit_count=unit_count,
            expected_s=expected_s,
            sent_at_s=now_s,
        )
        if dispatch.is_for_loop(expected_s, queued_s=self._scheduler.queued_cost_s, running_count=len(self._running)):
            self._loop_lane.run(batch)
            self._tell_packs(batch, LaneKind.LOOP)
            return
        lane = self._idle.pop()
        if not self._is_wide:
            batch.engine_lane = self._lanes.index(lane)
        self._running[lane] = batch
        self._is_idle.clear()
        lane.put(batch)

    def _release_of(self, group: Group, unit_count: int) -> Release:
        """What ended the filling of a batch that is about to run."""
        if self._is_wide:
            return Release.ALONE
        if group.pixel_count * (unit_count + 1) > self._options.batch_pixels:
            return Release.FULL
        return Release.LANE_SHARE if self._scheduler.queued_ticket_count else Release.NO_MORE

    def _finish(self, lane: Lane, batch: Batch) -> None:
        """A batch ended: tells its images, frees the lane, starts the next."""
        del self._running[lane]
        self._idle.append(lane)
        self._watchdog.note_back(lane)
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
            assert isinstance(pack, Pack)
            self._finish_pack(pack, batch, batch.errors[at : at + pack.count])
            at += pack.count

    def _finish_pack(self, pack: Pack, batch: Batch, errors: Sequence[ServiceError | None]) -> None:
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
        self.observe.ended(kind, batch)
        if not batch.failure_count and kind is not LaneKind.WIDE and not any(batch.errors):
            pack = batch.packs[0]
            assert isinstance(pack, Pack)
            group = pack.submission.group
            seconds = batch.ended_at_s - batch.started_at_s
            self._costs.observe(group.model, group.height_px, group.width_px, batch.unit_count, seconds)

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
        self._unoffered.add(
            submission.client.share, submission.unit_cost_s * (submission.next_index - submission.unit_count)
        )
        if submission.queued:
            self._units_dropped[drop].inc(sum(ticket.item.count for ticket in submission.queued))
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
