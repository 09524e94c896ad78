"""Lanes that hang: found once, by both limits, until they come back."""

from typing import cast

import pytest
from structlog.typing import EventDict

from service.engine import Engine
from service.lanes import Batch, Lane
from service.watchdog import Watchdog


def batch_of(*, expected_s: float, sent_at_s: float = 100.0) -> Batch:
    return Batch(cast(Engine, None), 0, (1, 4, 4), (), 0, expected_s, sent_at_s)


@pytest.fixture
def lanes() -> list[Lane]:
    return [Lane(f"lane-{i}", clock=lambda: 0.0, on_done=lambda lane, batch: None) for i in range(2)]


@pytest.mark.parametrize(("expected_s", "limit_s"), [(1.0, 30.0), (4.0, 40.0)], ids=["least time", "factor"])
def test_a_lane_hangs_when_both_limits_are_passed(lanes: list[Lane], expected_s: float, limit_s: float) -> None:
    watchdog = Watchdog(stuck_factor=10.0, stuck_after_s=30.0)
    batch = batch_of(expected_s=expected_s)
    assert watchdog.look({lanes[0]: batch}, 100.0 + limit_s) == []
    assert watchdog.look({lanes[0]: batch}, 100.1 + limit_s) == [batch]
    assert watchdog.stuck_count == 1


def test_a_lane_that_hangs_is_found_once_and_again_only_after_it_came_back(
    lanes: list[Lane], logs: list[EventDict]
) -> None:
    watchdog = Watchdog(stuck_factor=10.0, stuck_after_s=30.0)
    first, second = batch_of(expected_s=1.0), batch_of(expected_s=1.0, sent_at_s=150.0)
    running = {lanes[0]: first, lanes[1]: second}
    assert watchdog.look(running, 140.0) == [first]
    assert watchdog.look(running, 140.0) == []
    assert watchdog.look(running, 190.0) == [second]
    watchdog.note_back(lanes[0])
    assert watchdog.stuck_count == 1
    assert watchdog.look(running, 190.0) == [first]
    assert [entry["event"] for entry in logs] == ["a lane hangs"] * 2 + [
        "a lane that hung has come back",
        "a lane hangs",
    ]


def test_a_lane_that_did_not_hang_comes_back_without_a_word(lanes: list[Lane], logs: list[EventDict]) -> None:
    watchdog = Watchdog(stuck_factor=10.0, stuck_after_s=30.0)
    watchdog.note_back(lanes[0])
    assert watchdog.stuck_count == 0
    assert logs == []
