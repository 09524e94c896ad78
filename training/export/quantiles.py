"""Quantiles of statistics as functions of the noise level, from single images.

Most statistics change with the noise. Groups of images of like noise would mix that change into their spread, and an
image of known noise would always look ordinary; so each group is first moved along its own trend to one noise level.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from denoised.statistics import Statistics

# Every twentieth, and the tails in which verdicts are made.
PROBABILITIES: Final = (0.0, 0.01, 0.025, *(number / 20 for number in range(1, 20)), 0.975, 0.99, 1.0)

_LEAST_IMAGES: Final = 48
_LARGEST_LEVEL_COUNT: Final = 20
# Levels lie closer together where noise is weak: there the statistics change fastest.
_CROWDING: Final = 2.0
# A level looks at this share of the images between its neighbours.
_REACH: Final = 0.75
# More images than this with the very same value are a heap.
_LARGEST_HEAP_SHARE: Final = 0.05

Rows = tuple[tuple[float, ...], ...]


def fit_quantiles(statistics: Sequence[Statistics]) -> tuple[tuple[float, ...], Mapping[str, Rows]]:
    """Noise levels, ascending, and by the name of each statistic a row of quantiles for each level.

    The levels reach from the least noise to the greatest.
    """
    sigmas = np.array([one.sigma for one in statistics])
    level_count = min(max(len(sigmas) // _LEAST_IMAGES, 1), _LARGEST_LEVEL_COUNT)
    places = np.linspace(0.0, 1.0, level_count) ** _CROWDING if level_count > 1 else np.array([0.5])
    levels = [shortened(level) for level in np.quantile(sigmas, places)]
    nearest = [
        np.argsort(np.abs(sigmas - level), kind="stable")[:count]
        for level, count in zip(levels, _window_counts(places, len(sigmas)), strict=True)
    ]
    tables = [one.comparable() for one in statistics]
    quantiles = {}
    for name in dict.fromkeys(name for table in tables for name in table):
        # What is not defined for an image, such as a correlation of channels for a grey one, is no value among others.
        values = np.array([table.get(name, np.nan) for table in tables])
        defined = [near[~np.isnan(values[near])] for near in nearest]
        if all(len(near) for near in defined):
            quantiles[name] = tuple(
                _quantiles(_moved(values[near], sigmas[near], level))
                for level, near in zip(levels, defined, strict=True)
            )
    return tuple(levels), quantiles


def _window_counts(places: NDArray[np.float64], image_count: int) -> list[int]:
    """How many images each level looks at; all of them where there is one level."""
    if len(places) == 1:
        return [image_count]
    sides = [places[0], *places, places[-1]]
    return [
        max(int(_REACH * image_count * (right - left)), _LEAST_IMAGES)
        for left, right in zip(sides, sides[2:], strict=False)
    ]


def shortened(value: float) -> float:
    """Five digits: more would be noise, and every file carries them."""
    return float(f"{value:.5g}")


def _moved(values: NDArray[np.float64], sigmas: NDArray[np.float64], level: float) -> NDArray[np.float64]:
    """Along the straight line of least squares. Values with a heap, such as no clipped sample, stay where they are."""
    offsets = sigmas - level
    centred = offsets - offsets.mean()
    spread = float(centred @ centred)
    heap = int(np.unique(values, return_counts=True)[1].max())
    if spread == 0.0 or heap > _LARGEST_HEAP_SHARE * len(values):
        return values
    moved: NDArray[np.float64] = values - float(centred @ values) / spread * offsets
    # What is never negative, such as a share, is not moved below 0 either.
    return np.maximum(moved, 0.0) if values.min() >= 0.0 else moved


def _quantiles(values: NDArray[np.float64]) -> tuple[float, ...]:
    """By Weibull's rule: the least of n values has a share of 1 / (n + 1) below it."""
    return tuple(shortened(value) for value in np.quantile(values, PROBABILITIES, method="weibull"))
