"""What batches cost: predictions that follow what is observed, whatever they started from."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.cost import CostModel, ModelCost, ShapeCost

SHAPE = (64, 128)
PACE = 250e-9
factors = st.floats(1e-6, 1e6)


def model(cost: ModelCost | None = None) -> CostModel:
    costs = CostModel()
    costs.add_model("a", cost or ModelCost(PACE))
    return costs


def observe(costs: CostModel, seconds: float, times: int = 1, *, key: str = "a", count: int = 1) -> None:
    for _ in range(times):
        costs.observe(key, *SHAPE, count, seconds)


def test_a_shape_that_no_profile_lists_costs_its_pixels() -> None:
    assert model().predict_s("a", 64, 128, 3) == pytest.approx(3 * 64 * 128 * PACE)


def test_a_profile_knows_its_shapes_and_the_pace_is_for_the_others() -> None:
    costs = model(ModelCost(PACE, {SHAPE: ShapeCost(0.5, 0.25)}))
    assert costs.predict_s("a", *SHAPE) == 0.75
    assert costs.predict_s("a", *SHAPE, 4) == 2.25
    assert costs.predict_s("a", 10, 10) == pytest.approx(100 * PACE)


@pytest.mark.parametrize(
    "bad", [(0.0, 0.0), (-1.0, 0.0), (1.0, -0.1), (math.nan, 0.0), (math.inf, 0.0), (1.0, math.inf)]
)
def test_costs_that_cannot_be_are_refused(bad: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="can't take"):
        ShapeCost(*bad)


def test_a_model_that_was_not_added_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        CostModel().predict_s("a", *SHAPE)


@given(start=factors, truth=factors)
def test_ten_batches_correct_any_start(start: float, truth: float) -> None:
    costs = model(ModelCost(PACE * start))
    observe(costs, truth, 10)
    assert costs.predict_s("a", *SHAPE) == pytest.approx(truth)


@given(before=factors, after=factors, seen=st.integers(1, 1000))
def test_ten_batches_follow_any_change_of_pace(before: float, after: float, seen: int) -> None:
    costs = model()
    observe(costs, before, min(seen, 40))
    observe(costs, after, 10)
    # After one batch the rest is a factor of 4 or is jumped over by the next; each of the other nine leaves 3/4 of it.
    assert abs(math.log(costs.predict_s("a", *SHAPE) / after)) <= 0.75**9 * math.log(4) + 1e-9


@given(hiccup=factors)
def test_one_hiccup_moves_a_settled_prediction_by_less_than_half(hiccup: float) -> None:
    costs = model()
    observe(costs, 1.0, 20)
    observe(costs, hiccup)
    assert 4**-0.25 - 1e-9 <= costs.predict_s("a", *SHAPE) <= 4**0.25 + 1e-9
    observe(costs, 1.0, 10)
    assert costs.predict_s("a", *SHAPE) == pytest.approx(1.0, rel=0.03)


def test_a_first_batch_that_was_a_hiccup_is_forgotten_after_two_more() -> None:
    costs = model()
    observe(costs, 1000.0)
    observe(costs, 1.0, 2)
    assert costs.predict_s("a", *SHAPE) == pytest.approx(1.0)


@given(seconds=st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=60))
def test_a_prediction_stays_within_what_was_observed(seconds: list[float]) -> None:
    costs = model()
    for each in seconds:
        observe(costs, each)
    assert min(seconds) * (1 - 1e-9) <= costs.predict_s("a", *SHAPE) <= max(seconds) * (1 + 1e-9)


def test_a_shape_that_did_not_run_yet_learns_from_the_models_others() -> None:
    costs = model()
    observe(costs, 3 * 64 * 128 * PACE, 5)
    assert costs.predict_s("a", 256, 256) == pytest.approx(3 * 256 * 256 * PACE)


def test_a_shape_that_ran_is_not_touched_by_the_models_others() -> None:
    costs = model()
    costs.observe("a", 256, 256, 1, 0.5)
    observe(costs, 100.0, 20)
    assert costs.predict_s("a", 256, 256) == pytest.approx(0.5)


def test_models_do_not_learn_from_each_other() -> None:
    costs = model()
    costs.add_model("b", ModelCost(PACE))
    observe(costs, 7.0, 5)
    assert costs.predict_s("b", *SHAPE) == pytest.approx(64 * 128 * PACE)


def test_batches_of_several_units_teach_about_one() -> None:
    costs = model(ModelCost(PACE, {SHAPE: ShapeCost(0.1, 0.1)}))
    observe(costs, 1.0, count=4)
    assert costs.predict_s("a", *SHAPE) == pytest.approx(0.4)


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_a_clock_that_stood_still_teaches_nothing(seconds: float) -> None:
    costs = model()
    observe(costs, seconds)
    assert costs.predict_s("a", *SHAPE) == pytest.approx(64 * 128 * PACE)


def test_a_model_that_is_added_again_is_learnt_anew() -> None:
    costs = model()
    observe(costs, 9.0, 5)
    costs.add_model("a", ModelCost(PACE))
    assert costs.predict_s("a", *SHAPE) == pytest.approx(64 * 128 * PACE)


def test_a_forgotten_model_is_unknown_and_the_others_stay() -> None:
    costs = model()
    costs.add_model("b", ModelCost(PACE))
    observe(costs, 2.0, key="b")
    costs.forget("a")
    costs.forget("never added")
    with pytest.raises(KeyError):
        costs.predict_s("a", *SHAPE)
    assert costs.predict_s("b", *SHAPE) == pytest.approx(2.0)


def test_the_spread_is_a_cautious_guess_until_enough_is_seen() -> None:
    costs = model()
    assert costs.spread() == 1.5
    observe(costs, 1.0, 19)
    assert costs.spread() == 1.5


def test_the_spread_of_batches_that_take_what_was_foretold_is_one() -> None:
    costs = model()
    observe(costs, 1.0, 400)
    assert costs.spread() == pytest.approx(1.0)


def test_the_spread_is_how_much_longer_a_slow_batch_takes() -> None:
    costs = model()
    chance = random.Random(1)
    logs = [chance.gauss(0, 0.2) for _ in range(2000)]
    for each in logs:
        observe(costs, math.exp(each))
    # 1.645 standard deviations, a little more for the prediction's own.
    assert 1.3 <= costs.spread() <= 1.55


@given(seconds=st.lists(st.floats(1e-9, 1e9), min_size=40, max_size=80))
def test_the_spread_has_bounds(seconds: list[float]) -> None:
    costs = model()
    for each in seconds:
        observe(costs, each)
    assert 1.0 <= costs.spread() <= 4.0
