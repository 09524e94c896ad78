"""Many images for an asyncio program: takes the steps that ``_window`` decides, with a task for each stream."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import grpc

from denoised import _failures
from denoised._images import ImageInput
from denoised._order import Order
from denoised._window import (
    FAREWELL_S,
    Alone,
    Answer,
    Close,
    Event,
    Finish,
    Give,
    Open,
    Outcome,
    Send,
    Settled,
    StreamEnd,
    Take,
    Wait,
    Window,
)
from denoised.errors import DenoisedError
from denoised.results import CleanResult
from denoised.v1 import denoised_pb2 as pb
from denoised.v1.denoised_pb2_grpc import DenoiseServiceStub


async def drive(
    window: Window,
    images: Iterable[ImageInput] | AsyncIterable[ImageInput],
    stub: DenoiseServiceStub,
    clean: Callable[[Order, float], Awaitable[CleanResult[Any]]],
    *,
    target: str,
) -> AsyncGenerator[Outcome, None]:
    """Takes the window's steps until everything is settled; ``clean`` cleans an image alone."""
    source = aiter(images) if isinstance(images, AsyncIterable) else _in_turn(images)
    traffic = _Traffic(stub, clean, target=target)
    try:
        while not isinstance(step := window.next_step(time.monotonic()), Finish):
            match step:
                case Give(outcome):
                    yield outcome
                case Take():
                    await _take(source, window)
                case Wait(wait_s):
                    window.note(await traffic.wait(wait_s), time.monotonic())
                case _:
                    await traffic.carry_out(step)
    finally:
        await traffic.end()


async def _take(source: AsyncIterator[ImageInput], window: Window) -> None:
    try:
        image = await anext(source)
    except StopAsyncIteration:
        window.end_source()
    else:
        await asyncio.to_thread(window.add, image, time.monotonic())


class _Traffic:
    """What one ``clean_many`` has under way, and one inbox for all that happens to it."""

    def __init__(
        self, stub: DenoiseServiceStub, clean: Callable[[Order, float], Awaitable[CleanResult[Any]]], *, target: str
    ) -> None:
        self._stub = stub
        self._clean = clean
        self._target = target
        self._inbox: asyncio.Queue[Event] = asyncio.Queue()
        self._streams: dict[int, _Stream] = {}
        self._errands: dict[int, asyncio.Task[None]] = {}

    async def carry_out(self, step: Open | Send | Alone | Close) -> None:
        match step:
            case Open(number, timeout_s):
                self._streams[number] = _Stream(self._stub, number, timeout_s, self._inbox, target=self._target)
            case Send(number, frame):
                self._streams[number].send(frame)
            case Alone(index):
                self._errands[index] = asyncio.create_task(self._run_errand(step))
            case Close(number):
                await self._streams.pop(number).finish()

    async def wait(self, wait_s: float) -> Event | None:
        """What happens next; None when nothing does in time."""
        try:
            # A timeout that is over at once would leave even what is there already.
            event = self._inbox.get_nowait() if not self._inbox.empty() else await self._next(wait_s)
        except TimeoutError:
            return None
        if isinstance(event, StreamEnd) and event.stream in self._streams:
            await self._streams.pop(event.stream).cancel()
        elif isinstance(event, Settled):
            await self._errands.pop(event.index)
        return event

    async def end(self) -> None:
        """Ends now what has not ended."""
        for stream in self._streams.values():
            await stream.cancel()
        for errand in self._errands.values():
            errand.cancel()
        if self._errands:
            await asyncio.wait(self._errands.values())

    async def _run_errand(self, step: Alone) -> None:
        """One image that is cleaned alone."""
        try:
            self._inbox.put_nowait(Settled(step.index, await self._clean(step.order, step.timeout_s)))
        except DenoisedError as error:
            self._inbox.put_nowait(Settled(step.index, error))

    async def _next(self, wait_s: float) -> Event:
        return await asyncio.wait_for(self._inbox.get(), wait_s)


class _Stream:
    """One DenoiseStream call.

    A task reads answers as they come, so that a slow caller never makes the server stop reading; what waits
    in the inbox is bounded by the items in flight.
    """

    def __init__(
        self, stub: DenoiseServiceStub, number: int, timeout_s: float, inbox: asyncio.Queue[Event], *, target: str
    ) -> None:
        """Begins the call; what comes over it goes to the inbox under its number."""
        self._number = number
        self._target = target
        self._inbox = inbox
        self._outbox: asyncio.Queue[pb.DenoiseStreamRequest | None] = asyncio.Queue()
        self._call: grpc.aio.StreamStreamCall[pb.DenoiseStreamRequest, pb.DenoiseStreamResponse] = stub.DenoiseStream(
            _frames(self._outbox), timeout=timeout_s
        )
        self._reader = asyncio.create_task(self._read())

    def send(self, frame: pb.DenoiseStreamRequest) -> None:
        self._outbox.put_nowait(frame)

    async def finish(self) -> None:
        """Says goodbye, so that the server sees a stream that ended well; a server that is slow at it is left."""
        self._outbox.put_nowait(None)
        await asyncio.wait((self._reader,), timeout=FAREWELL_S)
        await self.cancel()

    async def cancel(self) -> None:
        """Ends the call now; does nothing to one that has ended."""
        self._outbox.put_nowait(None)  # releases gRPC's task, which waits for frames
        self._call.cancel()
        await asyncio.wait((self._reader,))

    async def _read(self) -> None:
        error: DenoisedError | None = None
        try:
            async for answer in self._call:
                self._inbox.put_nowait(Answer(self._number, answer))
        except grpc.RpcError as failure:
            error = _failures.from_call(failure, target=self._target)
        except asyncio.CancelledError:
            pass  # grpc.aio raises it here when the call is cancelled, which is how ``cancel`` ends a stream
        self._inbox.put_nowait(StreamEnd(self._number, error))


async def _frames(outbox: asyncio.Queue[pb.DenoiseStreamRequest | None]) -> AsyncIterator[pb.DenoiseStreamRequest]:
    while (frame := await outbox.get()) is not None:
        yield frame


async def _in_turn(images: Iterable[ImageInput]) -> AsyncIterator[ImageInput]:
    for image in images:
        yield image
