"""Finds image files and opens them by what they hold, whatever their names say.

One file holds one plane or many (TIFF stacks): each plane is an image of its own, read alone. Nothing here decides
which images are used, or what their values mean.
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from training.data.image_file import ImageFile, decoding
from training.data.raster_file import RasterFile
from training.data.samples import Samples
from training.data.tiff_file import TiffStack
from training.errors import DataError

IMAGE_SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".btf", ".tf8"})

_TIFF_STARTS: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_CHUNK_BYTES: Final = 1 << 20


def find_images(folder: Path) -> list[Path]:
    """All image files below a folder and the folders that it links to, each folder once, sorted by path.

    Links to nothing are among them, so that whoever opens one says what is missing.

    Raises:
        DataError: the folder is missing, holds no image, or has a folder in it that can't be listed.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; name one that holds images")
    paths = sorted(path for path in _files_below(folder) if path.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        raise DataError(f"{folder} holds no images; looked for {', '.join(sorted(IMAGE_SUFFIXES))}")
    return paths


def name_in(folder: Path, path: Path) -> str:
    """A file's name relative to a folder, as text: bytes that are no UTF-8 are spelt out."""
    return as_text(path.relative_to(folder).as_posix())


def as_text(name: str) -> str:
    """What can be written and printed: bytes of a file's name that are no UTF-8 are spelt out."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def is_utf8(path: Path) -> bool:
    """Whether a path can be written down as text and read again."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def open_image(path: Path) -> ImageFile:
    """Reads the header; pixels are decoded by :meth:`ImageFile.read`, plane by plane.

    Raises:
        DataError: the file is empty, of another format, damaged, or of a kind that has no safe reading.
    """
    with decoding():
        if not path.exists():
            raise DataError("no such file, or a link that leads nowhere; mend the link or delete it")
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


def _files_below(folder: Path) -> Iterator[Path]:
    """Files and links to nothing; a folder that is reached a second time, by a link, is not entered again."""

    def refuse(error: OSError) -> None:
        raise DataError(f"{folder} cannot be searched: {error}; make all folders in it readable") from error

    visited: set[tuple[int, int]] = set()
    for place, folder_names, file_names in os.walk(folder, followlinks=True, onerror=refuse):
        status = Path(place).stat()
        if (status.st_dev, status.st_ino) in visited:
            folder_names.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        # Folders come before links to them, and in one order on every machine.
        folder_names.sort(key=lambda name: (Path(place, name).is_symlink(), name))
        for path in (Path(place, name) for name in file_names):
            if path.is_file() or not path.exists():
                yield path


def _raster_format(start: bytes) -> str | None:
    """Pillow's name of the format that a file starts like."""
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if start.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    return "WEBP" if start[:4] == b"RIFF" and start[8:12] == b"WEBP" else None
