"""One DenoiseStream call: reads frames, starts items, writes what comes of them as it comes.

Owns the protocol of the stream: ids, cancelling, how many items may be unanswered, that nothing follows an item's
result. Two tasks serve a stream, however many items it carries: one reads, one writes.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from google.rpc.status_pb2 import Status

from denoised.v1 import denoised_pb2 as pb
from service import wire
from service.admission import Reservation
from service.convert import Recipe, Recipes, Replies, too_large
from service.errors import (
    ClientGone,
    DeadlineExceeded,
    InvalidChunks,
    InvalidOption,
    ItemCancelled,
    QueueFull,
    ServiceError,
)
from service.job import Job, Outcome
from service.lifecycle import InFlight, Lifecycle
from service.pipeline import Denoiser
from service.submission import Client
from service.upload import Upload, open_upload

_ITEM_ID_LENGTH = 128
# Ids of refused uploads whose chunks may still be on their way.
_REFUSED_UPLOADS_MOST = 1024
# When one of a stream's images in chunks may have come.
_RETRY_UPLOAD_S = 1.0


class Wire(Protocol):
    """The call's messages, serialised."""

    async def read(self) -> bytes | None:
        """The next frame, None when the client has sent its last."""
        ...

    async def write(self, message: bytes) -> None:
        """Returns when the message has left; raises when nobody is there."""
        ...


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """What one stream may hold.

    Attributes:
        items_in_flight: unanswered items that the client has nothing more to send of; at this many no further one
            is begun. Images whose chunks are still coming are counted apart: as many, and further ones are refused,
            because they would never come if nothing were read.
        default_timeout_s: of items that state none.
        longest_timeout_s: of those that state more.
        message_bytes: largest answer in one message.
        chunk_bytes: of an answer that leaves in chunks.
    """

    items_in_flight: int
    default_timeout_s: float
    longest_timeout_s: float
    message_bytes: int
    chunk_bytes: int


@dataclass(slots=True, eq=False)
class Item:
    """One image of the stream that is not answered yet."""

    item_id: str
    recipe: Recipe | None = None
    job: Job | None = None
    upload: Upload | None = None
    timer: asyncio.TimerHandle | None = None
    has_entered: bool = False


class ItemStream:
    """The items of one call."""

    def __init__(
        self,
        call: Wire,
        *,
        denoiser: Denoiser,
        recipes: Recipes,
        replies: Replies,
        client: Client,
        deadline_s: float,
        limits: StreamLimits,
        lifecycle: Lifecycle,
        in_flight: InFlight,
        clock: Callable[[], float],
        count: Callable[[Exception | None], Status | None],
    ) -> None:
        """``count`` counts an item by how it ended, None being well, and gives the status of what went wrong."""
        self._call = call
        self._denoiser = denoiser
        self._recipes = recipes
        self._replies = replies
        self._client = client
        self._deadline_s = deadline_s
        self._limits = limits
        self._lifecycle = lifecycle
        self._in_flight = in_flight
        self._clock = clock
        self._count = count
        self._items: dict[str, Item] = {}
        self._uploads: dict[str, Upload] = {}
        self._refused_uploads: dict[str, None] = {}
        # Taken and not written yet; items leave the others as soon as their answer is known.
        self._unwritten: set[Item] = set()
        self._outbox: deque[tuple[Item, bytes, Callable[[], None]]] = deque()
        # Read, and to be taken when there is room.
        self._held: deque[tuple[wire.Frame, Reservation | None]] = deque()
        self._will_take_held = False
        self._is_read = False
        self._to_write = asyncio.Event()
        self._to_read = asyncio.Event()

    async def serve(self) -> None:
        """Returns when the client has sent its last frame and every item is answered.

        Raises:
            ClientGone: an answer could not be written.
            InvalidMessage: the client sent bytes that are no frame; whose they were nobody knows.

        In any case items that were still running are stopped.
        """
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read_all())
                group.create_task(self._write_all())
        except ExceptionGroup as failures:
            expected, others = failures.split(ServiceError)
            if expected is None or others is not None:
                raise
            failure = expected.exceptions[0]
            raise failure from failure.__cause__
        finally:
            for item in self._unwritten:
                self._close(item)
                self._leave(item)
            for _, room in self._held:
                if room is not None:
                    room.release()
            self._held.clear()

    async def _read_all(self) -> None:
        """Frames in their order, but for cancels: these count at once, so it reads past requests that must wait.

        What it has read so takes room in the memory ledger. It stops before a chunk, where an upload has no room; at
        as many requests as may run; and where the ledger is full.
        """
        while (message := await self._call.read()) is not None:
            frame = wire.read_frame(message)
            # In the usual case nothing is asked of the ledger: who keeps to the window is never held.
            while not self._takes_now(frame) and not self._hold(frame, len(message)):
                await self._room()
            del message, frame
        while self._held:
            await self._room()
        self._is_read = True
        for item_id in [item_id for item_id, upload in self._uploads.items() if not upload.is_complete]:
            self._end(
                self._items[item_id],
                InvalidChunks("the stream ended before the image's last chunk; send all of it", field="chunk.last"),
            )
        self._to_write.set()

    def _takes_now(self, frame: wire.Frame) -> bool:
        """Takes a frame whose turn it is; False when it must wait."""
        if isinstance(frame.content, pb.CancelItem):
            self._take_cancel(frame)
        elif not self._held and self._has_room():
            self._take(frame)
        else:
            return False
        return True

    def _take_cancel(self, cancel: wire.Frame) -> None:
        """At once, unless what it takes back has not begun: then right behind that, and only once."""
        if cancel.item_id not in self._items:
            ids = [frame.item_id for frame, _ in self._held]
            if cancel.item_id in ids:
                place = ids.index(cancel.item_id) + 1
                if ids[place : place + 1] != [cancel.item_id]:
                    self._held.insert(place, (cancel, None))
                return
        self._take(cancel)

    def _hold(self, frame: wire.Frame, size_bytes: int) -> bool:
        """Sets a request aside, so that what comes behind it can be read; False when that must wait."""
        if isinstance(frame.content, wire.Chunk) or len(self._held) >= self._limits.items_in_flight:
            return False
        try:
            room = self._denoiser.reserve(size_bytes)
        except ServiceError:
            return False
        self._held.append((frame, room))
        return True

    async def _room(self) -> None:
        """Returns when there may be room again."""
        self._to_read.clear()
        await self._to_read.wait()

    def _note_room(self) -> None:
        """Something was answered, or an upload wants data."""
        self._to_read.set()
        if self._held and not self._will_take_held:
            # Not here: this is called in the middle of taking a frame, too.
            self._will_take_held = True
            asyncio.get_running_loop().call_soon(self._take_held)

    def _take_held(self) -> None:
        self._will_take_held = False
        while self._held and (isinstance(self._held[0][0].content, pb.CancelItem) or self._has_room()):
            frame, room = self._held.popleft()
            if room is not None:
                room.release()
            self._take(frame)
        self._to_read.set()

    def _has_room(self) -> bool:
        arriving = self._arriving()
        return len(self._unwritten) - len(arriving) < self._limits.items_in_flight and all(
            upload.wants_data for upload in arriving
        )

    def _arriving(self) -> list[Upload]:
        """Images whose chunks are still to come."""
        return [upload for upload in self._uploads.values() if not upload.is_complete]

    async def _write_all(self) -> None:
        while True:
            while self._outbox:
                _, message, after = self._outbox.popleft()
                try:
                    await self._call.write(message)
                except Exception as error:  # gRPC's own exceptions for a call that is gone are not public
                    raise ClientGone("an answer can't be written") from error
                after()
                self._note_room()
            if self._is_read and not self._items:
                return
            self._to_write.clear()
            await self._to_write.wait()

    def _take(self, frame: wire.Frame) -> None:
        content = frame.content
        if isinstance(content, wire.Chunk):
            self._take_chunk(frame.item_id, content)
        elif isinstance(content, pb.CancelItem):
            if (item := self._items.get(frame.item_id)) is not None:
                self._end(item, ItemCancelled("the client took the item back"))
        else:
            item = Item(frame.item_id)
            self._unwritten.add(item)
            self._in_flight.enter()
            try:
                self._check_id(frame.item_id)
                self._items[frame.item_id] = item
                self._begin(item, frame)
            except Exception as error:  # noqa: BLE001 -- an item's failure is its outcome, whatever it is
                if isinstance(content, pb.ImageHeader):
                    self._ignore_chunks(frame.item_id)
                self._end(item, error)

    def _check_id(self, item_id: str) -> None:
        if not 1 <= len(item_id) <= _ITEM_ID_LENGTH:
            raise InvalidOption(
                f"item_id has {len(item_id)} characters; 1 to {_ITEM_ID_LENGTH} are allowed", field="item_id"
            )
        if item_id in self._items:
            raise InvalidOption("item_id belongs to an item that is not answered; choose another", field="item_id")

    def _begin(self, item: Item, frame: wire.Frame) -> None:
        self._lifecycle.require_serving()
        self._client.enter(_size_bytes(frame.content))
        item.has_entered = True
        timeout_s = self._limits.default_timeout_s if frame.timeout_s is None else frame.timeout_s
        if not timeout_s > 0:
            raise InvalidOption(f"timeout is {timeout_s} s; it must be more than 0", field="timeout")
        deadline_s = min(self._deadline_s, self._clock() + min(timeout_s, self._limits.longest_timeout_s))
        if isinstance(frame.content, wire.Split):
            item.recipe = self._recipes.of(frame.content.rest, self._client.most_urgent_class)
            item.job = Job(
                item.recipe.order, frame.content.data, self._client, deadline_s, lambda _, end: self._done(item, end)
            )
            self._denoiser.start(item.job, is_alone=True)
        elif isinstance(frame.content, pb.ImageHeader):
            self._check_upload_count()
            item.recipe = self._recipes.of_header(frame.content, self._client.most_urgent_class)
            item.upload = self._uploads[item.item_id] = open_upload(
                frame.content,
                item.recipe,
                denoiser=self._denoiser,
                client=self._client,
                deadline_s=deadline_s,
                chunk_bytes=self._limits.chunk_bytes,
                on_done=lambda end: self._done(item, end),
                on_room=self._note_room,
                send=lambda data, last, after: self._put(item, wire.stream_chunk(item.item_id, data, last=last), after),
                tell=lambda progress: self._put(
                    item,
                    pb.DenoiseStreamResponse(item_id=item.item_id, progress=progress).SerializeToString(),
                    _nothing,
                ),
            )
            # What came before this header has come.
            self._refused_uploads.pop(item.item_id, None)
            # Whatever it waits for: chunks that do not come, the network, or a client that does not read.
            item.timer = asyncio.get_running_loop().call_later(deadline_s - self._clock(), self._expire, item)
        else:
            raise InvalidOption("the frame is empty; send a request", field="frame")

    def _check_upload_count(self) -> None:
        count, limit = len(self._arriving()), self._limits.items_in_flight
        if count >= limit:
            raise QueueFull(
                f"the chunks of {count} images of this stream are still to come; the limit is {limit}; send one of "
                "them to its end first, or open another stream",
                retry_after_s=_RETRY_UPLOAD_S,
                metadata={"cap": "requests", "value": str(count), "offered": "1", "limit": str(limit)},
            )

    def _expire(self, item: Item) -> None:
        if self._items.get(item.item_id) is item:
            self._end(
                item,
                DeadlineExceeded(
                    "the deadline passed before the image had come and its answer had gone; allow more time"
                ),
            )

    def _take_chunk(self, item_id: str, chunk: wire.Chunk) -> None:
        upload = self._uploads.get(item_id)
        is_refused = item_id in self._refused_uploads
        if upload is not None and not (upload.is_complete and is_refused):
            try:
                self._client.take_bytes(len(chunk.data))
                upload.feed(chunk)
            except Exception as error:  # noqa: BLE001 -- an item's failure is its outcome, whatever it is
                self._end(self._items[item_id], error)
            else:
                return
        elif not is_refused:
            item = Item(item_id)
            self._unwritten.add(item)
            self._in_flight.enter()
            self._end(item, InvalidChunks("the chunk belongs to no image; send its header first", field="chunk"))
        if chunk.last:
            self._refused_uploads.pop(item_id, None)
        else:
            self._ignore_chunks(item_id)

    def _ignore_chunks(self, item_id: str) -> None:
        """Of an image that was refused, more chunks may be on their way; they get no further answer."""
        self._refused_uploads[item_id] = None
        if len(self._refused_uploads) > _REFUSED_UPLOADS_MOST:
            del self._refused_uploads[next(iter(self._refused_uploads))]

    def _done(self, item: Item, end: Outcome | Exception) -> None:
        if isinstance(end, Exception):
            self._end(item, end)
            return
        assert item.recipe is not None
        parts, size_bytes = self._replies.response_parts(end, item.recipe)
        if size_bytes > self._limits.message_bytes:
            self._end(item, too_large(size_bytes, self._limits.message_bytes))
            return
        self._count(None)
        self._answer(item, b"".join(wire.stream_result_parts(item.item_id, *wire.result_parts(parts, size_bytes))))

    def _end(self, item: Item, error: Exception) -> None:
        """The item's answer is a refusal, unless it has one."""
        if item.upload is not None:
            if not item.upload.is_complete:
                self._ignore_chunks(item.item_id)
            self._outbox = deque(entry for entry in self._outbox if entry[0] is not item)
        self._close(item)
        result = pb.DenoiseResult(status=self._count(error))
        self._answer(item, pb.DenoiseStreamResponse(item_id=item.item_id, result=result).SerializeToString())

    def _answer(self, item: Item, message: bytes) -> None:
        if self._items.get(item.item_id) is item:
            del self._items[item.item_id]
            self._uploads.pop(item.item_id, None)

        def written() -> None:
            self._unwritten.discard(item)
            self._leave(item)
            self._close(item)

        self._put(item, message, written)

    def _put(self, item: Item, message: bytes, after: Callable[[], None]) -> None:
        self._outbox.append((item, message, after))
        self._to_write.set()

    def _leave(self, item: Item) -> None:
        """Its answer has left, or nobody waits for it."""
        self._in_flight.leave()
        if item.has_entered:
            self._client.leave()

    def _close(self, item: Item) -> None:
        if item.timer is not None:
            item.timer.cancel()
        if item.job is not None:
            self._denoiser.close(item.job)
        if item.upload is not None:
            item.upload.close()


def _size_bytes(content: object) -> int:
    """Of what an item begins with; of an image in chunks each is counted as it comes."""
    return len(content.data) + len(content.rest) if isinstance(content, wire.Split) else 0


def _nothing() -> None:
    """After a message that nobody waits for."""
