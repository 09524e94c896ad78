"""Medians, quantiles, verdicts and the comparison of two runs."""

import json
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench import baseline
from tests.bench.figures import Figure, Row, figure_of, half_spread, quantile, steady_rate
from tests.bench.table import as_json, markdown

_VALUES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50)


@given(values=_VALUES, share=st.floats(0.01, 1.0))
def test_a_quantile_is_the_smallest_value_that_enough_values_do_not_exceed(values: list[float], share: float) -> None:
    found = quantile(values, share)

    def below(limit: float) -> float:
        return sum(value <= limit for value in values) / len(values)

    assert found in values
    assert below(found) >= share - 1e-6
    smaller = [value for value in values if value < found]
    assert not smaller or below(max(smaller)) < share


def test_the_p99_of_a_hundred_values_is_the_second_largest() -> None:
    assert quantile(list(range(100)), 0.99) == 98


def test_a_single_round_has_no_spread_and_outliers_hardly_change_it() -> None:
    assert half_spread([3.0]) == 0
    assert half_spread([1.0, 2.0]) == 0.5
    assert half_spread([1.0, 2.0, 3.0, 4.0, 5.0]) == half_spread([1.0, 2.0, 3.0, 4.0, 500.0]) == 1.0


@pytest.mark.parametrize(("batch", "in_flight"), [(1, 4), (2, 8), (8, 32)])
def test_a_steady_rate_is_right_however_answers_bunch(batch: int, in_flight: int) -> None:
    # A server that takes `batch` calls at a time, a second for each, from clients that send again at once.
    sent_s = [0.0] * in_flight
    ended_s: list[float] = []
    latencies_s: list[float] = []
    now_s = 0.0
    while len(ended_s) < 10 * in_flight:
        now_s += batch
        taken, sent_s = sent_s[:batch], sent_s[batch:]
        ended_s += [now_s] * batch
        latencies_s += [now_s - start for start in taken]
        if len(ended_s) + len(sent_s) < 10 * in_flight:
            sent_s += [now_s] * batch

    assert steady_rate(ended_s, latencies_s, in_flight) == pytest.approx(1.0, rel=0.02)


def test_too_few_calls_have_no_steady_rate() -> None:
    with pytest.raises(ValueError, match="at least three times"):
        steady_rate([1.0, 2.0], [1.0, 1.0], 2)


def test_a_target_is_reached_on_its_own_side() -> None:
    assert Figure("x", 1.03, target=1.03).is_reached
    assert not Figure("x", 1.04, target=1.03).is_reached
    assert Figure("x", 0.97, target=0.97, want="at least").is_reached
    assert not Figure("x", 0.96, target=0.97, want="at least").is_reached
    assert Figure("x", 9.99).is_reached


def _row(*rounds: float, want: Literal["at most", "at least"] = "at most") -> Row:
    return Row("s28", "S 28x28", [figure_of("ratio", rounds, target=1.2, want=want)])


def _document(row: Row) -> dict[str, object]:
    """As it comes back from a file."""
    tree: dict[str, object] = json.loads(json.dumps({"rows": [as_json(row)]}))
    return tree


def test_a_change_within_the_spread_of_both_runs_is_no_regression() -> None:
    (change,) = baseline.changes(_document(_row(1.0, 1.1, 1.2)), [_row(1.1, 1.2, 1.3)])

    assert change.share == pytest.approx(0.1 / 1.1)
    assert change.noise == pytest.approx(2 * 0.2 / 1.1)
    assert not change.is_regression


def test_a_change_beyond_the_spread_is_a_regression_only_for_the_worse() -> None:
    then, now = _row(1.0, 1.01, 1.02), _row(1.2, 1.21, 1.22)

    (worse,) = baseline.changes(_document(then), [now])
    (better,) = baseline.changes(_document(now), [then])

    assert worse.is_regression
    assert not better.is_regression
    assert "**worse**" in baseline.markdown([worse])


def test_less_is_worse_where_more_is_wanted() -> None:
    (change,) = baseline.changes(
        _document(_row(0.98, 0.99, 1.0, want="at least")), [_row(0.78, 0.79, 0.8, want="at least")]
    )

    assert change.is_regression


def test_figures_of_one_round_are_shown_and_not_judged() -> None:
    (change,) = baseline.changes(_document(_row(1.0)), [_row(2.0)])

    assert change.noise is None
    assert not change.is_regression
    assert "one round" in baseline.markdown([change])


def test_only_figures_with_a_target_that_both_runs_have_are_compared() -> None:
    then = Row("s28", "S", [Figure("raw CPU", 1.0, unit="ms"), Figure("gone", 1.0, target=1.0)])
    now = Row("s28", "S", [Figure("raw CPU", 2.0, unit="ms"), Figure("new", 1.0, target=1.0)])

    assert baseline.changes(_document(then), [now]) == []


def test_the_table_says_which_targets_are_missed_and_what_was_wrong() -> None:
    missed = markdown([_row(1.3)])
    reached = markdown([_row(1.1)])
    broken = markdown([Row("s28", "S", _row(1.1).figures, wrong=["3 wrong answers"])])

    assert "| S 28x28 | ratio | at most 1.200 | 1.300 | **no** |" in missed
    assert "| S 28x28 | ratio | at most 1.200 | 1.100 | yes |" in reached
    assert "| wrong |" in broken
    assert "3 wrong answers" in broken


def test_the_table_of_a_short_run_judges_no_target() -> None:
    assert "| at most 1.200 | 1.300 |  |" in markdown([_row(1.3)], is_judged=False)
