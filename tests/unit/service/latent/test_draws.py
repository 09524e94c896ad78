"""Drawn codes: a pure function of seed and number, normal, and scaled by the temperature."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.latent.draws import MOST_SEED, MOST_TEMPERATURE, draw

SEEDS = st.integers(0, MOST_SEED)


@given(seed=SEEDS, index=st.integers(0, 10_000), length=st.integers(1, 64))
def test_the_same_seed_and_number_give_the_same_bytes_whatever_was_drawn_before(
    seed: int, index: int, length: int
) -> None:
    first = draw(seed, index, length=length, temperature=1.0)
    draw(seed, index + 1, length=length, temperature=1.0)
    assert draw(seed, index, length=length, temperature=1.0).tobytes() == first.tobytes()
    assert (first.shape, first.dtype.name) == ((length,), "float32")


@given(seed=st.integers(0, MOST_SEED - 1), index=st.integers(0, 10_000))
def test_other_seeds_and_numbers_give_other_codes(seed: int, index: int) -> None:
    code = draw(seed, index, length=4, temperature=1.0).tobytes()
    assert code != draw(seed, index + 1, length=4, temperature=1.0).tobytes()
    assert code != draw(seed + 1, index, length=4, temperature=1.0).tobytes()


@given(seed=SEEDS, temperature=st.floats(0.0, MOST_TEMPERATURE))
def test_the_temperature_scales_the_draw(seed: int, temperature: float) -> None:
    scaled = draw(seed, 0, length=8, temperature=temperature)
    np.testing.assert_allclose(scaled, draw(seed, 0, length=8, temperature=1.0) * temperature, rtol=1e-6, atol=1e-30)


def test_draws_are_standard_normal() -> None:
    drawn = np.stack([draw(1, index, length=16, temperature=1.0) for index in range(1000)])
    # Of 16,000 draws: five standard errors.
    assert drawn.mean() == pytest.approx(0.0, abs=5 / 16_000**0.5)
    assert drawn.std() == pytest.approx(1.0, abs=5 / 32_000**0.5)


def test_the_draws_of_a_seed_are_those_of_every_release() -> None:
    code = draw(7, 3, length=3, temperature=1.0)
    np.testing.assert_allclose(code, [0.51686627, 0.36227059, 1.16883731], rtol=1e-7)
