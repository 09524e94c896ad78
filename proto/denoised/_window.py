"""What to do next in a ``clean_many``: which images are on their way, which wait for another try, which are settled.

Pure state: it neither sends nor sleeps nor looks at a clock. ``Client`` and ``AsyncClient`` ask it for the next
step, take that step, and tell it what came of it.

What does not fit one message goes alone, on a stream of its own, while the others wait (``Alone``). So does an image of
which that is not known yet: it is how the server's limits are learnt.

Streams are renewed: one takes new items for ``STREAM_SPAN_S``, is emptied and replaced. So every stream has a
deadline however many images there are, and a load balancer can spread them.
"""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
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
from denoised.retry import RetryPolicy, valid_timeout_s
from denoised.v1 import denoised_pb2 as pb

STREAM_SPAN_S: Final = 60.0

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
    """Open a stream with this deadline."""

    timeout_s: float


@dataclass(frozen=True, slots=True)
class Send:
    """Send the frame on the open stream."""

    frame: pb.DenoiseStreamRequest


@dataclass(frozen=True, slots=True)
class Alone:
    """Clean the image by itself, retries included, then ``settle`` it."""

    index: int
    order: Order
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Receive:
    """Wait so long for an answer, then ``note`` what came."""

    wait_s: float


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait so long; no stream is open."""

    wait_s: float


@dataclass(frozen=True, slots=True)
class Close:
    """Close the stream; all its answers have come."""


@dataclass(frozen=True, slots=True)
class Finish:
    """Everything is settled."""


Step = Give | Take | Open | Send | Alone | Receive | Sleep | Close | Finish


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """What a reader puts after the last answer; ``error`` is None when the server closed the stream itself."""

    error: DenoisedError | None


@dataclass(slots=True)
class _Item:
    index: int
    order: Order
    timeout_s: float
    deadline_s: float
    due_s: float
    tries_made: int = 0


class Window:
    """The unsettled images of one ``clean_many``, at most ``concurrency`` of them."""

    def __init__(
        self,
        *,
        target: str,
        policy: RetryPolicy,
        concurrency: int,
        timeout_s: float | None,
        options: CleanOptions,
        limits: Callable[[], ServerLimits | None],
    ) -> None:
        """The options are those of every image; ``timeout_s`` is each image's own, None being by its size.

        ``limits`` gives the server's, as far as they are known.

        Raises:
            InvalidOptionError: the concurrency or the timeout is not positive.
        """
        if concurrency < 1:
            raise InvalidOptionError(
                f"concurrency is {concurrency}; it must be 1 or more", reason="OPTION_INVALID", field="concurrency"
            )
        self._target = target
        self._policy = policy
        self._concurrency = concurrency
        self._timeout_s = None if timeout_s is None else valid_timeout_s(timeout_s)
        self._options = options
        self._limits = limits
        self._taken_count = 0
        self._source_is_open = True
        self._stream_opened_s: float | None = None
        self._waiting: list[_Item] = []
        self._sent: dict[str, _Item] = {}
        self._outcomes: deque[Outcome] = deque()

    def next_step(self, now_s: float) -> Step:
        """What to do now; outcomes first, then new images, then what is due, then waiting."""
        if self._outcomes:
            return Give(self._outcomes.popleft())
        if self._source_is_open and len(self._sent) + len(self._waiting) < self._concurrency:
            return Take()
        is_done, is_old = not self._sent and not self._waiting, self._stream_is_old(now_s)
        if self._stream_opened_s is not None and not self._sent and (is_done or is_old):
            self._stream_opened_s = None
            return Close()
        if is_done:
            return Finish()
        if not is_old:
            due = min(self._waiting, key=lambda item: item.due_s, default=None)
            if due is not None and due.due_s <= now_s:
                return self._send_alone(due, now_s) if self._goes_alone(due.order) else self._send(due, now_s)
        wait_s = max(0.0, self._next_moment_s(now_s) - now_s)
        return Sleep(wait_s) if self._stream_opened_s is None else Receive(wait_s)

    def add(self, image: ImageInput, now_s: float) -> None:
        """The next image has been taken; its time runs from now on."""
        index, self._taken_count = self._taken_count, self._taken_count + 1
        try:
            order = build_order(image, **self._options)
        except DenoisedError as error:
            self._outcomes.append((index, error))
        else:
            timeout_s = order.default_timeout_s if self._timeout_s is None else self._timeout_s
            self._waiting.append(_Item(index, order, timeout_s, deadline_s=now_s + timeout_s, due_s=now_s))

    def end_source(self) -> None:
        """There are no more images."""
        self._source_is_open = False

    def settle(self, index: int, outcome: CleanResult[Any] | DenoisedError) -> None:
        """What became of an image that went alone."""
        self._outcomes.append((index, outcome))

    def note(self, event: pb.DenoiseStreamResponse | StreamEnd | None, now_s: float) -> None:
        """What came of waiting: an answer, the end of the stream, or nothing in time."""
        if event is None:
            self._give_up_overdue(now_s)
        elif isinstance(event, StreamEnd):
            self._end_stream(event.error, now_s)
        else:
            self._read(event, now_s)

    def _read(self, answer: pb.DenoiseStreamResponse, now_s: float) -> None:
        item = self._sent.pop(answer.item_id, None)
        if item is None:
            return  # it was given up on
        if answer.result.status.code != 0:
            self._fail(item, _failures.from_status(answer.result.status, target=self._target), now_s)
            return
        try:
            self._outcomes.append((item.index, read_response(answer.result.response, item.order.image.form)))
        except InternalError as error:
            self._outcomes.append((item.index, error))

    def _end_stream(self, error: DenoisedError | None, now_s: float) -> None:
        self._stream_opened_s = None
        error = error or stream_ended(self._target)
        unanswered, self._sent = self._sent, {}
        for item in unanswered.values():
            self._fail(item, error, now_s)

    def _give_up_overdue(self, now_s: float) -> None:
        overdue = [item for item in self._sent.values() if item.deadline_s + _GRACE_S <= now_s]
        for item in overdue:
            del self._sent[str(item.index)]
            error = DeadlineExceededError(
                f"no answer within {item.timeout_s:g} s; allow more with timeout_s", reason="DEADLINE_EXCEEDED"
            )
            self._outcomes.append((item.index, error))

    def _stream_is_old(self, now_s: float) -> bool:
        return self._stream_opened_s is not None and now_s - self._stream_opened_s >= STREAM_SPAN_S

    def _next_moment_s(self, now_s: float) -> float:
        """When there will be something to do even if no answer comes."""
        moments_s = [item.deadline_s + _GRACE_S for item in self._sent.values()]
        if not self._stream_is_old(now_s):
            moments_s += [item.due_s for item in self._waiting]
        return min(moments_s)

    def _goes_alone(self, order: Order) -> bool:
        limits = self._limits()
        return not order.is_surely_small and (limits is None or limits.wants_chunks(order))

    def _send_alone(self, item: _Item, now_s: float) -> Step:
        self._waiting.remove(item)
        return Alone(item.index, item.order, max(item.deadline_s - now_s, _LEAST_S))

    def _send(self, item: _Item, now_s: float) -> Step:
        if self._stream_opened_s is None:
            self._stream_opened_s = now_s
            # The last item that the stream takes still gets its whole time.
            return Open(STREAM_SPAN_S + (self._timeout_s or _LONGEST_DEFAULT_S) + _GRACE_S)
        self._waiting.remove(item)
        self._sent[str(item.index)] = item
        return Send(
            pb.DenoiseStreamRequest(
                item_id=str(item.index), request=item.order.request(), timeout=duration(item.deadline_s - now_s)
            )
        )

    def _fail(self, item: _Item, error: DenoisedError, now_s: float) -> None:
        item.tries_made += 1
        pause_s = self._policy.pause_s(
            error, tries_made=item.tries_made, remaining_s=item.deadline_s - now_s, draw=random.random
        )
        if pause_s is None:
            self._outcomes.append((item.index, error))
        else:
            item.due_s = now_s + pause_s
            self._waiting.append(item)
