"""Sheets of pictures: what is pasted is what was given."""

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PillowImage

from training.evaluation.grids import (
    CELL_PX,
    Row,
    crop_window,
    draw_sheet,
    draw_tiles,
    residual_picture,
    to_png,
)


def picture(seed: int, shape: tuple[int, int, int]) -> NDArray[np.float32]:
    levels = np.random.default_rng(seed).integers(0, 256, shape)
    return (levels / 255).astype(np.float32)


def contains(sheet: NDArray[np.uint8], wanted: NDArray[np.uint8]) -> bool:
    """Whether a block of the sheet is the picture, exactly."""
    windows = np.lib.stride_tricks.sliding_window_view(sheet[:, :, 0], wanted.shape[:2])
    return bool((windows == wanted[:, :, 0]).all(axis=(2, 3)).any())


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_enlarged_by_whole_factors_without_smoothing(channels: int) -> None:
    own = picture(1, (8, 8, channels))
    sheet = np.asarray(draw_sheet(["a"], [Row([own], "caption")], cell_px=32))
    enlarged = np.rint(own * 255).astype(np.uint8).repeat(4, axis=0).repeat(4, axis=1)
    assert contains(sheet, enlarged)


def test_large_pictures_are_cut_to_their_middle_never_scaled() -> None:
    own = picture(2, (60, 50, 3))
    sheet = np.asarray(draw_sheet([], [Row([own], "")], cell_px=40))
    assert contains(sheet, np.rint(own * 255).astype(np.uint8)[10:50, 5:45])


def test_the_residual_is_grey_where_nothing_differs() -> None:
    own = picture(3, (5, 5, 1))
    assert (residual_picture(own, own) == 0.5).all()
    assert residual_picture(own + np.float32(0.01), own)[0, 0, 0] == pytest.approx(0.58, abs=1e-5)


def test_the_crop_lies_where_the_score_is_highest() -> None:
    score = np.zeros((600, 500), dtype=np.float32)
    score[400:420, 300:320] = 1
    rows, columns = crop_window(600, 500, score)
    assert rows.stop - rows.start == columns.stop - columns.start == CELL_PX
    assert rows.start <= 400
    assert rows.stop >= 420
    assert columns.start <= 300
    assert columns.stop >= 320
    assert crop_window(10, 20) == (slice(0, 10), slice(0, 20))


def test_tiles_stand_row_by_row() -> None:
    dark, light = np.zeros((2, 4, 4, 1), dtype=np.float32)
    light = light + np.float32(1)
    sheet = np.asarray(draw_tiles([dark, light, light, dark], columns=2, cell_px=20))
    middle = sheet.shape[0] // 2, sheet.shape[1] // 2
    corners = [sheet[y, x, 0] for y in (middle[0] - 15, middle[0] + 10) for x in (middle[1] - 15, middle[1] + 15)]
    assert corners == [0, 255, 255, 0]


def test_long_captions_are_cut_to_the_sheet() -> None:
    sheet = draw_sheet(["x" * 500], [Row([picture(4, (8, 8, 1))], "folder/" * 100)], cell_px=64)
    assert sheet.width == 64 + 28


def test_png_bytes_decode_to_the_sheet() -> None:
    sheet = draw_tiles([picture(5, (8, 8, 3))], columns=1, cell_px=72)
    decoded = PillowImage.open(io.BytesIO(to_png(sheet)))
    np.testing.assert_array_equal(np.asarray(decoded), np.asarray(sheet))
