"""What lanes put aside tile by tile is what the whole image would have given."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from denoised.statistics import sample_blocks
from service import tiling
from service.report.samples import ReportSamples

HALO_PX = 8


def plan_of(height_px: int, width_px: int) -> tiling.TilePlan:
    return tiling.plan(height_px=height_px, width_px=width_px, edges_px=(32, 64, 96), halo_px=HALO_PX, multiple_px=4)


def tiled(image: np.ndarray, samples: ReportSamples, order: list[int] | None = None) -> None:
    """The image, (H, W, C), through all its tiles; what lies beyond it is made of other numbers."""
    plan = plan_of(*image.shape[:2])
    for index in order or range(plan.tile_count):
        row, column = plan.tile(index)
        unit = np.full((image.shape[2], plan.rows.edge_px, plan.columns.edge_px), 7.0, np.float32)
        part = image[row.read_px :, column.read_px :][: plan.rows.edge_px, : plan.columns.edge_px]
        unit[:, : part.shape[0], : part.shape[1]] = part.transpose(2, 0, 1)
        # Beside the pixels that the tile owns its answer is wrong.
        answer = np.full_like(unit, -1.0)
        rows, columns = tiling.kept(plan, index)
        answer[:, rows, columns] = unit[:, rows, columns] * 0.5
        samples.take(plan, index, unit, answer)


@settings(max_examples=25)
@given(
    height_px=st.integers(1, 300),
    width_px=st.integers(1, 300),
    channels=st.sampled_from([1, 3]),
    seed=st.integers(0, 9),
)
def test_blocks_are_those_of_the_whole_image(height_px: int, width_px: int, channels: int, seed: int) -> None:
    image = np.random.default_rng(seed).random((height_px, width_px, channels), np.float32)
    samples = ReportSamples(height_px=height_px, width_px=width_px, channels=channels, middle_px=None)
    order = list(np.random.default_rng(seed).permutation(plan_of(height_px, width_px).tile_count))
    tiled(image, samples, order)
    assert np.array_equal(samples.noisy, sample_blocks(image))
    assert np.array_equal(samples.denoised, sample_blocks(image * np.float32(0.5)))
    assert samples.middle is None


@pytest.mark.parametrize(
    ("shape", "middle_px"), [((150, 170, 3), (64, 64)), ((40, 200, 1), (40, 100)), ((5, 6, 3), (5, 6))]
)
def test_the_middle_is_whole_where_it_is_asked_for(shape: tuple[int, int, int], middle_px: tuple[int, int]) -> None:
    image = np.random.default_rng(1).random(shape, np.float32)
    samples = ReportSamples(height_px=shape[0], width_px=shape[1], channels=shape[2], middle_px=middle_px)
    tiled(image, samples)
    top, left = ((side - part) // 2 for side, part in zip(shape[:2], middle_px, strict=True))
    expected = image[top : top + middle_px[0], left : left + middle_px[1]].transpose(2, 0, 1)
    assert samples.middle is not None
    assert np.array_equal(samples.middle, expected)


@pytest.mark.parametrize("middle_px", [None, (64, 64)])
def test_the_ledger_knows_what_it_takes(middle_px: tuple[int, int] | None) -> None:
    samples = ReportSamples(height_px=400, width_px=500, channels=3, middle_px=middle_px)
    taken = samples.noisy.nbytes + samples.denoised.nbytes + (0 if samples.middle is None else samples.middle.nbytes)
    assert taken <= ReportSamples.held_bytes(400 * 500, 3, middle_px=middle_px)
    assert ReportSamples.held_bytes(10**8, 3, middle_px=middle_px) <= 2 * 131_072 * 4 + 6 * 3 * 64 * 64 * 4
