"""Where evaluation images come from: folders beside the checkout, folders that are named, scikit-image's photographs.

An image's place in the sorted list of its set decides its noise, so a set is read from its front and never shuffled.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import skimage.data
from numpy.typing import NDArray
from PIL import Image as PillowImage

from denoised.noise import LUMA
from denoised.quality import SSIM_SMALLEST_SIDE_PX

Samples = NDArray[np.uint8]

KODAK: Final = "kodak24_500"
SCIKIT_IMAGE: Final = "scikit-image"
_PHOTOGRAPHS: Final = ("astronaut", "camera", "chelsea", "coffee", "rocket")
# Evaluation photographs that may lie beside the checkout; never part of it.
_BESIDE: Final = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "val" / KODAK
_SUFFIXES: Final = {".png", ".jpg", ".jpeg", ".webp"}


@dataclass(frozen=True, slots=True)
class CleanImage:
    """A picture without noise.

    Attributes:
        name: of the file.
        index: place in its set; it decides the noise.
        samples: (H, W) or (H, W, 3) uint8.
    """

    name: str
    index: int
    samples: Samples

    @property
    def is_colour(self) -> bool:
        return self.samples.ndim == 3

    @property
    def megapixels(self) -> float:
        return float(self.samples.shape[0] * self.samples.shape[1]) / 1e6

    def grey(self) -> "CleanImage":
        """The same picture as (H, W) luma, rounded to 8 bit."""
        return CleanImage(self.name, self.index, grey_of(self.samples)) if self.is_colour else self


@dataclass(frozen=True, slots=True)
class ImageSet:
    """Images that share a table."""

    name: str
    images: tuple[CleanImage, ...]


def grey_of(samples: Samples) -> Samples:
    """(H, W) luma of (H, W, 3) samples, rounded to 8 bit."""
    grey: Samples = np.rint(samples @ LUMA).astype(np.uint8)
    return grey


def image_sets(folders: list[Path] | None, count: int | None) -> Iterator[ImageSet]:
    """The sets of a run, one after the other.

    Args:
        folders: of clean 8-bit images; None means the Kodak photographs where they lie beside the checkout, and
            scikit-image's.
        count: only so many images of each set, from its front; None means all.

    Raises:
        SystemExit: a folder holds no images, or one that is too small for SSIM.
    """
    for folder in folders if folders is not None else [_BESIDE] if _BESIDE.is_dir() else []:
        yield ImageSet(folder.resolve().name, tuple(_from_folder(folder, count)))
    if folders is None:
        yield ImageSet(SCIKIT_IMAGE, photographs(count))


def photographs(count: int | None = None) -> tuple[CleanImage, ...]:
    """scikit-image's photographs: everybody has them, and pictures of them may be shown."""
    return tuple(_built_in(name, index) for index, name in enumerate(_PHOTOGRAPHS[:count]))


def printed_page() -> CleanImage:
    """scikit-image's scan of a page, with noise of its own."""
    return _built_in("page", len(_PHOTOGRAPHS))


def _built_in(name: str, index: int) -> CleanImage:
    return CleanImage(name, index, getattr(skimage.data, name)())


def _from_folder(folder: Path, count: int | None) -> Iterator[CleanImage]:
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in _SUFFIXES) if folder.is_dir() else []
    if not paths:
        raise SystemExit(f"{folder} holds no images; name a folder with PNG, JPEG or WebP files")
    for index, path in enumerate(paths[:count]):
        with PillowImage.open(path) as image:
            if min(image.size) < SSIM_SMALLEST_SIDE_PX:
                raise SystemExit(
                    f"{path} is {image.width} x {image.height}; SSIM needs {SSIM_SMALLEST_SIDE_PX} pixels a side"
                )
            yield CleanImage(path.name, index, np.asarray(image if image.mode == "L" else image.convert("RGB")))
