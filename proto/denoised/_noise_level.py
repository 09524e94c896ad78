"""How strong the noise of an image is: two classical estimators, and one that also looks at the residual.

All assume noise that is white and additive; where it is correlated the first two disagree. They work on blocks,
(B, C, h, w) in 0..1 units, as ``denoised.statistics`` samples them, and answer in 8-bit levels, the mean of the
channels' values. Public through ``denoised.statistics``.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from denoised.noise import LEVELS_8BIT

Blocks = NDArray[np.float32]

# Median of |x| for a standard normal x.
_NORMAL_MEDIAN: Final = 0.6744897501960817
# High-pass filter of Daubechies' wavelet with two vanishing moments: blind to ramps, so that shading is no noise,
# and on 8-bit samples free of the half-level steps that Haar's differences have.
_DB2_HIGH_PASS: Final = np.array(
    [-0.48296291314469025, 0.8365163037378079, -0.22414386804185735, -0.12940952255092145], dtype=np.float32
)
# A clipped value has lost noise; values whose clean level is this many sigma from black and white are whole.
_CLEAR_OF_CLIPPING_SIGMAS: Final = 2.0
# With fewer coefficients than this clear of clipping, all of them say more.
_LEAST_CLEAR_COUNT: Final = 256


def wavelet_sigma(blocks: Blocks) -> float:
    """Median of the finest diagonal wavelet coefficients / 0.6745: Donoho, Johnstone, Biometrika 81(3), 1994.

    With Daubechies' db2 in place of Haar. Zero for images with a side below 4 pixels.
    """
    return float(np.mean([_deviation(channel) for channel in _diagonal_coefficients(blocks).swapaxes(0, 1)]))


def immerkaer_sigma(blocks: Blocks) -> float:
    """Mean of |image * Laplacian difference|: Immerkaer, Computer Vision and Image Understanding 64(2), 1996.

    sqrt(pi / 2) / 6 times the mean of |I * [[1, -2, 1], [-2, 4, -2], [1, -2, 1]]| over positions where it fits.
    Zero for images with a side below 3 pixels.
    """
    if min(blocks.shape[2:]) < 3:
        return 0.0
    rows = _second_difference(blocks)
    both = _second_difference(rows.swapaxes(2, 3))
    return float(np.abs(both, out=both).mean()) * float(np.sqrt(np.pi / 2.0)) / 6.0 * LEVELS_8BIT


def joint_sigma(noisy: Blocks, denoised: Blocks) -> float:
    """For networks that estimate no noise themselves: from the image and from what was removed, where not clipped.

    Texture makes the image's own estimate too large; noise that a denoiser leaves makes the residual's too small;
    their mean is closer than both. The denoised values say where clipping can have taken noise away.
    """
    residual = noisy - denoised
    whole, removed = _diagonal_coefficients(noisy), _diagonal_coefficients(residual)
    margin = _CLEAR_OF_CLIPPING_SIGMAS * float(np.sqrt(np.mean(residual * residual)))
    level = denoised[:, :, 1:-2:2, 1:-2:2]
    clear = (level > margin) & (level < 1.0 - margin)
    if np.count_nonzero(clear) >= _LEAST_CLEAR_COUNT:
        whole, removed = whole[clear], removed[clear]
    return 0.5 * (_deviation(whole) + _deviation(removed))


def _deviation(coefficients: Blocks) -> float:
    """Standard deviation of normal values in 8-bit levels, from the median of their magnitudes."""
    if coefficients.size == 0:
        return 0.0
    middle = coefficients.size // 2
    return float(np.partition(np.abs(coefficients).ravel(), middle)[middle]) / _NORMAL_MEDIAN * LEVELS_8BIT


def _diagonal_coefficients(blocks: Blocks) -> Blocks:
    """The HH band at half the resolution, (B, C, h/2 - 1, w/2 - 1)."""
    return _high_pass(_high_pass(blocks).swapaxes(2, 3)).swapaxes(2, 3)


def _high_pass(blocks: Blocks) -> Blocks:
    """Along the rows' axis, every second position, only where the filter fits."""
    count = max(blocks.shape[2] // 2 - 1, 0)
    taps = (blocks[:, :, start : start + 2 * count : 2] for start in range(4))
    total: Blocks = np.zeros_like(blocks[:, :, :count])
    for weight, tap in zip(_DB2_HIGH_PASS, taps, strict=True):
        total += weight * tap
    return total


def _second_difference(blocks: Blocks) -> Blocks:
    """x[i] - 2 x[i + 1] + x[i + 2] along the rows' axis."""
    first = blocks[:, :, 1:] - blocks[:, :, :-1]
    return first[:, :, 1:] - first[:, :, :-1]
