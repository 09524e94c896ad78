"""The scheduler by numbers: what leaves, in which order, who gets how much, and what a decision costs."""

import gc
import math
import sys
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from types import BuiltinFunctionType, FrameType, FunctionType, ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from service import scheduler as scheduler_module
from service.scheduler import Decision, Scheduler, Ticket, TicketsRefused

UNLIMITED = sys.maxsize


def ticket(
    item: int = 0,
    *,
    client: Hashable = "a",
    group: Hashable = "g",
    pixel_count: int = 1,
    deadline_s: float = math.inf,
) -> Ticket[int]:
    return Ticket(item, client, group, pixel_count, deadline_s)


def tickets(count: int, **properties: Any) -> list[Ticket[int]]:
    return [ticket(item, **properties) for item in range(count)]


def loaded(*offers: Iterable[Ticket[int]], limit_pixel_count: int = UNLIMITED) -> Scheduler[int]:
    queue = Scheduler[int](limit_pixel_count=limit_pixel_count)
    for offer in offers:
        queue.offer(list(offer))
    return queue


def items(decision: Decision[int]) -> list[int]:
    return [each.item for each in decision.batch]


class _Machine(RuleBasedStateMachine):
    """Any order of offers, discards, polls and passing time, beside a model that scans instead of using heaps."""

    LIMIT_PIXEL_COUNT = 40

    def __init__(self) -> None:
        super().__init__()
        self.queue = Scheduler[int](limit_pixel_count=self.LIMIT_PIXEL_COUNT)
        self.now_s = 0.0
        self.offered: list[Ticket[int]] = []
        self.waiting: list[Ticket[int]] = []
        self.exits: Counter[int] = Counter()

    @initialize(now_s=st.sampled_from([0.0, 1000.0]))
    def begin(self, now_s: float) -> None:
        self.now_s = now_s

    @rule(
        client=st.sampled_from("abc"),
        wishes=st.lists(
            st.tuples(st.sampled_from("gh"), st.integers(1, 12), st.sampled_from([0.0, 1.0, 2.0, 3.0, math.inf])),
            max_size=4,
        ),
    )
    def offer(self, client: str, wishes: list[tuple[str, int, float]]) -> None:
        batch = [
            Ticket(len(self.offered) + index, client, group, pixel_count, self.now_s + wait_s)
            for index, (group, pixel_count, wait_s) in enumerate(wishes)
        ]
        offered_pixel_count = sum(each.pixel_count for each in batch)
        if self.waiting and self.waiting_pixel_count() + offered_pixel_count > self.LIMIT_PIXEL_COUNT:
            with pytest.raises(TicketsRefused):
                self.queue.offer(batch)
            assert not any(each.is_queued for each in batch)
            return
        self.queue.offer(batch)
        self.offered += batch
        self.waiting += batch

    @rule(data=st.data())
    @precondition(lambda self: self.offered)
    def discard(self, data: st.DataObject) -> None:
        """Those that have left the queue already are among them."""
        chosen = data.draw(st.lists(st.sampled_from(self.offered), max_size=4))
        self.queue.discard(chosen)
        for each in chosen:
            if each in self.waiting:
                self.leaves(each)

    @rule(step_s=st.sampled_from([0.5, 1.0, 5.0]))
    def time_passes(self, step_s: float) -> None:
        self.now_s += step_s

    @rule(batch_pixel_count=st.integers(1, 30))
    def poll(self, batch_pixel_count: int) -> None:
        late = sorted((each for each in self.waiting if each.deadline_s <= self.now_s), key=self.order_of)
        # The clients' virtual times are private; whether the heaps honour them can't be told from outside.
        virtual_times = {key: client.virtual_time for key, client in self.queue._clients.items()}
        decision = self.queue.poll(self.now_s, batch_pixel_count=batch_pixel_count)
        assert list(decision.expired) == late
        for each in late:
            self.leaves(each)

        batch = decision.batch
        assert bool(batch) == bool(self.waiting), "whoever waits makes progress"
        if not batch:
            return
        assert len({each.group for each in batch}) == 1
        assert len(batch) == 1 or sum(each.pixel_count for each in batch) <= batch_pixel_count
        for index, each in enumerate(batch):
            alike = [other for other in self.waiting if index == 0 or other.group == each.group]
            assert virtual_times[each.client] == min(virtual_times[other.client] for other in alike)
            own = [other for other in alike if other.client == each.client]
            assert each is min(own, key=self.order_of), "earliest deadline first inside a client"
            self.leaves(each)
            virtual_times[each.client] += each.pixel_count

    @invariant()
    def each_ticket_left_at_most_once_and_the_rest_is_queued(self) -> None:
        assert all(count == 1 for count in self.exits.values())
        assert len(self.waiting) + len(self.exits) == len(self.offered)
        assert all(each.is_queued == (each.item not in self.exits) for each in self.offered)

    @invariant()
    def counts_are_right(self) -> None:
        assert self.queue.queued_ticket_count == len(self.waiting)
        assert self.queue.queued_pixel_count == self.waiting_pixel_count()

    def teardown(self) -> None:
        """Whatever is left can be drained, so nothing is stuck in a heap."""
        while self.waiting:
            self.poll(5)
        assert self.queue.poll(self.now_s, batch_pixel_count=5) == Decision((), [])
        assert len(self.exits) == len(self.offered)

    def leaves(self, each: Ticket[int]) -> None:
        self.waiting.remove(each)
        self.exits[each.item] += 1

    def waiting_pixel_count(self) -> int:
        return sum(each.pixel_count for each in self.waiting)

    @staticmethod
    def order_of(each: Ticket[int]) -> tuple[float, int]:
        return each.deadline_s, each.item


_Machine.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestAnyOrderOfEvents = _Machine.TestCase


def test_an_empty_queue_decides_nothing() -> None:
    assert loaded().poll(0.0, batch_pixel_count=1) == Decision((), [])


def test_a_batch_is_filled_up_to_its_pixels() -> None:
    queue = loaded(tickets(5, pixel_count=10))
    assert items(queue.poll(0.0, batch_pixel_count=39)) == [0, 1, 2]
    assert items(queue.poll(0.0, batch_pixel_count=20)) == [3, 4]


def test_a_ticket_larger_than_a_batch_runs_alone() -> None:
    queue = loaded([ticket(0, pixel_count=100), ticket(1, pixel_count=1)])
    assert items(queue.poll(0.0, batch_pixel_count=10)) == [0]
    assert items(queue.poll(0.0, batch_pixel_count=10)) == [1]


def test_an_offer_that_fits_exactly_is_taken_and_one_pixel_more_is_refused_as_a_whole() -> None:
    queue = loaded(tickets(3, pixel_count=10), limit_pixel_count=50)
    with pytest.raises(TicketsRefused, match="30 pixels are queued and 21 were offered; the limit is 50"):
        queue.offer([ticket(pixel_count=20), ticket(pixel_count=1)])
    assert (queue.queued_ticket_count, queue.queued_pixel_count) == (3, 30)
    queue.offer([ticket(pixel_count=20)])
    assert queue.queued_pixel_count == 50


def test_an_empty_queue_takes_an_offer_of_any_size_so_that_nothing_is_refused_for_ever() -> None:
    queue = loaded(tickets(3, pixel_count=10), limit_pixel_count=20)
    assert queue.queued_pixel_count == 30
    with pytest.raises(TicketsRefused):
        queue.offer([ticket()])
    for _ in range(3):
        queue.poll(0.0, batch_pixel_count=10)
    queue.offer(tickets(5, pixel_count=10))
    assert queue.queued_pixel_count == 50


def test_a_ticket_expires_at_its_deadline_and_not_before() -> None:
    queue = loaded([ticket(0, deadline_s=2.0), ticket(1, deadline_s=3.0)])
    decision = queue.poll(2.0, batch_pixel_count=1)
    assert [each.item for each in decision.expired] == [0]
    assert items(decision) == [1]


def test_a_discarded_ticket_holds_no_item_in_the_queue() -> None:
    """Items are images: a cancelled one must not live on until its place in a heap surfaces."""
    queue = loaded([ticket(0, deadline_s=1.0)])
    later = ticket(1, deadline_s=2.0)
    queue.offer([later])
    queue.discard([later])
    assert later.slot is None
    assert later not in reachable_objects(queue)


def test_discarding_twice_or_after_the_batch_changes_nothing() -> None:
    queue = loaded(tickets(3))
    taken = queue.poll(0.0, batch_pixel_count=1).batch[0]
    queue.discard([taken, taken])
    assert queue.queued_ticket_count == 2


def test_a_ticket_can_be_offered_again_after_it_left() -> None:
    queue = loaded(tickets(1))
    taken = queue.poll(0.0, batch_pixel_count=1).batch[0]
    queue.offer([taken])
    assert queue.poll(0.0, batch_pixel_count=1).batch == [taken]


# --- who gets how much ----------------------------------------------------------------------------------------------


@settings(max_examples=50)
@given(
    sizes=st.tuples(*[st.lists(st.tuples(st.sampled_from("gh"), st.integers(1, 9)), min_size=3, max_size=8)] * 2),
    batch_pixel_count=st.integers(1, 40),
)
def test_two_clients_with_backlogs_are_never_further_apart_than_a_batch_and_a_ticket(
    sizes: tuple[list[tuple[str, int]], list[tuple[str, int]]], batch_pixel_count: int
) -> None:
    """Deadlines are equal, so a client's tickets go in the order in which it sent them."""
    backlogs = {
        client: [ticket(client=client, group=group, pixel_count=size) for _ in range(15) for group, size in pattern]
        for client, pattern in zip("ab", sizes, strict=True)
    }
    queue = loaded(*backlogs.values())
    served = dict.fromkeys(backlogs, 0)
    waiting = {client: len(backlog) for client, backlog in backlogs.items()}
    largest = max(each.pixel_count for backlog in backlogs.values() for each in backlog)
    while all(waiting.values()):
        for each in queue.poll(0.0, batch_pixel_count=batch_pixel_count).batch:
            assert isinstance(each.client, str)
            served[each.client] += each.pixel_count
            waiting[each.client] -= 1
        assert abs(served["a"] - served["b"]) <= max(batch_pixel_count, largest) + largest


def test_a_client_whose_shape_others_open_batches_for_gets_no_more_than_one_that_waits_with_another_shape() -> None:
    """``late`` waits with a backlog of h and now and then sends an urgent g; each time its batch is filled with g's of
    ``rider``. Both have work waiting all the time, so they must stay within one batch and one unit of each other.
    """
    queue = loaded(tickets(1000, client="rider", group="g"), tickets(1000, client="late", group="h"))
    served: Counter[Hashable] = Counter()
    for _ in range(50):
        queue.offer([ticket(client="late", group="g", deadline_s=1.0)])
        served.update(each.client for each in queue.poll(0.0, batch_pixel_count=10).batch)
        assert served["rider"] - served["late"] <= 10 + 1


def test_filling_the_batches_of_others_is_not_held_against_a_client_later() -> None:
    """``rider`` used what short-lived clients left over, and nobody else waited. When another backlog arrives, both get
    the same from then on.
    """
    queue = loaded(tickets(10_000, client="rider"))
    for number in range(500):
        queue.offer([ticket(client=f"short-lived {number}")])
        queue.poll(0.0, batch_pixel_count=10)
    queue.offer(tickets(1_000, client="late"))
    served: Counter[Hashable] = Counter()
    for _ in range(100):
        served.update(each.client for each in queue.poll(0.0, batch_pixel_count=10).batch)
        assert abs(served["rider"] - served["late"]) <= 10 + 1


def test_a_client_that_was_idle_is_owed_nothing() -> None:
    queue = loaded(tickets(500, client="busy"), tickets(1, client="idle"))
    for _ in range(200):
        queue.poll(0.0, batch_pixel_count=1)
    queue.offer(tickets(100, client="idle"))
    next_served = Counter(queue.poll(0.0, batch_pixel_count=1).batch[0].client for _ in range(40))
    assert abs(next_served["idle"] - next_served["busy"]) <= 1


def test_a_client_cannot_shed_its_debt_by_pausing() -> None:
    queue = loaded([ticket(client="large", pixel_count=50)], tickets(100, client="small"))
    while queue.poll(0.0, batch_pixel_count=1).batch[0].client != "large":
        pass
    queue.offer([ticket(client="large")])
    next_served = [queue.poll(0.0, batch_pixel_count=1).batch[0].client for _ in range(60)]
    assert 49 <= next_served.index("large") <= 51


def test_a_newcomer_is_served_within_two_batches_however_large_the_backlog_of_another_is() -> None:
    queue = loaded(tickets(5000, client="greedy", deadline_s=1.0))
    for _ in range(100):
        queue.poll(0.0, batch_pixel_count=4)
    queue.offer([ticket(client="newcomer", group="other", deadline_s=1e9)])
    next_served = [each.client for _ in range(2) for each in queue.poll(0.0, batch_pixel_count=4).batch]
    assert "newcomer" in next_served


def test_a_newcomer_among_many_backlogs_waits_for_each_of_them_once_at_most() -> None:
    greedy = [f"greedy {number}" for number in range(20)]
    queue = loaded(*(tickets(50, client=client, group=client) for client in greedy))
    for _ in range(33):
        queue.poll(0.0, batch_pixel_count=5)
    queue.offer([ticket(client="newcomer")])
    order = [queue.poll(0.0, batch_pixel_count=5).batch[0].client for _ in range(len(greedy) + 1)]
    assert "newcomer" in order


def test_small_units_of_one_client_are_not_held_up_by_large_ones_of_another() -> None:
    queue = loaded(tickets(100, client="large", pixel_count=100), tickets(200, client="small"))
    first = [each.client for _ in range(103) for each in queue.poll(0.0, batch_pixel_count=1).batch]
    assert Counter(first)["large"] <= 2


# --- what is kept, and what a decision costs ------------------------------------------------------------------------


def reachable_objects(root: object) -> list[object]:
    """All that ``root`` keeps alive, by the garbage collector's own view: no leak hides behind another name."""
    skipped = (type, ModuleType, FunctionType, BuiltinFunctionType)
    seen = {id(root): root}
    pending = [root]
    while pending:
        for child in gc.get_referents(pending.pop()):
            if id(child) not in seen and not isinstance(child, skipped):
                seen[id(child)] = child
                pending.append(child)
    return list(seen.values())


def polled(queue: Scheduler[int], *, batch_pixel_count: int) -> None:
    """One batch runs, and the long-lived client sends as much as it takes to keep its backlog."""
    queue.poll(0.0, batch_pixel_count=batch_pixel_count)
    queue.offer(tickets(max(0, 50 - queue.queued_ticket_count), client="long"))


def served_one_by_one(queue: Scheduler[int], number: int) -> None:
    queue.offer([ticket(client=f"client {number}")])
    for _ in range(2):
        polled(queue, batch_pixel_count=1)


def served_in_shared_batches(queue: Scheduler[int], number: int) -> None:
    queue.offer([ticket(client=f"client {number}")])
    polled(queue, batch_pixel_count=4)


def served_in_another_shape(queue: Scheduler[int], number: int) -> None:
    queue.offer([ticket(client=f"client {number}", group="other")])
    for _ in range(2):
        polled(queue, batch_pixel_count=1)


def served_again_and_again(queue: Scheduler[int], number: int) -> None:
    """The same hundred clients, as an address that comes back is the same client."""
    served_one_by_one(queue, number % 100)


def cancelled(queue: Scheduler[int], number: int) -> None:
    own = ticket(client=f"client {number}", group="other")
    queue.offer([own])
    queue.discard([own])
    polled(queue, batch_pixel_count=1)


def cancelled_by_one_client(queue: Scheduler[int], number: int) -> None:
    own = ticket(client="long", deadline_s=1e9 - number)
    queue.offer([own])
    queue.discard([own])


@pytest.mark.parametrize(
    "step",
    [
        served_one_by_one,
        served_in_shared_batches,
        served_in_another_shape,
        served_again_and_again,
        cancelled,
        cancelled_by_one_client,
    ],
    ids=lambda step: step.__name__,
)
def test_what_is_kept_follows_those_who_wait_and_not_those_who_came_and_went(
    step: Callable[[Scheduler[int], int], None],
) -> None:
    """One client's backlog never runs dry, so the queue is never empty and nothing can be forgotten wholesale.

    Counts objects instead of asking: what could grow are private heaps and dictionaries, and no answer shows them.
    """
    queue = loaded(tickets(50, client="long"))
    for number in range(4_000):
        step(queue, number)
    early_count = len(reachable_objects(queue))
    for number in range(4_000, 12_000):
        step(queue, number)
    assert queue.queued_ticket_count <= 51
    # What grows with the number of steps would be three times as much.
    assert len(reachable_objects(queue)) <= 1.8 * early_count + 500


class CountedDeadline(float):
    """A deadline that counts how often it is compared."""

    comparison_count = 0

    __hash__ = float.__hash__

    def __lt__(self, other: float) -> bool:
        CountedDeadline.comparison_count += 1
        return float(self) < float(other)

    def __le__(self, other: float) -> bool:
        CountedDeadline.comparison_count += 1
        return float(self) <= float(other)

    def __eq__(self, other: object) -> bool:
        CountedDeadline.comparison_count += 1
        return isinstance(other, float) and float(self) == float(other)


@contextmanager
def counted_lines() -> Iterator[list[int]]:
    """Counts the scheduler's lines as they run: unlike time, the same on every machine."""
    count = [0]

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code.co_filename != scheduler_module.__file__:
            return None
        count[0] += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield count
    finally:
        sys.settrace(before)


def cost_of_a_round(queued_count: int, *, client_of: Callable[[int], str]) -> tuple[float, float]:
    """(deadline comparisons, lines) of one offer, discard and poll, on average, with so many tickets queued."""

    def arrival(number: int) -> Ticket[int]:
        # Deadlines in no order: multiples of a number without a common factor, in the ring of a prime.
        deadline_s = CountedDeadline(1 + number * 7919 % 104_729)
        return ticket(number, client=client_of(number), group=f"group {number % 3}", deadline_s=deadline_s)

    queue = loaded(arrival(number) for number in range(queued_count))
    CountedDeadline.comparison_count = 0
    round_count = 200
    with counted_lines() as lines:
        for number in range(queued_count, queued_count + round_count):
            unwanted = arrival(-number)
            queue.offer([arrival(number), unwanted])
            queue.discard([unwanted])
            assert len(queue.poll(0.0, batch_pixel_count=1).batch) == 1
    return CountedDeadline.comparison_count / round_count, lines[0] / round_count


@pytest.mark.parametrize(
    "client_of",
    [lambda _: "one", lambda number: f"client {number % 10}", lambda number: f"client {number}"],
    ids=["one client", "ten clients", "a client for each ticket"],
)
def test_a_decision_costs_no_more_than_the_logarithm_of_what_is_queued(client_of: Callable[[int], str]) -> None:
    few = cost_of_a_round(100, client_of=client_of)
    many = cost_of_a_round(10_000, client_of=client_of)
    # log 10,000 / log 100 = 2; linear growth would be 100.
    for few_cost, many_cost in zip(few, many, strict=True):
        assert 0 < many_cost <= 4 * max(few_cost, 10)


def test_cancelling_a_whole_queue_costs_each_ticket_a_logarithm() -> None:
    count = 5_000
    CountedDeadline.comparison_count = 0
    queue = loaded([ticket(client="stays")])
    mine = [ticket(client="leaves", deadline_s=CountedDeadline(1 + n * 7919 % 104_729)) for n in range(count)]
    with counted_lines() as lines:
        for each in mine:
            queue.offer([each])
        for each in mine:
            queue.discard([each])
        assert queue.poll(0.0, batch_pixel_count=1).batch[0].client == "stays"
    assert CountedDeadline.comparison_count <= count * 20 * math.log2(count)
    assert lines[0] <= count * 100
