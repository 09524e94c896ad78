"""Samples to units and back: every value of every depth, levels, clipping, grey, strength, bit for bit."""

from typing import Any, cast

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from service import pixels
from service.errors import NonFiniteOutput
from service.pixels import NonFiniteSamples, Scale
from service.types import Samples

UNIT = NDArray[np.float32]
WHITE_LEVELS: dict[Any, float] = {np.uint8: 255.0, np.uint16: 65535.0, np.float32: 1.0}
DTYPES = st.sampled_from(list(WHITE_LEVELS))


def random_samples(dtype: Any, shape: tuple[int, ...], seed: int, *, low: float, high: float) -> Samples:
    values = np.random.default_rng(seed).uniform(low, high, shape)
    if np.issubdtype(dtype, np.integer):
        values = np.rint(values)
    return cast("Samples", values.astype(dtype))


def everywhere(tile: Samples) -> pixels.Region:
    return slice(0, tile.shape[0]), slice(0, tile.shape[1])


def to_unit(tile: Samples, *, black_level: float = 0.0, white_level: float, channels: int, clip: bool = True) -> UNIT:
    out = np.full((channels, *tile.shape[:2]), np.nan, np.float32)
    pixels.read_unit(tile, out, Scale(black_level, white_level, clip), counted=everywhere(tile))
    return out


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
    target = np.zeros_like(like)
    pixels.write_unit(
        denoised,
        denoised if noisy is None else noisy,
        target,
        top_px=0,
        left_px=0,
        strength=strength,
        scale=Scale(black_level, white_level, clip),
        grey=grey,
    )
    return target


def count_outside(tile: Samples, *, black_level: float = 0.0, white_level: float, clip: bool = True) -> int:
    out = np.empty((tile.shape[2], *tile.shape[:2]), np.float32)
    return pixels.read_unit(tile, out, Scale(black_level, white_level, clip), counted=everywhere(tile))


# --- the arithmetic, written down plainly -----------------------------------------------------------------------------


def plain_unit(tile: Samples, shape: tuple[int, ...], scale: Scale) -> UNIT:
    unit = tile.astype(np.float32)
    if scale.black_level != 0.0:
        unit -= np.float32(scale.black_level)
    unit /= np.float32(scale.white_level - scale.black_level)
    if scale.clip:
        unit = np.clip(unit, 0.0, 1.0)
    missing = [(0, edge_px - size_px) for edge_px, size_px in zip(shape[1:], tile.shape[:2], strict=True)]
    planes = np.pad(unit, (*missing, (0, 0)), mode="symmetric").transpose(2, 0, 1)
    return np.broadcast_to(planes, shape)


def plain_answer(denoised: UNIT, noisy: UNIT, like: Samples, scale: Scale, *, strength: float, grey: bool) -> Samples:
    answer = denoised if strength == 1.0 else noisy + np.float32(strength) * (denoised - noisy)
    if grey:
        answer = answer.mean(axis=0, keepdims=True)
    answer = np.clip(answer, 0.0, 1.0) if scale.clip else answer.copy()
    answer *= np.float32(scale.white_level - scale.black_level)
    if scale.black_level != 0.0:
        answer += np.float32(scale.black_level)
    if like.dtype != np.float32:
        answer = np.clip(np.rint(answer), 0, np.iinfo(cast("Any", like.dtype)).max)
    samples = answer.transpose(1, 2, 0).astype(like.dtype)
    return cast("Samples", np.broadcast_to(samples, like.shape))


def plain_count(samples: Samples, scale: Scale) -> int:
    black, white = (
        (np.float32(scale.black_level), np.float32(scale.white_level))
        if samples.dtype == np.float32
        else (scale.black_level, scale.white_level)
    )
    return sum(not black <= value <= white for value in samples.ravel().tolist())


@st.composite
def scales(draw: st.DrawFn, dtype: Any) -> Scale:
    """The ends of the type, or levels within and beyond it, whole numbers and others."""
    white = WHITE_LEVELS[dtype]
    clip = draw(st.booleans())
    if draw(st.booleans()):
        return Scale(0.0, white, clip)
    levels = st.floats(-0.5 * white, 1.5 * white, width=32)
    if dtype != np.float32:
        levels |= st.integers(0, int(white)).map(float)
    black = draw(st.just(0.0) | levels)
    return Scale(black, black + draw(levels.map(abs).filter(lambda depth: depth > white / 1000)), clip)


@st.composite
def views(draw: st.DrawFn, dtype: Any, channels: int) -> Samples:
    """(h, w, C) samples as the codecs give them: in C order, planes first, beside alpha, or cut out of an image."""
    # Blocks hold 65536 samples, so that these sizes take one, several with a rest, or a row that is longer.
    height_px, width_px = draw(
        st.tuples(st.integers(1, 12), st.integers(1, 12))
        | st.sampled_from([(1, 1), (1, 300), (300, 1), (90, 700), (3, 40_000), (2, 70_000), (70_000, 1)])
    )
    white = WHITE_LEVELS[dtype]
    low, high = (-0.2, 1.2) if dtype == np.float32 and draw(st.booleans()) else (0, white)
    seed = draw(st.integers(0, 2**32 - 1))
    match draw(st.sampled_from(["as it is", "planes first", "beside alpha", "cut out"])):
        case "planes first":
            return random_samples(dtype, (channels, height_px, width_px), seed, low=low, high=high).transpose(1, 2, 0)
        case "beside alpha":
            return random_samples(dtype, (height_px, width_px, channels + 1), seed, low=low, high=high)[..., :-1]
        case "cut out":
            return random_samples(dtype, (height_px + 3, width_px + 2, channels), seed, low=low, high=high)[1:-2, 1:-1]
    return random_samples(dtype, (height_px, width_px, channels), seed, low=low, high=high)


@given(data=st.data(), dtype=DTYPES, channels=st.sampled_from([(1, 1), (1, 3), (3, 3)]))
def test_a_unit_is_what_the_plain_arithmetic_gives_and_counts_what_its_tile_owns(
    data: st.DataObject, dtype: Any, channels: tuple[int, int]
) -> None:
    tile = data.draw(views(dtype, channels[0]))
    scale = data.draw(scales(dtype))
    height_px, width_px = tile.shape[:2]
    beyond = st.integers(0, 30) if tile.size < 10_000 else st.sampled_from([0, 1])
    shape = (channels[1], height_px + data.draw(beyond), width_px + data.draw(beyond))
    rows, columns = (
        slice(*sorted(data.draw(st.tuples(st.integers(0, size_px), st.integers(0, size_px)))))
        for size_px in (height_px, width_px)
    )
    out = np.full(shape, np.nan, np.float32)
    before = tile.copy()
    outside_count = pixels.read_unit(tile, out, scale, counted=(rows, columns))
    np.testing.assert_array_equal(out, plain_unit(tile, shape, scale))
    np.testing.assert_array_equal(tile, before)
    assert outside_count == (plain_count(tile[rows, columns], scale) if scale.clip else 0)


@given(
    data=st.data(),
    dtype=DTYPES,
    channels=st.sampled_from([(1, 1), (1, 3), (3, 3)]),
    strength=st.just(1.0) | st.floats(0.0, 1.0, width=32),
    reach=st.sampled_from([(0.0, 1.0), (-0.1, 1.1)]),
    seed=st.integers(0, 2**32 - 1),
)
def test_an_answer_is_what_the_plain_arithmetic_gives(
    data: st.DataObject,
    dtype: Any,
    channels: tuple[int, int],
    strength: float,
    reach: tuple[float, float],
    seed: int,
) -> None:
    target = data.draw(views(dtype, channels[0]))
    scale = data.draw(scales(dtype))
    grey = channels[0] != channels[1] or data.draw(st.booleans())
    height_px, width_px = target.shape[:2]
    top_px, left_px, below_px, right_px = (data.draw(st.integers(0, 3)) for _ in range(4))
    shape = (channels[1], top_px + height_px + below_px, left_px + width_px + right_px)
    denoised = cast("UNIT", random_samples(np.float32, shape, seed, low=reach[0], high=reach[1]))
    noisy = cast("UNIT", random_samples(np.float32, shape, seed + 1, low=0.0, high=1.0))
    before = denoised.copy(), noisy.copy()
    pixels.write_unit(
        denoised, noisy, target, top_px=top_px, left_px=left_px, strength=strength, scale=scale, grey=grey
    )
    used = (slice(None), slice(top_px, top_px + height_px), slice(left_px, left_px + width_px))
    expected = plain_answer(denoised[used], noisy[used], target, scale, strength=strength, grey=grey)
    np.testing.assert_array_equal(target, expected)
    for values, unchanged in zip((denoised, noisy), before, strict=True):
        np.testing.assert_array_equal(values, unchanged)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_halves_are_rounded_to_the_even_level(dtype: Any) -> None:
    halves = np.arange(8, dtype=np.float32).reshape(1, 1, -1) / np.float32(8)
    answer = from_unit(halves, white_level=4.0, like=np.zeros((1, 8, 1), dtype))
    np.testing.assert_array_equal(answer.ravel(), [0, 0, 1, 2, 2, 2, 3, 4])


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


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_nothing_lies_outside_levels_that_span_the_type(dtype: Any) -> None:
    tile = random_samples(dtype, (9, 9, 3), 0, low=0, high=WHITE_LEVELS[dtype])
    white_level = WHITE_LEVELS[dtype]
    assert count_outside(tile, white_level=white_level) == 0
    assert count_outside(tile, white_level=white_level - 1) == np.count_nonzero(tile == white_level)


def test_samples_on_the_levels_are_inside() -> None:
    tile = np.array([[[16], [235], [15], [236]]], np.uint8)
    assert count_outside(tile, black_level=16, white_level=235) == 2


@pytest.mark.parametrize(
    ("black", "white", "outside"), [(15.5, 16.5, 3), (15.999999999, 17.0, 2), (16.0000001, 17.0, 3)]
)
def test_levels_between_whole_numbers_are_compared_exactly(black: float, white: float, outside: int) -> None:
    tile = np.array([[[15], [16], [17], [18]]], np.uint16)
    assert count_outside(tile, black_level=black, white_level=white) == outside


def test_samples_that_are_kept_beyond_the_levels_are_not_counted() -> None:
    assert count_outside(np.array([[[300]]], np.uint16), white_level=255.0, clip=False) == 0


# --- values that are not finite ---------------------------------------------------------------------------------------

ODD = (np.nan, np.inf, -np.inf)


@given(
    at=st.tuples(st.integers(0, 89), st.integers(0, 299), st.integers(0, 2)),
    odd=st.sampled_from(ODD),
    clip=st.booleans(),
)
def test_a_sample_that_is_not_finite_is_found_wherever_it_is(
    at: tuple[int, int, int], odd: float, *, clip: bool
) -> None:
    tile = np.zeros((90, 300, 3), np.float32)
    tile[at] = odd
    with pytest.raises(NonFiniteSamples):
        to_unit(tile, white_level=1.0, channels=3, clip=clip)


@given(
    at=st.tuples(st.integers(0, 2), st.integers(0, 89), st.integers(0, 299)),
    odd=st.sampled_from(ODD),
    strength=st.sampled_from([0.5, 1.0]),
    grey=st.booleans(),
)
@example(at=(0, 89, 0), odd=np.inf, strength=1.0, grey=False)
def test_an_answer_that_is_not_finite_fails_where_it_is_used_and_only_there(
    at: tuple[int, int, int], odd: float, strength: float, *, grey: bool
) -> None:
    denoised = np.zeros((3, 90, 300), np.float32)
    denoised[at] = odd
    noisy = np.zeros_like(denoised)
    target = np.zeros((80, 280, 3), np.uint8)
    used = 4 <= at[1] < 84
    used &= 12 <= at[2] < 292
    scale = Scale(0.0, 255.0, clip=True)
    if not used:
        pixels.write_unit(denoised, noisy, target, top_px=4, left_px=12, strength=strength, scale=scale, grey=grey)
        assert not target.any()
        return
    with pytest.raises(NonFiniteOutput, match="not finite"):
        pixels.write_unit(denoised, noisy, target, top_px=4, left_px=12, strength=strength, scale=scale, grey=grey)


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


@given(st.integers(1, 600), st.data())
def test_colour_is_found_in_any_row(height_px: int, data: st.DataObject) -> None:
    colour = np.full((height_px, 200, 3), 7, np.uint8)
    assert pixels.is_grey(colour)
    assert pixels.is_grey(colour[..., :1])
    colour[data.draw(st.integers(0, height_px - 1)), 199, 2] = 8
    assert not pixels.is_grey(colour)


def test_colour_in_the_first_row_is_found_without_a_look_at_the_rest() -> None:
    class Rows(np.ndarray[Any, Any]):
        """Counts the rows that were taken."""

        taken = 0

        def __getitem__(self, key: Any) -> Any:
            part = super().__getitem__(key)
            if part.ndim == 3:
                Rows.taken += len(part)
            return part

    colour = np.zeros((1000, 10, 3), np.uint8)
    colour[0, 9, 1] = 1
    assert not pixels.is_grey(cast("Samples", colour.view(Rows)))
    assert Rows.taken == 1


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
