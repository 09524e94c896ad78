"""Axes hold what they are asked to hold, on round ticks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from denoised.load import plots


@given(st.floats(1e-6, 1e9))
def test_a_linear_axis_holds_its_highest_value_and_has_few_ticks(highest: float) -> None:
    axis = plots.linear("x", highest)
    assert 0.0 < axis.place(highest) <= 1.0 + 1e-9
    assert axis.place(0.0) == 0.0
    assert 2 <= len(axis.ticks) <= 7
    assert axis.place(axis.ticks[-1][0]) == pytest.approx(1.0)


@given(st.floats(1e-3, 1e6), st.floats(1.0, 1e5))
def test_a_logarithmic_axis_holds_both_ends_in_order(lowest: float, times: float) -> None:
    axis = plots.logarithmic("y", lowest, lowest * times)
    places = [axis.place(value) for value, _ in axis.ticks]
    assert places == sorted(set(places))
    assert 0.0 <= axis.place(lowest) <= axis.place(lowest * times) <= 1.0
    assert 1 <= len(places) <= 9


@given(st.floats(0.99, 0.999999))
def test_each_further_nine_takes_as_much_room(highest: float) -> None:
    axis = plots.percentiles("p", highest)
    assert axis.place(0.0) == 0.0
    assert axis.place(highest) == pytest.approx(1.0)
    assert axis.place(0.99) == pytest.approx(2 * axis.place(0.9))


@given(st.floats(0.01, 1e5))
def test_time_ends_where_the_stage_ends(duration_s: float) -> None:
    axis = plots.exact("s", duration_s)
    assert axis.place(duration_s) == pytest.approx(1.0)
    assert all(axis.place(value) <= 1.0 + 1e-9 for value, _ in axis.ticks)
