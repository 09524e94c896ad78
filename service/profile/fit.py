"""Measured batches to ``a * n + b``, with neither below zero. Pure."""

from collections.abc import Mapping
from typing import Final

from service.cost import ShapeCost

# A larger batch must bring this much to be worth its memory and its wait.
_WORTH_IT: Final = 1.03


def fit_cost(seconds_by_count: Mapping[int, float]) -> ShapeCost:
    """Weighted least squares for relative errors, so that a batch of one counts as much as a batch of many.

    A negative ``a`` or ``b`` is noise, not physics: it becomes 0 and the other one is fitted again without it.

    Args:
        seconds_by_count: at least one batch size, all seconds positive.
    """
    # Each equation a * n + b = t is divided by t, so that all right-hand sides are 1: a * x + b * y = 1.
    rows = [(count / seconds, 1 / seconds) for count, seconds in seconds_by_count.items()]
    x, y = sum(x for x, _ in rows), sum(y for _, y in rows)
    xx, yy, xy = sum(x * x for x, _ in rows), sum(y * y for _, y in rows), sum(x * y for x, y in rows)
    determinant = xx * yy - xy * xy
    if len(rows) == 1 or y * xx <= x * xy or determinant <= 0:
        return ShapeCost(x / xx, 0.0)
    if x * yy < y * xy:
        return ShapeCost(0.0, y / yy)
    return ShapeCost((x * yy - y * xy) / determinant, (y * xx - x * xy) / determinant)


def best_count(seconds_by_count: Mapping[int, float]) -> int:
    """The batch size to stop at: each larger one that was measured brings less than 3 % more units a second."""
    best = min(seconds_by_count)
    for count in sorted(seconds_by_count):
        if count / seconds_by_count[count] >= _WORTH_IT * best / seconds_by_count[best]:
            best = count
    return best
