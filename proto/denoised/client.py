"""The client for programs that block; ``AsyncClient`` in ``denoised.aio`` is its twin.

Both only send, wait and hand back. Requests and answers are made in ``_calls``, retries are decided in ``retry``
and the order of things for many images in ``_window``: one copy each, used by both. What only ``clean_many`` needs is
imported by it.
"""

import os
import time
from collections.abc import Generator, Iterable
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
from denoised._scope import Scope
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


class Client:
    """A connection to a denoised server, safe to share among threads.

    ::

        with Client("localhost:50051") as client:
            result = client.clean("noisy.png")
            Path("clean.png").write_bytes(result.image)

    Every failure is a ``DenoisedError``; ``denoised.errors`` draws the tree.
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
        """Connects when the first call is made.

        Args:
            target: ``host:port``, or ``dns:///host:port`` to spread calls over all addresses of the name, or
                ``ipv4:address:port,address:port``.
            tls: True for TLS with the authorities that gRPC knows, a ``Tls`` for others or to show a certificate;
                False is plain text.
            token: who is calling, for a server that asks for it. Over plain text anyone on the way can read it.
            credentials: gRPC's own, in place of ``tls``.
            retry: how patiently to try again; None is ``RetryPolicy()``.
            message_bytes: the longest message to send, whatever the server takes, such as 4 MiB where a proxy on the
                way takes no more. Larger images travel in chunks.

        Raises:
            InvalidOptionError: a file of ``tls`` can't be read, the token can't be sent, or ``message_bytes`` is less
                than a chunk has.
        """
        self.target = target
        self._retry = retry or RetryPolicy()
        self._budget = RetryBudget(self._retry)
        self._message_bytes = valid_message_bytes(message_bytes)
        credentials, tls_options = credentials_of(credentials, tls=tls)
        options = channel_options(target) + tls_options
        self._channel = (
            grpc.insecure_channel(target, options)
            if credentials is None
            else grpc.secure_channel(target, credentials, options)
        )
        self._stub = service_stub(self._channel, token)
        self._health = health_method(self._channel)
        # Asked for when an image comes that may not fit one message, and again after one was refused for its size.
        self._limits: ServerLimits | None = None

    @overload
    def clean(
        self,
        image: NDArray[SampleT],
        *,
        timeout_s: float | None = ...,
        on_progress: OnProgress | None = ...,
        **options: Unpack[CleanOptions],
    ) -> CleanResult[NDArray[SampleT]]: ...
    @overload
    def clean(
        self,
        image: bytes | str | os.PathLike[str],
        *,
        timeout_s: float | None = ...,
        on_progress: OnProgress | None = ...,
        **options: Unpack[CleanOptions],
    ) -> CleanResult[bytes]: ...
    @overload
    def clean(
        self,
        image: "PillowImage",
        *,
        timeout_s: float | None = ...,
        on_progress: OnProgress | None = ...,
        **options: Unpack[CleanOptions],
    ) -> CleanResult["PillowImage"]: ...
    def clean(
        self,
        image: ImageInput,
        *,
        timeout_s: float | None = None,
        on_progress: OnProgress | None = None,
        **options: Unpack[CleanOptions],
    ) -> CleanResult[Any]:
        """Denoises one image, however large: what does not fit one message travels in chunks.

        Args:
            image: an array (H, W) or (H, W, C) of uint8, uint16 or float32, answered with an array alike; a Pillow
                image, answered with one of the same mode; or the bytes of a PNG or JPEG file or a path to one,
                answered with the bytes of a file.
            timeout_s: time for everything, retries included; None is 30 s, and 3 s for each megapixel.
            on_progress: told how much is done, 0..1 and never less than before, 1 at the end; only another try begins
                anew. An image that fits one message is done at once. What it raises ends the call and comes through.
            **options: ``model``, ``model_version``, ``strength``, ``output_container``, ``jpeg_quality``,
                ``black_level``, ``white_level``, ``service_class``, ``report_level``, ``noise_sigma``; see
                ``CleanOptions``.

        Raises:
            DenoisedError: one of its kinds.
        """
        begun_s = time.monotonic()
        order = build_order(image, **options)
        timeout_s = order.default_timeout_s if timeout_s is None else timeout_s
        return self._clean(order, Attempts(self._retry, self._budget, timeout_s, begun_s=begun_s), on_progress)

    def inspect(
        self,
        image: ImageInput,
        *,
        timeout_s: float | None = None,
        on_progress: OnProgress | None = None,
        **options: Unpack[InspectOptions],
    ) -> InspectResult:
        """What a server finds in an image, however large: statistics and verdicts, without the denoised image.

        Args:
            image: as for :meth:`clean`.
            timeout_s: as for :meth:`clean`.
            on_progress: as for :meth:`clean`.
            **options: ``model``, ``model_version``, ``black_level``, ``white_level``, ``service_class``,
                ``report_level``, ``noise_sigma``; see ``InspectOptions``.

        Raises:
            DenoisedError: one of its kinds.
        """
        begun_s = time.monotonic()
        order = build_order(image, report_only=True, **options)
        timeout_s = order.default_timeout_s if timeout_s is None else timeout_s
        attempts = Attempts(self._retry, self._budget, timeout_s, begun_s=begun_s)
        result = self._answered(order, attempts, on_progress, Scope())
        assert isinstance(result, InspectResult)
        return result

    def clean_many(
        self,
        images: Iterable[ImageInput],
        *,
        concurrency: int = 8,
        stream_count: int | None = None,
        in_order: bool = False,
        timeout_s: float | None = None,
        **options: Unpack[CleanOptions],
    ) -> "Generator[Outcome, None, None]":
        """Denoises images over a few streams, some at a time; outcomes come as images finish, in any order.

        An image that does not fit one message has a stream of its own; two of those travel at a time.

        Args:
            images: as for :meth:`clean`; taken as there is room, so a generator of any length is fine.
            concurrency: the most images that are sent and not yet answered.
            stream_count: the most streams; each stays with one server for a minute. None is 1, or 4 to a target that
                may stand for several servers.
            in_order: give outcomes in the order of the images. One that is slow then holds back those after it, as
                many again as ``concurrency`` at most.
            timeout_s: time for each image, from when it is first sent, retries included; None is as for :meth:`clean`.
            **options: as for :meth:`clean`, for all images.

        Yields:
            (index of the image, its result or why there is none); each index once. Closing the generator, as leaving
            a loop over it does, ends what is under way.
        """
        from denoised._traffic import drive
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
        return drive(window, images, self._stub, self._clean_in, target=self.target)

    def _clean_in(self, scope: Scope, order: Order, timeout_s: float) -> CleanResult[Any]:
        return self._clean(order, Attempts(self._retry, self._budget, timeout_s), None, scope)

    def encode(
        self,
        image: ImageInput,
        *,
        half_precision: bool = False,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        **options: Unpack[LatentOptions],
    ) -> EncodeResult:
        """The latent code of an image: the same image always gives the same code.

        Args:
            image: as for :meth:`clean`, of the size that the model takes.
            half_precision: whether the code comes as float16, in half the bytes.
            timeout_s: time for everything, retries included.
            **options: ``model``, ``model_version``, ``service_class``; see ``LatentOptions``.

        Raises:
            DenoisedError: one of its kinds; NotSupportedError when the model does not encode.
        """
        return self._latent(_latents.encode(image, half_precision=half_precision, **options), timeout_s)

    def decode(
        self,
        code: ArrayLike,
        *,
        allow_out_of_distribution: bool = False,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        **options: Unpack[PictureOptions],
    ) -> DecodeResult:
        """The image of a latent code.

        Args:
            code: (d,) numbers; float16 travels as such.
            allow_out_of_distribution: decodes a code that is further from the model's than any image's should be.
            timeout_s: time for everything, retries included.
            **options: those of :meth:`encode`, ``output_container``, ``sample_type``, ``jpeg_quality``; see
                ``PictureOptions``.

        Raises:
            DenoisedError: one of its kinds; InvalidLatentError when the code can't be decoded.
        """
        call = _latents.decode(code, allow_out_of_distribution=allow_out_of_distribution, **options)
        return self._latent(call, timeout_s)

    def generate(
        self,
        image_count: int = 1,
        *,
        seed: int | None = None,
        temperature: float | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        **options: Unpack[PictureOptions],
    ) -> GenerateResult:
        """New images.

        Args:
            image_count: how many.
            seed: 0 or more; gives the same images again. None lets the server choose, and the result says which.
            temperature: 0..2; less than 1 gives more typical images. None is 1.
            timeout_s: time for everything, retries included.
            **options: as for :meth:`decode`.

        Raises:
            DenoisedError: one of its kinds; NotSupportedError when the model does not generate.
        """
        return self._latent(_latents.generate(image_count, seed=seed, temperature=temperature, **options), timeout_s)

    def interpolate(
        self,
        start: ImageInput | ArrayLike,
        stop: ImageInput | ArrayLike,
        *,
        step_count: int | None = None,
        allow_out_of_distribution: bool = False,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        **options: Unpack[PictureOptions],
    ) -> InterpolateResult:
        """Images on the way from one end to the other, both included.

        Args:
            start, stop: images, as for :meth:`encode`, or codes: rows of numbers.
            step_count: how many images, at least 2; None is 8.
            allow_out_of_distribution: as for :meth:`decode`, for ends that are codes.
            timeout_s: time for everything, retries included.
            **options: as for :meth:`decode`.

        Raises:
            DenoisedError: one of its kinds.
        """
        call = _latents.interpolate(
            start, stop, step_count=step_count, allow_out_of_distribution=allow_out_of_distribution, **options
        )
        return self._latent(call, timeout_s)

    def models(self, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> tuple[Model, ...]:
        """The models that the server has loaded, by name, then by version, oldest first."""
        attempts = Attempts(self._retry, self._budget, timeout_s)
        response = self._call(self._stub.ListModels, pb.ListModelsRequest(), attempts, Scope())
        return tuple(results.model(message) for message in response.models)

    def server(self, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> Server:
        """What the server says of itself: its health, its models, and the most that it takes."""
        attempts, scope = Attempts(self._retry, self._budget, timeout_s), Scope()
        health = self._call(self._health, None, attempts, scope)
        response = self._call(self._stub.ListModels, pb.ListModelsRequest(), attempts, scope)
        return results.server(response, health)

    def close(self) -> None:
        """Ends the connection; calls that are under way are cancelled."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(
        self,
        method: "grpc.UnaryUnaryMultiCallable[Any, _ResponseT]",
        request: object,
        attempts: Attempts,
        scope: Scope,
    ) -> _ResponseT:
        while True:
            try:
                return scope.wait(method, request, attempts.remaining_s)
            except grpc.RpcError as error:
                pause_s = attempts.pause_after(_failures.from_call(error, target=self.target))
            scope.pause(pause_s)

    def _latent(self, call: LatentCall[ResultT], timeout_s: float) -> ResultT:
        attempts = Attempts(self._retry, self._budget, timeout_s)
        return call.read(self._call(getattr(self._stub, call.method), call.request, attempts, Scope()))

    def _clean(
        self, order: Order, attempts: Attempts, on_progress: OnProgress | None, scope: Scope | None = None
    ) -> CleanResult[Any]:
        result = self._answered(order, attempts, on_progress, scope or Scope())
        assert isinstance(result, CleanResult)
        return result

    def _answered(
        self, order: Order, attempts: Attempts, on_progress: OnProgress | None, scope: Scope
    ) -> CleanResult[Any] | InspectResult:
        try:
            if not order.is_surely_small:
                limits = self._known_limits(attempts, scope)
                limits.check(order)
                if limits.wants_chunks(order):
                    return self._upload(order, limits, attempts, on_progress, scope)
            result = self._in_one_message(order, attempts, scope)
        except ImageTooLargeError:
            self._limits = None
            raise
        if on_progress is not None:
            on_progress(1.0)
        return result

    def _in_one_message(self, order: Order, attempts: Attempts, scope: Scope) -> CleanResult[Any] | InspectResult:
        if order.options.report_only:
            return inspect_result(self._call(self._stub.Inspect, order.inspection(), attempts, scope))
        response = self._call(self._stub.Denoise, order.request(), attempts, scope)
        return read_response(response, order.image.form)

    def _known_limits(self, attempts: Attempts, scope: Scope) -> ServerLimits:
        if self._limits is None:
            response = self._call(self._stub.ListModels, pb.ListModelsRequest(), attempts, scope)
            self._limits = ServerLimits.of(response, most_message_bytes=self._message_bytes)
        return self._limits

    def _upload(
        self,
        order: Order,
        limits: ServerLimits,
        attempts: Attempts,
        on_progress: OnProgress | None,
        scope: Scope,
    ) -> CleanResult[Any] | InspectResult:
        while True:
            upload = Upload(
                order,
                chunk_bytes=limits.chunk_bytes,
                timeout_s=attempts.remaining_s,
                target=self.target,
                on_progress=on_progress,
            )
            self._exchange(upload, attempts.remaining_s, scope)
            try:
                return upload.result()
            except DenoisedError as error:
                pause_s = attempts.pause_after(error)
            scope.pause(pause_s)

    def _exchange(self, upload: Upload, timeout_s: float, scope: Scope) -> None:
        """Notes answers while gRPC sends the frames, as fast as the server takes them."""
        call = self._stub.DenoiseStream(upload.frames(), timeout=timeout_s)
        try:
            for answer in scope.around(call):
                upload.note(answer)
        except grpc.RpcError as error:
            upload.end(_failures.from_call(error, target=self.target))
        finally:
            call.cancel()
