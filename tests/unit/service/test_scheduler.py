"""The scheduler by numbers: what leaves, in which order, what expires, and how much it says is ahead."""

import gc
import math
from collections.abc import Mapping
from types import BuiltinFunctionType, FunctionType, ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.scheduler import DEFAULT_WEIGHTS, Decision, Scheduler, Ticket
from service.types import ServiceClass
from tests.tickets import items, loaded, ticket, tickets

INTERACTIVE, NORMAL, BULK = ServiceClass


def reachable_objects(root: object) -> list[object]:
    """All that ``root`` keeps alive, by the garbage collector's own view."""
    skipped = (type, ModuleType, FunctionType, BuiltinFunctionType)
    seen = {id(root): root}
    pending = [root]
    while pending:
        for child in gc.get_referents(pending.pop()):
            if id(child) not in seen and not isinstance(child, skipped):
                seen[id(child)] = child
                pending.append(child)
    return list(seen.values())


def test_an_empty_queue_decides_nothing_and_holds_nobody_up() -> None:
    queue = loaded()
    assert queue.poll(0.0, batch_pixel_count=1) == Decision((), [])
    assert queue.backlog_s("a", NORMAL) == 0.0


def test_a_batch_is_filled_up_to_its_pixels() -> None:
    queue = loaded(tickets(5, pixel_count=10))
    assert items(queue.poll(0.0, batch_pixel_count=39)) == [0, 1, 2]
    assert items(queue.poll(0.0, batch_pixel_count=20)) == [3, 4]


def test_a_batch_is_filled_up_to_its_tickets() -> None:
    queue = loaded(tickets(5))
    assert items(queue.poll(0.0, batch_pixel_count=100, batch_unit_count=3)) == [0, 1, 2]
    assert items(queue.poll(0.0, batch_pixel_count=100, batch_unit_count=1)) == [3]
    assert items(queue.poll(0.0, batch_pixel_count=100, batch_unit_count=None)) == [4]


def test_a_batch_is_filled_by_units_and_not_by_tickets() -> None:
    queue = loaded(ticket(number, unit_count=count) for number, count in enumerate((3, 2, 4, 7, 1)))
    assert queue.queued_unit_count == 17
    assert items(queue.poll(0.0, batch_pixel_count=100, batch_unit_count=6)) == [0, 1]
    assert items(queue.poll(0.0, batch_pixel_count=100, batch_unit_count=6)) == [2]
    assert items(queue.poll(0.0, batch_pixel_count=100, batch_unit_count=6)) == [3], "one ticket always fits"
    assert queue.queued_unit_count == 1


def test_a_ticket_larger_than_a_batch_runs_alone() -> None:
    queue = loaded([ticket(0, pixel_count=100), ticket(1, pixel_count=1)])
    assert items(queue.poll(0.0, batch_pixel_count=10)) == [0]
    assert items(queue.poll(0.0, batch_pixel_count=10)) == [1]


def test_a_batch_is_not_cut_short_where_a_turn_ends() -> None:
    """A lone client's batches are full, however its units and its quantum divide."""
    queue = loaded(tickets(40, cost_s=0.3), quantum_s=1.0)
    assert [len(queue.poll(0.0, batch_pixel_count=4).batch) for _ in range(10)] == [4] * 10


def test_a_batch_is_filled_across_clients_and_classes_in_the_order_of_their_turns() -> None:
    queue = loaded(
        [ticket(number, service_class=BULK, client="a") for number in (0, 1)],
        [ticket(2, service_class=INTERACTIVE, client="a"), ticket(3, service_class=INTERACTIVE, client="b")],
        [ticket(4, service_class=INTERACTIVE, client="a"), ticket(5, client="c", group="other")],
    )
    assert items(queue.poll(0.0, batch_pixel_count=10)) == [2, 3, 4, 0, 1]
    assert items(queue.poll(0.0, batch_pixel_count=10)) == [5]


def test_a_batch_stops_growing_where_it_would_end_after_a_member_s_deadline() -> None:
    queue = loaded([ticket(0, deadline_s=2.5), ticket(1, deadline_s=9.0), ticket(2, deadline_s=9.0)])
    assert items(queue.poll(0.0, batch_pixel_count=10)) == [0, 1]


def test_the_urgent_class_goes_first_in_a_round_and_not_beyond_its_weight() -> None:
    queue = loaded(*(tickets(20, service_class=each) for each in (BULK, NORMAL, INTERACTIVE)))
    order = [queue.poll(0.0, batch_pixel_count=1).batch[0].service_class for _ in range(24)]
    assert order == 2 * ([INTERACTIVE] * 8 + [NORMAL] * 3 + [BULK])


def test_a_ticket_expires_at_its_deadline_and_not_before() -> None:
    queue = loaded([ticket(0, deadline_s=2.0, cost_s=1e-6), ticket(1, deadline_s=3.0, cost_s=1e-6)])
    decision = queue.poll(2.0, batch_pixel_count=1)
    assert [each.item for each in decision.expired] == [0]
    assert items(decision) == [1]


def test_a_ticket_that_cannot_end_in_time_expires_when_another_can_run() -> None:
    queue = loaded([ticket(0, deadline_s=2.0, cost_s=2.5), ticket(1, deadline_s=3.0, cost_s=2.5)])
    decision = queue.poll(0.0, batch_pixel_count=1)
    assert [each.item for each in decision.expired] == [0]
    assert items(decision) == [1]


def test_a_ticket_in_an_empty_queue_runs_even_if_its_prediction_says_that_it_will_be_late() -> None:
    queue = loaded([ticket(0, deadline_s=1.0, cost_s=100.0)])
    assert items(queue.poll(0.5, batch_pixel_count=1)) == [0]


def test_one_runs_when_all_are_predicted_to_be_late_so_that_predictions_are_corrected() -> None:
    queue = loaded([ticket(0, deadline_s=2.0, cost_s=9.0), ticket(1, deadline_s=4.0, cost_s=9.0, client="b")])
    queue.offer([ticket(2, deadline_s=1.0, client="c")])
    decision = queue.poll(1.0, batch_pixel_count=10)
    assert items(decision) == [1]
    assert sorted(each.item for each in decision.expired) == [0, 2]
    assert queue.queued_ticket_count == 0


def test_what_would_fill_a_batch_expires_by_the_same_rule() -> None:
    queue = loaded([ticket(0, deadline_s=9.0)], [ticket(1, client="b", deadline_s=0.5)])
    decision = queue.poll(0.0, batch_pixel_count=10)
    assert items(decision) == [0]
    assert [each.item for each in decision.expired] == [1]


def test_the_deadlines_of_a_client_are_kept_across_its_groups() -> None:
    queue = loaded([ticket(n, group=group, deadline_s=9.0 - n) for n, group in enumerate("ghigh")])
    assert [items(queue.poll(0.0, batch_pixel_count=1)) for _ in range(5)] == [[4], [3], [2], [1], [0]]


def test_equal_deadlines_go_in_the_order_of_arrival() -> None:
    queue = loaded(tickets(5, deadline_s=50.0))
    assert [items(queue.poll(0.0, batch_pixel_count=1)) for _ in range(5)] == [[0], [1], [2], [3], [4]]


def test_a_discarded_ticket_holds_no_item_in_the_queue() -> None:
    """Items are images: a cancelled one must not live on until its place in a heap surfaces."""
    later = ticket(1, deadline_s=2.0)
    queue = loaded([ticket(0, deadline_s=1.0), later])
    assert later in reachable_objects(queue)
    queue.discard([later])
    assert not later.is_queued
    assert later not in reachable_objects(queue)
    assert later.stack is None


def test_discarding_twice_or_after_the_batch_changes_nothing() -> None:
    queue = loaded(tickets(3))
    taken = queue.poll(0.0, batch_pixel_count=1).batch[0]
    queue.discard([taken, taken])
    assert (queue.queued_ticket_count, queue.queued_pixel_count, queue.queued_cost_s) == (2, 2, 2.0)


def test_a_ticket_can_be_offered_again_when_it_has_left_and_not_before() -> None:
    queue = loaded(tickets(1))
    taken = queue.poll(0.0, batch_pixel_count=1).batch[0]
    queue.offer([taken])
    with pytest.raises(ValueError, match="queued already; offer it again when it has left"):
        queue.offer([taken])
    assert list(queue.poll(0.0, batch_pixel_count=1).batch) == [taken]


@pytest.mark.parametrize(
    ("cost_s", "deadline_s"), [(0.0, 1.0), (-1.0, 1.0), (math.inf, 1.0), (math.nan, 1.0), (1.0, math.nan)]
)
def test_a_ticket_that_could_not_be_charged_or_ordered_is_refused_where_it_is_made(
    cost_s: float, deadline_s: float
) -> None:
    with pytest.raises(ValueError, match=f"costs {cost_s} s until {deadline_s} s; .* predict at least"):
        ticket(cost_s=cost_s, deadline_s=deadline_s)


@pytest.mark.parametrize("quantum_s", [0.0, -1.0, math.inf, math.nan])
def test_a_quantum_that_is_no_time_is_refused(quantum_s: float) -> None:
    with pytest.raises(ValueError, match=f"the quantum is {quantum_s} s"):
        Scheduler[int](quantum_s=quantum_s)


@pytest.mark.parametrize("weights", [{INTERACTIVE: 1.0, NORMAL: 1.0}, {**DEFAULT_WEIGHTS, BULK: 0.0}])
def test_a_class_without_a_share_is_refused(weights: Mapping[ServiceClass, float]) -> None:
    with pytest.raises(ValueError, match="class bulk has weight"):
        Scheduler[int](weights=weights)


# --- how much is ahead ----------------------------------------------------------------------------------------------


def test_a_newcomer_is_told_what_fairness_lets_others_run_first_and_not_all_that_they_queued() -> None:
    queue = loaded(tickets(1000, client="greedy"), quantum_s=2.0)
    # One turn of two seconds, and one ticket that it may overrun by.
    assert queue.backlog_s("newcomer", NORMAL) == 3.0
    assert queue.backlog_s("greedy", NORMAL) == 1000.0


def test_work_in_other_classes_counts_by_weight() -> None:
    queue = loaded(tickets(1000, client="greedy", service_class=BULK), quantum_s=2.0)
    # Bulk's turn in the present round, 2 s, and one ticket that it may overrun by.
    assert queue.backlog_s("greedy", INTERACTIVE) == 3.0
    queue.offer(tickets(1, client="other", service_class=NORMAL))
    assert queue.backlog_s("greedy", INTERACTIVE) == 4.0


OFFERS = st.lists(
    st.builds(
        ticket,
        client=st.sampled_from("abcd"),
        service_class=st.sampled_from(ServiceClass),
        group=st.sampled_from("gh"),
        cost_s=st.sampled_from([0.25, 1.0, 3.0, 7.0]),
    ),
    max_size=60,
)


@given(
    offers=OFFERS,
    poll_count=st.integers(0, 12),
    client=st.sampled_from("abcde"),
    service_class=st.sampled_from(ServiceClass),
    batch_pixel_count=st.integers(1, 6),
)
def test_no_more_runs_before_new_work_than_the_backlog_said(
    offers: list[Ticket[int]], poll_count: int, client: str, service_class: ServiceClass, batch_pixel_count: int
) -> None:
    """Nothing arrives after it, and batches of one follow; those before it leave debts of many."""
    queue = loaded(offers, quantum_s=2.0)
    for _ in range(poll_count):
        queue.poll(0.0, batch_pixel_count=batch_pixel_count)
    said_s = queue.backlog_s(client, service_class)
    assert said_s <= queue.queued_cost_s
    probe = ticket(client=client, service_class=service_class)
    queue.offer([probe])
    ran_s = 0.0
    while probe.is_queued:
        ran_s += sum(each.cost_s for each in queue.poll(0.0, batch_pixel_count=1).batch)
    assert ran_s - probe.cost_s <= said_s


def test_what_each_client_has_waiting_is_told_over_all_classes() -> None:
    queue = loaded(
        [
            ticket(0, client="a", cost_s=1.0),
            ticket(1, client="a", cost_s=2.0, service_class=BULK),
            ticket(2, client="b", cost_s=4.0),
        ]
    )
    assert queue.queued_by_client_s() == {"a": 3.0, "b": 4.0}
    while queue.queued_ticket_count > 1:
        queue.poll(0.0, batch_pixel_count=1)
    assert sum(queue.queued_by_client_s().values()) == queue.queued_cost_s
    queue.poll(0.0, batch_pixel_count=1)
    assert queue.queued_by_client_s() == {}
