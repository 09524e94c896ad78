"""How close a picture is to its clean original: PSNR and SSIM, one definition for every table of the project.

PSNR: 10 log10(range^2 / MSE) over all pixels and channels of one image; a table's figure is the mean over
images of the per-image values, computed on the values that were delivered (8-bit images stay rounded).
SSIM: Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment", IEEE TIP 13(4), 2004: 11x11 Gaussian
window with sigma 1.5, K1 = 0.01, K2 = 0.03, borders left out, the mean over positions and channels.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

METRIC_DEFINITION: Final = (
    "PSNR over all RGB values of an image, range 0..255, no border cropped, mean of per-image values; "
    "SSIM with an 11x11 Gaussian window (sigma 1.5), K1 0.01, K2 0.03, valid positions, mean over channels"
)

_WINDOW_RADIUS_PX: Final = 5
_WINDOW_SIGMA_PX: Final = 1.5
_K1: Final = 0.01
_K2: Final = 0.03

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


def ssim(image: AnyImage, reference: AnyImage, *, value_range: float = 255.0) -> float:
    """Structural similarity, 1 for equal images; see the module's text for the definition.

    Args:
        image, reference: (H, W) or (H, W, C), at least 11 pixels on each side.
        value_range: the difference between white and black.

    Raises:
        ValueError: the shapes differ, or a side is shorter than the window.
    """
    _require_same_shape(image, reference)
    side_px = 2 * _WINDOW_RADIUS_PX + 1
    if min(image.shape[:2]) < side_px:
        raise ValueError(f"image is {image.shape[1]} x {image.shape[0]}; SSIM needs at least {side_px} pixels a side")
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


def _window_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gaussian-weighted local means of (H, W, C) at the positions where the window fits."""
    offsets = np.arange(-_WINDOW_RADIUS_PX, _WINDOW_RADIUS_PX + 1)
    weights = np.exp(-0.5 * (offsets / _WINDOW_SIGMA_PX) ** 2)
    weights /= weights.sum()
    for axis in (0, 1):
        length = values.shape[axis] - 2 * _WINDOW_RADIUS_PX
        windows = (np.take(values, range(start, start + length), axis=axis) for start in range(len(weights)))
        values = np.sum([weight * window for weight, window in zip(weights, windows, strict=True)], axis=0)
    return values


def _require_same_shape(image: AnyImage, reference: AnyImage) -> None:
    if image.shape != reference.shape:
        raise ValueError(f"shapes differ: image {image.shape}, reference {reference.shape}")
