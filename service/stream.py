"""One DenoiseStream call: reads frames, runs items side by side, writes each answer as it is ready.

Owns the protocol of the stream (ids, cancelling, how many may be unanswered); knows nothing about images.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager

from denoised.v1 import denoised_pb2 as pb
from service.errors import ClientGone, InvalidOption, ItemCancelled, NotImplementedYet, ServiceError

_ITEM_ID_LENGTH = 128


class ItemStream:
    """The items of one call that are not answered yet."""

    def __init__(
        self,
        *,
        run: Callable[[pb.DenoiseStreamRequest], Awaitable[pb.DenoiseResult]],
        refuse: Callable[[ServiceError], pb.DenoiseResult],
        write: Callable[[pb.DenoiseStreamResponse], Awaitable[None]],
        hold: Callable[[], AbstractContextManager[None]],
        items_in_flight: int,
    ) -> None:
        """``run`` gives an item's outcome and never raises; ``refuse`` turns an error into one.

        ``hold`` is entered one turn of the event loop after an item has come, and left when its answer is written.
        Frames that are refused here are not held: they cost no work that draining could lose.
        """
        self._run = run
        self._refuse = refuse
        self._write = write
        self._hold = hold
        self._write_lock = asyncio.Lock()
        # Taken before an item starts and given back when its answer is written: while a client does not read,
        # writing blocks, and so does reading from it.
        self._room = asyncio.Semaphore(items_in_flight)
        self._work: dict[str, asyncio.Task[pb.DenoiseResult]] = {}

    async def serve(self, frames: AsyncIterator[pb.DenoiseStreamRequest]) -> None:
        """Returns when the client has sent its last frame and every item is answered.

        Raises:
            ClientGone: an answer could not be written. Items that were still running are stopped.
        """
        try:
            await self._serve(frames)
        except ExceptionGroup as group:
            gone, others = group.split(ClientGone)
            if gone is None or others is not None:
                raise
            raise ClientGone("the client went away with answers unread") from group

    async def _serve(self, frames: AsyncIterator[pb.DenoiseStreamRequest]) -> None:
        async with asyncio.TaskGroup() as group:
            async for frame in frames:
                if frame.WhichOneof("frame") == "cancel":
                    if frame.item_id in self._work:
                        self._work[frame.item_id].cancel()
                    continue
                await self._room.acquire()
                refusal = self._refusal(frame)
                if refusal is not None:
                    group.create_task(self._answer(frame.item_id, self._refuse(refusal)))
                else:
                    work = self._work[frame.item_id] = group.create_task(self._outcome(frame))
                    group.create_task(self._answer_when_done(frame.item_id, work))

    async def _outcome(self, frame: pb.DenoiseStreamRequest) -> pb.DenoiseResult:
        return await self._run(frame)

    async def _answer_when_done(self, item_id: str, work: "asyncio.Task[pb.DenoiseResult]") -> None:
        with self._hold():
            await asyncio.wait([work])
            del self._work[item_id]
            result = self._refuse(ItemCancelled("the client took the item back")) if work.cancelled() else work.result()
            await self._answer(item_id, result)

    async def _answer(self, item_id: str, result: pb.DenoiseResult) -> None:
        try:
            async with self._write_lock:
                await self._write(pb.DenoiseStreamResponse(item_id=item_id, result=result))
        except Exception as error:  # gRPC's own exceptions for a call that is gone are not public
            raise ClientGone("an answer can't be written") from error
        finally:
            self._room.release()

    def _refusal(self, frame: pb.DenoiseStreamRequest) -> ServiceError | None:
        """Why an item can't be taken, or None when it can."""
        kind = frame.WhichOneof("frame")
        if not 1 <= len(frame.item_id) <= _ITEM_ID_LENGTH:
            return InvalidOption(
                f"item_id has {len(frame.item_id)} characters; 1 to {_ITEM_ID_LENGTH} are allowed", field="item_id"
            )
        if kind is None:
            return InvalidOption("the frame is empty; send a request", field="frame")
        if kind in ("header", "chunk"):
            return NotImplementedYet("images in chunks are not served; send the whole image as a request")
        if frame.item_id in self._work:
            return InvalidOption("item_id belongs to an item that is not answered; choose another", field="item_id")
        return None
