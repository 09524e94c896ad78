"""The batcher under anything in any order: every wait ends once, and nothing is left."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from service.engine import WIDE_LANE
from service.errors import DeadlineExceeded, LaneStuck, NetworkHung
from service.submission import Client, Group
from service.types import ServiceClass
from tests.unit.service.hand_lanes import (
    ALICE,
    BOB,
    EDGE_PX,
    GROUP,
    NEVER_S,
    POISON,
    Bench,
    Network,
    Picture,
    Work,
    turn,
)

R = TypeVar("R")


_QUICK = Group("quick", 3, EDGE_PX, EDGE_PX)
_unit_kinds = st.lists(st.sampled_from(["fine", "fine", "fine", "poison", "read", "write"]), min_size=1, max_size=5)
_index = st.integers(0, 100)


@dataclass
class _Tale:
    """An image and what may rightly become of it."""

    work: Work
    kinds: list[str]
    can_expire: bool
    is_withdrawn: bool = False


class AnythingInAnyOrder(RuleBasedStateMachine):
    """Images come, arrive, go, fail and expire while lanes end in any order, or hang."""

    @initialize(lane_count=st.integers(1, 3), units_in_batch=st.integers(1, 6), staged_units=st.integers(1, 4))
    def open(self, lane_count: int, units_in_batch: int, staged_units: int) -> None:
        self.loop = asyncio.new_event_loop()
        self.unhandled: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _, context: self.unhandled.append(context))
        self.bench = Bench(
            lane_count=lane_count, units_in_batch=units_in_batch, staged_units=staged_units, wide_units=True
        )
        self.bench.add("quick", Network(self.bench.clock, run_s=0.0002), unit_s=0.0002)
        self.tales: list[_Tale] = []
        self.has_hung = False

    def do(self, action: Callable[[], R]) -> R:
        """On the event loop, which then does nothing else: what was called soon waits for :meth:`turn`."""

        async def call() -> R:
            return action()

        return self.loop.run_until_complete(call())

    @rule(
        kinds=_unit_kinds,
        is_quick=st.booleans(),
        client=st.sampled_from([ALICE, BOB]),
        service_class=st.sampled_from(ServiceClass),
        wait_s=st.sampled_from([0.5, 3.0, 50.0, NEVER_S, NEVER_S]),
        pack_count=st.integers(1, 3),
        available_count=st.sampled_from([None, None, 0, 1]),
        fail_alone=st.booleans(),
    )
    def submit(
        self,
        kinds: list[str],
        is_quick: bool,  # noqa: FBT001 -- Hypothesis passes names
        client: Client,
        service_class: ServiceClass,
        wait_s: float,
        pack_count: int,
        available_count: int | None,
        fail_alone: bool,  # noqa: FBT001 -- Hypothesis passes names
    ) -> None:
        start = 10 * len(self.tales)
        picture = Picture(
            *[POISON if kind == "poison" else start + index for index, kind in enumerate(kinds)],
            read_errors={index: ValueError("read") for index, kind in enumerate(kinds) if kind == "read"},
            write_errors={index: ValueError("write") for index, kind in enumerate(kinds) if kind == "write"},
        )
        work = self.do(
            lambda: self.bench.submit(
                picture,
                group=_QUICK if is_quick else GROUP,
                client=client,
                service_class=service_class,
                wait_s=wait_s,
                pack_count=pack_count,
                available_count=available_count,
                units_fail_alone=fail_alone,
                on_done=self.bench.withdraw,
            )
        )
        self.tales.append(_Tale(work, kinds, wait_s != NEVER_S))

    @precondition(lambda self: self.tales)
    @rule(which=_index)
    def withdraw(self, which: int) -> None:
        tale = self.tales[which % len(self.tales)]
        if not tale.work.is_done and not tale.is_withdrawn:
            tale.is_withdrawn = True
            self.do(lambda: self.bench.withdraw(tale.work))

    @precondition(lambda self: self.tales)
    @rule(which=_index, available_count=st.integers(1, 5))
    def extend(self, which: int, available_count: int) -> None:
        submission = self.tales[which % len(self.tales)].work.submission
        if available_count > submission.available_count:
            self.do(lambda: self.bench.batcher.extend(submission, available_count))

    @precondition(lambda self: self.bench.busy)
    @rule(which=_index)
    def run_lane(self, which: int) -> None:
        busy = self.bench.busy
        lane = busy[which % len(busy)]
        self.do(lane.hand_back if lane.has_run else lane.turn)

    @precondition(lambda self: self.bench.busy)
    @rule(which=_index)
    def run_lane_without_handing_back(self, which: int) -> None:
        busy = self.bench.busy
        lane = busy[which % len(busy)]
        if not lane.has_run:
            lane.run(lane.given[0])
            self.tick()

    @rule(seconds=st.sampled_from([0.0003, 0.5, 2.0, 40.0]))
    def let_time_pass(self, seconds: float) -> None:
        self.bench.clock.now_s += seconds
        self.tick()

    def tick(self) -> None:
        self.do(self.bench.batcher.tick)
        batcher, now_s = self.bench.batcher, self.bench.clock.now_s
        self.has_hung |= batcher.stuck_lane_count > 0
        for tale in self.tales:
            work = tale.work
            assert work.is_done or tale.is_withdrawn or work.submission.deadline_s > now_s, "ticks end what is overdue"
            assert work.is_done or tale.is_withdrawn or batcher.lane_count, "nobody waits when every lane hangs"

    @rule()
    def turn(self) -> None:
        self.loop.run_until_complete(turn())
        bench = self.bench
        if len(bench.busy) == len(bench.lanes) or not bench.metric("queued_units"):
            return
        batches = [lane.given[0] for lane in bench.busy]
        is_soon_free = any(abs(batch.sent_at_s + batch.expected_s - bench.clock.now_s) < 0.0005 for batch in batches)
        assert is_soon_free or any(batch.engine_lane == WIDE_LANE for batch in batches), "an idle lane leaves work"

    @invariant()
    def lanes_are_as_they_are_said_to_be(self) -> None:
        bench = self.bench
        assert self.unhandled == [], "no failure is left for the event loop to find"
        assert bench.metric("busy_lanes") == len(bench.busy)
        lanes = [lane.given[0].engine_lane for lane in bench.busy]
        assert len(set(lanes)) == len(lanes), "one run at a time on a lane"
        assert WIDE_LANE not in lanes or len(lanes) == 1 or bench.batcher.stuck_lane_count, "nothing beside all cores"
        starts = Counter(start for lane in bench.made for start in lane.starts)
        assert not starts or max(starts.values()) == 1, "a unit leaves once"
        assert min(bench.batcher.queued_s, bench.batcher.running_s) >= 0.0

    def teardown(self) -> None:
        if not hasattr(self, "bench"):
            return
        for tale in self.tales:
            submission = tale.work.submission
            self.do(partial(self.bench.batcher.extend, submission, submission.unit_count))
        for lane in self.bench.busy:
            self.do(lane.hand_back if lane.has_run else lane.turn)
        self.loop.run_until_complete(self.bench.run_all())
        for tale in self.tales:
            self.assert_right_ending(tale)
        self.bench.assert_nothing_left()
        after = self.do(lambda: self.bench.submit(Picture(3)))
        self.loop.run_until_complete(self.bench.run_all())
        after.assert_right()
        assert self.loop.run_until_complete(self.bench.batcher.idle(0.0))
        assert self.unhandled == []
        self.loop.close()

    def assert_right_ending(self, tale: _Tale) -> None:
        work = tale.work
        assert work.still_count == 1, "its memory is free, once"
        assert len(work.ends) == (not tale.is_withdrawn), "nobody waits for ever, nobody is told after leaving"
        bad = [index for index, kind in enumerate(tale.kinds) if kind != "fine"]
        indices = [index for index, _ in work.unit_ends]
        assert len(set(indices)) == len(indices)
        for index, error in work.unit_ends:
            assert error is None or index in bad or (tale.can_expire and isinstance(error, DeadlineExceeded))
            if error is None:
                work.picture.assert_right(index)
        if tale.is_withdrawn:
            return
        error = work.end
        if error is None:
            assert sorted(indices) == list(range(len(tale.kinds)))
            assert work.submission.units_fail_alone or not bad
        elif isinstance(error, DeadlineExceeded):
            assert tale.can_expire
        elif isinstance(error, NetworkHung | LaneStuck):
            assert self.has_hung
        else:
            assert bad, "a neighbour's failure is not mine"


AnythingInAnyOrder.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
test_anything_in_any_order = AnythingInAnyOrder.TestCase
