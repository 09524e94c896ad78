"""Finds image files and opens them by what they hold, whatever their names say.

One file holds one plane or many (TIFF stacks): each plane is an image of its own, read alone. Nothing here decides
which images are used, or what their values mean.
"""

import hashlib
from pathlib import Path
from typing import Final

from training.data.image_file import ImageFile, decoding
from training.data.raster_file import RasterFile
from training.data.samples import Samples, in_channels
from training.data.tiff_file import TiffStack
from training.errors import DataError

IMAGE_SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".btf", ".tf8"})

_TIFF_STARTS: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_CHUNK_BYTES: Final = 1 << 20


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


def open_image(path: Path) -> ImageFile:
    """Reads the header; pixels are decoded by :meth:`ImageFile.read`, plane by plane.

    Raises:
        DataError: the file is empty, of another format, damaged, or of a kind that has no safe reading.
    """
    with decoding():
        with path.open("rb") as file:
            start = file.read(12)
        if not start:
            raise DataError("the file is empty (0 bytes); copy it again or delete it")
        if start.startswith(_TIFF_STARTS):
            return TiffStack(path)
        name = _raster_format(start)
        if name is None:
            raise DataError(
                f"cannot be decoded: it is no PNG, JPEG, WebP or TIFF but starts with {start[:8]!r}; convert it or "
                "delete it"
            )
        return RasterFile(path, name)


def read_image(path: Path, *, channels: int, min_side_px: int = 1) -> Samples:
    """The one image of a file, or the first plane of a stack: (H, W, channels) in the file's own sample type.

    Raises:
        DataError: it can't be read, or a side is shorter than ``min_side_px``.
    """
    with open_image(path) as file:
        samples = file.read(0).samples
    check_side(samples, min_side_px)
    return in_channels(samples, channels)


def check_side(samples: Samples, min_side_px: int) -> None:
    """Raises a DataError for an image with a side shorter than ``min_side_px``."""
    height_px, width_px, _ = samples.shape
    if min(height_px, width_px) < min_side_px:
        raise DataError(
            f"{width_px} x {height_px}; at least {min_side_px} pixels a side are asked for (lower --min-side-px to "
            "keep it)"
        )


def file_sha256(path: Path) -> str:
    """Digest of a file's bytes, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _raster_format(start: bytes) -> str | None:
    """Pillow's name of the format that a file starts like."""
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if start.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    return "WEBP" if start[:4] == b"RIFF" and start[8:12] == b"WEBP" else None
