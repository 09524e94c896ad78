"""How much of the machine reports may take that nobody asked for.

A report costs from 0.3 ms for a tiny image to 3 ms for any large one: next to nothing beside a large image's network,
more than a tiny image's. So those that come by default take a share of one core at most, and beyond that one image in k
gets one. Pure but for the state that it keeps; whoever asks brings the time.
"""

import math
from typing import Final

# Reports that came in one burst after a quiet time; at full size some thirty.
_BURST_S: Final = 0.1
# Measured on one core: an image of one pixel, and each of its samples. See ADR 23.
_BASE_S: Final = 0.3e-3
_PER_SAMPLE_S: Final = 20e-9


def report_cost_s(sample_count: int) -> float:
    """Seconds of one core for the fast report of so many samples."""
    return _BASE_S + _PER_SAMPLE_S * sample_count


class ReportBudget:
    """A bucket of seconds that fills with time."""

    def __init__(self, *, share: float, one_in: int) -> None:
        """
        Args:
            share: of one core; 0 makes every default report a sampled one.
            one_in: when the bucket is empty, one image in so many gets a report all the same.
        """
        self._share = share
        self._one_in = one_in
        self._left_s = _BURST_S
        self._filled_at_s = -math.inf
        self._skipped_count = 0

    @property
    def one_in(self) -> int:
        """k, when the bucket is empty."""
        return self._one_in

    def take(self, cost_s: float, now_s: float) -> tuple[bool, bool]:
        """Whether an image gets a report, and whether it was drawn for the others, too.

        Args:
            cost_s: of its report.
            now_s: not before the last call's.
        """
        self._left_s = min(self._left_s + (now_s - self._filled_at_s) * self._share, _BURST_S) if self._share else 0.0
        self._filled_at_s = now_s
        if self._left_s >= cost_s:
            self._left_s -= cost_s
            return True, False
        self._skipped_count += 1
        if self._skipped_count < self._one_in:
            return False, True
        self._skipped_count = 0
        return True, True
