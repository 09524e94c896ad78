"""Blocks read white noise without bias and leave shading and texture alone; the line finds what it was drawn from."""

import numpy as np
import pytest
from numpy.typing import NDArray

from training.noise.blocks import REPEAT_DEGREES, SINGLE_DEGREES, Blocks, repeat_blocks, single_blocks
from training.noise.line import Bin, binned, fit_line

OPEN = {"lowest": -1.0, "highest": 2.0}


def white(side_px: int = 1024, sigma: float = 0.01, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(0.5, sigma, (side_px, side_px))


def degrees_of(values: NDArray[np.floating]) -> float:
    return float(2 * values.mean() ** 2 / values.var())


def test_single_blocks_of_white_noise_have_its_variance_as_often_as_stated() -> None:
    blocks = single_blocks(white(), **OPEN)
    assert blocks.mean.size == (1024 // 8) ** 2
    assert blocks.variance.mean() == pytest.approx(1e-4, rel=0.01)
    assert blocks.structure.mean() == pytest.approx(1e-4, rel=0.02)
    assert degrees_of(blocks.variance) == pytest.approx(SINGLE_DEGREES, rel=0.03)


def test_structure_and_variance_of_noise_hardly_depend_on_each_other() -> None:
    blocks = single_blocks(white(), **OPEN)
    flat = blocks.where(blocks.structure < np.quantile(blocks.structure, 0.1))
    assert flat.variance.mean() == pytest.approx(1e-4, rel=0.03)


def test_shading_leaves_the_variance_alone_and_texture_does_not_pass_for_flat() -> None:
    rows, columns = np.mgrid[0:512, 0:512] / 512
    shaded = single_blocks(white(512) + 0.4 * rows - 0.2 * columns, **OPEN)
    assert shaded.variance.mean() == pytest.approx(1e-4, rel=0.02)
    assert shaded.structure.mean() == pytest.approx(1e-4, rel=0.03)
    striped = single_blocks(white(512) + 0.1 * np.sin(columns * 512 / 2), **OPEN)
    assert np.quantile(striped.structure, 0.01) > 1.52e-4


def test_blocks_with_clipped_samples_are_left_out() -> None:
    image = np.full((32, 32), 0.5)
    image[3, 3], image[20, 9] = 0.0, 1.0
    assert single_blocks(image, lowest=0.0, highest=1.0).mean.size == 14
    other = np.full((32, 32), 0.5)
    other[30, 30] = 1.0
    assert repeat_blocks(image, other, lowest=0.0, highest=1.0).mean.size == 13


def test_repeats_show_the_noise_whatever_the_scene_and_however_the_lamp_flickers() -> None:
    scene = np.random.default_rng(5).uniform(0.2, 0.8, (512, 512))
    noise = [np.random.default_rng(seed).normal(0, 0.01, scene.shape) for seed in (1, 2)]
    blocks = repeat_blocks(scene + noise[0], 1.02 * scene + noise[1], **OPEN)
    assert blocks.variance.mean() == pytest.approx(1e-4, rel=0.03)
    assert degrees_of(blocks.variance) == pytest.approx(REPEAT_DEGREES, rel=0.1)
    assert blocks.mean.mean() == pytest.approx(0.5, abs=0.01)
    np.testing.assert_array_equal(blocks.structure, 0)


@pytest.mark.parametrize("mean", [0.0, 1e-5, 1e-3])
@pytest.mark.parametrize("seed", range(3))
def test_dark_repeats_are_not_brought_to_one_brightness(mean: float, seed: int) -> None:
    one, other = np.random.default_rng(seed).normal(mean, 0.01, (2, 256, 256))
    assert repeat_blocks(one, other, **OPEN).variance.mean() == pytest.approx(1e-4, rel=0.03)


def test_repeats_of_very_different_brightness_are_brought_together_by_a_factor_of_two_at_most() -> None:
    scene = np.random.default_rng(5).uniform(0.2, 0.8, (256, 256))
    np.testing.assert_allclose(repeat_blocks(scene, scene / 1.9, **OPEN).variance, 0, atol=1e-12)
    apart = repeat_blocks(scene, scene / 8, **OPEN).variance.mean()
    assert apart == pytest.approx(scene.var() * (1 - 2 / 8) ** 2 / 2, rel=0.1)


def test_many_blocks_at_once_are_as_few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    image = white(128)
    whole = single_blocks(image, **OPEN)
    monkeypatch.setattr("training.noise.blocks._MOST_BLOCKS_AT_ONCE", 7)
    for one, other in zip(whole, single_blocks(image, **OPEN), strict=True):
        np.testing.assert_allclose(one, other)


def test_an_image_smaller_than_a_block_has_none() -> None:
    assert single_blocks(white(7), **OPEN).mean.size == 0
    assert Blocks.joined([single_blocks(white(7), **OPEN), single_blocks(white(16), **OPEN)]).mean.size == 4


# The line


def drawn_blocks(
    slope: float, start: float, count: int = 6000, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    mean = rng.uniform(0.05, 0.9, count)
    return mean, (slope * mean + start) * rng.chisquare(SINGLE_DEGREES, count) / SINGLE_DEGREES


def test_bins_hold_all_blocks_and_know_their_errors() -> None:
    bins = binned(*drawn_blocks(0.0, 1e-4), degrees=SINGLE_DEGREES)
    assert sum(each.block_count for each in bins) == 6000
    assert [each.mean for each in bins] == sorted(each.mean for each in bins)
    distances = np.array([(each.variance - 1e-4) / each.error for each in bins])
    assert abs(distances.mean()) < 5 / np.sqrt(len(bins))
    assert np.mean(distances**2) == pytest.approx(1.0, abs=0.5)


@pytest.mark.parametrize(("slope", "start"), [(0.01, 1e-4), (0.01, 0.0), (0.0, 1e-4), (1e-5, 3e-7)])
def test_the_line_is_found_within_its_own_errors(slope: float, start: float) -> None:
    distances = []
    for seed in range(12):
        line = fit_line(binned(*drawn_blocks(slope, start, seed=seed), degrees=SINGLE_DEGREES))
        assert line.slope >= 0
        distances.append(((line.slope - slope) / line.slope_error, (line.start - start) / line.start_error))
    assert np.abs(distances).max() < 4
    assert np.abs(np.mean(distances, axis=0)).max() < 1.2


def test_bins_far_above_the_line_hardly_move_it() -> None:
    bins = binned(*drawn_blocks(0.01, 1e-4), degrees=SINGLE_DEGREES)
    textured = tuple(
        Bin(each.mean, each.variance * (3 if index % 5 == 2 else 1), each.relative_error, 1)
        for index, each in enumerate(bins)
    )
    line = fit_line(textured)
    assert line.slope == pytest.approx(0.01, rel=0.1)


def test_black_below_the_dark_level_leaves_the_slope_alone() -> None:
    mean, variance = drawn_blocks(0.01, 1e-4)
    line = fit_line(binned(mean + 0.2, variance, degrees=SINGLE_DEGREES))
    assert line.slope == pytest.approx(0.01, rel=0.05)
    assert line.start == pytest.approx(1e-4 - 0.01 * 0.2, abs=4 * line.start_error)
    assert line.start < -2 * line.start_error
    np.testing.assert_array_equal(line.at(np.array([0.0, 0.1])), 0)


def test_noise_that_falls_with_the_signal_is_a_constant() -> None:
    mean, variance = drawn_blocks(0.01, 1e-4)
    line = fit_line(binned(1 - mean, variance, degrees=SINGLE_DEGREES))
    assert line.slope == 0
    assert variance.min() < line.start < variance.max()


def test_a_brightness_without_noise_does_not_break_the_line() -> None:
    mean, variance = drawn_blocks(0.0, 1e-4)
    variance[mean < 0.2] = 0
    line = fit_line(binned(mean, variance, degrees=SINGLE_DEGREES))
    assert all(np.isfinite((line.slope, line.start, line.slope_error, line.start_error)))
    silent = fit_line(tuple(Bin(mean, 0.0, 0.1, 30) for mean in (0.2, 0.5, 0.8)))
    assert (silent.slope, silent.start) == (0.0, 0.0)


def test_one_bin_gives_a_constant() -> None:
    line = fit_line((Bin(0.4, 2e-4, 0.05, 50),))
    assert line.slope == 0.0
    assert line.start == pytest.approx(2e-4)
    assert line.start_error == pytest.approx(1e-5)
