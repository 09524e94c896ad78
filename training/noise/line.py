"""The straight line through variance against mean: its slope is a sensor's gain, its start the read noise at black.

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
# A number closer to 0 than so many of its standard errors may be there by chance.
SIGNIFICANT_ERRORS: Final = 2.0
# The standard error of a median against that of a mean.
_MEDIAN_PENALTY: Final = 1.2533
# Of the largest variance, below which no bin's error follows the line, and of any: a weight must stay finite.
_LEAST_SHARE: Final = 1e-3
_LEAST_VARIANCE: Final = 1e-60


@dataclass(frozen=True, slots=True)
class Bin:
    """The noise at one brightness: medians over ``block_count`` blocks.

    Attributes:
        relative_error: standard error of the variance, as a share of it; known even where no noise was seen.
    """

    mean: float
    variance: float
    relative_error: float
    block_count: int

    @property
    def error(self) -> float:
        """Standard error of the variance."""
        return self.variance * self.relative_error


@dataclass(frozen=True, slots=True)
class Line:
    """variance = slope * mean + start, with the standard errors of both.

    The slope is 0 or more. The start lies below 0, by more than chance, where the means are counted from below the
    sensor's dark level.
    """

    slope: float
    start: float
    slope_error: float
    start_error: float

    def at(self, mean: Float) -> Float:
        """The variance there, 0 or more."""
        variance: Float = np.maximum(self.slope * mean + self.start, 0.0)
        return variance


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
        relative_error = _MEDIAN_PENALTY * math.sqrt(2 / (degrees * len(chosen)))
        bins.append(Bin(float(np.median(mean[chosen])), centre, relative_error, len(chosen)))
    return tuple(bins)


def fit_line(bins: tuple[Bin, ...]) -> Line:
    """Weighted least squares, reweighted until it rests. One bin, or none that differ, gives a constant.

    A start below 0 by less than chance may make is 0. One further below is left as it is: a line forced through 0 would
    have another slope, and so a wrong gain.
    """
    mean, variance, relative_error = (
        np.array([getattr(each, name) for each in bins]) for name in ("mean", "variance", "relative_error")
    )
    columns = np.stack([mean, np.ones_like(mean)], axis=1)
    if len(bins) == 1:
        (start,), (start_error,) = _rested(columns[:, 1:], variance, relative_error)
        return Line(0.0, float(start), 0.0, float(start_error))
    solution, errors = _rested(columns, variance, relative_error)
    slope, start = solution
    # No gain is negative.
    kept = np.array([slope >= 0, start >= 0 or start < -SIGNIFICANT_ERRORS * errors[1]])
    if not kept.all():
        solution = np.zeros(2)
        solution[kept], _ = _rested(columns[:, kept], variance, relative_error)
    return Line(*(float(each) for each in (*solution, *errors)))


def _rested(columns: Float, variance: Float, relative_error: Float) -> tuple[Float, Float]:
    """The columns' factors and their standard errors."""
    least = max(_LEAST_SHARE * float(variance.max()), _LEAST_VARIANCE)
    expected = variance.copy()
    for _ in range(_ITERATIONS):
        # By the line's own variance: a bin that happens to lie low must not weigh more.
        error = relative_error * np.maximum(expected, least)
        distance = np.maximum((variance - expected) / error, _TRUSTED_ERRORS)
        weight = (_TRUSTED_ERRORS / distance) ** 2 / error**2
        root = np.sqrt(weight)
        solution = np.asarray(np.linalg.lstsq(columns * root[:, None], variance * root, rcond=None)[0], np.float64)
        expected = columns @ solution
    normal = np.linalg.pinv(columns.T @ (weight[:, None] * columns))
    spare = max(1, len(variance) - columns.shape[1])
    # Bins that scatter more than their errors say make the line's errors larger.
    scatter = max(1.0, float(np.sum(weight * (variance - expected) ** 2)) / spare)
    errors: Float = np.sqrt(np.diag(normal) * scatter)
    return solution, errors
