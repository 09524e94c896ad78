"""Which images are measured, in which order, and what their grey versions are."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from tests.bench.quality.images import CleanImage, grey_of, image_sets, photographs


def save(folder: Path, name: str, level: int, mode: str = "RGB") -> None:
    PillowImage.new(mode, (12, 11), level if mode == "L" else (level, level, level)).save(folder / name)


def test_a_folder_is_read_in_order_of_names_from_its_front(tmp_path: Path) -> None:
    save(tmp_path, "b.png", 20)
    save(tmp_path, "a.PNG", 10)
    save(tmp_path, "c.png", 30)
    (tmp_path / "notes.txt").write_text("no image", encoding="utf-8")

    (found,) = image_sets([tmp_path], 2)

    assert found.name == tmp_path.name
    assert [(i.name, i.index, int(i.samples.max())) for i in found.images] == [("a.PNG", 0, 10), ("b.png", 1, 20)]


def test_grey_files_stay_grey_and_all_others_become_colour(tmp_path: Path) -> None:
    save(tmp_path, "a.png", 10, mode="L")
    PillowImage.new("RGBA", (12, 11), (1, 2, 3, 4)).save(tmp_path / "b.png")

    (found,) = image_sets([tmp_path], None)

    assert [image.samples.shape for image in found.images] == [(11, 12), (11, 12, 3)]


def test_a_folder_without_images_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=str(tmp_path)):
        list(image_sets([tmp_path], None))


def test_an_image_that_is_too_small_is_named(tmp_path: Path) -> None:
    PillowImage.new("L", (10, 40)).save(tmp_path / "icon.png")

    with pytest.raises(SystemExit, match=r"icon\.png is 10 x 40"):
        list(image_sets([tmp_path], None))


def test_grey_of_a_grey_colour_is_itself() -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)

    assert np.array_equal(grey_of(np.repeat(grey[:, :, np.newaxis], 3, axis=2)), grey)
    assert CleanImage("grey", 0, grey).grey().samples is grey


def test_the_photographs_are_those_of_everybody() -> None:
    names = [image.name for image in photographs()]

    assert names == sorted(names)
    assert [image.name for image in photographs(2)] == names[:2]
