"""Who gets how much: between clients, between classes, under newcomers, debts and pauses."""

from collections import Counter
from collections.abc import Hashable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.scheduler import DEFAULT_WEIGHTS, Scheduler
from service.types import ServiceClass
from tests.tickets import loaded, ticket, tickets

INTERACTIVE, NORMAL, BULK = ServiceClass
# Sums of these are exact.
COSTS_S = st.sampled_from([0.25, 0.5, 1.0, 2.0, 8.0])


def one(queue: Scheduler[int]) -> Hashable:
    """The client of the next ticket, alone in its batch."""
    return queue.poll(0.0, batch_pixel_count=1).batch[0].client


def patterns() -> st.SearchStrategy[list[tuple[str, float]]]:
    return st.lists(st.tuples(st.sampled_from("gh"), COSTS_S), min_size=2, max_size=8)


@settings(max_examples=150)
@given(
    pattern_of=st.fixed_dictionaries({"a": patterns(), "b": patterns()}), quantum_s=st.sampled_from([0.25, 1.0, 4.0])
)
def test_clients_that_begin_together_are_never_further_apart_than_a_quantum_and_a_ticket(
    pattern_of: dict[str, list[tuple[str, float]]], quantum_s: float
) -> None:
    """The textbook's bound, with batches of one."""
    assert_apart(pattern_of, quantum_s, batch_ticket_count=1)


@settings(max_examples=150)
@given(
    pattern_of=st.fixed_dictionaries({"a": patterns(), "b": patterns()}),
    quantum_s=st.sampled_from([0.25, 1.0, 4.0]),
    batch_ticket_count=st.integers(2, 20),
)
def test_batches_widen_that_bound_by_what_one_batch_may_hold(
    pattern_of: dict[str, list[tuple[str, float]]], quantum_s: float, batch_ticket_count: int
) -> None:
    assert_apart(pattern_of, quantum_s, batch_ticket_count=batch_ticket_count)


def assert_apart(pattern_of: dict[str, list[tuple[str, float]]], quantum_s: float, *, batch_ticket_count: int) -> None:
    """A third client waits before them, so that both are newcomers to a round that is under way."""
    queue = loaded(tickets(5, client="earlier"), quantum_s=quantum_s)
    waiting: Counter[Hashable] = Counter()
    for client, pattern in pattern_of.items():
        queue.offer([ticket(client=client, group=group, cost_s=cost_s) for _ in range(15) for group, cost_s in pattern])
        waiting[client] = 15 * len(pattern)
    got_s: dict[Hashable, float] = {"a": 0.0, "b": 0.0, "earlier": 0.0}
    overrun_s = max(cost_s for pattern in pattern_of.values() for _, cost_s in pattern)
    while waiting["a"] and waiting["b"]:
        batch = queue.poll(0.0, batch_pixel_count=batch_ticket_count).batch
        overrun_s = max(overrun_s, batch[0].cost_s * batch_ticket_count)
        for each in batch:
            got_s[each.client] += each.cost_s
            waiting[each.client] -= 1
        if waiting["a"] and waiting["b"]:
            assert abs(got_s["a"] - got_s["b"]) <= quantum_s + overrun_s


@pytest.mark.parametrize("batch_pixel_count", [1, 8])
@pytest.mark.parametrize("order", [(INTERACTIVE, NORMAL, BULK), (BULK, NORMAL, INTERACTIVE)])
def test_classes_share_by_weight_however_many_clients_each_has(
    order: tuple[ServiceClass, ...], batch_pixel_count: int
) -> None:
    """Bulk has thirty clients with large units, interactive one with small ones."""
    client_counts = {INTERACTIVE: 1, NORMAL: 5, BULK: 30}
    costs_s = {INTERACTIVE: 0.125, NORMAL: 0.5, BULK: 1.0}
    queue = Scheduler[int](quantum_s=1.0)
    for service_class in order:
        for number in range(client_counts[service_class]):
            count = 20_000 // client_counts[service_class]
            # Each has its own group, or one class's batches would be filled up by another.
            queue.offer(
                ticket(client=number, service_class=service_class, group=service_class, cost_s=costs_s[service_class])
                for _ in range(count)
            )
    got_s = dict.fromkeys(ServiceClass, 0.0)
    while sum(got_s.values()) < 1200.0:
        for each in queue.poll(0.0, batch_pixel_count=batch_pixel_count).batch:
            got_s[each.service_class] += each.cost_s
    for service_class, weight in DEFAULT_WEIGHTS.items():
        assert got_s[service_class] / sum(got_s.values()) == pytest.approx(weight / 12, rel=0.1)


def test_weights_hold_when_all_share_batches() -> None:
    queue = Scheduler[int](quantum_s=1.0)
    for service_class in ServiceClass:
        queue.offer(tickets(4_000, client=service_class, service_class=service_class))
    got = Counter(each.service_class for _ in range(250) for each in queue.poll(0.0, batch_pixel_count=16).batch)
    assert got.total() == 4_000
    for service_class, weight in DEFAULT_WEIGHTS.items():
        assert got[service_class] == pytest.approx(4_000 * weight / 12, abs=2 * (weight + 16))


def test_weights_are_configurable() -> None:
    queue = Scheduler[int](quantum_s=1.0, weights={INTERACTIVE: 1.0, NORMAL: 1.0, BULK: 2.0})
    for service_class in ServiceClass:
        queue.offer(tickets(100, service_class=service_class))
    got = Counter(queue.poll(0.0, batch_pixel_count=1).batch[0].service_class for _ in range(80))
    assert got == {INTERACTIVE: 20, NORMAL: 20, BULK: 40}


def test_a_class_that_was_idle_is_owed_nothing() -> None:
    queue = loaded(tickets(500, client="busy", service_class=BULK))
    for _ in range(200):
        one(queue)
    queue.offer(tickets(100, client="late", service_class=INTERACTIVE))
    assert [one(queue) for _ in range(18)] == ["late"] * 8 + ["busy"] + ["late"] * 8 + ["busy"]


def test_a_class_owes_nothing_once_the_queue_ran_dry() -> None:
    queue = loaded([ticket(service_class=NORMAL, cost_s=100.0)], [ticket(service_class=BULK)])
    one(queue)
    one(queue)
    queue.offer([ticket(client="bulk", service_class=BULK), ticket(client="normal", service_class=NORMAL)])
    assert [one(queue), one(queue)] == ["normal", "bulk"]


def test_one_client_has_its_share_in_each_of_its_classes() -> None:
    queue = loaded(*(tickets(50, client="a", service_class=each) for each in (NORMAL, BULK)))
    got = Counter(queue.poll(0.0, batch_pixel_count=1).batch[0].service_class for _ in range(40))
    assert got == {NORMAL: 30, BULK: 10}


def test_a_stream_of_newcomers_starves_nobody() -> None:
    """In each step a new identity sends one ticket, as much as a lane can run; who waited still gets its turns."""
    queue = loaded(tickets(100, client="patient"))
    waited, longest = 0, 0
    for number in range(400):
        queue.offer([ticket(client=f"newcomer {number}")])
        waited = 0 if one(queue) == "patient" else waited + 1
        longest = max(longest, waited)
        if queue.queued_ticket_count == 400:
            break
    # A round holds those who came during the one before, one in each step, so it may grow by one each time.
    assert longest <= 40
    assert 100 + number + 1 - queue.queued_ticket_count == number + 1


def test_newcomers_in_shared_batches_starve_nobody_either() -> None:
    queue = loaded(tickets(100, client="patient", group="other"), quantum_s=4.0)
    got: Counter[Hashable] = Counter()
    for number in range(200):
        queue.offer(tickets(4, client=f"newcomer {number}"))
        got.update(
            "patient" if each.client == "patient" else "newcomer" for each in queue.poll(0.0, batch_pixel_count=4).batch
        )
    assert got["patient"] >= 40


def test_a_newcomer_waits_for_one_turn_of_each_however_large_their_backlogs_are() -> None:
    greedy = [f"greedy {number}" for number in range(20)]
    queue = loaded(*(tickets(50, client=client) for client in greedy))
    for _ in range(33):
        one(queue)
    queue.offer([ticket(client="newcomer")])
    order = [one(queue) for _ in range(len(greedy) + 1)]
    assert order[-1] == "newcomer"
    assert set(order[:-1]) == set(greedy)


def test_small_units_of_one_client_are_not_held_up_by_large_ones_of_another() -> None:
    queue = loaded(tickets(100, client="large", cost_s=100.0), tickets(200, client="small"))
    first = Counter(one(queue) for _ in range(102))
    assert first["large"] <= 2


def test_a_client_that_was_idle_is_owed_nothing() -> None:
    queue = loaded(tickets(500, client="busy"), tickets(1, client="idle"))
    for _ in range(200):
        one(queue)
    queue.offer(tickets(100, client="idle"))
    got = Counter(one(queue) for _ in range(40))
    assert abs(got["idle"] - got["busy"]) <= 1


def test_a_client_cannot_shed_its_debt_by_pausing() -> None:
    """It has one ticket at a time, of fifty quanta, and sends the next when that one ran."""
    queue = loaded([ticket(client="large", cost_s=50.0)], tickets(200, client="small"))
    while one(queue) != "large":
        pass
    one(queue)
    queue.offer([ticket(client="large", cost_s=50.0)])
    order = [one(queue) for _ in range(60)]
    assert 47 <= order.index("large") <= 50


def test_a_client_whose_group_others_open_batches_for_gets_no_more_than_one_that_waits_with_another() -> None:
    """``late`` waits with a backlog of h and now and then sends an urgent g; each time ``rider`` fills its batch.

    Both wait all the time, so they must stay together: a batch and a quantum, and another by which the rider was first.
    """
    queue = loaded(tickets(1000, client="rider", group="g"), tickets(1000, client="late", group="h"))
    got: Counter[Hashable] = Counter()
    for _ in range(100):
        queue.offer([ticket(client="late", group="g", deadline_s=10.0)])
        got.update(each.client for each in queue.poll(0.0, batch_pixel_count=10).batch)
        assert abs(got["rider"] - got["late"]) <= 1 + 1 + 10


def test_a_class_that_fills_the_batches_of_another_gets_no_more_than_its_weight() -> None:
    """Interactive opens every batch with one unit; bulk has units that fit, normal has others."""
    queue = loaded(
        tickets(3000, client="rider", service_class=BULK, group="g"),
        tickets(3000, client="other", service_class=NORMAL, group="h"),
    )
    got: Counter[Hashable] = Counter()
    for number in range(300):
        queue.offer([ticket(client=f"short {number}", service_class=INTERACTIVE)])
        got.update(each.client for each in queue.poll(0.0, batch_pixel_count=8).batch)
    assert got["other"] >= 3 * got["rider"] - 3 * 2 * (1 + 8)
    assert got["rider"] > 50


def test_filling_the_batches_of_others_is_not_held_against_a_client_later() -> None:
    """``rider`` used what short-lived clients left over, and nobody else waited. When another backlog arrives, both get
    the same from then on.
    """
    queue = loaded(tickets(10_000, client="rider"))
    for number in range(500):
        queue.offer([ticket(client=f"short-lived {number}")])
        queue.poll(0.0, batch_pixel_count=10)
    queue.offer(tickets(1_000, client="late"))
    got: Counter[Hashable] = Counter()
    for _ in range(100):
        got.update(each.client for each in queue.poll(0.0, batch_pixel_count=10).batch)
        assert abs(got["rider"] - got["late"]) <= 2 * (1 + 10)
