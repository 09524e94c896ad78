"""Decides whether an image may enter, from its header alone and before it is decoded. Pure bookkeeping, no I/O.

In order: pixels (policy), what can never be held (policy), the queue's caps, memory, time (not now). A refusal names
the value, the limit and the remedy; whatever may succeed later says when.

Two ledgers. *Pending* is what waits for the network or runs in it: images, their bytes, their pixels. *Reserved* is
the memory of everything whose call has not ended, slow readers included.

Nothing is told to come back for ever: while nothing is pending, the caps and the predicted time refuse nobody (a
prediction that is far too high would else never be corrected), and an image that alone needs more memory than there
is gets IMAGE_TOO_LARGE, which nobody retries.
"""

import math
from dataclasses import dataclass
from math import hypot
from typing import Final, NamedTuple, NoReturn

from service.codec import check_size
from service.errors import DeadlineUnreachable, ImageTooLarge, MemoryBudgetExceeded, QueueFull
from service.metrics import Metrics, Verdict
from service.promises import Promises
from service.types import ImageHeader

# Sooner than this, a refused client would only find the same queue.
_LEAST_RETRY_S: Final = 0.05
_WITH_ALPHA: Final = frozenset({2, 4})
_ELSEWHERE: Final = "send again later, or to another replica"


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be in the service.

    Attributes:
        image_pixels: of one image in one message.
        chunked_image_pixels: of one image that comes in chunks.
        queue_requests, queue_bytes, queue_pixels: pending; bytes as they arrived, pixels as the network computes them.
        memory_bytes: reserved.
    """

    image_pixels: int
    chunked_image_pixels: int
    queue_requests: int
    queue_bytes: int
    queue_pixels: int
    memory_bytes: int


class Demand(NamedTuple):
    """What an image asks for.

    Attributes:
        pixel_count: pixels that the network computes for it, halos and padding included.
        encoded_bytes: what arrived.
        held_bytes: the most memory that it takes at any moment, see :func:`held_bytes`.
        cost_s: predicted seconds of one lane, all units.
        unit_count: units that share ``cost_s`` and may run side by side.
        codec_s: predicted seconds of reading and writing it, beside the lanes.
    """

    pixel_count: int
    encoded_bytes: int
    held_bytes: int
    cost_s: float
    unit_count: int = 1
    codec_s: float = 0.0


def held_bytes(header: ImageHeader, *, encoded_bytes: int, is_raw: bool) -> int:
    """The most memory that an image takes while it is in the service.

    The message, the decoded samples (those of a raw image are read from the message), the answer, which is as large
    as the samples, and the answer's file, which no codec that is served makes much larger than the samples. The decoded
    samples are gone before the answer's file is made, unless the answer's alpha is a part of them.
    """
    copy_count = 3 if not is_raw and header.channels in _WITH_ALPHA else 2
    return encoded_bytes + copy_count * header.decoded_bytes


class Admission:
    """The ledgers. Owned by the event loop's thread.

    Attributes:
        promises: what images that were admitted close to their deadlines took, against what was foretold.
    """

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self._limits = limits
        self.promises = Promises()
        self._admitted_work = metrics.offered_work_seconds[Verdict.ADMITTED]
        self._refused_work = metrics.offered_work_seconds[Verdict.REFUSED]
        self.request_count = 0
        self.reserved_bytes = 0
        self.pending_count = 0
        self.pending_unit_count = 0
        self.pending_bytes = 0
        self.pending_pixel_count = 0
        metrics.admitted_images.follow(lambda: self.request_count)
        metrics.reserved_bytes.follow(lambda: self.reserved_bytes)
        metrics.pending_images.follow(lambda: self.pending_count)
        metrics.pending_bytes.follow(lambda: self.pending_bytes)
        metrics.pending_pixels.follow(lambda: self.pending_pixel_count)
        metrics.reserved_bytes_limit.set(limits.memory_bytes)
        metrics.pending_images_limit.set(limits.queue_requests)
        metrics.pending_bytes_limit.set(limits.queue_bytes)
        metrics.pending_pixels_limit.set(limits.queue_pixels)

    def check_size(self, header: ImageHeader, *, in_chunks: bool = False) -> None:
        """Raises ImageTooLarge when the policy never allows an image of this size."""
        check_size(header, max_pixels=self._limits.chunked_image_pixels if in_chunks else self._limits.image_pixels)

    def admit(
        self, demand: Demand, *, backlog_s: float, lane_count: int, remaining_s: float, spread: float
    ) -> "Reservation":
        """Room for an image, until it is released.

        Args:
            demand: what it asks for; :meth:`check_size` has passed.
            backlog_s: predicted seconds of one lane that run before it; with fair queueing that is less than all
                that is queued.
            lane_count: lanes that work side by side.
            remaining_s: time until its deadline.
            spread: the 95 % quantile of what came true divided by what was predicted, 1 or more. A prediction with
                this margin has to fit the deadline, and so has one with the margin that earlier images needed on
                their whole way; the tests simulate what that does to an overload.

        Raises:
            ImageTooLarge: it alone takes more memory than all images may.
            QueueFull: too many requests, bytes or pixels are pending.
            MemoryBudgetExceeded: too much memory is held.
            DeadlineUnreachable: it could not be done in time.
        """
        limits = self._limits
        if demand.held_bytes > limits.memory_bytes:
            self._refuse_for_good(demand)
        drain_s = backlog_s / lane_count
        if self.pending_count:
            if self.pending_count >= limits.queue_requests:
                self._refuse_cap("requests", self.pending_count, 1, limits.queue_requests, demand, drain_s)
            if self.pending_bytes + demand.encoded_bytes > limits.queue_bytes:
                self._refuse_cap("bytes", self.pending_bytes, demand.encoded_bytes, limits.queue_bytes, demand, drain_s)
            if self.pending_pixel_count + demand.pixel_count > limits.queue_pixels:
                self._refuse_cap(
                    "pixels", self.pending_pixel_count, demand.pixel_count, limits.queue_pixels, demand, drain_s
                )
        if self.reserved_bytes + demand.held_bytes > limits.memory_bytes:
            self._refuse_memory(demand, drain_s)
        foretold_s = 0.0
        if self.pending_count:
            foretold_s = self._foretell(demand, drain_s, lane_count=lane_count, remaining_s=remaining_s, spread=spread)
        self._admitted_work.inc(demand.cost_s)
        self.request_count += 1
        self.reserved_bytes += demand.held_bytes
        self.pending_count += 1
        self.pending_unit_count += demand.unit_count
        self.pending_bytes += demand.encoded_bytes
        self.pending_pixel_count += demand.pixel_count
        return Reservation(self, demand.held_bytes, demand, foretold_s)

    def admit_at_rest(self, held_bytes: int) -> "Reservation | None":
        """Room for an image that waits for nothing: no cap and no prediction refuses it. None when there is no room."""
        if self.reserved_bytes + held_bytes > self._limits.memory_bytes:
            return None
        self.request_count += 1
        self.reserved_bytes += held_bytes
        return Reservation(self, held_bytes, None)

    def _foretell(self, demand: Demand, drain_s: float, *, lane_count: int, remaining_s: float, spread: float) -> float:
        """When it should be done, without a margin, where that shows whether margins are right; else 0.

        Raises:
            DeadlineUnreachable: with a margin that is after its deadline.
        """
        # Units run in rounds of one for each lane.
        own_s = demand.codec_s + demand.cost_s * -(-demand.unit_count // lane_count) / demand.unit_count
        is_idle = self.pending_unit_count < lane_count
        if is_idle:
            # A lane would stay idle for the sake of a margin.
            finish_s = own_s
        else:
            # What waits and what it takes itself are not both at their worst: such errors add up in quadrature. What
            # the whole way adds to them is learnt from earlier images.
            finish_s = max(
                drain_s + own_s + (spread - 1.0) * hypot(drain_s, own_s), (drain_s + own_s) * self.promises.margin
            )
        if finish_s > remaining_s:
            self._refuse_late(demand, drain_s=drain_s, own_s=own_s, finish_s=finish_s, remaining_s=remaining_s)
        return 0.0 if is_idle or not Promises.is_telling(drain_s + own_s, remaining_s) else drain_s + own_s

    def admit_to_codecs(
        self, encoded_bytes: int, *, held_bytes: int, codec_s: float, remaining_s: float
    ) -> "Reservation":
        """Room for an image that is read and written and nothing else: it waits for no lane, and costs none.

        Raises:
            ImageTooLarge, QueueFull, MemoryBudgetExceeded, DeadlineUnreachable: as :meth:`admit`.
        """
        demand = Demand(0, encoded_bytes, held_bytes, cost_s=0.0, codec_s=codec_s)
        reservation = self.admit(demand, backlog_s=0.0, lane_count=1, remaining_s=remaining_s, spread=1.0)
        reservation.leave_queue()
        return reservation

    def reserve(self, size_bytes: int) -> "Reservation":
        """Room for bytes that are no image yet; they wait for their client, not for the network.

        Raises:
            ImageTooLarge, QueueFull, MemoryBudgetExceeded: as :meth:`admit`; who would find a full queue is told so
                before it sends anything.
        """
        return self.admit_to_codecs(0, held_bytes=size_bytes, codec_s=0.0, remaining_s=math.inf)

    def _refuse_for_good(self, demand: Demand) -> NoReturn:
        self._refused_work.inc(demand.cost_s)
        raise ImageTooLarge(
            f"the image takes up to {demand.held_bytes} bytes of memory while it is served; "
            f"all images together may take {self._limits.memory_bytes}; scale it down or send it in parts",
            field="image",
        )

    def _refuse_cap(self, cap: str, value: int, more: int, limit: int, demand: Demand, drain_s: float) -> NoReturn:
        self._refused_work.inc(demand.cost_s)
        raise QueueFull(
            f"the queue is full: {value} {cap} are pending and {more} more were offered; the limit is {limit}; "
            f"{_ELSEWHERE}",
            retry_after_s=_half_drained_s(value, limit, drain_s),
            metadata={"cap": cap, "value": str(value), "offered": str(more), "limit": str(limit)},
        )

    def _refuse_memory(self, demand: Demand, drain_s: float) -> NoReturn:
        self._refused_work.inc(demand.cost_s)
        taken, limit = self.reserved_bytes, self._limits.memory_bytes
        raise MemoryBudgetExceeded(
            f"the image needs {demand.held_bytes} bytes and {taken} of {limit} are taken; {_ELSEWHERE}",
            retry_after_s=_half_drained_s(taken, limit, drain_s),
            metadata={"value": str(taken), "offered": str(demand.held_bytes), "limit": str(limit)},
        )

    def _refuse_late(
        self, demand: Demand, *, drain_s: float, own_s: float, finish_s: float, remaining_s: float
    ) -> NoReturn:
        self._refused_work.inc(demand.cost_s)
        # Half of the wait that its deadline leaves room for.
        allowed_s = max(0.0, remaining_s - own_s)
        raise DeadlineUnreachable(
            f"the image would be done in about {finish_s:.3g} s and its deadline is in {remaining_s:.3g} s; "
            "allow more time, or send to another replica",
            retry_after_s=max(_LEAST_RETRY_S, drain_s - allowed_s / 2),
            metadata={"value": f"{finish_s:.3f}", "limit": f"{remaining_s:.3f}"},
        )


class Reservation:
    """An admitted image's place in the ledgers. Each part is given back once, however often it is asked."""

    __slots__ = ("_admission", "_foretold_s", "_held_bytes", "_is_reserved", "_pending")

    def __init__(self, admission: Admission, held_bytes: int, pending: Demand | None, foretold_s: float = 0.0) -> None:
        """``foretold_s`` is when it should be done; 0 when that says nothing about the margin."""
        self._admission = admission
        self._held_bytes = held_bytes
        self._pending = pending
        self._foretold_s = foretold_s
        self._is_reserved = True

    def leave_queue(self) -> None:
        """Its units have run: it is no longer pending. Its memory stays reserved."""
        demand, self._pending = self._pending, None
        if demand is not None:
            ledger = self._admission
            ledger.pending_count -= 1
            ledger.pending_unit_count -= demand.unit_count
            ledger.pending_bytes -= demand.encoded_bytes
            ledger.pending_pixel_count -= demand.pixel_count

    def note_computed(self, took_s: float, *, is_late: bool) -> None:
        """Its units have run, or were given up at its deadline, so long after it was admitted."""
        if self._foretold_s:
            self._admission.promises.note(self._foretold_s, took_s, is_late=is_late)

    def resize(self, held_bytes: int) -> None:
        """From now on it takes at most ``held_bytes``.

        Raises:
            ValueError: that is more than before, or less than nothing. It was admitted with the most that it would
                ever take.
        """
        if not 0 <= held_bytes <= self._held_bytes:
            raise ValueError(
                f"a reservation of {self._held_bytes} bytes can't become one of {held_bytes}; "
                "admit with the most that the image will take"
            )
        if self._is_reserved:
            self._admission.reserved_bytes += held_bytes - self._held_bytes
            self._held_bytes = held_bytes

    def release(self) -> None:
        """The call has ended, however it did: nothing of the image is left."""
        self.leave_queue()
        if self._is_reserved:
            self._is_reserved = False
            self._admission.request_count -= 1
            self._admission.reserved_bytes -= self._held_bytes


def _half_drained_s(value: int, limit: int, drain_s: float) -> float:
    """When ``value``, which is gone after ``drain_s``, has fallen to half of ``limit``; clients add the jitter."""
    share = max(0.0, 1.0 - limit / (2.0 * value)) if value else 0.0
    return max(_LEAST_RETRY_S, drain_s * share)
