"""The client for programs that block; ``AsyncClient`` in ``denoised.aio`` is its twin.

Both only send, wait and hand back. Requests and answers are made in ``_calls``, retries are decided in ``retry``
and the order of things for many images in ``_window``: one copy each, used by both.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from queue import Empty, SimpleQueue
from threading import Thread
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
_RequestT = TypeVar("_RequestT")
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
    ) -> None:
        """Connects when the first call is made.

        Args:
            target: ``host:port``, or ``dns:///host:port`` to spread calls over all addresses of the name.
            tls: True for TLS with the authorities that gRPC knows, a ``Tls`` for others or to show a certificate;
                False is plain text.
            token: who is calling, for a server that asks for it. Over plain text anyone on the way can read it.
            credentials: gRPC's own, in place of ``tls``.
            retry: how patiently to try again; None is ``RetryPolicy()``.

        Raises:
            InvalidOptionError: a file of ``tls`` can't be read, or the token can't be sent.
        """
        self.target = target
        self._retry = retry or RetryPolicy()
        credentials, tls_options = credentials_of(credentials, tls=tls)
        options = channel_options(target) + tls_options
        self._channel = (
            grpc.insecure_channel(target, options)
            if credentials is None
            else grpc.secure_channel(target, credentials, options)
        )
        self._stub = service_stub(self._channel, token)
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
            image: an array (H, W) or (H, W, C) of uint8, uint16 or float32, answered with an array alike; or the
                bytes of a PNG or JPEG file or a path to one, answered with the bytes of a file.
            timeout_s: time for everything, retries included; None is 30 s, and 3 s for each megapixel.
            on_progress: told how much is done, 0..1 and never less than before, 1 at the end; only another try begins
                anew. An image that fits one message is done at once. What it raises ends the call and comes through.
            **options: ``model``, ``model_version``, ``strength``, ``output_container``, ``jpeg_quality``,
                ``black_level``, ``white_level``, ``service_class``; see ``CleanOptions``.

        Raises:
            DenoisedError: one of its kinds.
        """
        begun_s = time.monotonic()
        order = build_order(image, **options)
        timeout_s = order.default_timeout_s if timeout_s is None else timeout_s
        return self._clean(order, Attempts(self._retry, timeout_s, begun_s=begun_s), on_progress)

    def clean_many(
        self,
        images: Iterable[ImageInput],
        *,
        concurrency: int = 8,
        timeout_s: float | None = None,
        **options: Unpack[CleanOptions],
    ) -> Iterator[Outcome]:
        """Denoises images over one stream, a few at a time; outcomes come as they finish, in any order.

        An image that does not fit one message has a stream of its own, and no other is begun meanwhile.

        Args:
            images: as for :meth:`clean`; taken as there is room, so a generator of any length is fine.
            concurrency: the most images that are sent and not yet answered.
            timeout_s: time for each image, from when it is taken, retries included; None is as for :meth:`clean`.
            **options: as for :meth:`clean`, for all images.

        Yields:
            (index of the image, its result or why there is none).
        """
        window = Window(
            target=self.target,
            policy=self._retry,
            concurrency=concurrency,
            timeout_s=timeout_s,
            options=options,
            limits=lambda: self._limits,
        )
        return self._drive(window, images)

    def models(self, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> tuple[Model, ...]:
        """The models that the server has loaded, by name, then by version, oldest first."""
        response = self._call(self._stub.ListModels, pb.ListModelsRequest(), Attempts(self._retry, timeout_s))
        return tuple(results.model(message) for message in response.models)

    def close(self) -> None:
        """Ends the connection; calls that are under way are cancelled."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, method: Callable[..., _ResponseT], request: _RequestT, attempts: Attempts) -> _ResponseT:
        while True:
            try:
                return method(request, timeout=attempts.remaining_s)
            except grpc.RpcError as error:
                pause_s = attempts.pause_after(_failures.from_call(error, target=self.target))
            time.sleep(pause_s)

    def _clean(self, order: Order, attempts: Attempts, on_progress: OnProgress | None) -> CleanResult[Any]:
        try:
            if not order.is_surely_small:
                limits = self._known_limits(attempts)
                limits.check(order)
                if limits.wants_chunks(order):
                    return self._upload(order, limits, attempts, on_progress)
            response = self._call(self._stub.Denoise, order.request(), attempts)
            result = read_response(response, order.image.form)
        except ImageTooLargeError:
            self._limits = None
            raise
        if on_progress is not None:
            on_progress(1.0)
        return result

    def _outcome(self, order: Order, timeout_s: float) -> CleanResult[Any] | DenoisedError:
        try:
            return self._clean(order, Attempts(self._retry, timeout_s), None)
        except DenoisedError as error:
            return error

    def _known_limits(self, attempts: Attempts) -> ServerLimits:
        if self._limits is None:
            self._limits = ServerLimits.of(self._call(self._stub.ListModels, pb.ListModelsRequest(), attempts))
        return self._limits

    def _upload(
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
            self._exchange(upload, attempts.remaining_s)
            try:
                return upload.result()
            except DenoisedError as error:
                pause_s = attempts.pause_after(error)
            time.sleep(pause_s)

    def _exchange(self, upload: Upload, timeout_s: float) -> None:
        """Notes answers while gRPC sends the frames, as fast as the server takes them."""
        call = self._stub.DenoiseStream(upload.frames(), timeout=timeout_s)
        try:
            for answer in call:
                upload.note(answer)
        except grpc.RpcError as error:
            upload.end(_failures.from_call(error, target=self.target))
        finally:
            call.cancel()

    def _drive(self, window: Window, images: Iterable[ImageInput]) -> Iterator[Outcome]:
        source = iter(images)
        stream = _Stream(self._stub, target=self.target)
        try:
            while not isinstance(step := window.next_step(time.monotonic()), Finish):
                match step:
                    case Give(outcome):
                        yield outcome
                    case Take():
                        _take(source, window)
                    case Open(timeout_s):
                        stream.open(timeout_s)
                    case Send(frame):
                        stream.send(frame)
                    case Alone(index, order, timeout_s):
                        window.settle(index, self._outcome(order, timeout_s))
                    case Receive(wait_s):
                        window.note(stream.receive(wait_s), time.monotonic())
                    case Sleep(wait_s):
                        time.sleep(wait_s)
                    case Close():
                        stream.finish()
        finally:
            stream.cancel()


def _take(source: Iterator[ImageInput], window: Window) -> None:
    try:
        image = next(source)
    except StopIteration:
        window.end_source()
    else:
        window.add(image, time.monotonic())


class _Stream:
    """One DenoiseStream call at a time, begun by ``open``.

    A thread reads answers as they come, so that a slow caller never makes the server stop reading; what waits
    in the inbox is bounded by the items in flight.
    """

    def __init__(self, stub: DenoiseServiceStub, *, target: str) -> None:
        self._stub = stub
        self._target = target
        self._outbox: SimpleQueue[pb.DenoiseStreamRequest | None] = SimpleQueue()
        self._inbox: SimpleQueue[pb.DenoiseStreamResponse | StreamEnd] = SimpleQueue()
        self._call: grpc.Call | None = None
        self._reader: Thread | None = None

    def open(self, timeout_s: float) -> None:
        """Begins a call; the one before has ended and this clears up behind it."""
        self.cancel()
        self._outbox, self._inbox = SimpleQueue(), SimpleQueue()
        self._call = self._stub.DenoiseStream(iter(self._outbox.get, None), timeout=timeout_s)
        self._reader = Thread(
            target=self._read, args=(self._call, self._inbox), name="denoised-stream-reader", daemon=True
        )
        self._reader.start()

    def send(self, frame: pb.DenoiseStreamRequest) -> None:
        self._outbox.put(frame)

    def receive(self, wait_s: float) -> pb.DenoiseStreamResponse | StreamEnd | None:
        """The next answer, the end of the stream, or None when neither came in time."""
        try:
            return self._inbox.get(timeout=wait_s)
        except Empty:
            return None

    def finish(self) -> None:
        """Says goodbye, so that the server sees a stream that ended well; a server that is slow at it is left."""
        self._outbox.put(None)
        if self._reader is not None:
            self._reader.join(FAREWELL_S)
        self.cancel()

    def cancel(self) -> None:
        """Ends the call now; does nothing to one that has ended, or when there is none."""
        self._outbox.put(None)  # releases gRPC's thread, which waits for frames
        if self._call is not None and self._reader is not None:
            self._call.cancel()
            self._reader.join()

    def _read(
        self, answers: Iterable[pb.DenoiseStreamResponse], inbox: SimpleQueue[pb.DenoiseStreamResponse | StreamEnd]
    ) -> None:
        try:
            for answer in answers:
                inbox.put(answer)
        except grpc.RpcError as error:
            inbox.put(StreamEnd(_failures.from_call(error, target=self._target)))
        else:
            inbox.put(StreamEnd(None))
