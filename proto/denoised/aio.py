"""The client for asyncio programs: ``Client``'s twin, with the same arguments, answers and errors."""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, overload

import grpc
import numpy as np
from numpy.typing import ArrayLike, NDArray

from denoised import _failures, _latents, results
from denoised._calls import (
    DEFAULT_TARGET,
    channel_options,
    default_stream_count,
    health_method,
    read_response,
    service_stub,
)
from denoised._connection import Tls, credentials_of
from denoised._images import ImageInput
from denoised._latents import LatentCall, LatentOptions, PictureOptions
from denoised._order import (
    DEFAULT_TIMEOUT_S,
    LARGEST_MESSAGE_BYTES,
    CleanOptions,
    InspectOptions,
    Order,
    ServerLimits,
    build_order,
    valid_message_bytes,
)
from denoised._upload import OnProgress, Upload
from denoised.errors import DenoisedError, ImageTooLargeError
from denoised.results import (
    CleanResult,
    DecodeResult,
    EncodeResult,
    GenerateResult,
    InspectResult,
    InterpolateResult,
    Model,
    Server,
    inspect_result,
)
from denoised.retry import Attempts, RetryBudget, RetryPolicy
from denoised.v1 import denoised_pb2 as pb

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

    from denoised._window import Outcome

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
        self._health = health_method(self._channel)
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

    async def inspect(
        self,
        image: ImageInput,
        *,
        timeout_s: float | None = None,
        on_progress: OnProgress | None = None,
        **options: Unpack[InspectOptions],
    ) -> InspectResult:
        """What a server finds in an image; see ``Client.inspect``. ``on_progress`` is called on the event loop.

        Raises:
            DenoisedError: one of its kinds.
        """
        begun_s = time.monotonic()
        order = await asyncio.to_thread(build_order, image, report_only=True, **options)
        timeout_s = order.default_timeout_s if timeout_s is None else timeout_s
        attempts = Attempts(self._retry, self._budget, timeout_s, begun_s=begun_s)
        result = await self._answered(order, attempts, on_progress)
        assert isinstance(result, InspectResult)
        return result

    def clean_many(
        self,
        images: Iterable[ImageInput] | AsyncIterable[ImageInput],
        *,
        concurrency: int = 8,
        stream_count: int | None = None,
        in_order: bool = False,
        timeout_s: float | None = None,
        **options: Unpack[CleanOptions],
    ) -> "AsyncGenerator[Outcome, None]":
        """Denoises images over a few streams, some at a time; see ``Client.clean_many``.

        Yields:
            (index of the image, its result or why there is none); each index once.
        """
        from denoised._aio_traffic import drive
        from denoised._window import Window

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
        return drive(window, images, self._stub, self._clean_for, target=self.target)

    async def _clean_for(self, order: Order, timeout_s: float) -> CleanResult[Any]:
        return await self._clean(order, Attempts(self._retry, self._budget, timeout_s), None)

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

    async def server(self, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> Server:
        """What the server says of itself: its health, its models, and the most that it takes."""
        attempts = Attempts(self._retry, self._budget, timeout_s)
        health = await self._call(self._health, None, attempts)
        response = await self._call(self._stub.ListModels, pb.ListModelsRequest(), attempts)
        return results.server(response, health)

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
        result = await self._answered(order, attempts, on_progress)
        assert isinstance(result, CleanResult)
        return result

    async def _answered(
        self, order: Order, attempts: Attempts, on_progress: OnProgress | None
    ) -> CleanResult[Any] | InspectResult:
        try:
            if not order.is_surely_small:
                limits = await self._known_limits(attempts)
                limits.check(order)
                if limits.wants_chunks(order):
                    return await self._upload(order, limits, attempts, on_progress)
            result = await self._in_one_message(order, attempts)
        except ImageTooLargeError:
            self._limits = None
            raise
        if on_progress is not None:
            on_progress(1.0)
        return result

    async def _in_one_message(self, order: Order, attempts: Attempts) -> CleanResult[Any] | InspectResult:
        if order.options.report_only:
            inspection = await asyncio.to_thread(order.inspection)
            return inspect_result(await self._call(self._stub.Inspect, inspection, attempts))
        request = await asyncio.to_thread(order.request)
        response = await self._call(self._stub.Denoise, request, attempts)
        return await asyncio.to_thread(read_response, response, order.image.form)

    async def _known_limits(self, attempts: Attempts) -> ServerLimits:
        if self._limits is None:
            response = await self._call(self._stub.ListModels, pb.ListModelsRequest(), attempts)
            self._limits = ServerLimits.of(response, most_message_bytes=self._message_bytes)
        return self._limits

    async def _upload(
        self, order: Order, limits: ServerLimits, attempts: Attempts, on_progress: OnProgress | None
    ) -> CleanResult[Any] | InspectResult:
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
