"""The service's life: which ways are legal, who is refused when, and what is still to be answered."""

import asyncio
from itertools import product

import pytest

from service.errors import Draining, Unavailable
from service.lifecycle import IllegalTransition, InFlight, Lifecycle, State

LEGAL = {
    (State.STARTING, State.SERVING),
    (State.STARTING, State.STOPPED),
    (State.SERVING, State.DRAINING),
    (State.DRAINING, State.STOPPED),
}
WAY_TO = {
    State.STARTING: [],
    State.SERVING: [State.SERVING],
    State.DRAINING: [State.SERVING, State.DRAINING],
    State.STOPPED: [State.STOPPED],
}


def lifecycle_in(state: State) -> Lifecycle:
    lifecycle = Lifecycle()
    for step in WAY_TO[state]:
        lifecycle.enter(step)
    return lifecycle


@pytest.mark.parametrize(("before", "after"), sorted(LEGAL, key=str))
def test_a_legal_way_is_taken(before: State, after: State) -> None:
    lifecycle = lifecycle_in(before)
    lifecycle.enter(after)
    assert lifecycle.state is after


@pytest.mark.parametrize(("before", "after"), [way for way in product(State, State) if way not in LEGAL])
def test_an_illegal_way_is_refused_and_changes_nothing(before: State, after: State) -> None:
    lifecycle = lifecycle_in(before)
    with pytest.raises(IllegalTransition, match=f"the service is {before.value}; it can't become {after.value}"):
        lifecycle.enter(after)
    assert lifecycle.state is before


def test_requests_are_taken_while_serving_alone() -> None:
    lifecycle_in(State.SERVING).require_serving()
    with pytest.raises(Unavailable, match="starting") as starting:
        lifecycle_in(State.STARTING).require_serving()
    assert starting.value.reason == "NOT_READY"
    for state in (State.DRAINING, State.STOPPED):
        with pytest.raises(Draining, match="another replica"):
            lifecycle_in(state).require_serving()


async def test_a_service_without_requests_is_idle_at_once_even_when_there_is_no_time() -> None:
    assert await InFlight().wait_idle(60)
    assert await InFlight().wait_idle(0)


async def test_idle_means_that_the_last_of_several_requests_was_answered() -> None:
    in_flight = InFlight()
    in_flight.enter()
    in_flight.enter()
    waiting = asyncio.create_task(in_flight.wait_idle(60))
    await asyncio.sleep(0)
    in_flight.leave()
    await asyncio.sleep(0)
    assert not waiting.done()
    in_flight.leave()
    assert await waiting


async def test_waiting_ends_when_the_time_is_up() -> None:
    in_flight = InFlight()
    in_flight.enter()
    assert not await in_flight.wait_idle(0)
    in_flight.leave()
    assert await in_flight.wait_idle(60)


async def test_a_request_after_an_idle_moment_is_waited_for_again() -> None:
    in_flight = InFlight()
    in_flight.enter()
    in_flight.leave()
    in_flight.enter()
    assert not await in_flight.wait_idle(0)
