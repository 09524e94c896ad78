"""What one caller may take: token buckets in debt, and a count of what is under way. Pure but for the clock.

A bucket fills by its rate up to one second's worth, and something is let in while anything is left in it, whatever it
costs. So an image larger than the bucket passes too, and its debt is waited for afterwards: over any time ``t`` a
caller gets at most its rate times ``t`` and one second, and the last thing that it was let in with.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf
from typing import Final

from service.errors import QuotaExceeded

# What a caller that paused may take at once.
_BURST_S: Final = 1.0
# When something that is under way may have ended.
_RETRY_BUSY_S: Final = 0.1
_LEAST_RETRY_S: Final = 0.01


@dataclass(frozen=True, slots=True)
class Quota:
    """What a caller may take; infinite where nothing is said.

    Attributes:
        requests_per_s: calls and items of streams; a batch is one.
        pixels_per_s: of images that are let in.
        bytes_per_s: of requests as they arrive.
        concurrency: calls and items of streams whose answers have not left.
    """

    requests_per_s: float = inf
    pixels_per_s: float = inf
    bytes_per_s: float = inf
    concurrency: float = inf


class _Bucket:
    """What is left of one rate."""

    __slots__ = ("_at_s", "_level", "_rate", "name")

    def __init__(self, name: str, rate: float, now_s: float) -> None:
        self.name = name
        self._rate = rate
        self._level = rate * _BURST_S
        self._at_s = now_s

    @property
    def rate(self) -> float:
        return self._rate

    def change_rate(self, rate: float, now_s: float) -> None:
        """A debt stays; who was unlimited, or becomes it, begins anew."""
        self.wait_s(now_s)
        is_new = inf in (self._rate, rate)
        self._rate = rate
        self._level = rate * _BURST_S if is_new else min(self._level, rate * _BURST_S)

    def wait_s(self, now_s: float) -> float:
        """0 when there is something left, else how long until there is."""
        if self._rate == inf:
            return 0.0
        self._level = min(self._rate * _BURST_S, self._level + (now_s - self._at_s) * self._rate)
        self._at_s = now_s
        return 0.0 if self._level > 0.0 else max(_LEAST_RETRY_S, -self._level / self._rate)

    def take(self, amount: float) -> None:
        if self._rate != inf:
            self._level -= amount


class Allowance:
    """What a caller has left. Owned by the event loop's thread."""

    def __init__(self, quota: Quota, clock: Callable[[], float]) -> None:
        now_s = clock()
        self._clock = clock
        self._requests = _Bucket("requests", quota.requests_per_s, now_s)
        self._pixels = _Bucket("pixels", quota.pixels_per_s, now_s)
        self._bytes = _Bucket("bytes", quota.bytes_per_s, now_s)
        self._concurrency = quota.concurrency
        self.under_way_count = 0

    def change(self, quota: Quota) -> None:
        """Another quota from now on; what was taken stays taken."""
        now_s = self._clock()
        for bucket, rate in zip(
            self._buckets(), (quota.requests_per_s, quota.pixels_per_s, quota.bytes_per_s), strict=True
        ):
            bucket.change_rate(rate, now_s)
        self._concurrency = quota.concurrency

    def enter(self, size_bytes: int) -> None:
        """A request of that size begins; :meth:`leave` is called once its answer has left.

        Raises:
            QuotaExceeded: nothing was taken.
        """
        if self.under_way_count >= self._concurrency:
            raise QuotaExceeded(
                f"{self.under_way_count} of your requests are under way; your quota is {self._concurrency:g}; "
                "wait for an answer before you send the next",
                retry_after_s=_RETRY_BUSY_S,
                metadata={"cap": "concurrency", "limit": f"{self._concurrency:g}"},
            )
        now_s = self._clock()
        wait_s, bucket = max(((bucket.wait_s(now_s), bucket) for bucket in self._buckets()), key=lambda pair: pair[0])
        if wait_s > 0.0:
            raise QuotaExceeded(
                f"you have used up your quota of {bucket.rate:g} {bucket.name} per second; send again in "
                f"{wait_s:.3g} s, or ask whoever runs the service for more",
                retry_after_s=wait_s,
                metadata={"cap": bucket.name, "limit": f"{bucket.rate:g}"},
            )
        self._requests.take(1.0)
        self._bytes.take(size_bytes)
        self.under_way_count += 1

    def take_bytes(self, count: int) -> None:
        """More of a request that has begun arrived: what comes in chunks is paid for as it comes."""
        self._bytes.take(count)

    def take_pixels(self, count: int) -> None:
        """An image of so many pixels was let in."""
        self._pixels.take(count)

    def leave(self) -> None:
        """The answer has left, or nobody wants it."""
        self.under_way_count -= 1

    def _buckets(self) -> Iterator[_Bucket]:
        yield self._requests
        yield self._pixels
        yield self._bytes
