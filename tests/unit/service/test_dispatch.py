"""Where units run, by numbers and as properties."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import dispatch

seconds = st.floats(0.0, 10.0)


@pytest.mark.parametrize(
    ("expected_s", "queued_s", "running_count", "on_loop"),
    [
        (0.001, 0.0, 0, True),
        (0.0011, 0.0, 0, False),
        (0.0005, 0.0005, 0, True),
        (0.0005, 0.0006, 0, False),
        (0.0001, 0.0, 1, False),
    ],
)
def test_a_millisecond_of_work_beside_nothing_is_for_the_event_loop(
    expected_s: float, queued_s: float, running_count: int, *, on_loop: bool
) -> None:
    assert dispatch.is_for_loop(expected_s, queued_s=queued_s, running_count=running_count) is on_loop


ALONE = {"unit_count": 1, "live_count": 1, "queued_count": 0, "idle_count": 2, "lane_count": 2}


def test_a_unit_that_is_alone_gets_all_cores() -> None:
    assert dispatch.is_for_all_cores(0.004, **ALONE)


@pytest.mark.parametrize(
    "otherwise",
    [{"unit_count": 2}, {"live_count": 2}, {"queued_count": 1}, {"idle_count": 1}, {"idle_count": 1, "lane_count": 1}],
    ids=lambda otherwise: next(iter(otherwise)),
)
def test_a_unit_that_is_not_alone_gets_one_lane(otherwise: dict[str, int]) -> None:
    assert not dispatch.is_for_all_cores(1.0, **ALONE | otherwise)


def test_a_short_unit_gets_one_lane() -> None:
    assert not dispatch.is_for_all_cores(0.0039, **ALONE)


@pytest.mark.parametrize(
    ("queued_s", "due_s", "is_soon"),
    [
        (0.0004, [5.0, 100.0004], True),
        (0.0004, [99.9996], True),
        (0.0004, [100.0006], False),
        (0.0004, [99.9994], False),
        (0.0004, [], False),
        (0.0006, [100.0], False),
    ],
    ids=["about to end", "just overdue", "later", "long overdue", "nothing runs", "much is queued"],
)
def test_little_work_waits_for_a_lane_that_is_about_to_be_free(
    queued_s: float, due_s: list[float], *, is_soon: bool
) -> None:
    assert dispatch.is_lane_soon_free(100.0, queued_s=queued_s, due_s=due_s) is is_soon


@given(st.integers(1, 10**6), seconds, st.integers(1, 10**6), st.integers(1, 64))
def test_batches_leave_something_for_each_idle_lane_that_is_worth_waking(
    most: int, queued_s: float, queued_pixels: int, idle_count: int
) -> None:
    limit = dispatch.batch_pixel_limit(most, queued_s=queued_s, queued_pixels=queued_pixels, idle_count=idle_count)
    assert 1 <= limit <= most
    if limit < most:
        assert queued_s >= 0.0005 * idle_count
        # A share each, and no pixel is left without a lane.
        assert limit * idle_count >= queued_pixels > (limit - 1) * idle_count


@given(st.integers(1, 1000), st.integers(1, 64), st.integers(1, 64), st.floats(1e-6, 1.0))
def test_packs_fit_a_batch_and_are_worth_waking_a_lane_for(
    unit_count: int, most: int, lane_count: int, unit_s: float
) -> None:
    count = dispatch.fitting_pack_count(unit_count, most=most, lane_count=lane_count, unit_s=unit_s)
    assert 1 <= count <= most
    if count < most:
        assert count * unit_s >= 0.0005 * (1 - 1e-9)
        assert math.ceil(unit_count / count) <= lane_count
