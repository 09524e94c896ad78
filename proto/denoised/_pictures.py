"""Image files as arrays, for pages and comparisons. Needs Pillow; what is sent to a server is never decoded here."""

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from denoised._file_header import read_file_header

_AS_THEY_ARE: Final = frozenset({"L", "LA", "RGB", "RGBA", "I;16"})
_HEADER_BYTES: Final = 2**16


def exact_picture(path: Path) -> NDArray[Any]:
    """The samples of a file, or of a ``.npy``: (H, W) or (H, W, C) of uint8, uint16 or float32.

    Raises:
        OSError: it can't be read.
        ValueError: it is of a kind that can't be decoded without loss here.
    """
    if path.suffix.lower() == ".npy":
        return np.asarray(np.load(path, allow_pickle=False))
    with path.open("rb") as file:
        header = read_file_header(file.read(_HEADER_BYTES))
    image = _opened(path)
    if header is not None and header.sample_bits > 8 and image.mode != "I;16":
        raise ValueError(f"{path} has colours of {header.sample_bits} bits, which Pillow cuts to 8; save it as .npy")
    if image.mode not in _AS_THEY_ARE:
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    return np.asarray(image)


def shown_picture(path: Path) -> NDArray[np.uint8]:
    """The picture as a page shows it: (H, W), (H, W, 3) or (H, W, 4) in 8 bits.

    Raises:
        OSError: it can't be read.
        ValueError: it has too many pixels.
    """
    image = _opened(path)
    if image.mode == "I;16":
        return (np.asarray(image) >> 8).astype(np.uint8)
    if image.mode not in ("L", "RGB", "RGBA"):
        image = image.convert("RGBA" if image.mode in ("LA", "PA") or "transparency" in image.info else "RGB")
    return np.asarray(image)


def _opened(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path}: {error}") from error
