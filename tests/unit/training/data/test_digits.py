"""Digits as folders of PNG files: both sources, the split, and damaged IDX files."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PillowImage

from training.data.digits import Digits, from_idx, from_sklearn, write_digits
from training.errors import DataError


def idx(values: NDArray[np.uint8]) -> bytes:
    header = bytes((0, 0, 8, values.ndim)) + b"".join(int(size).to_bytes(4, "big") for size in values.shape)
    return header + values.tobytes()


def numbered(count: int, first: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Pictures that show their number, with labels 0 to 9 in turn."""
    numbers = np.arange(first, first + count, dtype=np.uint8)
    return np.broadcast_to(numbers[:, None, None], (count, 4, 4)).copy(), numbers % 10


def write_set(folder: Path, name: str, count: int, *, first: int = 0, is_packed: bool = False) -> None:
    for kind, values in zip(("images-idx3", "labels-idx1"), numbered(count, first), strict=True):
        content = idx(values)
        path = folder / f"{name}-{kind}-ubyte{'.gz' if is_packed else ''}"
        path.write_bytes(gzip.compress(content) if is_packed else content)


def numbers(digits: Digits) -> tuple[list[int], list[int]]:
    return digits.train.images[:, 0, 0].tolist(), digits.test.images[:, 0, 0].tolist()


@pytest.mark.parametrize("is_packed", [False, True], ids=["plain", "gzip"])
def test_the_last_tenth_of_a_single_set_is_the_test_set(tmp_path: Path, is_packed: bool) -> None:  # noqa: FBT001 -- a parameter of pytest
    write_set(tmp_path, "t10k", 30, is_packed=is_packed)
    digits = from_idx(tmp_path)
    assert numbers(digits) == (list(range(27)), [27, 28, 29])
    assert digits.test.labels.tolist() == [7, 8, 9]


def test_labels_without_images_are_no_set(tmp_path: Path) -> None:
    write_set(tmp_path, "t10k", 20)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(5, np.uint8)))
    assert [len(part) for part in (from_idx(tmp_path).train, from_idx(tmp_path).test)] == [18, 2]


def test_two_sets_keep_their_parts(tmp_path: Path) -> None:
    write_set(tmp_path, "train", 12)
    write_set(tmp_path, "t10k", 3, first=100)
    assert numbers(from_idx(tmp_path)) == (list(range(12)), [100, 101, 102])


def test_a_folder_without_a_complete_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="0 complete sets"):
        from_idx(tmp_path)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (idx(np.zeros((20, 4, 4), np.uint8))[:-1], "319 values, its header says 320"),
        (idx(np.zeros((20, 4), np.uint8)), "3 dimensions"),
        (b"\x89PNG", "3 dimensions"),
        (b"", "3 dimensions"),
        (gzip.compress(idx(np.zeros((20, 4, 4), np.uint8)))[:-9], "cannot be read"),
        (idx(np.zeros((19, 4, 4), np.uint8)), "20 labels"),
        (idx(np.zeros((20, 4, 5), np.uint8)), "square"),
    ],
    ids=["short", "flat", "no IDX", "empty", "cut gzip", "one image less", "oblong"],
)
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, content: bytes, named: str) -> None:
    write_set(tmp_path, "t10k", 20)
    path = tmp_path / "t10k-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(DataError, match=named) as caught:
        from_idx(tmp_path)
    assert str(path) in str(caught.value)


def test_files_are_named_by_part_label_and_number_and_hold_the_pixels(tmp_path: Path) -> None:
    write_set(tmp_path, "t10k", 30)
    write_digits(from_idx(tmp_path), tmp_path / "png")
    names = sorted(str(path.relative_to(tmp_path / "png")) for path in (tmp_path / "png").rglob("*.png"))
    assert len(names) == 30
    assert names[:2] == ["test/7/00000.png", "test/8/00001.png"]
    assert "train/3/00013.png" in names
    with PillowImage.open(tmp_path / "png" / "train" / "3" / "00013.png") as image:
        assert image.mode == "L"
        assert np.array_equal(np.asarray(image), np.full((4, 4), 13))


def test_a_folder_with_files_is_left_alone(tmp_path: Path) -> None:
    write_set(tmp_path, "t10k", 20)
    with pytest.raises(DataError, match="not empty"):
        write_digits(from_idx(tmp_path), tmp_path)
    assert not (tmp_path / "train").exists()


def test_a_folder_that_can_not_be_made_is_named(tmp_path: Path) -> None:
    write_set(tmp_path, "t10k", 20)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file/below"):
        write_digits(from_idx(tmp_path), tmp_path / "file" / "below")


def test_the_bundled_digits_use_the_whole_range() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn brings these digits; install the training extra")
    digits = from_sklearn()
    assert (len(digits.train), len(digits.test)) == (1618, 179)
    assert digits.train.images.shape == (1618, 8, 8)
    assert (digits.train.images.min(), digits.train.images.max()) == (0, 255)
    assert set(digits.test.labels.tolist()) == set(range(10))
