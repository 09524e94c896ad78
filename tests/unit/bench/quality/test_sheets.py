"""A sheet shows the places that it names and stays small."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

pytest.importorskip("cv2", reason="sheets are drawn by the training package")
sheets = pytest.importorskip("tests.bench.quality.sheets")

pytestmark = pytest.mark.training


@pytest.mark.parametrize("is_grey", [False, True])
def test_a_sheet_of_nothing_but_noise_is_still_small_enough(tmp_path: Path, *, is_grey: bool) -> None:
    path = tmp_path / "net.png"

    drawn = sheets.write_sheet(path, lambda noisy: noisy, sigma=25, is_grey=is_grey, takes=lambda _: True)

    assert drawn
    assert path.stat().st_size <= sheets.LARGEST_BYTES
    with PillowImage.open(path) as sheet:
        # Four columns, and six rows of crops that are at least 48 pixels, twice as large.
        assert sheet.width > 4 * 96
        assert sheet.height > 6 * 96


def test_a_network_that_takes_no_photograph_has_no_sheet(tmp_path: Path) -> None:
    assert not sheets.write_sheet(
        tmp_path / "net.png", lambda noisy: noisy, sigma=25, is_grey=False, takes=lambda _: False
    )
    assert list(tmp_path.iterdir()) == []


def test_the_crop_lies_where_the_error_is() -> None:
    clean = np.full((400, 400), 100, np.uint8)
    output = clean.copy()
    output[200:260, 310:370] += 10
    error = np.square(output.astype(float) - clean)

    row = sheets.Place("worst", clean, output, clean, error).row(96)

    noisy, answer, truth, residual = row.pictures
    assert noisy.shape == (96, 96, 1)
    assert np.count_nonzero(answer - truth) == 60 * 60
    assert residual.max() == pytest.approx(0.5 + 8 * 10 / 255)
