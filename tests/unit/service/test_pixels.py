"""Samples to units and back: every value of every depth, levels, clipping, grey, strength."""

from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from service import pixels
from service.types import Image, Samples

UNIT = NDArray[np.float32]
WHITE_LEVELS: dict[Any, float] = {np.uint8: 255.0, np.uint16: 65535.0, np.float32: 1.0}
DTYPES = st.sampled_from(list(WHITE_LEVELS))


def image_of(colour: Samples, *, black_level: float = 0.0, white_level: float = 255.0) -> Image:
    return Image(colour, None, black_level, white_level)


def random_samples(dtype: Any, shape: tuple[int, ...], seed: int, *, low: float, high: float) -> Samples:
    values = np.random.default_rng(seed).uniform(low, high, shape)
    if np.issubdtype(dtype, np.integer):
        values = np.rint(values)
    return cast("Samples", values.astype(dtype))


def to_unit(tile: Samples, *, black_level: float = 0.0, white_level: float, channels: int, clip: bool = True) -> UNIT:
    return pixels.to_unit(tile, black_level=black_level, white_level=white_level, channels=channels, clip=clip)


def from_unit(
    denoised: UNIT,
    noisy: UNIT | None = None,
    *,
    strength: float = 1.0,
    black_level: float = 0.0,
    white_level: float,
    clip: bool = True,
    grey: bool = False,
    like: Samples,
) -> Samples:
    return pixels.from_unit(
        denoised,
        denoised if noisy is None else noisy,
        strength=strength,
        black_level=black_level,
        white_level=white_level,
        clip=clip,
        grey=grey,
        like=like,
    )


# --- there and back -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("strength", [1.0, 0.5, 1e-6])
@pytest.mark.parametrize("grey", [False, True])
def test_every_integer_comes_back_from_a_network_that_changes_nothing(
    dtype: Any, strength: float, *, grey: bool
) -> None:
    white_level = WHITE_LEVELS[dtype]
    every = np.arange(white_level + 1).astype(dtype).reshape(16, -1, 1)
    unit = to_unit(every, white_level=white_level, channels=3 if grey else 1)
    back = from_unit(unit, unit, strength=strength, white_level=white_level, grey=grey, like=every)
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, every)


@given(
    black_level=st.integers(0, 1000),
    depth=st.integers(1, 64535),
    strength=st.floats(0.0, 1.0, width=32),
    seed=st.integers(0, 2**32 - 1),
)
def test_16_bit_samples_between_any_levels_come_back_exactly(
    black_level: int, depth: int, strength: float, seed: int
) -> None:
    white_level = black_level + depth
    samples = random_samples(np.uint16, (5, 6, 3), seed, low=black_level, high=white_level)
    unit = to_unit(samples, black_level=black_level, white_level=white_level, channels=3)
    back = from_unit(unit, strength=strength, black_level=black_level, white_level=white_level, like=samples)
    np.testing.assert_array_equal(back, samples)


@given(
    black_level=st.floats(-100, 100, width=32),
    depth=st.floats(0.25, 1000, width=32),
    seed=st.integers(0, 2**32 - 1),
)
def test_float_samples_come_back_within_rounding(black_level: float, depth: float, seed: int) -> None:
    white_level = black_level + depth
    samples = random_samples(np.float32, (5, 6, 3), seed, low=black_level, high=white_level)
    unit = to_unit(samples, black_level=black_level, white_level=white_level, channels=3)
    back = from_unit(unit, black_level=black_level, white_level=white_level, like=samples)
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, samples, rtol=0, atol=4e-7 * (abs(black_level) + abs(white_level) + depth))


@given(
    dtype=DTYPES,
    network_channels=st.sampled_from([1, 3]),
    height_px=st.integers(1, 5),
    width_px=st.integers(1, 5),
    seed=st.integers(0, 2**32 - 1),
)
def test_shape_and_type_are_those_of_the_image(
    dtype: Any, network_channels: int, height_px: int, width_px: int, seed: int
) -> None:
    for channels in {1, network_channels}:
        white_level = WHITE_LEVELS[dtype]
        tile = random_samples(dtype, (height_px, width_px, channels), seed, low=0, high=white_level)
        unit = to_unit(tile, white_level=white_level, channels=network_channels)
        assert unit.shape == (network_channels, height_px, width_px)
        assert unit.dtype == np.float32
        assert unit.flags.c_contiguous
        back = from_unit(unit, white_level=white_level, grey=channels != network_channels, like=tile)
        assert back.shape == tile.shape
        assert back.dtype == tile.dtype


def test_channels_keep_their_order() -> None:
    tile = np.array([[[10, 20, 30], [40, 50, 60]]], np.uint8)
    unit = to_unit(tile, white_level=100.0, channels=3)
    np.testing.assert_allclose(unit[:, 0, :], [[0.1, 0.4], [0.2, 0.5], [0.3, 0.6]], rtol=1e-6)
    np.testing.assert_array_equal(from_unit(unit, white_level=100.0, like=tile), tile)


# --- levels and clipping --------------------------------------------------------------------------------------------


def test_black_is_0_and_white_is_1() -> None:
    tile = np.array([[[512], [16383], [8447]]], np.uint16)
    unit = to_unit(tile, black_level=512.0, white_level=16383.0, channels=1)
    np.testing.assert_allclose(unit.ravel(), [0.0, 1.0, 7935 / 15871], rtol=1e-6)


def test_samples_beyond_the_levels_are_clipped_only_when_the_network_was_trained_so() -> None:
    tile = np.array([[[-0.5], [0.25], [1.5]]], np.float32)
    np.testing.assert_array_equal(to_unit(tile, white_level=1.0, channels=1).ravel(), [0.0, 0.25, 1.0])
    np.testing.assert_array_equal(to_unit(tile, white_level=1.0, channels=1, clip=False).ravel(), [-0.5, 0.25, 1.5])


def test_reading_never_changes_the_image() -> None:
    tile = np.array([[[-0.5], [0.25], [1.5]]], np.float32)
    before = tile.copy()
    to_unit(tile, black_level=0.5, white_level=2.0, channels=3)
    np.testing.assert_array_equal(tile, before)


def test_writing_never_changes_what_the_network_answered() -> None:
    denoised = np.array([[[-0.5, 0.5, 1.5]]], np.float32)
    before = denoised.copy()
    from_unit(denoised, white_level=255.0, like=np.zeros((1, 3, 1), np.uint8))
    np.testing.assert_array_equal(denoised, before)


@pytest.mark.parametrize(("dtype", "black", "white"), [(np.uint8, 0, 255), (np.uint16, 100, 4095), (np.float32, -1, 1)])
def test_an_answer_beyond_black_or_white_becomes_black_or_white(dtype: Any, black: int, white: int) -> None:
    denoised = np.array([[[-3.0, -1e-6, 1 + 1e-6, 7.0]]], np.float32)
    answer = from_unit(denoised, black_level=black, white_level=white, like=np.zeros((1, 4, 1), dtype))
    np.testing.assert_array_equal(answer.ravel(), [black, black, white, white])


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [(np.float32, [-200, -20, 120, 700]), (np.uint8, [0, 0, 120, 255])],
    ids=["float", "integers saturate where their type ends"],
)
@pytest.mark.parametrize("grey", [False, True])
def test_an_answer_is_clipped_only_when_the_network_was_trained_so(
    dtype: Any, expected: list[int], *, grey: bool
) -> None:
    denoised = np.array([[[-2.0, -0.2, 1.2, 7.0]]], np.float32)
    like = np.zeros((1, 4, 1), dtype)
    answer = from_unit(denoised, white_level=100.0, clip=False, grey=grey, like=like)
    np.testing.assert_allclose(answer.ravel(), expected, rtol=1e-6)


def test_an_answer_is_rounded_to_the_nearest_level_and_never_cut() -> None:
    wanted = np.array([[[0.4, 0.6, 1.4, 253.6, 254.6]]], np.float32)
    answer = from_unit(wanted / np.float32(255), white_level=255.0, like=np.zeros((1, 5, 1), np.uint8))
    np.testing.assert_array_equal(answer.ravel(), [0, 1, 1, 254, 255])


@pytest.mark.parametrize(
    ("dtype", "black_level", "white_level", "expected"),
    [(np.uint8, 0.0, 1000.0, [0, 255]), (np.uint8, -100.0, 255.0, [0, 255]), (np.uint16, 0.0, 1e6, [0, 65535])],
)
def test_an_answer_beyond_what_the_type_holds_saturates_and_never_wraps(
    dtype: Any, black_level: float, white_level: float, expected: list[int]
) -> None:
    """Raw samples may name levels outside their type, as 12-bit data in a scale of its own does."""
    denoised = np.array([[[0.0, 1.0]]], np.float32)
    like = np.zeros((1, 2, 1), dtype)
    answer = from_unit(denoised, black_level=black_level, white_level=white_level, like=like)
    np.testing.assert_array_equal(answer.ravel(), expected)


@given(dtype=DTYPES, seed=st.integers(0, 2**32 - 1), black=st.integers(0, 100), white=st.integers(101, 250))
def test_samples_outside_the_levels_are_counted(dtype: Any, seed: int, black: int, white: int) -> None:
    colour = random_samples(dtype, (7, 8, 3), seed, low=0, high=255)
    expected = sum(not black <= value <= white for value in colour.ravel().tolist())
    assert pixels.count_outside(image_of(colour, black_level=black, white_level=white)) == expected


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_nothing_lies_outside_levels_that_span_the_type(dtype: Any) -> None:
    colour = random_samples(dtype, (9, 9, 3), 0, low=0, high=WHITE_LEVELS[dtype])
    assert pixels.count_outside(image_of(colour, white_level=WHITE_LEVELS[dtype])) == 0
    assert pixels.count_outside(image_of(colour, white_level=WHITE_LEVELS[dtype] - 1)) == np.count_nonzero(
        colour == WHITE_LEVELS[dtype]
    )


def test_samples_on_the_levels_are_inside() -> None:
    colour = np.array([[[16], [235], [15], [236]]], np.uint8)
    assert pixels.count_outside(image_of(colour, black_level=16, white_level=235)) == 2


# --- grey -----------------------------------------------------------------------------------------------------------


@given(
    dtype=DTYPES, channels=st.sampled_from([1, 3]), strength=st.floats(0, 1, width=32), seed=st.integers(0, 2**32 - 1)
)
def test_a_grey_image_stays_grey_exactly_whatever_a_colour_network_answers(
    dtype: Any, channels: int, strength: float, seed: int
) -> None:
    white_level = WHITE_LEVELS[dtype]
    grey = random_samples(dtype, (4, 5, 1), seed, low=0, high=white_level)
    tile = cast("Samples", np.repeat(grey, channels, axis=2))
    assert pixels.is_grey(tile)
    noisy = to_unit(tile, white_level=white_level, channels=3)
    assert all(np.array_equal(plane, noisy[0]) for plane in noisy)
    denoised = np.random.default_rng(seed).random(noisy.shape, np.float32)
    answer = from_unit(denoised, noisy, strength=strength, white_level=white_level, grey=True, like=tile)
    assert answer.shape == tile.shape
    assert pixels.is_grey(answer)


def test_the_answer_for_a_grey_image_is_the_mean_of_the_channels() -> None:
    denoised = np.array([[[0.1]], [[0.2]], [[0.6]]], np.float32)
    answer = from_unit(denoised, white_level=1000.0, grey=True, like=np.zeros((1, 1, 3), np.uint16))
    np.testing.assert_array_equal(answer.ravel(), [300, 300, 300])


def test_one_differing_sample_makes_an_image_coloured() -> None:
    colour = np.full((6, 6, 3), 7, np.uint16)
    assert pixels.is_grey(colour)
    for channel in range(3):
        other = colour.copy()
        other[5, 5, channel] += 1
        assert not pixels.is_grey(other)


# --- strength -------------------------------------------------------------------------------------------------------


def test_strength_blends_linearly_between_input_and_answer() -> None:
    noisy = np.array([[[0.2, 1.0]]], np.float32)
    denoised = np.array([[[0.6, 0.0]]], np.float32)
    like = np.zeros((1, 2, 1), np.float32)
    for strength, expected in ((0.0, [0.2, 1.0]), (0.25, [0.3, 0.75]), (1.0, [0.6, 0.0])):
        answer = from_unit(denoised, noisy, strength=strength, white_level=1.0, like=like)
        np.testing.assert_allclose(answer.ravel(), expected, rtol=1e-6)


@given(dtype=DTYPES, seed=st.integers(0, 2**32 - 1))
def test_no_strength_gives_the_input_whatever_the_network_answered(dtype: Any, seed: int) -> None:
    white_level = WHITE_LEVELS[dtype]
    tile = random_samples(dtype, (4, 5, 3), seed, low=0, high=white_level)
    noisy = to_unit(tile, white_level=white_level, channels=3)
    denoised = np.random.default_rng(seed).normal(size=noisy.shape).astype(np.float32)
    np.testing.assert_array_equal(from_unit(denoised, noisy, strength=0.0, white_level=white_level, like=tile), tile)
