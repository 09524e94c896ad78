"""A sheet shows the places that it names and stays small."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PillowImage

pytest.importorskip("cv2", reason="sheets are drawn by the training package")
sheets = pytest.importorskip("tests.bench.quality.sheets")

pytestmark = pytest.mark.training


@pytest.mark.parametrize("is_grey", [False, True])
def test_a_sheet_of_nothing_but_noise_is_still_small_enough(tmp_path: Path, *, is_grey: bool) -> None:
    path = tmp_path / "net.png"

    condition = sheets.Condition("gaussian", 25, is_grey=is_grey)
    drawn = sheets.write_sheet(path, lambda noisy: noisy, condition, takes=lambda _: True)

    assert drawn
    assert path.stat().st_size <= sheets.LARGEST_BYTES
    with PillowImage.open(path) as sheet:
        # Four columns, and six rows of crops that are at least 48 pixels, twice as large.
        assert sheet.width > 4 * 96
        assert sheet.height > 6 * 96


def test_a_network_that_takes_no_photograph_has_no_sheet(tmp_path: Path) -> None:
    assert not sheets.write_sheet(
        tmp_path / "net.png", lambda noisy: noisy, sheets.Condition("photo"), takes=lambda _: False
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


def test_before_and_after_stand_side_by_side(tmp_path: Path) -> None:
    """The answer here is the clean picture, so that both halves are known."""
    astronaut = sheets.photographs(1)[0]
    asked: list[NDArray[np.uint8]] = []

    def answer(noisy: NDArray[np.uint8]) -> NDArray[np.uint8]:
        asked.append(noisy)
        return np.asarray(astronaut.samples, np.uint8)

    sheets.write_before_after(tmp_path / "portrait.png", answer)

    with PillowImage.open(tmp_path / "portrait.png") as image:
        shown = np.asarray(image)
    np.testing.assert_array_equal(asked[0], sheets.Condition("photo").noisy(astronaut))
    np.testing.assert_array_equal(shown[:, :290], asked[0][:256, 100:390])
    assert (shown[:, 290:296] == 255).all()
    np.testing.assert_array_equal(shown[:, 296:], astronaut.samples[:256, 100:390])
