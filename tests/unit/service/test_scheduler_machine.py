"""Any order of offers, discards, polls and passing time, beside a model that scans lists and knows no heap."""

import math
from collections import Counter
from collections.abc import Hashable, Iterable
from itertools import combinations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from service.scheduler import DEFAULT_WEIGHTS, Decision, Scheduler, Ticket
from service.types import ServiceClass
from tests.tickets import ticket

# Powers of two below, so that sums are exact.
PIXEL_COUNTS = {"g": 1, "h": 3, "k": 12}
COSTS_S = [0.25, 0.5, 1.0, 4.0, 16.0]


class Gaps:
    """How the difference of what two sharers got has moved since both began to wait."""

    def __init__(self) -> None:
        self._range: dict[tuple[Hashable, Hashable], tuple[float, float]] = {}

    def observe(self, got: dict[Hashable, float], waiting: Iterable[Hashable]) -> float:
        """Takes note of now and returns the widest change of all pairs."""
        ranges = {}
        for pair in combinations(sorted(waiting, key=str), 2):
            gap = got.get(pair[0], 0.0) - got.get(pair[1], 0.0)
            least, most = self._range.get(pair, (gap, gap))
            ranges[pair] = (min(least, gap), max(most, gap))
        self._range = ranges
        return max((most - least for least, most in ranges.values()), default=0.0)


class _Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.offered: list[Ticket[int]] = []
        self.waiting: list[Ticket[int]] = []
        self.exits: Counter[int] = Counter()
        self.got_by_client: dict[ServiceClass, dict[Hashable, float]] = {each: {} for each in ServiceClass}
        self.got_by_class: dict[Hashable, float] = {}
        self.client_gaps = {each: Gaps() for each in ServiceClass}
        self.class_gaps = Gaps()
        self.largest_s = 0.0

    @initialize(quantum_s=st.sampled_from([0.25, 2.0, 32.0]), now_s=st.sampled_from([0.0, 1024.0]))
    def begin(self, quantum_s: float, now_s: float) -> None:
        self.quantum_s = quantum_s
        self.queue = Scheduler[int](quantum_s=quantum_s)
        self.now_s = now_s

    @rule(
        client=st.sampled_from("abc"),
        service_class=st.sampled_from(ServiceClass),
        wishes=st.lists(
            st.tuples(
                st.sampled_from("ghk"), st.sampled_from(COSTS_S), st.sampled_from([0.0, 1.0, 8.0, math.inf, math.inf])
            ),
            max_size=12,
        ),
    )
    def offer(self, client: str, service_class: ServiceClass, wishes: list[tuple[str, float, float]]) -> None:
        offer = [
            ticket(
                len(self.offered) + place,
                client=client,
                service_class=service_class,
                group=group,
                pixel_count=PIXEL_COUNTS[group],
                cost_s=cost_s,
                deadline_s=self.now_s + wait_s,
            )
            for place, (group, cost_s, wait_s) in enumerate(wishes)
        ]
        self.queue.offer(offer)
        self.offered += offer
        self.waiting += offer
        self.largest_s = max([self.largest_s, *(each.cost_s for each in offer)])

    @rule(data=st.data())
    @precondition(lambda self: self.offered)
    def discard(self, data: st.DataObject) -> None:
        """Those that have left the queue already are among them."""
        chosen = data.draw(st.lists(st.sampled_from(self.offered), max_size=4))
        self.queue.discard(chosen)
        for each in chosen:
            if each in self.waiting:
                self.leaves(each)

    @rule(step_s=st.sampled_from([0.5, 1.0, 8.0]))
    def time_passes(self, step_s: float) -> None:
        self.now_s += step_s

    @rule(batch_pixel_count=st.integers(1, 40), batch_unit_count=st.none() | st.integers(1, 8))
    def poll(self, batch_pixel_count: int, batch_unit_count: int | None) -> None:
        before = list(self.waiting)
        turn_of = {each.item: self.turn(each) for each in before}
        decision = self.queue.poll(self.now_s, batch_pixel_count=batch_pixel_count, batch_unit_count=batch_unit_count)
        batch = decision.batch
        for each in (*decision.expired, *batch):
            self.leaves(each)
        assert all(self.is_late(each) for each in decision.expired)
        assert bool(batch) == any(each.deadline_s > self.now_s for each in before), "whoever can run makes progress"
        if not batch:
            assert len(decision.expired) == len(before)
            return
        first = batch[0]
        if self.is_late(first):
            assert first.deadline_s > self.now_s
            assert len(batch) == 1
            assert not self.waiting, "late by prediction, it runs only when nothing else can"
        assert len({each.group for each in batch}) == 1
        assert not any(self.is_late(each) for each in batch[1:])
        assert len(batch) == 1 or sum(each.pixel_count for each in batch) <= batch_pixel_count
        assert len(batch) <= (batch_unit_count or math.inf)
        if len(batch) > 1:
            ends_s = self.now_s + sum(each.cost_s for each in batch)
            assert all(ends_s <= each.deadline_s for each in batch)
        self.largest_s = max(self.largest_s, self.worth_s(first, batch_pixel_count, batch_unit_count))
        self.left_in_order(decision, turn_of, before)
        for each in batch:
            by_client = self.got_by_client[each.service_class]
            by_client[each.client] = by_client.get(each.client, 0.0) + each.cost_s
            weight = DEFAULT_WEIGHTS[each.service_class]
            self.got_by_class[each.service_class] = (
                self.got_by_class.get(each.service_class, 0.0) + each.cost_s / weight
            )

    def left_in_order(
        self,
        decision: Decision[int],
        turn_of: dict[int, tuple[tuple[int, int], tuple[int, int]]],
        before: list[Ticket[int]],
    ) -> None:
        first = decision.batch[0]
        alive = [each for each in before if not self.is_late(each)]
        if first in alive:
            assert turn_of[first.item] == min(turn_of[each.item] for each in alive), "the turn is its"
        for place, each in enumerate(decision.batch):
            passed_over = [
                other
                for other in self.waiting
                if (other.client, other.service_class) == (each.client, each.service_class)
                and (place == 0 or other.group == each.group)
            ]
            assert all(self.order_of(each) < self.order_of(other) for other in passed_over), (
                "earliest deadline first inside a client"
            )

    def turn(self, each: Ticket[int]) -> tuple[tuple[int, int], tuple[int, int]]:
        """(the class's turn, the client's turn in it): what accounts say; whether heaps honour it is the question."""
        assert each.stack is not None
        place = list(ServiceClass).index(each.service_class)
        account = each.stack.account
        return (each.stack.backlog.account.round_number, place), (account.round_number, account.sequence)

    @invariant()
    @precondition(lambda self: hasattr(self, "queue"))
    def nobody_who_waits_gets_far_ahead_of_another_who_waits(self) -> None:
        for service_class in ServiceClass:
            waiting = {each.client for each in self.waiting if each.service_class is service_class}
            gap_s = self.client_gaps[service_class].observe(self.got_by_client[service_class], waiting)
            assert gap_s <= 2 * (self.quantum_s + self.largest_s)
        gap_s = self.class_gaps.observe(self.got_by_class, {each.service_class for each in self.waiting})
        assert gap_s <= 2 * (self.quantum_s + self.largest_s) + 1e-9

    @invariant()
    @precondition(lambda self: hasattr(self, "queue"))
    def each_ticket_left_at_most_once_and_the_rest_is_queued(self) -> None:
        assert all(count == 1 for count in self.exits.values())
        assert len(self.waiting) + len(self.exits) == len(self.offered)
        assert all(each.is_queued == (each.item not in self.exits) for each in self.offered)

    @invariant()
    @precondition(lambda self: hasattr(self, "queue"))
    def counts_are_right(self) -> None:
        assert self.queue.queued_ticket_count == len(self.waiting)
        assert self.queue.queued_pixel_count == sum(each.pixel_count for each in self.waiting)
        assert self.queue.queued_cost_s == sum(each.cost_s for each in self.waiting)

    @invariant()
    @precondition(lambda self: hasattr(self, "queue"))
    def the_backlog_holds_one_s_own_work_and_never_more_than_is_queued(self) -> None:
        for service_class in ServiceClass:
            for client in "abcd":
                own_s = sum(
                    each.cost_s for each in self.waiting if (each.client, each.service_class) == (client, service_class)
                )
                assert own_s <= self.queue.backlog_s(client, service_class) <= self.queue.queued_cost_s

    def teardown(self) -> None:
        """Whatever is left can be drained, so nothing is stuck in a heap."""
        while self.waiting:
            self.poll(5, None)
        if self.offered:
            assert self.queue.poll(self.now_s, batch_pixel_count=5) == Decision((), [])
        assert len(self.exits) == len(self.offered)

    def leaves(self, each: Ticket[int]) -> None:
        self.waiting.remove(each)
        self.exits[each.item] += 1

    def is_late(self, each: Ticket[int]) -> bool:
        return each.deadline_s <= self.now_s or self.now_s + each.cost_s > each.deadline_s

    @staticmethod
    def worth_s(first: Ticket[int], batch_pixel_count: int, batch_unit_count: int | None) -> float:
        ticket_count = min(batch_pixel_count // first.pixel_count, batch_unit_count or batch_pixel_count)
        return first.cost_s * max(1, ticket_count)

    @staticmethod
    def order_of(each: Ticket[int]) -> tuple[float, int]:
        return each.deadline_s, each.item


_Machine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestAnyOrderOfEvents = _Machine.TestCase
