"""The range test: it finds the rate that a loss of known shape falls most at, and notices where it breaks."""

import math
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from tests.unit.training.run.tiny import tiny_config
from training.data.pack import Pack
from training.errors import ConfigError
from training.run.lr_finder import find_rate, is_broken, judged

pytestmark = pytest.mark.training

RATES = [float(rate) for rate in np.geomspace(1e-6, 1.0, 121)]
# Batches of very different difficulty, which must not be taken for progress.
UNTRAINED = [1.0 + 0.5 * math.sin(7 * step) for step in range(121)]


def change(rate: float) -> float:
    """Nothing is learnt below 1e-5, most at 1e-2, and above the loss breaks."""
    if rate <= 1e-2:
        return -0.1 * max(0.0, math.log10(rate / 1e-5))
    return -0.3 + 5 * math.log10(rate / 1e-2)


LOSSES = [untrained + change(rate) for untrained, rate in zip(UNTRAINED, RATES, strict=True)]


def test_the_suggestion_is_about_a_tenth_of_the_rate_at_which_the_loss_falls_most() -> None:
    test = judged(RATES, LOSSES, UNTRAINED)
    assert 0.8e-3 < test.suggestion < 1.6e-3
    assert f"optimiser.learning_rate={test.suggestion:g}" in test.text()


def test_a_broken_loss_is_noticed_and_the_falling_one_is_not() -> None:
    broken = [is_broken(LOSSES[:count], UNTRAINED[:count]) for count in range(1, 122)]
    first = broken.index(True)
    assert 1e-2 < RATES[first] < 1.0
    assert is_broken([1.0, float("nan")], [1.0, 1.0])


def test_losses_below_zero_are_judged_alike() -> None:
    lower = judged(RATES, [loss - 10 for loss in LOSSES], [loss - 10 for loss in UNTRAINED])
    assert lower.suggestion == judged(RATES, LOSSES, UNTRAINED).suggestion


def test_a_loss_that_never_falls_is_refused() -> None:
    rising = [untrained + 0.1 * step for step, untrained in enumerate(UNTRAINED)]
    with pytest.raises(ConfigError, match=r"never fell.*--from 1e-08"):
        judged(RATES, rising, UNTRAINED)


def test_the_step_that_is_no_number_is_no_point() -> None:
    assert len(judged(RATES[:31], [*LOSSES[:30], float("nan")], UNTRAINED[:31]).points) == 30


@pytest.mark.parametrize(("low", "high", "steps"), [(1.0, 0.1, 50), (0.0, 1.0, 50), (0.1, 0.1, 50), (1e-5, 1.0, 5)])
def test_an_empty_range_or_too_few_steps_are_refused(pack: Pack, low: float, high: float, steps: int) -> None:
    with pytest.raises(ConfigError, match=r"--from|--steps"):
        find_rate(tiny_config(), pack, low=low, high=high, steps=steps)


def test_a_real_search_suggests_a_rate_inside_of_its_range_and_draws_it(pack: Pack, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the curve is drawn with matplotlib")
    test = find_rate(tiny_config(data={"batch_size": 4}), pack, low=1e-5, high=1.0, steps=40, workers=0)
    assert 1e-6 < test.suggestion < 0.1
    test.plot(tmp_path / "plots" / "curve.png")
    assert (tmp_path / "plots" / "curve.png").read_bytes().startswith(b"\x89PNG")
