"""The demo's photographs: noisy files with a known original, or a folder of the user's own; and their measures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from denoised import CleanResult
from denoised.noise import NoiseSpec, keyed_rng
from denoised.quality import psnr_db, ssim
from denoised.report import Figures, ReportEntry
from service import codec
from service.types import Container, Image, Samples

_SEED: Final = 20_040_413
_JPEG_QUALITY: Final = 95
_SUFFIXES: Final = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True, slots=True)
class _Recipe:
    """How a noisy file is made of a photograph in ``skimage.data``; sigma is in 8-bit levels."""

    photograph: str
    sigma: float
    container: Container = Container.PNG
    bits: int = 8
    detail: str = ""
    top_left_px: tuple[int, int] = (0, 0)


# All of them are inside scikit-image's wheel: nothing is downloaded.
_SHIPPED: Final = (
    _Recipe("astronaut", 25.0),
    _Recipe("coffee", 50.0),
    _Recipe("chelsea", 15.0, bits=16),
    _Recipe("camera", 25.0),
    _Recipe("rocket", 15.0, Container.JPEG),
    _Recipe("astronaut", 25.0, detail="face", top_left_px=(20, 100)),
    _Recipe("coffee", 25.0, detail="cup", top_left_px=(90, 250)),
    _Recipe("chelsea", 50.0, detail="eyes", top_left_px=(20, 110)),
)
_DETAIL_SIDE_PX: Final = 256


class NoPicturesError(Exception):
    """There is nothing to show; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A noisy image file, and what is known about it.

    Attributes:
        file: the bytes, or where they are.
        original: (H, W) or (H, W, 3) clean samples of the file's type; None when nobody knows them.
        sigma_added: in 8-bit levels.
        is_detail: one of many small pictures of one size, which are sent by stream and share batches.
    """

    name: str
    file: bytes | Path
    original: Samples | None = None
    sigma_added: float | None = None
    is_detail: bool = False


def shipped_pictures() -> list[Picture]:
    """Photographs with noise added to them, the same at every call.

    Raises:
        NoPicturesError: scikit-image, which they are part of, is not installed.
    """
    try:
        from skimage import data
    except ImportError as error:
        raise NoPicturesError(
            "the demo's photographs come with scikit-image, which is not installed: install the extra 'demo', "
            "or name a folder of your own with --images"
        ) from error
    return [_noisy(recipe, getattr(data, recipe.photograph)(), key=index) for index, recipe in enumerate(_SHIPPED)]


def own_pictures(folder: Path, *, limit: int) -> list[Picture]:
    """The first PNG and JPEG files in a folder, by name, taken as they are.

    Raises:
        NoPicturesError: it holds none.
    """
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)
    if not paths:
        raise NoPicturesError(f"{folder} holds no PNG or JPEG files ({', '.join(_SUFFIXES)}): name another folder")
    return [Picture(path.name, path) for path in paths[:limit]]


def entry_of(picture: Picture, results: Sequence[CleanResult[bytes]]) -> ReportEntry:
    """What became of a picture that was cleaned one or more times, with the same outcome each time."""
    before_file = picture.file if isinstance(picture.file, bytes) else picture.file.read_bytes()
    header = codec.sniff(before_file, claimed=None)
    before, after = (_samples(file) for file in (before_file, results[0].image))
    kinds = f"{header.container.name}, {header.bits} bits, {'grey' if header.channels < 3 else 'RGB'}"
    return ReportEntry(
        name=picture.name,
        before=_shown(before),
        after=_shown(after),
        original=None if picture.original is None else _shown(picture.original),
        figures=Figures(
            sigma_added=picture.sigma_added,
            sigma_found=results[0].noise_sigma,
            total_ms=1000 * median(result.timings.total_s for result in results),
            shared_request_count=max(result.shared_request_count for result in results),
            shared_client_count=max(result.shared_client_count for result in results),
            **({} if picture.original is None else _distances(before, after, picture.original)),
        ),
        note=kinds,
    )


def _noisy(recipe: _Recipe, photograph: NDArray[np.uint8], *, key: int) -> Picture:
    name, original = recipe.photograph, photograph
    if recipe.detail:
        top, left = recipe.top_left_px
        name = f"{name}-{recipe.detail}"
        original = photograph[top : top + _DETAIL_SIDE_PX, left : left + _DETAIL_SIDE_PX]
    spec = NoiseSpec.gaussian(recipe.sigma, recipe.sigma, quantise="u8" if recipe.bits == 8 else "u16")
    white = 255 if recipe.bits == 8 else 65_535
    clean = np.atleast_3d(original).astype(np.float32) / np.float32(255)
    noisy = spec.apply(clean, keyed_rng(_SEED, key)).image
    samples = np.rint(noisy * np.float32(white)).astype(f"u{recipe.bits // 8}")
    image = Image(colour=samples, alpha=None, black_level=0.0, white_level=float(white))
    return Picture(
        name=f"{name}.{'jpg' if recipe.container is Container.JPEG else 'png'}",
        file=codec.encode(image, recipe.container, jpeg_quality=_JPEG_QUALITY),
        original=original if recipe.bits == 8 else original.astype(np.uint16) * np.uint16(257),
        sigma_added=recipe.sigma,
        is_detail=bool(recipe.detail),
    )


def _samples(file: bytes) -> Samples:
    """The colours of an image file, (H, W) or (H, W, 3)."""
    colour = codec.decode(file, codec.sniff(file, claimed=None)).colour
    return colour[..., 0] if colour.shape[2] == 1 else colour


def _shown(samples: Samples) -> NDArray[np.uint8]:
    if samples.dtype == np.uint8:
        return samples.astype(np.uint8, copy=False)
    return np.rint(samples / np.float32(257)).astype(np.uint8)


def _distances(before: Samples, after: Samples, original: Samples) -> dict[str, Any]:
    """Measured on the samples that were delivered, at their own bit depth."""
    white = 255.0 if original.dtype == np.uint8 else 65_535.0
    return {
        "psnr_before_db": psnr_db(before, original, value_range=white),
        "psnr_after_db": psnr_db(after, original, value_range=white),
        "ssim_before": ssim(before, original, value_range=white),
        "ssim_after": ssim(after, original, value_range=white),
    }
