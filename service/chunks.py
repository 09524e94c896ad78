"""An image's bytes in chunks: counted as they come, and sent as they leave, little at a time."""

from collections import deque
from collections.abc import Callable
from functools import partial

from service.errors import InvalidChunks
from service.types import Data
from service.wire import Chunk

# Of an answer that has been made and not been sent.
UNSENT_MOST_BYTES = 4 * 1024 * 1024

Send = Callable[[Data, bool, Callable[[], None]], None]
"""Sends a part of the answer, the last one or not, and calls back when it has left."""


def unsent_most_bytes(chunk_bytes: int) -> int:
    """The most of an answer that is in messages of its own which have not left."""
    return UNSENT_MOST_BYTES + chunk_bytes


class Received:
    """Counts what has come of an image against what was announced."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.count_bytes = 0
        self.is_complete = False

    def take(self, chunk: Chunk) -> None:
        """Raises InvalidChunks when the chunk does not fit the announcement."""
        if self.is_complete:
            raise InvalidChunks("the image had its last chunk; begin another with a header", field="chunk")
        self.count_bytes += len(chunk.data)
        if self.count_bytes > self.size_bytes or (chunk.last and self.count_bytes < self.size_bytes):
            raise InvalidChunks(
                f"the chunks have {self.count_bytes} bytes{' in all' if chunk.last else ''}; "
                f"the header announced {self.size_bytes}",
                field="chunk.data",
            )
        self.is_complete = chunk.last


class Answer:
    """The answer's data on its way out, in chunks; little of it at a time."""

    def __init__(self, size_bytes: int, *, chunk_bytes: int, send: Send, on_left: Callable[[], None]) -> None:
        """``on_left`` is told whenever some has left."""
        self._left_to_send_bytes = size_bytes
        self._chunk_bytes = chunk_bytes
        self._send = send
        self._on_left = on_left
        self._pending: deque[memoryview] = deque()
        self._unsent_bytes = 0
        self._is_closed = False

    @property
    def is_full(self) -> bool:
        """Whether more should wait until some has left."""
        return bool(self._pending) or self._unsent_bytes >= UNSENT_MOST_BYTES

    @property
    def is_passed_on(self) -> bool:
        """Whether all of it is on its way: what is sent now comes after it."""
        return self._left_to_send_bytes == 0

    def put(self, data: Data) -> None:
        """The next bytes of the answer."""
        view = memoryview(data).cast("B")
        if view and not self._is_closed:
            self._pending.append(view)
            self._pump()

    def close(self) -> None:
        """Nothing more is sent or told."""
        self._is_closed = True
        self._pending.clear()

    def _pump(self) -> None:
        while self._pending and self._unsent_bytes < UNSENT_MOST_BYTES:
            data = self._pending.popleft()
            part, rest = data[: self._chunk_bytes], data[self._chunk_bytes :]
            if rest:
                self._pending.appendleft(rest)
            self._unsent_bytes += len(part)
            self._left_to_send_bytes -= len(part)
            self._send(part, self._left_to_send_bytes == 0, partial(self._note_left, len(part)))

    def _note_left(self, size_bytes: int) -> None:
        if self._is_closed:
            return
        self._unsent_bytes -= size_bytes
        self._pump()
        self._on_left()
