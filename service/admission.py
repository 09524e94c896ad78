"""Decides whether an image may enter, from its header alone and before it is decoded. Pure bookkeeping, no I/O.

In order: pixels (policy: can never fit), images in the service, memory, time (can't fit now). A refusal names the
value, the limit and the remedy; whatever may succeed later says when.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from service.codec import check_size
from service.errors import DeadlineUnreachable, MemoryBudgetExceeded, QueueFull
from service.metrics import Metrics
from service.types import ImageHeader

# Without a measured pace there is nothing to predict a wait from; half a second is one large tile on one core.
_LEAST_RETRY_S = 0.5
# The predicted wait is an upper bound, and the pace varies; refuse only what is well out of reach.
_DEADLINE_SLACK = 2.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be in the service."""

    image_pixels: int
    requests: int
    memory_bytes: int


class Admission:
    """The ledger of images in the service. Owned by the event loop's thread."""

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self._limits = limits
        self._metrics = metrics
        self.request_count = 0
        self.reserved_bytes = 0

    def check_size(self, header: ImageHeader) -> None:
        """Raises ImageTooLarge when the policy never allows an image of this size."""
        check_size(header, max_pixels=self._limits.image_pixels)

    @contextmanager
    def reserve(self, header: ImageHeader, *, encoded_bytes: int, wait_s: float, remaining_s: float) -> Iterator[None]:
        """Holds room for an image inside the block.

        Args:
            header: what the image claims to be; :meth:`check_size` has passed.
            encoded_bytes: what arrived.
            wait_s: predicted time until it would be done.
            remaining_s: time until its deadline.

        Raises:
            QueueFull: too many images are in the service.
            MemoryBudgetExceeded: too much memory is held by them.
            DeadlineUnreachable: it could not be done in time.
        """
        retry_after_s = max(_LEAST_RETRY_S, wait_s / 2)
        if self.request_count >= self._limits.requests:
            raise QueueFull(
                f"{self.request_count} images are in the service; the limit is {self._limits.requests}; "
                "send again later, or to another replica",
                retry_after_s=retry_after_s,
            )
        # The file, the decoded image, the answer of the same size, and the answer's file (never larger than samples
        # and a little, for the codecs that are served).
        need_bytes = 2 * encoded_bytes + 2 * header.decoded_bytes
        if self.request_count and self.reserved_bytes + need_bytes > self._limits.memory_bytes:
            raise MemoryBudgetExceeded(
                f"the image needs {need_bytes} bytes and {self.reserved_bytes} of {self._limits.memory_bytes} are "
                "taken; send again later, or to another replica",
                retry_after_s=retry_after_s,
            )
        if wait_s > remaining_s * _DEADLINE_SLACK:
            raise DeadlineUnreachable(
                f"the image would be done in about {wait_s:.1f} s and its deadline is in {remaining_s:.1f} s; "
                "allow more time, or send to another replica",
                retry_after_s=retry_after_s,
            )
        self._change(+1, need_bytes)
        try:
            yield
        finally:
            self._change(-1, -need_bytes)

    def _change(self, request_count: int, size_bytes: int) -> None:
        self.request_count += request_count
        self.reserved_bytes += size_bytes
        self._metrics.admitted_images.set(self.request_count)
        self._metrics.reserved_bytes.set(self.reserved_bytes)
