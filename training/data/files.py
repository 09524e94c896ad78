"""Finds and reads image files."""

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from training.errors import DataError

IMAGE_SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg", ".webp"})


def find_images(folder: Path) -> list[Path]:
    """All image files below a folder, sorted by path.

    Raises:
        DataError: the folder is missing or holds no image.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; name one that holds images")
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
    if not paths:
        raise DataError(f"{folder} holds no images; looked for {', '.join(sorted(IMAGE_SUFFIXES))}")
    return paths


def read_image(path: Path, *, channels: int, min_side_px: int = 1) -> NDArray[np.uint8]:
    """(H, W, channels) uint8.

    Raises:
        DataError: the file can't be decoded, has more than 8 bits a sample, or a side shorter than ``min_side_px``.
    """
    try:
        with PillowImage.open(path) as image:
            if min(image.size) < min_side_px:
                raise DataError(f"{image.width} x {image.height}; at least {min_side_px} pixels a side are needed")
            # A 16-bit colour PNG opens as 8-bit "RGB"; only the decoder's raw mode tells.
            if image.mode.startswith(("I", "F")) or any(";16" in str(tile.args) for tile in image.tile):
                raise DataError(f"{image.mode} samples have more than 8 bits; convert the file to 8 bits")
            return np.atleast_3d(np.asarray(image.convert("RGB" if channels == 3 else "L")))
    except (OSError, SyntaxError, ValueError, PillowImage.DecompressionBombError) as error:
        raise DataError(f"cannot be decoded: {error}") from error
