"""The client for asyncio programs: ``Client``'s twin, with the same arguments, answers and errors."""

import asyncio
import os
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, overload

import grpc
import numpy as np
from numpy.typing import NDArray

from denoised import _failures, results
from denoised._calls import DEFAULT_TARGET, channel_options, read_response, service_stub
from denoised._connection import Tls, credentials_of
from denoised._images import ImageInput
from denoised._order import DEFAULT_TIMEOUT_S, CleanOptions, Order, ServerLimits, build_order
from denoised._upload import OnProgress, Upload
from denoised._window import (
    FAREWELL_S,
    Alone,
    Close,
    Finish,
    Give,
    Open,
    Outcome,
    Receive,
    Send,
    Sleep,
    StreamEnd,
    Take,
    Window,
)
from denoised.errors import DenoisedError, ImageTooLargeError
from denoised.results import CleanResult, Model
from denoised.retry import Attempts, RetryPolicy
from denoised.v1 import denoised_pb2 as pb
from denoised.v1.denoised_pb2_grpc import DenoiseServiceStub

SampleT = TypeVar("SampleT", bound=np.generic)
_ResponseT = TypeVar("_ResponseT")


class AsyncClient:
    """A connection to a denoised server, for the event loop that it is made in.

    ::

        async with AsyncClient("localhost:50051") as client:
            result = await client.clean(array)

    Files are read and images are copied in worker threads; on the event loop a chunk at most.
    """

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        *,
        tls: Tls | bool = False,
        token: str | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        retry: RetryPolicy | None = None,
    ) -> None:
        """As for ``Client``; connects when the first call is made."""
        self.target = target
        self._retry = retry or RetryPolicy()
        credentials, tls_options = credentials_of(credentials, tls=tls)
        options = channel_options(target) + tls_options
        self._channel = (
            grpc.aio.insecure_channel(target, options)
            if credentials is None
            else grpc.aio.secure_channel(target, credentials, options)
        )
        self._stub = service_stub(self._channel, token)
        # Asked for when an image comes that may not fit one message, and again after one was refused for its size.
        self._limits: ServerLimits | None = None

    @overload
    async def clean(
        self,
        image: NDArray[SampleT],
        *,
        timeout_s: float | None = ...,
        on_progress: OnProgress | None = ...,
        **options: Unpack[CleanOptions],
    ) -> CleanResult[NDArray[SampleT]]: ...
    @overload
    async def clean(
        self,
        image: bytes | str | os.PathLike[str],
        *,
        timeout_s: float | None = ...,
        on_progress: OnProgress | None = ...,
        **options: Unpack[CleanOptions],
    ) -> CleanResult[bytes]: ...
    async def clean(
        self,
        image: ImageInput,
        *,
        timeout_s: float | None = None,
        on_progress: OnProgress | None = None,
        **options: Unpack[CleanOptions],
    ) -> CleanResult[Any]:
        """Denoises one image; see ``Client.clean``. ``on_progress`` is called on the event loop.

        Raises:
            DenoisedError: one of its kinds.
        """
        begun_s = time.monotonic()
        order = await asyncio.to_thread(build_order, image, **options)
        timeout_s = order.default_timeout_s if timeout_s is None else timeout_s
        return await self._clean(order, Attempts(self._retry, timeout_s, begun_s=begun_s), on_progress)

    def clean_many(
        self,
        images: Iterable[ImageInput] | AsyncIterable[ImageInput],
        *,
        concurrency: int = 8,
        timeout_s: float | None = None,
        **options: Unpack[CleanOptions],
    ) -> AsyncIterator[Outcome]:
        """Denoises images over one stream, a few at a time; see ``Client.clean_many``.

        Yields:
            (index of the image, its result or why there is none), in any order.
        """
        window = Window(
            target=self.target,
            policy=self._retry,
            concurrency=concurrency,
            timeout_s=timeout_s,
            options=options,
            limits=lambda: self._limits,
        )
        source = aiter(images) if isinstance(images, AsyncIterable) else _in_turn(images)
        return self._drive(window, source)

    async def models(self, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> tuple[Model, ...]:
        """The models that the server has loaded, by name, then by version, oldest first."""
        response = await self._call(self._stub.ListModels, pb.ListModelsRequest(), Attempts(self._retry, timeout_s))
        return tuple(results.model(message) for message in response.models)

    async def close(self) -> None:
        """Ends the connection; calls that are under way are cancelled."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _call(
        self, method: Callable[..., Awaitable[_ResponseT]], request: object, attempts: Attempts
    ) -> _ResponseT:
        while True:
            try:
                return await method(request, timeout=attempts.remaining_s)
            except grpc.RpcError as error:
                pause_s = attempts.pause_after(_failures.from_call(error, target=self.target))
            await asyncio.sleep(pause_s)

    async def _clean(self, order: Order, attempts: Attempts, on_progress: OnProgress | None) -> CleanResult[Any]:
        try:
            if not order.is_surely_small:
                limits = await self._known_limits(attempts)
                limits.check(order)
                if limits.wants_chunks(order):
                    return await self._upload(order, limits, attempts, on_progress)
            request = await asyncio.to_thread(order.request)
            response = await self._call(self._stub.Denoise, request, attempts)
            result = await asyncio.to_thread(read_response, response, order.image.form)
        except ImageTooLargeError:
            self._limits = None
            raise
        if on_progress is not None:
            on_progress(1.0)
        return result

    async def _outcome(self, order: Order, timeout_s: float) -> CleanResult[Any] | DenoisedError:
        try:
            return await self._clean(order, Attempts(self._retry, timeout_s), None)
        except DenoisedError as error:
            return error

    async def _known_limits(self, attempts: Attempts) -> ServerLimits:
        if self._limits is None:
            self._limits = ServerLimits.of(await self._call(self._stub.ListModels, pb.ListModelsRequest(), attempts))
        return self._limits

    async def _upload(
        self, order: Order, limits: ServerLimits, attempts: Attempts, on_progress: OnProgress | None
    ) -> CleanResult[Any]:
        while True:
            upload = Upload(
                order,
                chunk_bytes=limits.chunk_bytes,
                timeout_s=attempts.remaining_s,
                target=self.target,
                on_progress=on_progress,
            )
            await self._exchange(upload, attempts.remaining_s)
            try:
                return upload.result()
            except DenoisedError as error:
                pause_s = attempts.pause_after(error)
            await asyncio.sleep(pause_s)

    async def _exchange(self, upload: Upload, timeout_s: float) -> None:
        """Notes answers while gRPC sends the frames, as fast as the server takes them."""
        call = self._stub.DenoiseStream(upload.frames(), timeout=timeout_s)
        try:
            async for answer in call:
                upload.note(answer)
        except grpc.RpcError as error:
            upload.end(_failures.from_call(error, target=self.target))
        finally:
            call.cancel()

    async def _drive(self, window: Window, source: AsyncIterator[ImageInput]) -> AsyncIterator[Outcome]:
        stream = _Stream(self._stub, target=self.target)
        try:
            while not isinstance(step := window.next_step(time.monotonic()), Finish):
                match step:
                    case Give(outcome):
                        yield outcome
                    case Take():
                        await _take(source, window)
                    case Open(timeout_s):
                        await stream.open(timeout_s)
                    case Send(frame):
                        stream.send(frame)
                    case Alone(index, order, timeout_s):
                        window.settle(index, await self._outcome(order, timeout_s))
                    case Receive(wait_s):
                        window.note(await stream.receive(wait_s), time.monotonic())
                    case Sleep(wait_s):
                        await asyncio.sleep(wait_s)
                    case Close():
                        await stream.finish()
        finally:
            await stream.cancel()


async def _take(source: AsyncIterator[ImageInput], window: Window) -> None:
    try:
        image = await anext(source)
    except StopAsyncIteration:
        window.end_source()
    else:
        await asyncio.to_thread(window.add, image, time.monotonic())


class _Stream:
    """One DenoiseStream call at a time, begun by ``open``.

    A task reads answers as they come, so that a slow caller never makes the server stop reading; what waits
    in the inbox is bounded by the items in flight.
    """

    def __init__(self, stub: DenoiseServiceStub, *, target: str) -> None:
        self._stub = stub
        self._target = target
        self._outbox: asyncio.Queue[pb.DenoiseStreamRequest | None] = asyncio.Queue()
        self._inbox: asyncio.Queue[pb.DenoiseStreamResponse | StreamEnd] = asyncio.Queue()
        self._call: grpc.aio.StreamStreamCall[pb.DenoiseStreamRequest, pb.DenoiseStreamResponse] | None = None
        self._reader: asyncio.Task[None] | None = None

    async def open(self, timeout_s: float) -> None:
        """Begins a call; the one before has ended and this clears up behind it."""
        await self.cancel()
        self._outbox, self._inbox = asyncio.Queue(), asyncio.Queue()
        self._call = self._stub.DenoiseStream(_frames(self._outbox), timeout=timeout_s)
        self._reader = asyncio.create_task(self._read(self._call, self._inbox))

    def send(self, frame: pb.DenoiseStreamRequest) -> None:
        self._outbox.put_nowait(frame)

    async def receive(self, wait_s: float) -> pb.DenoiseStreamResponse | StreamEnd | None:
        """The next answer, the end of the stream, or None when neither came in time."""
        if not self._inbox.empty():
            return self._inbox.get_nowait()
        try:
            return await asyncio.wait_for(self._inbox.get(), wait_s)
        except TimeoutError:
            return None

    async def finish(self) -> None:
        """Says goodbye, so that the server sees a stream that ended well; a server that is slow at it is left."""
        self._outbox.put_nowait(None)
        if self._reader is not None:
            await asyncio.wait((self._reader,), timeout=FAREWELL_S)
        await self.cancel()

    async def cancel(self) -> None:
        """Ends the call now; does nothing to one that has ended, or when there is none."""
        self._outbox.put_nowait(None)  # releases gRPC's task, which waits for frames
        if self._call is not None and self._reader is not None:
            self._call.cancel()
            await asyncio.wait((self._reader,))

    async def _read(
        self,
        answers: AsyncIterable[pb.DenoiseStreamResponse],
        inbox: asyncio.Queue[pb.DenoiseStreamResponse | StreamEnd],
    ) -> None:
        try:
            async for answer in answers:
                inbox.put_nowait(answer)
        except grpc.RpcError as error:
            inbox.put_nowait(StreamEnd(_failures.from_call(error, target=self._target)))
        except asyncio.CancelledError:
            # grpc.aio raises it here when the call is cancelled, which is how ``cancel`` ends a stream.
            inbox.put_nowait(StreamEnd(None))
        else:
            inbox.put_nowait(StreamEnd(None))


async def _frames(outbox: asyncio.Queue[pb.DenoiseStreamRequest | None]) -> AsyncIterator[pb.DenoiseStreamRequest]:
    while (frame := await outbox.get()) is not None:
        yield frame


async def _in_turn(images: Iterable[ImageInput]) -> AsyncIterator[ImageInput]:
    for image in images:
        yield image
