"""How well the times that admission foretold came true: the margin that its next promises need. Pure.

A batch is foretold when it begins, an image when it arrives: what changes in between (the machine's pace, who else has
turns, what refusing others costs) is in no batch's error. So the whole way is compared, and a high quantile of it
counts, because a deadline is missed by the slow ones.
"""

import math
from collections import deque
from typing import Final

_WINDOW: Final = 512
_LEAST: Final = 8
_EVERY: Final = 4
_QUANTILE: Final = 0.998
# Images with much more time than they need say nothing about the margin, and the fixed costs of tiny ones distort it.
_LEAST_SHARE: Final = 0.1
# Below 1 / _LEAST_SHARE, so that whoever is still admitted is also looked at, and a margin that is too high comes down.
_MOST: Final = 4.0
# What was given up would have taken longer, nobody knows how much. Without this the margin would never exceed what it
# was when such an image was admitted.
_LATE_FACTOR: Final = 1.25


class Promises:
    """Learns from images that were admitted close to their deadlines. One thread owns it."""

    def __init__(self) -> None:
        self._ratios: deque[float] = deque(maxlen=_WINDOW)
        self._kept_count = 0
        self._margin = 1.0

    @property
    def margin(self) -> float:
        """What a foretold time is to be multiplied with, 1 or more; 1 until enough is known."""
        return self._margin

    @staticmethod
    def is_telling(foretold_s: float, remaining_s: float) -> bool:
        """Whether an image with so much time left is worth noting."""
        return foretold_s >= _LEAST_SHARE * remaining_s

    def note(self, foretold_s: float, took_s: float, *, is_late: bool) -> None:
        """An image was done, or had to be given up as late, after ``took_s``; ``foretold_s`` is positive."""
        self._ratios.append(took_s / foretold_s * (_LATE_FACTOR if is_late else 1.0))
        self._kept_count += 1
        if len(self._ratios) >= _LEAST and self._kept_count % _EVERY == 0:
            ranked = sorted(self._ratios)
            self._margin = min(max(ranked[math.ceil(_QUANTILE * len(ranked)) - 1], 1.0), _MOST)
