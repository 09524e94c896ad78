"""What to do next in a ``clean_many``: which images are on their way, which wait for another try, which are settled.

Pure state: it neither sends nor sleeps nor looks at a clock. ``Client`` and ``AsyncClient`` ask it for the next
step, take that step, and tell it what happened.

Images travel over several streams, each image over the one with the fewest unanswered, so that a slow replica gets
less. What does not fit one message goes alone, on a stream of its own (``Alone``), ``MOST_ALONE`` at a time. So does
an image of which that is not known yet: it is how the server's limits are learnt.

Streams are renewed: one takes new items for ``STREAM_SPAN_S``, is emptied and replaced. So every stream has a
deadline however many images there are, and a load balancer can spread them. An image that a lost stream left
unanswered is sent again over another one; an answer belongs to the stream that it came over, so that none is given
twice.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from denoised import _failures
from denoised._calls import duration, read_response, stream_ended
from denoised._images import ImageInput
from denoised._order import (
    DEFAULT_TIMEOUT_S,
    DEFAULT_TIMEOUT_S_PER_MEGAPIXEL,
    LARGEST_MESSAGE_BYTES,
    CleanOptions,
    Order,
    ServerLimits,
    build_order,
)
from denoised.errors import DeadlineExceededError, DenoisedError, InternalError, InvalidOptionError
from denoised.results import CleanResult
from denoised.retry import RetryBudget, RetryPolicy, valid_timeout_s
from denoised.v1 import denoised_pb2 as pb

STREAM_SPAN_S: Final = 60.0

# One is computed while another one travels; each has an image and an answer in memory.
MOST_ALONE: Final = 2

# How long a stream whose answers have all come may take to end.
FAREWELL_S: Final = 2.0

# The server answers an item whose time is over; only a server that does not is given up on, this much later.
_GRACE_S: Final = 2.0

# Of an image whose time is over before it is sent: its try fails at once, with the error of any other.
_LEAST_S: Final = 1e-3

# What fits one message has no more pixels than bytes.
_LONGEST_DEFAULT_S: Final = DEFAULT_TIMEOUT_S + DEFAULT_TIMEOUT_S_PER_MEGAPIXEL * LARGEST_MESSAGE_BYTES / 1e6

Outcome = tuple[int, CleanResult[Any] | DenoisedError]


@dataclass(frozen=True, slots=True)
class Give:
    """Hand the outcome to the caller."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Take:
    """Take the next image from the caller, then call ``add`` or ``end_source``."""


@dataclass(frozen=True, slots=True)
class Open:
    """Open a stream under this number, with this deadline."""

    stream: int
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Send:
    """Send the frame on the stream."""

    stream: int
    frame: pb.DenoiseStreamRequest


@dataclass(frozen=True, slots=True)
class Alone:
    """Begin to clean the image by itself, retries included; ``note`` when it is ``Settled``."""

    index: int
    order: Order
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait so long for something to happen, then ``note`` it."""

    wait_s: float


@dataclass(frozen=True, slots=True)
class Close:
    """Close the stream; all its answers have come."""

    stream: int


@dataclass(frozen=True, slots=True)
class Finish:
    """Everything is settled."""


Step = Give | Take | Open | Send | Alone | Wait | Close | Finish


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer came over a stream."""

    stream: int
    response: pb.DenoiseStreamResponse


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """Nothing more comes over a stream; ``error`` is None when the server closed it itself."""

    stream: int
    error: DenoisedError | None


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of an image that went alone."""

    index: int
    result: CleanResult[Any] | DenoisedError


Event = Answer | StreamEnd | Settled


@dataclass(slots=True)
class _Item:
    index: int
    order: Order
    timeout_s: float
    due_s: float
    deadline_s: float | None = None
    tries_made: int = 0


@dataclass(slots=True)
class _OpenStream:
    opened_s: float
    unanswered: dict[str, _Item] = field(default_factory=dict)

    def is_old(self, now_s: float) -> bool:
        return now_s - self.opened_s >= STREAM_SPAN_S


class Window:
    """The unsettled images of one ``clean_many``, at most ``concurrency`` of them."""

    def __init__(
        self,
        *,
        target: str,
        policy: RetryPolicy,
        budget: RetryBudget,
        concurrency: int,
        stream_count: int,
        is_ordered: bool,
        timeout_s: float | None,
        options: CleanOptions,
        limits: Callable[[], ServerLimits | None],
    ) -> None:
        """The options are those of every image; ``timeout_s`` is each image's own, None being by its size.

        ``limits`` gives the server's, as far as they are known.

        Raises:
            InvalidOptionError: the concurrency, the number of streams or the timeout is not positive.
        """
        self._target = target
        self._policy = policy
        self._budget = budget
        self._concurrency = _positive(concurrency, "concurrency")
        self._stream_count = _positive(stream_count, "stream_count")
        self._is_ordered = is_ordered
        self._timeout_s = None if timeout_s is None else valid_timeout_s(timeout_s)
        self._options = options
        self._limits = limits
        self._taken_count = 0
        self._given_count = 0
        self._opened_count = 0
        self._source_is_open = True
        self._waiting: list[_Item] = []
        self._streams: dict[int, _OpenStream] = {}
        self._alone: dict[int, _Item] = {}
        # In the order of their settling.
        self._outcomes: dict[int, CleanResult[Any] | DenoisedError] = {}

    def next_step(self, now_s: float) -> Step:
        """What to do now; outcomes first, then new images, then what is due, then waiting."""
        outcome = self._next_outcome()
        if outcome is not None:
            return Give(outcome)
        if self._source_is_open and self._has_room():
            return Take()
        is_done = self._unsettled_count() == 0
        for number, stream in self._streams.items():
            if not stream.unanswered and (is_done or stream.is_old(now_s)):
                del self._streams[number]
                return Close(number)
        if is_done:
            return Finish()
        return self._next_sending(now_s) or Wait(max(0.0, self._next_moment_s(now_s) - now_s))

    def add(self, image: ImageInput, now_s: float) -> None:
        """The next image has been taken; its time runs from when it is first sent."""
        index, self._taken_count = self._taken_count, self._taken_count + 1
        try:
            order = build_order(image, **self._options)
        except DenoisedError as error:
            self._outcomes[index] = error
        else:
            timeout_s = order.default_timeout_s if self._timeout_s is None else self._timeout_s
            self._waiting.append(_Item(index, order, timeout_s, due_s=now_s))

    def end_source(self) -> None:
        """There are no more images."""
        self._source_is_open = False

    def note(self, event: Event | None, now_s: float) -> None:
        """What happened while waiting; None when nothing did in time."""
        match event:
            case None:
                self._give_up_overdue(now_s)
            case Answer(stream, response):
                self._read(stream, response, now_s)
            case StreamEnd(stream, error):
                self._end_stream(stream, error, now_s)
            case Settled(index, result):
                del self._alone[index]
                self._outcomes[index] = result

    def _next_outcome(self) -> Outcome | None:
        index = self._given_count if self._is_ordered else next(iter(self._outcomes), None)
        if index is None or index not in self._outcomes:
            return None
        self._given_count += 1
        return index, self._outcomes.pop(index)

    def _has_room(self) -> bool:
        """In order, what is settled may have to wait for one that isn't: as much again, and no more."""
        ungiven_count = self._taken_count - self._given_count
        return self._unsettled_count() < self._concurrency and ungiven_count < 2 * self._concurrency

    def _unsettled_count(self) -> int:
        sent_count = sum(len(stream.unanswered) for stream in self._streams.values())
        return sent_count + len(self._waiting) + len(self._alone)

    def _next_sending(self, now_s: float) -> Step | None:
        """The first image that is due and has a way to go."""
        for item in sorted(self._waiting, key=lambda item: item.due_s):
            if item.due_s > now_s:
                break
            if not self._goes_alone(item.order):
                return self._send(item, now_s)
            # The first one learns the limits for all.
            if len(self._alone) < (1 if self._limits() is None else MOST_ALONE):
                self._waiting.remove(item)
                self._alone[item.index] = item
                return Alone(item.index, item.order, self._remaining_s(item, now_s))
        return None

    def _send(self, item: _Item, now_s: float) -> Step:
        fresh = {number: stream for number, stream in self._streams.items() if not stream.is_old(now_s)}
        number = min(fresh, key=lambda number: len(fresh[number].unanswered), default=None)
        if number is None or (fresh[number].unanswered and len(fresh) < self._stream_count):
            self._opened_count += 1
            self._streams[self._opened_count] = _OpenStream(now_s)
            # The last item that the stream takes still gets its whole time.
            return Open(self._opened_count, STREAM_SPAN_S + (self._timeout_s or _LONGEST_DEFAULT_S) + _GRACE_S)
        if item.tries_made == 0:
            self._budget.earn()
        self._waiting.remove(item)
        item_id = str(item.index)
        self._streams[number].unanswered[item_id] = item
        timeout = duration(self._remaining_s(item, now_s))
        return Send(number, pb.DenoiseStreamRequest(item_id=item_id, request=item.order.request(), timeout=timeout))

    def _read(self, number: int, response: pb.DenoiseStreamResponse, now_s: float) -> None:
        stream = self._streams.get(number)
        item = None if stream is None else stream.unanswered.pop(response.item_id, None)
        if item is None:
            return  # it was given up on, or sent again over another stream
        if response.result.status.code != 0:
            error = _failures.from_status(response.result.status, target=self._target)
            self._fail(item, error, now_s, is_allowed=self._budget.allows)
            return
        try:
            self._outcomes[item.index] = read_response(response.result.response, item.order.image.form)
        except InternalError as error:
            self._outcomes[item.index] = error

    def _end_stream(self, number: int, error: DenoisedError | None, now_s: float) -> None:
        stream = self._streams.pop(number, None)
        if stream is None or not stream.unanswered:
            return
        error = error or stream_ended(self._target)
        is_allowed = self._budget.allows(error)
        for item in stream.unanswered.values():
            self._fail(item, error, now_s, is_allowed=lambda _: is_allowed)

    def _give_up_overdue(self, now_s: float) -> None:
        for stream in self._streams.values():
            overdue = [item for item in stream.unanswered.values() if _given_up_s(item) <= now_s]
            for item in overdue:
                del stream.unanswered[str(item.index)]
                self._outcomes[item.index] = DeadlineExceededError(
                    f"no answer within {item.timeout_s:g} s; allow more with timeout_s", reason="DEADLINE_EXCEEDED"
                )

    def _next_moment_s(self, now_s: float) -> float:
        """When there will be something to do even if nothing happens."""
        items = [item for stream in self._streams.values() for item in stream.unanswered.values()]
        moments_s = [_given_up_s(item) for item in items]
        # What is due and still here waits for one of those that go alone, and they end by themselves.
        moments_s += [item.due_s for item in self._waiting if item.due_s > now_s]
        return min(moments_s, default=now_s + STREAM_SPAN_S)

    def _goes_alone(self, order: Order) -> bool:
        limits = self._limits()
        return not order.is_surely_small and (limits is None or limits.wants_chunks(order))

    def _remaining_s(self, item: _Item, now_s: float) -> float:
        if item.deadline_s is None:
            item.deadline_s = now_s + item.timeout_s
        return max(item.deadline_s - now_s, _LEAST_S)

    def _fail(
        self, item: _Item, error: DenoisedError, now_s: float, *, is_allowed: Callable[[DenoisedError], bool]
    ) -> None:
        assert item.deadline_s is not None
        item.tries_made += 1
        pause_s = self._policy.pause_s(
            error, tries_made=item.tries_made, remaining_s=item.deadline_s - now_s, draw=random.random
        )
        if pause_s is None or not is_allowed(error):
            self._outcomes[item.index] = error
        else:
            item.due_s = now_s + pause_s
            self._waiting.append(item)


def _given_up_s(item: _Item) -> float:
    """When nobody waits for the item's answer any longer."""
    assert item.deadline_s is not None
    return item.deadline_s + _GRACE_S


def _positive(value: int, option: str) -> int:
    if value < 1:
        raise InvalidOptionError(f"{option} is {value}; it must be 1 or more", reason="OPTION_INVALID", field=option)
    return value
