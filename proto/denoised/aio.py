"""The client for asyncio programs: ``Client``'s twin, with the same arguments, answers and errors."""

import asyncio
import os
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, overload

import grpc
import numpy as np
from numpy.typing import ArrayLike, NDArray

from denoised import _failures, _latents, results
from denoised._calls import DEFAULT_TARGET, channel_options, default_stream_count, read_response, service_stub
from denoised._connection import Tls, credentials_of
from denoised._images import ImageInput
from denoised._latents import LatentCall, LatentOptions, PictureOptions
from denoised._order import (
    DEFAULT_TIMEOUT_S,
    LARGEST_MESSAGE_BYTES,
    CleanOptions,
    Order,
    ServerLimits,
    build_order,
    valid_message_bytes,
)
from denoised._upload import OnProgress, Upload
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
from denoised.errors import DenoisedError, ImageTooLargeError
from denoised.results import CleanResult, DecodeResult, EncodeResult, GenerateResult, InterpolateResult, Model
from denoised.retry import Attempts, RetryBudget, RetryPolicy
from denoised.v1 import denoised_pb2 as pb
from denoised.v1.denoised_pb2_grpc import DenoiseServiceStub

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

SampleT = TypeVar("SampleT", bound=np.generic)
ResultT = TypeVar("ResultT")
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
        message_bytes: int = LARGEST_MESSAGE_BYTES,
    ) -> None:
        """As for ``Client``; connects when the first call is made."""
        self.target = target
        self._retry = retry or RetryPolicy()
        self._budget = RetryBudget(self._retry)
        self._message_bytes = valid_message_bytes(message_bytes)
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
    @overload
    async def clean(
        self,
        image: "PillowImage",
        *,
        timeout_s: float | None = ...,
        on_progress: OnProgress | None = ...,
        **options: Unpack[CleanOptions],
    ) -> CleanResult["PillowImage"]: ...
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
        return await self._clean(order, Attempts(self._retry, self._budget, timeout_s, begun_s=begun_s), on_progress)

    def clean_many(
        self,
        images: Iterable[ImageInput] | AsyncIterable[ImageInput],
        *,
        concurrency: int = 8,
        stream_count: int | None = None,
        in_order: bool = False,
        timeout_s: float | None = None,
        **options: Unpack[CleanOptions],
    ) -> AsyncIterator[Outcome]:
        """Denoises images over a few streams, some at a time; see ``Client.clean_many``.

        Yields:
            (index of the image, its result or why there is none); each index once.
        """
        window = Window(
            target=self.target,
            policy=self._retry,
            budget=self._budget,
            concurrency=concurrency,
            stream_count=default_stream_count(self.target) if stream_count is None else stream_count,
            is_ordered=in_order,
            timeout_s=timeout_s,
            options=options,
            limits=lambda: self._limits,
        )
        source = aiter(images) if isinstance(images, AsyncIterable) else _in_turn(images)
        return self._drive(window, source)

    async def encode(
        self,
        image: ImageInput,
        *,
        half_precision: bool = False,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        **options: Unpack[LatentOptions],
    ) -> EncodeResult:
        """The latent code of an image; see ``Client.encode``."""
        call = await asyncio.to_thread(_latents.encode, image, half_precision=half_precision, **options)
        return await self._latent(call, timeout_s)

    async def decode(
        self,
        code: ArrayLike,
        *,
        allow_out_of_distribution: bool = False,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        **options: Unpack[PictureOptions],
    ) -> DecodeResult:
        """The image of a latent code; see ``Client.decode``."""
        call = _latents.decode(code, allow_out_of_distribution=allow_out_of_distribution, **options)
        return await self._latent(call, timeout_s)

    async def generate(
        self,
        image_count: int = 1,
        *,
        seed: int | None = None,
        temperature: float | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        **options: Unpack[PictureOptions],
    ) -> GenerateResult:
        """New images; see ``Client.generate``."""
        return await self._latent(
            _latents.generate(image_count, seed=seed, temperature=temperature, **options), timeout_s
        )

    async def interpolate(
        self,
        start: ImageInput | ArrayLike,
        stop: ImageInput | ArrayLike,
        *,
        step_count: int | None = None,
        allow_out_of_distribution: bool = False,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        **options: Unpack[PictureOptions],
    ) -> InterpolateResult:
        """Images on the way from one end to the other; see ``Client.interpolate``."""
        call = await asyncio.to_thread(
            _latents.interpolate,
            start,
            stop,
            step_count=step_count,
            allow_out_of_distribution=allow_out_of_distribution,
            **options,
        )
        return await self._latent(call, timeout_s)

    async def models(self, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> tuple[Model, ...]:
        """The models that the server has loaded, by name, then by version, oldest first."""
        attempts = Attempts(self._retry, self._budget, timeout_s)
        response = await self._call(self._stub.ListModels, pb.ListModelsRequest(), attempts)
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

    async def _latent(self, call: LatentCall[ResultT], timeout_s: float) -> ResultT:
        method = getattr(self._stub, call.method)
        return call.read(await self._call(method, call.request, Attempts(self._retry, self._budget, timeout_s)))

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

    async def _known_limits(self, attempts: Attempts) -> ServerLimits:
        if self._limits is None:
            response = await self._call(self._stub.ListModels, pb.ListModelsRequest(), attempts)
            self._limits = ServerLimits.of(response, most_message_bytes=self._message_bytes)
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
        traffic = _Traffic(self._open_stream, self._run_errand)
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

    def _open_stream(self, step: Open, inbox: asyncio.Queue[Event]) -> "_Stream":
        return _Stream(self._stub, step.stream, step.timeout_s, inbox, target=self.target)

    async def _run_errand(self, step: Alone, inbox: asyncio.Queue[Event]) -> None:
        """One image that is cleaned alone."""
        attempts = Attempts(self._retry, self._budget, step.timeout_s)
        try:
            inbox.put_nowait(Settled(step.index, await self._clean(step.order, attempts, None)))
        except DenoisedError as error:
            inbox.put_nowait(Settled(step.index, error))


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
        self,
        open_stream: "Callable[[Open, asyncio.Queue[Event]], _Stream]",
        run_errand: Callable[[Alone, asyncio.Queue[Event]], Coroutine[None, None, None]],
    ) -> None:
        self._open_stream = open_stream
        self._run_errand = run_errand
        self._inbox: asyncio.Queue[Event] = asyncio.Queue()
        self._streams: dict[int, _Stream] = {}
        self._errands: dict[int, asyncio.Task[None]] = {}

    async def carry_out(self, step: Open | Send | Alone | Close) -> None:
        match step:
            case Open(number):
                self._streams[number] = self._open_stream(step, self._inbox)
            case Send(number, frame):
                self._streams[number].send(frame)
            case Alone(index):
                self._errands[index] = asyncio.create_task(self._run_errand(step, self._inbox))
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
