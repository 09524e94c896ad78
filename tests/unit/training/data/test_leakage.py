"""Test images in disguise are found in the training set, and different pictures are never taken for one another."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("cv2")
pytest.importorskip("skimage.data")

from numpy.typing import NDArray
from PIL import Image as PillowImage
from skimage import data as skimage_data

from training.data.leakage import Picture, find_overlaps

pytestmark = [pytest.mark.training, pytest.mark.slow]

Image = NDArray[Any]

PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "rocket", "camera")


def photograph(name: str) -> Image:
    return np.atleast_3d(getattr(skimage_data, name)())


def picture(name: str, samples: Image) -> Picture:
    return Picture(name, lambda: samples)


def jpeg(image: Image, quality: int = 50) -> Image:
    file = io.BytesIO()
    PillowImage.fromarray(image.squeeze()).save(file, "JPEG", quality=quality)
    return np.atleast_3d(np.asarray(PillowImage.open(file)))


def resized(image: Image, factor: float) -> Image:
    height_px, width_px, _ = image.shape
    size = (round(width_px * factor), round(height_px * factor))
    return np.atleast_3d(
        np.asarray(PillowImage.fromarray(image.squeeze()).resize(size, PillowImage.Resampling.LANCZOS))
    )


def quarter(image: Image, corner: int) -> Image:
    """A quarter of the area: half of each side, from a corner or, at 4, from the middle."""
    height_px, width_px = (-(-side // 2) for side in image.shape[:2])
    rows, columns = ((0, 0), (0, 1), (1, 0), (1, 1), (0.5, 0.5))[corner]
    top, left = int(rows * (image.shape[0] - height_px)), int(columns * (image.shape[1] - width_px))
    return image[top : top + height_px, left : left + width_px]


DISGUISES: dict[str, Callable[[Image], Image]] = {
    "itself": lambda image: image,
    "recompressed": jpeg,
    "half the size": lambda image: resized(image, 0.5),
    "a quarter of the size": lambda image: resized(image, 0.25),
    "twice the size": lambda image: resized(image, 2.0),
    "grey": lambda image: np.repeat(image.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2),
    "16 bits": lambda image: image.astype(np.uint16) * np.uint16(16) + np.uint16(500),
    "floats": lambda image: image.astype(np.float32) / np.float32(255),
    **{f"crop {corner}": lambda image, corner=corner: quarter(image, corner) for corner in range(5)},  # type: ignore[misc]
    "crop, smaller": lambda image: resized(quarter(image, 4), 0.5),
    "crop, larger": lambda image: resized(quarter(image, 4), 1.5),
    "crop, smaller, recompressed": lambda image: jpeg(resized(quarter(image, 0), 0.7), 60),
}


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_every_disguise_is_found_either_way_round(name: str) -> None:
    original = photograph(name)
    disguised = [picture(how, disguise(original)) for how, disguise in DISGUISES.items()]
    others = [picture(other, photograph(other)) for other in PHOTOGRAPHS if other != name]
    found = find_overlaps([*others, picture(name, original)], disguised)
    assert [overlap.test_file for overlap in found] == list(DISGUISES)
    assert {overlap.file for overlap in found} == {name}
    # A training image that is a part of a test image is as bad.
    found = find_overlaps(disguised[-4:], [picture(name, original)])
    assert [overlap.test_file for overlap in found] == [name]


def test_an_overlap_is_told_in_words() -> None:
    coffee = photograph("coffee")
    test = [
        picture("same", jpeg(coffee)),
        picture("small", resized(coffee, 0.5)),
        picture("crop", quarter(coffee, 1)),
        picture("beside", coffee[:, 200:]),
    ]
    words = {overlap.test_file: overlap.how for overlap in find_overlaps([picture("coffee", coffee)], test)}
    assert words["same"] == "a copy of"
    assert words["small"] == "a copy at 0.50 times its size of"
    assert words["crop"] == "a crop (25% of the area) of"
    (whole,) = find_overlaps([picture("part", quarter(coffee, 1))], [picture("coffee", coffee)])
    assert whole.how == "contains"
    (shared,) = find_overlaps([picture("left", coffee[:, :400])], [picture("right", coffee[:, 200:])])
    assert shared.how == "shares 50% of its area with"


def test_different_photographs_are_not_taken_for_one_another() -> None:
    names = ("astronaut", "coffee", "chelsea", "rocket", "camera", "coins", "page", "text", "moon")
    for index, name in enumerate(names):
        others = [picture(other, photograph(other)) for other in names[index + 1 :]]
        assert find_overlaps([picture(name, photograph(name))], others) == ()


def test_halves_that_share_nothing_are_two_pictures() -> None:
    chelsea = photograph("chelsea")
    assert find_overlaps([picture("left", chelsea[:, :220])], [picture("right", chelsea[:, 230:])]) == ()


def test_pictures_without_structure_are_never_alike() -> None:
    rng = np.random.default_rng(0)
    flat = [picture(f"flat {level}", np.full((300, 300, 1), level, np.uint8)) for level in (0, 0, 255)]
    noise = [picture(f"noise {i}", rng.integers(0, 256, (300, 300, 1), dtype=np.uint8)) for i in range(2)]
    ramps = [
        picture(f"ramp {i}", np.tile(np.linspace(0, 200 + i, 300).astype(np.uint8), (300, 1))[:, :, None])
        for i in range(2)
    ]
    assert find_overlaps([flat[0], noise[0], ramps[0]], [*flat[1:], noise[1], ramps[1]]) == ()


def test_exact_copies_are_found_whatever_they_show() -> None:
    rng = np.random.default_rng(0)
    ramp = np.tile(np.linspace(0, 200, 300).astype(np.uint8), (300, 1))[:, :, None]
    sparse = [rng.poisson(3, (300, 300, 1)).astype(np.uint8) for _ in range(3)]
    packed = [picture("ramp", ramp), *(picture(f"sparse {index}", image) for index, image in enumerate(sparse))]
    test = [picture("turned", ramp[:, ::-1]), picture("counts", sparse[2]), picture("slope", ramp)]
    found = [(overlap.test_file, overlap.file, overlap.how) for overlap in find_overlaps(packed, test)]
    assert found == [("counts", "sparse 2", "a copy of"), ("slope", "ramp", "a copy of")]


def to_side(image: Image, side_px: int) -> Image:
    return resized(image, side_px / max(image.shape[:2]))


@pytest.mark.parametrize("side_px", [40, 32, 24])
def test_tiny_copies_of_large_pictures_are_found_either_way_round(side_px: int) -> None:
    large = [picture(name, photograph(name)) for name in PHOTOGRAPHS]
    tiny = [picture(name, to_side(photograph(name), side_px)) for name in PHOTOGRAPHS]
    for packed, test in ((large, tiny), (tiny, large)):
        found = find_overlaps(packed, test)
        assert [(overlap.test_file, overlap.file) for overlap in found] == [(name, name) for name in PHOTOGRAPHS]
    (small,) = find_overlaps(large[:1], tiny[:1])
    assert small.how == f"a copy at {side_px / 512:.2f} times its size of"


def test_tiny_pictures_are_not_taken_for_large_ones_of_something_else() -> None:
    names = ("coins", "page", "text", "moon", "clock")
    tiny = [picture(name, to_side(photograph(name), 40)) for name in names]
    assert find_overlaps([picture(name, photograph(name)) for name in PHOTOGRAPHS], tiny) == ()


def test_of_digits_copies_are_found_and_no_others() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    images = (datasets.load_digits().images * 15.9).astype(np.uint8)[:, :, :, np.newaxis]
    # One pair of the 1,797 drawings is nearly the same one.
    digits = [picture(str(index), image) for index, image in enumerate(images[:600])]
    copies = [picture(f"copy of {index}", images[index]) for index in (7, 300)]
    fresh = [picture(str(index), images[index]) for index in range(600, 900)]
    found = find_overlaps(digits, [*copies, *fresh])
    assert {(overlap.test_file, overlap.file, overlap.how) for overlap in found} == {
        ("copy of 7", "7", "a copy of"),
        ("copy of 300", "300", "a copy of"),
    }


def test_progress_is_told_and_nothing_to_compare_with_is_no_overlap() -> None:
    seen: list[str] = []
    packed = [picture(name, photograph(name)[::4, ::4]) for name in ("coffee", "rocket")]
    find_overlaps(packed, [picture("chelsea", photograph("chelsea")[::4, ::4])], seen.append)
    assert seen == ["coffee", "rocket"]
    assert find_overlaps(packed, []) == ()
