"""Handwritten digits as folders of PNG files: the field's first example, in the form in which people have their images.

Two sources: scikit-learn's bundled digits (8 x 8 pixels, no download), and the IDX files that MNIST and its relatives
come in (28 x 28). Labels become folder names; nothing else here is special to digits.
"""

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from training.errors import DataError

# The share of a source without a test set of its own that becomes one: its last images.
_TEST_ONE_IN: Final = 10
_IDX_UNSIGNED_BYTE: Final = 0x08
_SKLEARN_WHITE: Final = 16


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """Images (N, side, side) uint8 with their labels (N,)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True, eq=False)
class Digits:
    """What one trains on, and what one reports on."""

    train: Labelled
    test: Labelled


def from_sklearn() -> Digits:
    """The 1,797 digits of scikit-learn; the last tenth is the test set."""
    from sklearn.datasets import load_digits

    bundled = load_digits()
    images = np.rint(bundled.images * (255 / _SKLEARN_WHITE)).astype(np.uint8)
    return _last_tenth_apart(Labelled(images, bundled.target.astype(np.uint8)))


def from_idx(folder: Path) -> Digits:
    """Sets of IDX files, plain or gzip: ``NAME-images-idx3-ubyte`` beside ``NAME-labels-idx1-ubyte``.

    Where ``train`` and ``t10k`` are both complete they keep their parts; of a single set the last tenth becomes the
    test set.

    Raises:
        DataError: no set is complete, or a file is damaged.
    """
    sets = {}
    for images in sorted(folder.glob("*-images-idx3-ubyte*")):
        name = images.name.split("-", 1)[0]
        labels = next(iter(sorted(folder.glob(f"{name}-labels-idx1-ubyte*"))), None)
        if labels is not None:
            sets[name] = _read_set(images, labels)
    if {"train", "t10k"} <= sets.keys():
        return Digits(sets["train"], sets["t10k"])
    if len(sets) != 1:
        raise DataError(
            f"{folder} holds {len(sets)} complete sets of IDX files; needed is one, or train and t10k: "
            "NAME-images-idx3-ubyte beside NAME-labels-idx1-ubyte, plain or .gz"
        )
    return _last_tenth_apart(next(iter(sets.values())))


def write_digits(digits: Digits, folder: Path) -> None:
    """Writes ``train/LABEL/NUMBER.png`` and ``test/LABEL/NUMBER.png``.

    Raises:
        DataError: the folder has files already, or can't be written.
    """
    try:
        if folder.exists() and any(folder.iterdir()):
            raise DataError(f"{folder} is not empty; name a new folder, so that no digit of another set is left in it")
        for part, labelled in (("train", digits.train), ("test", digits.test)):
            for label in np.unique(labelled.labels):
                (folder / part / str(label)).mkdir(parents=True)
            for number, (image, label) in enumerate(zip(labelled.images, labelled.labels, strict=True)):
                PillowImage.fromarray(image).save(folder / part / str(label) / f"{number:05d}.png")
    except OSError as error:
        raise DataError(f"cannot write digits into {folder}: {error}") from error


def _last_tenth_apart(labelled: Labelled) -> Digits:
    first = len(labelled) - len(labelled) // _TEST_ONE_IN
    return Digits(
        Labelled(labelled.images[:first], labelled.labels[:first]),
        Labelled(labelled.images[first:], labelled.labels[first:]),
    )


def _read_set(images_path: Path, labels_path: Path) -> Labelled:
    images, labels = _read_idx(images_path, dimensions=3), _read_idx(labels_path, dimensions=1)
    if len(images) != len(labels) or images.shape[1] != images.shape[2]:
        raise DataError(
            f"{images_path} holds images of shape {images.shape} and {labels_path} {len(labels)} labels; needed are "
            "square images and as many labels"
        )
    return Labelled(images, labels)


def _read_idx(path: Path, *, dimensions: int) -> NDArray[np.uint8]:
    """An IDX file: two zero bytes, the type, the number of dimensions, their sizes (big-endian), the values."""
    try:
        content = path.read_bytes()
        if content.startswith(b"\x1f\x8b"):
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}; fetch it again") from error
    expected_start = bytes((0, 0, _IDX_UNSIGNED_BYTE, dimensions))
    header_bytes = 4 + 4 * dimensions
    if not content.startswith(expected_start) or len(content) < header_bytes:
        raise DataError(
            f"{path} starts with {content[:4]!r}; an IDX file of bytes in {dimensions} dimensions starts with "
            f"{expected_start!r}"
        )
    shape = np.frombuffer(content, dtype=">u4", count=dimensions, offset=4).astype(np.int64)
    values = np.frombuffer(content, dtype=np.uint8, offset=header_bytes)
    if values.size != shape.prod():
        raise DataError(f"{path} has {values.size} values, its header says {shape.prod()}; fetch it again")
    return values.reshape(shape)
