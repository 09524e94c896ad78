"""The histogram against the exact answer of a sorted list."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from denoised.load.histogram import RELATIVE_ERROR, Histogram, merged

DURATIONS_US = st.lists(st.integers(0, 10**11), min_size=1, max_size=200)


def histogram_of(durations_us: list[int]) -> Histogram:
    histogram = Histogram()
    for duration_us in durations_us:
        histogram.record(duration_us / 1e6)
    return histogram


@given(DURATIONS_US, st.floats(0.0, 1.0))
def test_a_quantile_is_never_below_the_exact_one_and_above_it_by_the_stated_error_at_most(
    durations_us: list[int], share: float
) -> None:
    exact_us = sorted(durations_us)[max(1, math.ceil(share * len(durations_us))) - 1]
    found_s = histogram_of(durations_us).quantile_s(share)
    assert found_s is not None
    assert exact_us <= round(found_s * 1e6) <= exact_us * (1 + RELATIVE_ERROR)


@given(DURATIONS_US)
def test_the_largest_and_the_mean_are_exact(durations_us: list[int]) -> None:
    histogram = histogram_of(durations_us)
    assert round(histogram.most_s * 1e6) == max(durations_us)
    assert histogram.quantile_s(1.0) == histogram.most_s
    assert histogram.mean_s == pytest.approx(sum(durations_us) / len(durations_us) / 1e6)


@given(DURATIONS_US, DURATIONS_US)
def test_merging_is_the_same_as_recording_everything_in_one(first: list[int], second: list[int]) -> None:
    parts = histogram_of(first), histogram_of(second)
    assert merged(*parts) == histogram_of(first + second)
    assert parts == (histogram_of(first), histogram_of(second)), "merged must leave its parts alone"


@given(DURATIONS_US)
def test_the_steps_ascend_and_hold_everything(durations_us: list[int]) -> None:
    steps = list(histogram_of(durations_us).steps())
    assert [last_s for last_s, _ in steps] == sorted({last_s for last_s, _ in steps})
    assert sum(count for _, count in steps) == len(durations_us)


def test_short_durations_are_exact() -> None:
    assert histogram_of(list(range(1, 101))).quantile_s(0.5) == 50e-6


def test_a_duration_below_zero_counts_as_zero() -> None:
    histogram = Histogram()
    histogram.record(-1.0)
    assert (histogram.count, histogram.quantile_s(0.5)) == (1, 0.0)


def test_an_empty_histogram_has_no_quantile() -> None:
    assert Histogram().quantile_s(0.99) is None
    assert (Histogram().mean_s, Histogram().most_s) == (0.0, 0.0)


@pytest.mark.parametrize("share", [-0.1, 99.0, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=r"must lie in 0\.\.1"):
        histogram_of([1]).quantile_s(share)
