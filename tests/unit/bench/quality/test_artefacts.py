"""Each check finds its own fault, by the right amount, and nothing in noise."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from denoised.noise import benchmark_noisy
from service.tiling import plan
from tests.bench.networks import S_FOLDER, Network
from tests.bench.quality.artefacts import (
    GRID_PERIODS_PX,
    Artefacts,
    border_error_ratio,
    border_mask,
    channel_shifts,
    check,
    grid_excess,
)
from tests.bench.quality.images import Samples


def noise(*shape: int, seed: int = 1) -> NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal(shape) * 5


@pytest.mark.parametrize("period", GRID_PERIODS_PX)
def test_noise_has_no_grid(period: int) -> None:
    assert grid_excess([noise(512, 512, 3)], period) == pytest.approx(1.0, abs=0.25)


@pytest.mark.parametrize("period", GRID_PERIODS_PX)
@pytest.mark.parametrize("axis", [0, 1])
def test_a_faint_grid_is_found_at_its_period_and_at_no_longer_one(period: int, axis: int) -> None:
    residual = noise(512, 512)
    wave = np.cos(2 * np.pi * np.arange(512) / period)
    residual += wave[:, np.newaxis] if axis == 0 else wave[np.newaxis]

    assert grid_excess([residual], period) > 5
    for other in GRID_PERIODS_PX:
        if other != period:
            assert grid_excess([residual], other) < 2


def test_residuals_smaller_than_a_window_say_nothing() -> None:
    assert grid_excess([noise(40, 40)], 2) == 1.0


def test_channel_shifts_are_signed_means() -> None:
    clean = np.full((8, 8, 3), 100, np.uint8)
    answer = clean.copy()
    answer[:, :, 0] += 2
    answer[:4, :, 2] -= 6

    assert channel_shifts(answer, clean).tolist() == [2.0, 0.0, -3.0]


def test_the_border_mask_covers_both_sides_of_every_border_and_nothing_else() -> None:
    tile_plan = plan(height_px=64, width_px=200, edges_px=(64, 128), halo_px=16, multiple_px=8)
    starts = [tile_plan.columns.span(index).keep_px for index in range(1, tile_plan.columns.span_count)]
    assert tile_plan.rows.span_count == 1
    assert starts

    mask = border_mask(tile_plan, distance_px=2)

    assert mask.shape == (64, 200)
    assert set(np.flatnonzero(mask[0])) == {start + offset for start in starts for offset in (-2, -1, 0, 1)}
    assert np.array_equal(mask, np.broadcast_to(mask[0], mask.shape))


def test_a_seam_counts_and_content_at_the_border_does_not() -> None:
    mask = np.zeros((10, 10), bool)
    mask[:, 4:6] = True
    content = np.where(mask, 8.0, 2.0)

    assert border_error_ratio(content, content, mask) == 1.0
    assert border_error_ratio(np.where(mask, 24.0, 2.0), content, mask) == pytest.approx(3.0)
    assert border_error_ratio(content, content, np.zeros((10, 10), bool)) == 1.0


def _checked(served: Callable[[Samples], Samples]) -> Artefacts:
    path: Path = next(S_FOLDER.glob("*/model.onnx"))
    clean = np.full((200, 200), 90, np.uint8)
    pair = (served(benchmark_noisy(clean, sigma=25, index=0)), clean)
    return check(
        "s",
        [pair],
        sigma=25,
        contract=Network(path).contract,
        served=served,
        untiled=lambda noisy: noisy,
    )


def test_an_answer_that_is_the_input_leaves_all_noise_in_constant_pictures() -> None:
    found = _checked(lambda noisy: noisy)

    by_colour = {each.colour: each for each in found.constants}
    assert by_colour["grey"].deviation_levels == pytest.approx(25, rel=0.02)
    assert by_colour["grey"].mean_shift_levels == pytest.approx(0, abs=0.5)
    # Half of the noise is clipped away: the mean of what is left is sigma / sqrt(2 pi).
    assert by_colour["black"].mean_shift_levels == pytest.approx(25 / np.sqrt(2 * np.pi), rel=0.03)
    assert by_colour["white"].mean_shift_levels == pytest.approx(-25 / np.sqrt(2 * np.pi), rel=0.03)
    assert {each.clean_most_levels for each in found.constants} == {0}
    assert found.seams is not None
    assert found.seams.most_levels == 0
    assert found.seams.tile_count > 1


def test_a_brighter_answer_is_a_cast() -> None:
    found = _checked(lambda noisy: np.minimum(noisy, 252).astype(np.uint8) + np.uint8(3))

    (shift,) = found.cast_levels
    assert shift == pytest.approx(3, abs=0.5)
    assert found.seams is not None
    assert found.seams.most_levels == 3
