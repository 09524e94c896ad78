"""An image that comes in chunks, and whose answer leaves in chunks.

Raw samples in rows are worked on as they arrive (:class:`_Rows`); a file, and samples in any other order, can't be
looked at before its last byte is there (:class:`_Whole`); samples that nothing is to be done to go back as they come
(:class:`_Untouched`). All keep what they hold within what was admitted: they stop wanting data while the network is
behind, and the network stops while the client does not read.
"""

from collections.abc import Callable
from typing import Protocol

from denoised.v1 import denoised_pb2 as pb
from service.chunks import Answer, Received, Send, unsent_most_bytes
from service.convert import Recipe
from service.errors import InvalidChunks
from service.image_tiles import BandedImage
from service.job import NO_TIME, FileOrder, Job, Outcome, RawOrder
from service.pipeline import Denoiser
from service.submission import Client
from service.types import Container
from service.wire import Chunk

# How often it is told how much of a file has come.
_TOLD_MOST = 100


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
        """Takes the next chunk, while :attr:`wants_data`. Raises what shall become of the item."""
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
    chunk_bytes: int,
    on_done: Callable[[Outcome | Exception], None],
    on_room: Callable[[], None],
    send: Send,
    tell: Callable[[pb.Progress], None],
) -> Upload:
    """Begins an item in chunks.

    Args:
        chunk_bytes: most of the answer's data in one chunk.
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
        if order.geometry.returns_input(order.options):
            return _Untouched(
                samples_bytes, denoiser=denoiser, chunk_bytes=chunk_bytes, on_done=on_done, on_room=on_room, send=send
            )
        if order.is_rowwise:
            return _Rows(
                order,
                denoiser=denoiser,
                client=client,
                deadline_s=deadline_s,
                chunk_bytes=chunk_bytes,
                on_done=on_done,
                on_room=on_room,
                send=send,
                tell=tell if header.progress else None,
            )
    elif header.size_bytes < 1:
        raise InvalidChunks(
            f"size_bytes is {header.size_bytes}; a file has 1 byte or more, say how many", field="header.size_bytes"
        )
    return _Whole(
        order,
        header.size_bytes,
        denoiser=denoiser,
        client=client,
        deadline_s=deadline_s,
        chunk_bytes=chunk_bytes,
        on_done=on_done,
        send=send,
        tell=tell if header.progress else None,
    )


class _Untouched:
    """Samples that are their own answer."""

    def __init__(
        self,
        size_bytes: int,
        *,
        denoiser: Denoiser,
        chunk_bytes: int,
        on_done: Callable[[Outcome | Exception], None],
        on_room: Callable[[], None],
        send: Send,
    ) -> None:
        self._received = Received(size_bytes)
        self._answer = Answer(size_bytes, chunk_bytes=chunk_bytes, send=send, on_left=self._go_on)
        self._on_done = on_done
        self._on_room = on_room
        self._room = denoiser.reserve(min(size_bytes, unsent_most_bytes(chunk_bytes)))

    @property
    def wants_data(self) -> bool:
        return not self._answer.is_full

    @property
    def is_complete(self) -> bool:
        return self._received.is_complete

    def feed(self, chunk: Chunk) -> None:
        self._received.take(chunk)
        self._answer.put(chunk.data)
        self._go_on()

    def close(self) -> None:
        self._answer.close()
        self._room.release()

    def _go_on(self) -> None:
        if not self._received.is_complete:
            self._on_room()
        elif self._answer.is_passed_on:
            self._answer.close()
            self._on_done(Outcome(Container.RAW, b"", None, None, NO_TIME))


class _Rows:
    """Samples in rows: a few rows of tiles are in memory at a time."""

    def __init__(
        self,
        order: RawOrder,
        *,
        denoiser: Denoiser,
        client: Client,
        deadline_s: float,
        chunk_bytes: int,
        on_done: Callable[[Outcome | Exception], None],
        on_room: Callable[[], None],
        send: Send,
        tell: Callable[[pb.Progress], None] | None,
    ) -> None:
        geometry = order.geometry
        size_bytes = geometry.header.decoded_bytes
        self._received = Received(size_bytes)
        # Of the latest chunk, what the image has no room for yet.
        self._rest = memoryview(b"")
        # Of an image that is only looked at nothing goes back.
        self._sends_rows = not order.options.report_only
        answer_bytes = size_bytes if self._sends_rows else 0
        self._answer = Answer(answer_bytes, chunk_bytes=chunk_bytes, send=send, on_left=self._go_on)
        self._image = BandedImage(
            geometry.header, plan=geometry.plan, scale=order.scale, strength=order.options.strength
        )
        self._denoiser = denoiser
        self._on_done = on_done
        self._on_room = on_room
        self._tell = tell
        self._outcome: Outcome | None = None
        self._job = Job(order, b"", client, deadline_s, self._computed)
        self._allow = denoiser.start_rows(
            self._job, self._image, on_tile=self._tile_done, unsent_bytes=unsent_most_bytes(chunk_bytes)
        )

    @property
    def wants_data(self) -> bool:
        return not self._rest and self._image.wants_data

    @property
    def is_complete(self) -> bool:
        return self._received.is_complete

    def feed(self, chunk: Chunk) -> None:
        self._received.take(chunk)
        self._rest = memoryview(chunk.data)
        self._go_on()

    def close(self) -> None:
        self._answer.close()
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
        """Passes on what is done, which makes room for more; over it is with the last chunk, though that be empty."""
        while not self._answer.is_full and (rows := self._image.fetch()) is not None:
            if self._sends_rows:
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
            self._work_on()
            self._on_room()
        elif self._answer.is_passed_on and self._received.is_complete:
            outcome, self._outcome = self._outcome, None
            self._on_done(outcome)

    def _work_on(self) -> None:
        """Takes in what there is room for, and has worked on what is there."""
        self._rest = self._rest[self._image.feed(self._rest) :]
        self._allow(self._image.available_count)


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
        chunk_bytes: int,
        on_done: Callable[[Outcome | Exception], None],
        send: Send,
        tell: Callable[[pb.Progress], None] | None,
    ) -> None:
        self._received = Received(size_bytes)
        # One piece: many small chunks would take far more memory than their bytes.
        self._data = bytearray()
        self._order = order
        self._denoiser = denoiser
        self._client = client
        self._deadline_s = deadline_s
        self._chunk_bytes = chunk_bytes
        self._on_done = on_done
        self._send = send
        self._tell = tell
        self._told_bytes = 0
        # However small the chunks are: what is told waits in memory until the client reads it.
        self._tell_each_bytes = max(1, size_bytes // _TOLD_MOST)
        self._job: Job | None = None
        self._outcome: Outcome | None = None
        self._answer: Answer | None = None
        self._room = denoiser.reserve(size_bytes)

    @property
    def wants_data(self) -> bool:
        return True

    @property
    def is_complete(self) -> bool:
        return self._received.is_complete

    def feed(self, chunk: Chunk) -> None:
        self._received.take(chunk)
        self._data += chunk.data
        if self._tell is not None and self._received.count_bytes >= self._told_bytes + self._tell_each_bytes:
            self._told_bytes = self._received.count_bytes
            self._tell(pb.Progress(received_bytes=self._told_bytes))
        if chunk.last:
            data, self._data = bytes(self._data), bytearray()
            # The image that they make up has a room of its own.
            self._room.release()
            self._job = Job(self._order, data, self._client, self._deadline_s, self._computed)
            self._denoiser.start(self._job, in_chunks=True, unsent_bytes=unsent_most_bytes(self._chunk_bytes))

    def close(self) -> None:
        self._data = bytearray()
        self._room.release()
        if self._answer is not None:
            self._answer.close()
        if self._job is not None:
            self._denoiser.close(self._job)

    def _computed(self, _: Job, end: Outcome | Exception) -> None:
        if isinstance(end, Exception):
            self._on_done(end)
            return
        self._outcome = end._replace(data=b"")
        self._answer = Answer(
            memoryview(end.data).nbytes, chunk_bytes=self._chunk_bytes, send=self._send, on_left=self._go_on
        )
        self._answer.put(end.data)
        self._go_on()

    def _go_on(self) -> None:
        assert self._answer is not None
        if self._outcome is not None and self._answer.is_passed_on:
            outcome, self._outcome = self._outcome, None
            self._on_done(outcome)
