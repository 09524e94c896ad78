"""The weight of the divergence, step by step."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.config import LossConfig
from training.kl_schedule import kl_weight_at

LINEAR = LossConfig(kl_weight=2.0, kl_schedule="linear", kl_warmup_steps=100)
CYCLIC = LossConfig(kl_weight=2.0, kl_schedule="cyclic", kl_warmup_steps=100, kl_cycles=2)


@pytest.mark.parametrize("step", [0, 1, 10_000, None])
def test_a_constant_weight_is_there_from_the_start(step: int | None) -> None:
    assert kl_weight_at(step, LossConfig(kl_weight=0.5)) == 0.5


@pytest.mark.parametrize(("step", "weight"), [(0, 0.0), (25, 0.5), (50, 1.0), (99, 1.98), (100, 2.0), (5000, 2.0)])
def test_a_linear_weight_rises_from_nothing_and_stays(step: int, weight: float) -> None:
    assert kl_weight_at(step, LINEAR) == pytest.approx(weight)


@pytest.mark.parametrize(
    ("step", "weight"),
    [(0, 0.0), (10, 0.8), (25, 2.0), (40, 2.0), (49, 2.0), (50, 0.0), (60, 0.8), (75, 2.0), (99, 2.0), (100, 2.0)],
)
def test_a_cyclic_weight_rises_in_the_first_half_of_each_cycle(step: int, weight: float) -> None:
    assert kl_weight_at(step, CYCLIC) == pytest.approx(weight)


@pytest.mark.parametrize("loss", [LINEAR, CYCLIC], ids=["linear", "cyclic"])
def test_checkpoints_are_compared_at_the_weight_that_the_schedule_ends_with(loss: LossConfig) -> None:
    assert kl_weight_at(None, loss) == kl_weight_at(loss.kl_warmup_steps, loss) == loss.kl_weight


@given(step=st.integers(0, 10**6), warmup=st.integers(1, 10**4), cycles=st.integers(1, 20), weight=st.floats(0, 1e6))
def test_no_weight_exceeds_the_configured_one(step: int, warmup: int, cycles: int, weight: float) -> None:
    loss = LossConfig(kl_weight=weight, kl_schedule="cyclic", kl_warmup_steps=warmup, kl_cycles=cycles)
    assert 0.0 <= kl_weight_at(step, loss) <= weight
