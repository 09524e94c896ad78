"""A log-linear histogram of durations: any range, a fixed relative error, mergeable, a few kilobytes.

The idea is HdrHistogram's: below 2 ** (``_PRECISION_BITS`` + 1) units every whole number has a bucket of its own;
above, each doubling of the range is split into 2 ** ``_PRECISION_BITS`` buckets of equal width. The buckets are sparse,
so that an empty histogram costs nothing and no largest value has to be chosen.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

_PRECISION_BITS: Final = 8
RELATIVE_ERROR: Final = 2.0**-_PRECISION_BITS
_UNITS_PER_S: Final = 1_000_000


@dataclass(slots=True)
class Histogram:
    """Counts of durations, kept in whole microseconds.

    Attributes:
        counts: durations in each bucket that has any, by the bucket's number.
        count: all durations.
        total_us: their exact sum.
        most_us: the largest of them.
    """

    counts: dict[int, int] = field(default_factory=dict)
    count: int = 0
    total_us: int = 0
    most_us: int = 0

    def record(self, duration_s: float) -> None:
        """Adds one duration in seconds; what lies below zero counts as zero."""
        value_us = max(0, round(duration_s * _UNITS_PER_S))
        bucket = _bucket_of(value_us)
        self.counts[bucket] = self.counts.get(bucket, 0) + 1
        self.count += 1
        self.total_us += value_us
        self.most_us = max(self.most_us, value_us)

    def merge(self, other: "Histogram") -> None:
        """Adds all that the other one counted."""
        for bucket, count in other.counts.items():
            self.counts[bucket] = self.counts.get(bucket, 0) + count
        self.count += other.count
        self.total_us += other.total_us
        self.most_us = max(self.most_us, other.most_us)

    @property
    def most_s(self) -> float:
        """The largest duration, exact to the microsecond; 0 when there is none."""
        return self.most_us / _UNITS_PER_S

    @property
    def mean_s(self) -> float:
        """The mean, exact; 0 when there is none."""
        return self.total_us / self.count / _UNITS_PER_S if self.count else 0.0

    def quantile_s(self, share: float) -> float | None:
        """The duration that a share (0..1) of all stays at or below; None when there is none.

        It is at least the smallest such duration that was recorded and at most 1 + ``RELATIVE_ERROR`` times it.
        """
        if not 0.0 <= share <= 1.0:
            raise ValueError(f"share is {share}; it must lie in 0..1, such as 0.99 for the 99th percentile")
        if not self.count:
            return None
        rank, below = max(1, math.ceil(share * self.count)), 0
        for bucket in sorted(self.counts):
            below += self.counts[bucket]
            if below >= rank:
                return min(_last_of(bucket), self.most_us) / _UNITS_PER_S
        return self.most_s

    def steps(self) -> Iterator[tuple[float, int]]:
        """(largest duration of the bucket in seconds, count) of the buckets that hold something, ascending."""
        for bucket in sorted(self.counts):
            yield min(_last_of(bucket), self.most_us) / _UNITS_PER_S, self.counts[bucket]


def merged(*histograms: Histogram) -> Histogram:
    """A new histogram of what all of them counted."""
    total = Histogram()
    for histogram in histograms:
        total.merge(histogram)
    return total


def _bucket_of(value: int) -> int:
    shift = max(0, value.bit_length() - _PRECISION_BITS - 1)
    return (shift << _PRECISION_BITS) + (value >> shift)


def _last_of(bucket: int) -> int:
    """The largest value that falls into the bucket."""
    shift = max(0, (bucket >> _PRECISION_BITS) - 1)
    return ((bucket - (shift << _PRECISION_BITS) + 1) << shift) - 1
