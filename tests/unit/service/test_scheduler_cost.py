"""What the scheduler keeps and what a decision costs, in objects, comparisons and lines: the same on every machine."""

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import BuiltinFunctionType, FrameType, FunctionType, ModuleType
from typing import Any

import pytest

from service import backlog, fairness, scheduler
from service.scheduler import Scheduler, Ticket
from service.types import ServiceClass
from tests.tickets import loaded, ticket, tickets

_FILES = {module.__file__ for module in (backlog, fairness, scheduler)}


def object_count(root: object) -> int:
    """How many objects ``root`` keeps alive, by the garbage collector's own view: no leak hides behind another name."""
    skipped = (type, ModuleType, FunctionType, BuiltinFunctionType)
    seen = {id(root)}
    pending = [root]
    while pending:
        for child in gc.get_referents(pending.pop()):
            if id(child) not in seen and not isinstance(child, skipped):
                seen.add(id(child))
                pending.append(child)
    return len(seen)


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


def served_in_another_group_each(queue: Scheduler[int], number: int) -> None:
    queue.offer([ticket(client=f"client {number}", group=number)])
    for _ in range(2):
        polled(queue, batch_pixel_count=1)


def served_with_debts(queue: Scheduler[int], number: int) -> None:
    queue.offer([ticket(client=f"client {number}", cost_s=20.0)])
    for _ in range(21):
        polled(queue, batch_pixel_count=1)


def served_again_and_again(queue: Scheduler[int], number: int) -> None:
    """The same hundred clients, as an address that comes back is the same client."""
    served_one_by_one(queue, number % 100)


def served_by_turns_of_classes(queue: Scheduler[int], number: int) -> None:
    service_class = list(ServiceClass)[number % 3]
    queue.offer([ticket(client=f"client {number}", service_class=service_class)])
    for _ in range(2):
        polled(queue, batch_pixel_count=1)


def cancelled(queue: Scheduler[int], number: int) -> None:
    own = ticket(client=f"client {number}", group="other")
    queue.offer([own])
    queue.discard([own])
    polled(queue, batch_pixel_count=1)


def cancelled_while_the_lanes_are_busy(queue: Scheduler[int], number: int) -> None:
    own = ticket(client=f"client {number}")
    queue.offer([own])
    queue.discard([own])


def cancelled_by_one_client(queue: Scheduler[int], number: int) -> None:
    own = ticket(client="long", deadline_s=1e9 - number)
    queue.offer([own])
    queue.discard([own])


def cancelled_by_one_client_far_down(queue: Scheduler[int], number: int) -> None:
    own = ticket(client="long", deadline_s=1e9 + number)
    queue.offer([own])
    queue.discard([own])


@pytest.mark.parametrize(
    "step",
    [
        served_one_by_one,
        served_in_shared_batches,
        served_in_another_group_each,
        served_with_debts,
        served_again_and_again,
        served_by_turns_of_classes,
        cancelled,
        cancelled_while_the_lanes_are_busy,
        cancelled_by_one_client,
        cancelled_by_one_client_far_down,
    ],
    ids=lambda step: step.__name__,
)
def test_what_is_kept_follows_those_who_wait_and_not_those_who_came_and_went(
    step: Callable[[Scheduler[int], int], None],
) -> None:
    """One client's backlog never runs dry, so the queue is never empty and nothing can be forgotten wholesale."""
    queue = loaded(tickets(50, client="long", deadline_s=1e9))
    for number in range(1_000):
        step(queue, number)
    early_count = object_count(queue)
    for number in range(1_000, 3_000):
        step(queue, number)
    assert queue.queued_ticket_count <= 52
    # What grows with the number of steps would be three times as much.
    assert object_count(queue) <= 1.8 * early_count + 500


def test_nothing_is_kept_of_a_queue_that_ran_dry() -> None:
    queue = Scheduler[int](quantum_s=1.0)
    empty_count = object_count(queue)
    for number in range(300):
        queue.offer([ticket(client=number, group=number % 7, service_class=list(ServiceClass)[number % 3])])
    while queue.poll(0.0, batch_pixel_count=3).batch:
        pass
    # Numbers that changed count as other objects.
    assert object_count(queue) <= empty_count + 10


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
    """Counts the scheduler's lines as they run."""
    count = [0]

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code.co_filename not in _FILES:
            return None
        count[0] += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield count
    finally:
        sys.settrace(before)


def cost_of_a_decision(queued_count: int, *, client_of: Callable[[int], str], batch_count: int) -> tuple[float, float]:
    """(deadline comparisons, lines) of a batch, a cancelled ticket and as many offers as ran, on average."""

    def deadline_s(number: int) -> CountedDeadline:
        # In no order: multiples of a number without a common factor, in the ring of a prime.
        return CountedDeadline(1e6 + number * 7919 % 1_000_003)

    def arrival(number: int) -> Ticket[int]:
        service_class = list(ServiceClass)[number % 3]
        return ticket(
            number,
            client=client_of(number),
            service_class=service_class,
            group=f"group {number % 5}",
            cost_s=0.5 + number % 4,
            deadline_s=deadline_s(number),
        )

    queue = loaded(arrival(number) for number in range(queued_count))
    CountedDeadline.comparison_count = 0
    decision_count = 200
    number = queued_count
    with counted_lines() as lines:
        for _ in range(decision_count):
            batch = queue.poll(0.0, batch_pixel_count=batch_count).batch
            assert batch
            unwanted = arrival(-number)
            queue.offer([unwanted])
            queue.discard([unwanted])
            for ran in batch:
                number += 1
                # Another like it, so that what is queued stays the same mixture.
                queue.offer([replace(ran, deadline_s=deadline_s(number))])
            queue.backlog_s(client_of(number), ServiceClass.NORMAL)
    assert queue.queued_ticket_count == queued_count
    return CountedDeadline.comparison_count / decision_count, lines[0] / decision_count


@pytest.mark.slow
@pytest.mark.parametrize("batch_count", [1, 8])
@pytest.mark.parametrize(
    "client_of",
    [lambda _: "one", lambda number: f"client {number % 10}", lambda number: f"client {number}"],
    ids=["one client", "ten clients", "a client for each ticket"],
)
def test_a_decision_costs_no_more_than_the_logarithm_of_what_is_queued(
    client_of: Callable[[int], str], batch_count: int
) -> None:
    few = cost_of_a_decision(1_000, client_of=client_of, batch_count=batch_count)
    many = cost_of_a_decision(100_000, client_of=client_of, batch_count=batch_count)
    # log 100,000 / log 1,000 = 1.7; linear growth would be 100.
    for few_cost, many_cost in zip(few, many, strict=True):
        assert 0 < many_cost <= 2 * max(few_cost, 10)


def test_a_decision_visits_no_round_in_vain_when_everybody_is_deep_in_debt() -> None:
    """Each of a thousand has a ticket of ten thousand quanta behind it. A ring would be walked ten thousand times."""

    def lines_of_a_poll(client_count: int) -> float:
        queue = loaded(*(tickets(3, client=number, cost_s=10_000.0) for number in range(client_count)))
        for _ in range(client_count):
            queue.poll(0.0, batch_pixel_count=1)
        with counted_lines() as lines:
            queue.poll(0.0, batch_pixel_count=1)
        return lines[0]

    assert 0 < lines_of_a_poll(1000) <= 2 * lines_of_a_poll(10)


def test_cancelling_a_whole_queue_costs_each_ticket_the_same() -> None:
    def lines_of_a_ticket(count: int) -> float:
        queue = loaded([ticket(client="stays")])
        mine = [ticket(client="leaves", deadline_s=1.0 + n * 7919 % 104_729) for n in range(count)]
        with counted_lines() as lines:
            queue.offer(mine)
            queue.discard(mine)
            assert queue.poll(0.0, batch_pixel_count=1).batch[0].client == "stays"
        return lines[0] / count

    assert 0 < lines_of_a_ticket(20_000) <= 2 * lines_of_a_ticket(200)
