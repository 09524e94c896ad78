"""The straight line through variance against mean: its slope is a sensor's gain, its start the read noise.

Robust by its bins: each is a median over many blocks, bins that lie far above the line (texture) lose their weight.
It knows nothing of images.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

_MOST_BINS: Final = 60
_FEWEST_BLOCKS: Final = 24
_ITERATIONS: Final = 20
# Beyond so many standard errors above the line a bin's weight falls with the square of the distance.
_TRUSTED_ERRORS: Final = 2.0
# The standard error of a median against that of a mean.
_MEDIAN_PENALTY: Final = 1.2533


@dataclass(frozen=True, slots=True)
class Bin:
    """The noise at one brightness: medians over ``block_count`` blocks, and the standard error of the variance."""

    mean: float
    variance: float
    error: float
    block_count: int


@dataclass(frozen=True, slots=True)
class Line:
    """variance = slope * mean + start, with the standard errors of both; both are 0 or more."""

    slope: float
    start: float
    slope_error: float
    start_error: float

    def at(self, mean: Float) -> Float:
        return self.slope * mean + self.start


def binned(mean: Float, variance: Float, *, degrees: float) -> tuple[Bin, ...]:
    """Blocks by their brightness, equally many in each bin.

    Args:
        mean, variance: of each block.
        degrees: of freedom, of one block's variance.
    """
    # The median of a chi-square variable lies below its mean (Wilson and Hilferty).
    median_share = (1 - 2 / (9 * degrees)) ** 3
    bins = []
    for chosen in np.array_split(np.argsort(mean, kind="stable"), min(_MOST_BINS, mean.size // _FEWEST_BLOCKS) or 1):
        centre = float(np.median(variance[chosen])) / median_share
        error = _MEDIAN_PENALTY * centre * math.sqrt(2 / (degrees * len(chosen)))
        bins.append(Bin(float(np.median(mean[chosen])), centre, error, len(chosen)))
    return tuple(bins)


def fit_line(bins: tuple[Bin, ...]) -> Line:
    """Weighted least squares, reweighted until it rests. One bin, or none that differ, gives a constant."""
    mean, variance = (np.array([getattr(each, name) for each in bins]) for name in ("mean", "variance"))
    relative = np.array([each.error / max(each.variance, 1e-300) for each in bins])
    has_slope = len(bins) > 1
    columns = np.stack([mean, np.ones_like(mean)] if has_slope else [np.ones_like(mean)], axis=1)
    expected = variance.copy()
    solution = np.zeros(columns.shape[1])
    for _ in range(_ITERATIONS):
        # By the line's own variance: a bin that happens to lie low must not weigh more.
        error = relative * np.maximum(expected, 1e-3 * variance.max())
        distance = np.maximum((variance - expected) / error, _TRUSTED_ERRORS)
        weight = (_TRUSTED_ERRORS / distance) ** 2 / error**2
        solution = _non_negative(columns, variance, weight)
        expected = columns @ solution
    normal = np.linalg.pinv(columns.T @ (weight[:, None] * columns))
    spare = max(1, len(bins) - columns.shape[1])
    # Bins that scatter more than their errors say make the line's errors larger.
    scatter = max(1.0, float(np.sum(weight * (variance - expected) ** 2)) / spare)
    errors = np.sqrt(np.diag(normal) * scatter)
    if not has_slope:
        return Line(0.0, float(solution[0]), 0.0, float(errors[0]))
    return Line(*(float(each) for each in (*solution, *errors)))


def _non_negative(columns: Float, values: Float, weight: Float) -> Float:
    """The weighted least squares solution without negative parts: neither gain nor read noise has a sign."""
    root = np.sqrt(weight)
    solution = np.asarray(np.linalg.lstsq(columns * root[:, None], values * root, rcond=None)[0], np.float64)
    if len(solution) == 2 and solution.min() < 0:
        kept = int(np.argmax(solution))
        alone = columns[:, kept]
        solution = np.zeros(2)
        solution[kept] = max(0.0, float(np.sum(weight * alone * values) / np.sum(weight * alone**2)))
    return solution
