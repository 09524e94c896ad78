"""Intervals and look-ups that every figure of the tables goes through."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from denoised.quality import PSNR_CEILING_DB, psnr_db
from tests.bench.quality.scores import at, bootstrap_interval, figures_of


def test_the_bootstrap_agrees_with_the_normal_interval_of_many_values() -> None:
    values = np.random.default_rng(5).normal(30, 2, 400)

    interval = bootstrap_interval(list(values))

    half = 1.96 * values.std() / np.sqrt(400)
    assert interval.low == pytest.approx(values.mean() - half, abs=0.03)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.03)


@given(st.lists(st.floats(0, 100), min_size=2, max_size=30))
def test_the_interval_holds_the_mean_lies_within_the_values_and_never_changes(values: list[float]) -> None:
    interval = bootstrap_interval(values)

    assert interval.low is not None
    assert interval.high is not None
    assert min(values) - 1e-9 <= interval.low <= interval.mean + 1e-9
    assert interval.mean - 1e-9 <= interval.high <= max(values) + 1e-9
    assert interval == bootstrap_interval(values)


def test_one_value_has_no_interval_and_none_is_refused() -> None:
    assert bootstrap_interval([3.0]).low is None
    with pytest.raises(ValueError, match="at least one"):
        bootstrap_interval([])


def test_figures_are_rounded_and_equal_images_count_as_the_ceiling() -> None:
    clean = np.random.default_rng(1).integers(0, 256, (32, 32, 3), np.uint8)
    noisy = clean.copy()
    noisy[0, 0, 0] ^= 16

    assert figures_of(clean, clean) == (PSNR_CEILING_DB, 1.0, 1.0)
    assert figures_of(noisy, clean)[0] == round(psnr_db(noisy, clean), 4)


def test_a_condition_is_looked_up_whole() -> None:
    scores = [
        {"method": method, "protocol": protocol, "sigma": sigma, "is_grey": is_grey}
        for method in ("a", "b")
        for protocol, sigma in (("gaussian", 15), ("gaussian", 25), ("photo", 0))
        for is_grey in (False, True)
    ]

    assert at(scores, "a", "photo") == [scores[4]]
    assert at(scores, "b", "gaussian", sigma=25, is_grey=True) == [scores[9]]
    assert at(scores, "c", "photo") == []
