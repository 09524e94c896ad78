"""Generated pictures are on the 8-bit grid, a pure function of their key, and often flat."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from denoised.noise import keyed_rng
from training.data.synthetic import draw_picture


@given(seed=st.integers(0, 10_000), side_px=st.integers(8, 64), channels=st.sampled_from([1, 3]))
def test_pictures_have_their_shape_and_lie_on_the_grid(seed: int, side_px: int, channels: int) -> None:
    picture = draw_picture(keyed_rng(seed), side_px=side_px, channels=channels)
    assert picture.shape == (side_px, side_px, channels)
    assert picture.dtype == np.float32
    levels = picture * 255
    assert levels.min() >= 0
    assert levels.max() <= 255
    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-4)


def test_the_same_key_gives_the_same_picture_and_another_key_another() -> None:
    first, again, other = (draw_picture(keyed_rng(seed), side_px=32, channels=3) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_flat_black_and_flat_white_occur(level: float) -> None:
    pictures = (draw_picture(keyed_rng(seed), side_px=16, channels=3) for seed in range(400))
    assert any(np.all(picture == level) for picture in pictures)
