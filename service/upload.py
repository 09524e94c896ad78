"""An image that comes in chunks, and whose answer leaves in chunks.

Raw samples in rows are worked on as they arrive (:class:`_Rows`); a file, and samples in any other order, can't be
looked at before its last byte is there (:class:`_Whole`). Both keep what they hold within what was admitted: they stop
wanting data while the network is behind, and the network stops while the client does not read.
"""

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Protocol

from denoised.v1 import denoised_pb2 as pb
from service.batcher import Client
from service.convert import Recipe
from service.errors import InvalidChunks
from service.image_tiles import BandedImage
from service.job import FileOrder, Job, Outcome, RawOrder
from service.pipeline import Denoiser
from service.types import Data
from service.wire import Chunk

CHUNK_BYTES = 256 * 1024
# Of an answer that has been made and not been sent.
_UNSENT_MOST_BYTES = 4 * 1024 * 1024
# How often it is told how much of a file has come.
_TOLD_MOST = 100

Send = Callable[[Data, bool, Callable[[], None]], None]
"""Sends a part of the answer, the last one or not, and calls back when it has left."""


class Upload(Protocol):
    """An item in chunks."""

    @property
    def wants_data(self) -> bool:
        """Whether more may be read from the stream."""
        ...

    @property
    def is_complete(self) -> bool:
        """Whether its last chunk has come."""
        ...

    def feed(self, chunk: Chunk) -> None:
        """Takes the next chunk. Raises what shall become of the item."""
        ...

    def close(self) -> None:
        """The item is over, answered or not. May be called again."""
        ...


def open_upload(
    header: pb.ImageHeader,
    recipe: Recipe,
    *,
    denoiser: Denoiser,
    client: Client,
    deadline_s: float,
    on_done: Callable[[Outcome | Exception], None],
    on_room: Callable[[], None],
    send: Send,
    tell: Callable[[pb.Progress], None],
) -> Upload:
    """Begins an item in chunks.

    Args:
        on_done: told what became of it; the answer's data went through ``send`` before.
        on_room: told when :attr:`Upload.wants_data` may have become true.

    Raises:
        ServiceError: it is refused.
    """
    data = header.image.raw.data or header.image.encoded.data
    if data:
        raise InvalidChunks(
            f"the header's image has {len(data)} bytes of data; leave it empty and send them in chunks",
            field="header.image",
        )
    order = recipe.order
    if isinstance(order, RawOrder):
        samples_bytes = order.geometry.header.decoded_bytes
        if header.size_bytes != samples_bytes:
            raise InvalidChunks(
                f"size_bytes is {header.size_bytes}; the samples that the header describes have {samples_bytes}",
                field="header.size_bytes",
            )
        if order.is_rowwise:
            return _Rows(
                order,
                denoiser=denoiser,
                client=client,
                deadline_s=deadline_s,
                on_done=on_done,
                on_room=on_room,
                send=send,
                tell=tell if header.progress else None,
            )
    return _Whole(
        order,
        header.size_bytes,
        denoiser=denoiser,
        client=client,
        deadline_s=deadline_s,
        on_done=on_done,
        send=send,
        tell=tell if header.progress else None,
    )


class _Received:
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


class _Answer:
    """The answer's data on its way out, in chunks; little of it at a time."""

    def __init__(self, size_bytes: int, *, send: Send, on_left: Callable[[], None]) -> None:
        """``on_left`` is told whenever some has left."""
        self._left_to_send_bytes = size_bytes
        self._send = send
        self._on_left = on_left
        self._pending: deque[memoryview] = deque()
        self._unsent_bytes = 0

    @property
    def is_full(self) -> bool:
        """Whether more should wait until some has left."""
        return bool(self._pending) or self._unsent_bytes >= _UNSENT_MOST_BYTES

    @property
    def is_passed_on(self) -> bool:
        """Whether all of it is on its way: what is sent now comes after it."""
        return self._left_to_send_bytes == 0

    def put(self, data: Data) -> None:
        """The next bytes of the answer."""
        self._pending.append(memoryview(data).cast("B"))
        self._pump()

    def _pump(self) -> None:
        while self._pending and self._unsent_bytes < _UNSENT_MOST_BYTES:
            data = self._pending.popleft()
            part, rest = data[:CHUNK_BYTES], data[CHUNK_BYTES:]
            if rest:
                self._pending.appendleft(rest)
            self._unsent_bytes += len(part)
            self._left_to_send_bytes -= len(part)
            self._send(part, self._left_to_send_bytes == 0, partial(self._note_left, len(part)))

    def _note_left(self, size_bytes: int) -> None:
        self._unsent_bytes -= size_bytes
        self._pump()
        self._on_left()


class _Rows:
    """Samples in rows: a few rows of tiles are in memory at a time."""

    def __init__(
        self,
        order: RawOrder,
        *,
        denoiser: Denoiser,
        client: Client,
        deadline_s: float,
        on_done: Callable[[Outcome | Exception], None],
        on_room: Callable[[], None],
        send: Send,
        tell: Callable[[pb.Progress], None] | None,
    ) -> None:
        geometry = order.geometry
        size_bytes = geometry.header.decoded_bytes
        self._received = _Received(size_bytes)
        self._answer = _Answer(size_bytes, send=send, on_left=self._go_on)
        self._image = BandedImage(
            geometry.header, plan=geometry.plan, scale=order.scale, strength=order.options.strength
        )
        self._denoiser = denoiser
        self._on_done = on_done
        self._on_room = on_room
        self._tell = tell
        self._outcome: Outcome | None = None
        self._job = Job(order, b"", client, deadline_s, self._computed)
        self._allow = denoiser.start_rows(self._job, self._image, on_tile=self._tile_done)

    @property
    def wants_data(self) -> bool:
        return self._image.wants_data

    @property
    def is_complete(self) -> bool:
        return self._received.is_complete

    def feed(self, chunk: Chunk) -> None:
        self._received.take(chunk)
        self._image.feed(chunk.data)
        self._allow(self._image.available_count)

    def close(self) -> None:
        self._denoiser.close(self._job)

    def _tile_done(self, index: int) -> None:
        self._image.note_done(index)
        self._go_on()

    def _computed(self, _: Job, end: Outcome | Exception) -> None:
        if isinstance(end, Exception):
            self._on_done(end)
        else:
            self._outcome = end
            self._go_on()

    def _go_on(self) -> None:
        """Passes on what is done, which makes room for more."""
        while not self._answer.is_full and (rows := self._image.fetch()) is not None:
            self._answer.put(rows.data)
            if self._tell is not None:
                self._tell(
                    pb.Progress(
                        received_bytes=self._received.count_bytes,
                        done_tile_count=self._image.done_tile_count,
                        tile_count=self._image.plan.tile_count,
                    )
                )
        if self._outcome is None:
            self._allow(self._image.available_count)
            self._on_room()
        elif self._answer.is_passed_on:
            outcome, self._outcome = self._outcome, None
            self._on_done(outcome)


class _Whole:
    """Bytes that must all be there before any can be worked on."""

    def __init__(
        self,
        order: RawOrder | FileOrder,
        size_bytes: int,
        *,
        denoiser: Denoiser,
        client: Client,
        deadline_s: float,
        on_done: Callable[[Outcome | Exception], None],
        send: Send,
        tell: Callable[[pb.Progress], None] | None,
    ) -> None:
        self._received = _Received(size_bytes)
        self._chunks: list[Data] = []
        self._order = order
        self._denoiser = denoiser
        self._client = client
        self._deadline_s = deadline_s
        self._on_done = on_done
        self._send = send
        self._tell = tell
        self._told_bytes = 0
        # However small the chunks are: what is told waits in memory until the client reads it.
        self._tell_each_bytes = max(1, size_bytes // _TOLD_MOST)
        self._job: Job | None = None
        self._outcome: Outcome | None = None
        self._answer: _Answer | None = None
        self._room = denoiser.reserve(size_bytes)

    @property
    def wants_data(self) -> bool:
        return True

    @property
    def is_complete(self) -> bool:
        return self._received.is_complete

    def feed(self, chunk: Chunk) -> None:
        self._received.take(chunk)
        self._chunks.append(chunk.data)
        if self._tell is not None and self._received.count_bytes >= self._told_bytes + self._tell_each_bytes:
            self._told_bytes = self._received.count_bytes
            self._tell(pb.Progress(received_bytes=self._told_bytes))
        if chunk.last:
            data, self._chunks = b"".join(self._chunks), []
            # The image that they make up has a room of its own.
            self._room.release()
            self._job = Job(self._order, data, self._client, self._deadline_s, self._computed)
            self._denoiser.start(self._job, in_chunks=True)

    def close(self) -> None:
        self._room.release()
        if self._job is not None:
            self._denoiser.close(self._job)

    def _computed(self, _: Job, end: Outcome | Exception) -> None:
        if isinstance(end, Exception):
            self._on_done(end)
            return
        self._outcome = end._replace(data=b"")
        self._answer = _Answer(memoryview(end.data).nbytes, send=self._send, on_left=self._go_on)
        self._answer.put(end.data)
        self._go_on()

    def _go_on(self) -> None:
        assert self._answer is not None
        if self._outcome is not None and self._answer.is_passed_on:
            outcome, self._outcome = self._outcome, None
            self._on_done(outcome)
