"""How close a picture is to its clean original: PSNR, SSIM, detail kept; one definition for every table of the project.

PSNR: 10 log10(range^2 / MSE) over all pixels and channels of one image; a table's figure is the mean over
images of the per-image values, computed on the values that were delivered (8-bit images stay rounded).
SSIM: Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment", IEEE TIP 13(4), 2004: 11x11 Gaussian
window with sigma 1.5, K1 = 0.01, K2 = 0.03, borders left out, the mean over positions and channels.
Detail kept: <h(image), h(reference)> / <h(reference), h(reference)>, h what a 5x5 binomial filter takes away. The
projection leaves out whatever the clean picture does not hold: remaining noise and invented texture count as nothing.
Intervals: a table's means are over images, and so are the intervals beside them; the picture, not the pixel, is the
unit that was drawn. It decides nothing about noise, files or networks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

METRIC_DEFINITION: Final = (
    "PSNR over all values of all channels of an image, range black to white (0..255 in 8 bit), no border cropped, "
    "mean of per-image values; "
    "SSIM with an 11x11 Gaussian window (sigma 1.5), K1 0.01, K2 0.03, valid positions, mean over channels"
)
DETAIL_DEFINITION: Final = (
    "Detail kept: the part of the clean image's high-pass (image minus 5x5 binomial filter, valid positions, all "
    "channels) that is found in the output's, <h(output), h(clean)> / <h(clean), h(clean)>; 1 = all, 0 = none, above 1 "
    "= sharpened; noise and invented texture do not count"
)
INTERVAL_DEFINITION: Final = "95 % confidence intervals of the mean over images, by Student's t"

_WINDOW_RADIUS_PX: Final = 5
_WINDOW_SIGMA_PX: Final = 1.5
_K1: Final = 0.01
_K2: Final = 0.03
_BINOMIAL: Final = np.array([1.0, 4.0, 6.0, 4.0, 1.0]) / 16.0

SSIM_SMALLEST_SIDE_PX: Final = 2 * _WINDOW_RADIUS_PX + 1
DETAIL_SMALLEST_SIDE_PX: Final = len(_BINOMIAL)
# Equal images have no finite PSNR, and one of them would make every mean infinite.
PSNR_CEILING_DB: Final = 100.0

AnyImage = NDArray[np.generic]


def psnr_db(image: AnyImage, reference: AnyImage, *, value_range: float = 255.0) -> float:
    """Peak signal-to-noise ratio in dB; infinite for equal images.

    Args:
        image, reference: arrays of one shape.
        value_range: the difference between white and black, 255 for 8 bit, 1 for 0..1 floats.

    Raises:
        ValueError: the shapes differ.
    """
    _require_same_shape(image, reference)
    difference = image.astype(np.float64) - reference.astype(np.float64)
    mean_square = float(np.mean(difference * difference))
    if mean_square == 0.0:
        return float("inf")
    return float(10.0 * np.log10(value_range * value_range / mean_square))


def capped_psnr_db(image: AnyImage, reference: AnyImage, *, value_range: float = 255.0) -> float:
    """:func:`psnr_db`, at most ``PSNR_CEILING_DB``, for means over images; NaN stays NaN, so that it is noticed."""
    return float(np.minimum(psnr_db(image, reference, value_range=value_range), PSNR_CEILING_DB))


def ssim(image: AnyImage, reference: AnyImage, *, value_range: float = 255.0) -> float:
    """Structural similarity, 1 for equal images; see the module's text for the definition.

    Args:
        image, reference: (H, W) or (H, W, C), at least 11 pixels on each side.
        value_range: the difference between white and black.

    Raises:
        ValueError: the shapes differ, or a side is shorter than the window.
    """
    _require_same_shape(image, reference)
    _require_side(image, SSIM_SMALLEST_SIDE_PX, "SSIM")
    x = np.atleast_3d(image).astype(np.float64)
    y = np.atleast_3d(reference).astype(np.float64)
    c1 = (_K1 * value_range) ** 2
    c2 = (_K2 * value_range) ** 2
    mean_x, mean_y = _window_mean(x), _window_mean(y)
    variance_x = _window_mean(x * x) - mean_x * mean_x
    variance_y = _window_mean(y * y) - mean_y * mean_y
    covariance = _window_mean(x * y) - mean_x * mean_y
    similarity = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
        (mean_x * mean_x + mean_y * mean_y + c1) * (variance_x + variance_y + c2)
    )
    return float(np.mean(similarity))


def detail_kept(image: AnyImage, reference: AnyImage) -> float:
    """The share of the reference's fine detail that the image still shows; see the module's text for the definition.

    Noise is no detail: it is uncorrelated with the reference, so a noisy copy of a photograph comes out near 1. A
    reference without any detail has none to lose: 1.

    Args:
        image, reference: (H, W) or (H, W, C) in the same units, at least 5 pixels on each side.

    Raises:
        ValueError: the shapes differ, or a side is shorter than the filter.
    """
    _require_same_shape(image, reference)
    _require_side(image, DETAIL_SMALLEST_SIDE_PX, "the detail figure")
    own, clean = (_high_pass(np.atleast_3d(picture).astype(np.float64)) for picture in (image, reference))
    energy = float(np.sum(clean * clean))
    if energy == 0.0:
        return 1.0
    return float(np.sum(own * clean)) / energy


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and where the mean of many more such values lies, with 95 % confidence.

    Attributes:
        mean: of the values.
        low, high: ends of the interval; None for a single value, which says nothing about its own spread.
        count: of the values.
    """

    mean: float
    low: float | None
    high: float | None
    count: int


def mean_interval(values: Sequence[float]) -> Interval:
    """Mean and 95 % interval by Student's t.

    For the difference of two methods on the same images, give the differences of each image: the spread between
    images, which is far larger than that between methods, then cancels.

    Raises:
        ValueError: no values.
    """
    if not len(values):
        raise ValueError("no values; a mean needs at least one")
    mean, count = float(np.mean(values)), len(values)
    if count == 1:
        return Interval(mean, None, None, 1)
    half = student_t(count - 1) * float(np.std(values, ddof=1)) / float(np.sqrt(count))
    return Interval(mean, mean - half, mean + half, count)


def student_t(degrees: int) -> float:
    """The 97.5 % quantile of Student's t: exact for one and two degrees of freedom, within 0.2 % for all others."""
    if degrees == 1:
        return float(np.tan(np.pi * 0.475))
    if degrees == 2:
        return float(0.95 / np.sqrt(2 * 0.975 * 0.025))
    # Cornish and Fisher's expansion about the normal quantile (Abramowitz and Stegun, 26.7.5).
    z = NormalDist().inv_cdf(0.975)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return float(sum(term / degrees**power for power, term in enumerate(terms)))


def _high_pass(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(H, W, C) less its binomial mean, at the positions where the filter fits."""
    margin = len(_BINOMIAL) // 2
    inner: NDArray[np.float64] = values[margin:-margin, margin:-margin] - _filtered(values, _BINOMIAL)
    return inner


def _window_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gaussian-weighted local means of (H, W, C) at the positions where the window fits."""
    offsets = np.arange(-_WINDOW_RADIUS_PX, _WINDOW_RADIUS_PX + 1)
    weights = np.exp(-0.5 * (offsets / _WINDOW_SIGMA_PX) ** 2)
    return _filtered(values, weights / weights.sum())


def _filtered(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """(H, W, C) filtered with the same weights along rows and columns, at the positions where they fit."""
    for axis in (0, 1):
        length = values.shape[axis] - len(weights) + 1
        # Summed in place: a stack of all shifted copies would cost more than the arithmetic.
        total = np.zeros((*values.shape[:axis], length, *values.shape[axis + 1 :]))
        for start, weight in enumerate(weights):
            total += weight * (values[start : start + length] if axis == 0 else values[:, start : start + length])
        values = total
    return values


def _require_side(image: AnyImage, side_px: int, what: str) -> None:
    if min(image.shape[:2]) < side_px:
        raise ValueError(f"image is {image.shape[1]} x {image.shape[0]}; {what} needs at least {side_px} pixels a side")


def _require_same_shape(image: AnyImage, reference: AnyImage) -> None:
    if image.shape != reference.shape:
        raise ValueError(f"shapes differ: image {image.shape}, reference {reference.shape}")
