"""Black and white of a set: told from what a camera can make, never from one hot pixel."""

from typing import Any

import numpy as np
import pytest

pytest.importorskip("cv2")

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from denoised.contract import SampleLevels, SampleType
from training.data.levels import FittedLevels, Histogram, fit_levels, to_unit
from training.errors import DataError

pytestmark = pytest.mark.training

Array = NDArray[Any]


def scene(top: float, *, seed: int = 0, side_px: int = 300, kind: type = np.uint16) -> Array:
    """Values from 0 to ``top``, all about equally often, and the top itself."""
    values = np.random.default_rng(seed).uniform(0, top, (side_px, side_px, 1))
    values.flat[:20] = top
    return values.astype(kind)


def fitted(kind: SampleType, *pictures: Array, black: float | None = None, white: float | None = None) -> FittedLevels:
    histogram = Histogram(kind)
    for picture in pictures:
        histogram.add(picture)
    return fit_levels(histogram, black=black, white=white)


def test_eight_bits_are_0_to_255_however_dark_the_images(tmp_path: object) -> None:
    assert fitted("u8", np.full((9, 9, 1), 3, np.uint8)).levels == SampleLevels("u8", 0, 255)


@pytest.mark.parametrize(
    ("top", "white"),
    [
        (65535, 65535), (60000, 65535), (40000, 65535), (32767, 32767), (20000, 32767), (16383, 16383), (9000, 16383),
        (4095, 4095), (4000, 4095), (1100, 4095), (1023, 1023), (300, 1023), (255, 255), (100, 255),
    ],
)  # fmt: skip
def test_white_is_the_full_scale_of_the_smallest_bit_depth_that_holds_the_data(top: int, white: int) -> None:
    assert fitted("u16", scene(top)).levels == SampleLevels("u16", 0, white)


def test_a_few_photon_counts_far_below_any_full_scale_are_taken_as_they_are() -> None:
    assert fitted("u16", scene(20)).levels == SampleLevels("u16", 0, 20)


def test_one_hot_pixel_does_not_make_twelve_bit_data_black() -> None:
    picture = scene(4095)
    picture[5, 5] = 65535
    found = fitted("u16", *[scene(4095, seed=seed) for seed in range(3)], picture)
    assert found.levels.white == 4095
    assert "up to 65535" in found.reason


def camera_frame(offset: float, top: float, seed: int) -> Array:
    """A frame with dark surroundings at the camera's offset, read noise of 5, and a scene of its own brightness."""
    rng = np.random.default_rng(seed)
    signal = np.zeros((200, 200, 1))
    signal[50:150, 50:150] = rng.uniform(0, top * (0.5 + 0.5 * rng.random()), (100, 100, 1))
    return np.clip(signal + offset + rng.normal(0, 5, signal.shape), 0, 65535).astype(np.uint16)


def test_a_cameras_offset_becomes_black_with_the_noise_around_it_kept() -> None:
    levels = fitted("u16", *[camera_frame(500, 3000, seed) for seed in range(6)]).levels
    assert levels.white == 4095
    # Five deviations of the read noise below the offset: nothing of the noise is cut off.
    assert 470 <= levels.black <= 490


def test_an_offset_that_wastes_hardly_any_range_is_left_alone() -> None:
    assert fitted("u16", *[camera_frame(100, 3500, seed) for seed in range(6)]).levels == SampleLevels("u16", 0, 4095)


def test_scenes_without_black_are_no_offset() -> None:
    bright = [scene(2000, seed=seed) + np.uint16(400 * seed + 300) for seed in range(5)]
    assert fitted("u16", *bright).levels.black == 0


def test_two_images_are_too_few_to_know_an_offset() -> None:
    assert fitted("u16", *[camera_frame(500, 3000, seed) for seed in range(2)]).levels.black == 0


@pytest.mark.parametrize(
    ("top", "white"),
    [(1.0, 1.0), (0.5, 1.0), (0.0625, 0.0625), (800.0, 800.0)],
    ids=["whole", "half", "12 of 16", "counts"],
)
def test_floats_are_0_to_1_when_they_fill_it_and_fitted_otherwise(top: float, white: float) -> None:
    levels = fitted("f32", scene(top, kind=np.float32)).levels
    assert levels.black == 0
    # A bin of floats is 0.8 % wide, and no level lies beyond the data.
    assert levels.white == pytest.approx(white, rel=0.008)


def test_negative_floats_move_black_down() -> None:
    levels = fitted("f32", scene(3.0, kind=np.float32) - np.float32(1.0)).levels
    assert levels.black == pytest.approx(-1.0, rel=0.01)
    assert levels.white == pytest.approx(2.0, rel=0.01)


def test_given_levels_are_taken_and_the_other_one_is_fitted() -> None:
    assert fitted("u16", scene(3000), white=3500.0).levels == SampleLevels("u16", 0, 3500)
    assert fitted("u16", scene(3000), black=100.0).levels == SampleLevels("u16", 100, 4095)
    assert "as given" in fitted("u16", scene(3000), black=100.0).reason


def test_black_above_white_is_refused_with_the_range_of_the_data() -> None:
    with pytest.raises(DataError, match=r"4000\.\.3000.*0\.\.3000.*--black"):
        fitted("u16", scene(3000), black=4000.0, white=3000.0)
    with pytest.raises(DataError, match="--black and --white"):
        fitted("u16", np.zeros((9, 9, 1), np.uint16))


@given(hnp.arrays(np.float32, (7, 5, 1), elements=st.floats(-1e6, 1e6, width=32, allow_subnormal=False)))
def test_robust_ends_of_floats_bracket_small_sets_within_a_bin(picture: Array) -> None:
    histogram = Histogram("f32")
    histogram.add(picture)
    low, high = float(picture.min()), float(picture.max())
    assert low <= histogram.robust_low() <= low + 0.008 * abs(low)
    assert high - 0.008 * abs(high) <= histogram.robust_high() <= high


@given(hnp.arrays(np.uint16, (7, 5, 1)))
def test_robust_ends_of_integers_are_the_ends_of_small_sets(picture: Array) -> None:
    histogram = Histogram("u16")
    histogram.add(picture)
    assert (histogram.robust_low(), histogram.robust_high()) == (picture.min(), picture.max())


@given(
    picture=hnp.arrays(np.uint16, (4, 3, 1)),
    black=st.integers(0, 30_000),
    range_=st.integers(1, 30_000),
)
def test_unit_values_are_linear_between_black_and_white_and_clipped_beyond(
    picture: Array, black: int, range_: int
) -> None:
    unit = to_unit(picture, SampleLevels("u16", black, black + range_))
    assert unit.dtype == np.float32
    expected = np.clip((picture.astype(np.float64) - black) / range_, 0, 1)
    np.testing.assert_allclose(unit, expected, atol=1e-6)


def test_eight_bit_unit_values_are_exact_quotients() -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    np.testing.assert_array_equal(to_unit(ramp, SampleLevels()), ramp.astype(np.float32) / np.float32(255))
