"""A real gRPC server in the test's own process that answers what the test tells it to, and clients of both kinds."""

import asyncio
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import grpc
import pytest
from google.protobuf.any_pb2 import Any as PackedMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from denoised import AsyncClient, CleanResult, Client, Model, RetryPolicy
from denoised._window import Outcome
from denoised.v1 import denoised_pb2 as pb
from denoised.v1 import denoised_pb2_grpc

CLEANED = b"cleaned:"

Frames = Iterator[pb.DenoiseStreamRequest]
Answers = Iterator[pb.DenoiseStreamResponse]


@dataclass(frozen=True)
class Refusal:
    """A failure as the server would send it."""

    code: grpc.StatusCode
    message: str = "refused by the test"
    reason: str = ""
    field: str = ""
    retry_after_s: float | None = None

    def status(self) -> status_pb2.Status:
        details = []
        if self.reason:
            details.append(error_details_pb2.ErrorInfo(reason=self.reason, domain="denoised.v1"))
        if self.field:
            violation = error_details_pb2.BadRequest.FieldViolation(field=self.field)
            details.append(error_details_pb2.BadRequest(field_violations=[violation]))
        if self.retry_after_s is not None:
            delay = Duration()
            delay.FromMicroseconds(round(self.retry_after_s * 1e6))
            details.append(error_details_pb2.RetryInfo(retry_delay=delay))
        packed = [PackedMessage() for _ in details]
        for target, detail in zip(packed, details, strict=True):
            target.Pack(detail)
        return status_pb2.Status(code=self.code.value[0], message=self.message, details=packed)


@dataclass
class ScriptedService(denoised_pb2_grpc.DenoiseServiceServicer):
    """Answers each request with the next refusal of ``script``; None, and an empty script, stand for success.

    Attributes:
        hold: while it is cleared, nothing is answered.
        stream_breaks: refusals that end a whole stream, each after its first frame.
        answer: answers Denoise instead of the script.
        uploads: answer one stream each that begins with the header of an image in chunks.
        limits: what ListModels says; nothing, as servers of old.
        most_unanswered: the largest number of stream items that were in at the same time.
        stream_count: streams so far.
    """

    script: deque[Refusal | None] = field(default_factory=deque)
    stream_breaks: deque[Refusal] = field(default_factory=deque)
    requests: list[pb.DenoiseRequest] = field(default_factory=list)
    remaining_s: list[float] = field(default_factory=list)
    peers: set[str] = field(default_factory=set)
    item_timeouts_s: list[float] = field(default_factory=list)
    hold: threading.Event = field(default_factory=threading.Event)
    stream_ended: threading.Event = field(default_factory=threading.Event)
    batch_of: int = 1
    most_unanswered: int = 0
    stream_count: int = 0
    uploads: deque[Callable[[Frames, grpc.ServicerContext], Answers]] = field(default_factory=deque)
    headers: list[pb.DenoiseStreamRequest] = field(default_factory=list)
    limits: pb.Limits | None = None
    list_count: int = 0
    report_is_omitted: bool = False
    noise_is_unknown: bool = False
    answer: Callable[[grpc.ServicerContext], pb.DenoiseResponse] | None = None

    def __post_init__(self) -> None:
        self.hold.set()

    def Denoise(  # noqa: N802 -- the generated name
        self, request: pb.DenoiseRequest, context: grpc.ServicerContext
    ) -> pb.DenoiseResponse:
        self._note(request, context)
        self.hold.wait()
        if self.answer is not None:
            return self.answer(context)
        refusal = self.script.popleft() if self.script else None
        if refusal is not None:
            context.abort_with_status(rpc_status.to_status(refusal.status()))
        return self._response(request)

    def DenoiseStream(  # noqa: N802 -- the generated name
        self, request_iterator: Iterator[pb.DenoiseStreamRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.DenoiseStreamResponse]:
        context.add_callback(self.stream_ended.set)
        self.stream_count += 1
        unanswered: list[pb.DenoiseStreamRequest] = []
        for frame in request_iterator:
            if frame.HasField("header"):
                self.headers.append(frame)
                yield from self.uploads.popleft()(request_iterator, context)
                return
            self._note(frame.request, context)
            self.item_timeouts_s.append(frame.timeout.ToTimedelta().total_seconds())
            if self.stream_breaks:
                context.abort_with_status(rpc_status.to_status(self.stream_breaks.popleft().status()))
            self.hold.wait()
            unanswered.append(frame)
            self.most_unanswered = max(self.most_unanswered, len(unanswered))
            if len(unanswered) >= self.batch_of:
                # newest first: a client must not rely on the order
                yield from (self._item(item) for item in reversed(unanswered))
                unanswered = []
        yield from (self._item(item) for item in unanswered)

    def ListModels(  # noqa: N802 -- the generated name
        self, request: pb.ListModelsRequest, context: grpc.ServicerContext
    ) -> pb.ListModelsResponse:
        self.list_count += 1
        return pb.ListModelsResponse(
            limits=self.limits,
            models=[
                pb.Model(
                    reference=pb.ModelReference(name="cdae", version=version, digest="ab" * 32),
                    summary="For photographs.",
                    channel_count=3,
                    sigma_min=0,
                    sigma_max=55,
                    clips_input=True,
                    gmac_per_megapixel=12.5,
                    license="Apache-2.0",
                    is_default=version == "2",
                    kind="conv_dae",
                    capabilities=[pb.CAPABILITY_DENOISE, pb.CAPABILITY_UNSPECIFIED, cast("pb.Capability", 99)],
                    precision=pb.PRECISION_INT8 if version == "2" else pb.PRECISION_FP32,
                    fixed_side_px=28 if version == "2" else 0,
                    code_length=32 if version == "2" else 0,
                    sample_type=pb.SAMPLE_TYPE_U16,
                    black_level=64,
                    white_level=4095,
                )
                for version in ("1", "2")
            ],
        )

    def _note(self, request: pb.DenoiseRequest, context: grpc.ServicerContext) -> None:
        self.requests.append(request)
        self.remaining_s.append(context.time_remaining())
        self.peers.add(context.peer())

    def _item(self, frame: pb.DenoiseStreamRequest) -> pb.DenoiseStreamResponse:
        refusal = self.script.popleft() if self.script else None
        result = (
            pb.DenoiseResult(status=status_pb2.Status(), response=self._response(frame.request))
            if refusal is None
            else pb.DenoiseResult(status=refusal.status())
        )
        return pb.DenoiseStreamResponse(item_id=frame.item_id, result=result)

    def _response(self, request: pb.DenoiseRequest) -> pb.DenoiseResponse:
        image = pb.Image()
        image.CopyFrom(request.image)
        if image.WhichOneof("content") == "encoded":
            image.encoded.data = CLEANED + image.encoded.data
        response = pb.DenoiseResponse(
            image=image,
            timings=pb.Timings(compute=Duration(nanos=250_000_000), total=Duration(seconds=1, nanos=500_000_000)),
            batching=pb.Batching(tile_count=4, shared_request_count=3, shared_client_count=2),
            model=pb.ModelReference(name="cdae", version="2", digest="ab" * 32),
        )
        if not self.report_is_omitted:
            response.report.clipped_sample_count = 7
            if not self.noise_is_unknown:
                response.report.noise_sigma, response.report.sigma_in_trained_range = 24.5, True
        return response


@dataclass(frozen=True)
class Server:
    """Where the scripted service listens."""

    service: ScriptedService
    target: str


@pytest.fixture
def server() -> Iterator[Server]:
    service = ScriptedService()
    with ThreadPoolExecutor(max_workers=8) as threads:
        grpc_server = grpc.server(threads)
        denoised_pb2_grpc.add_DenoiseServiceServicer_to_server(  # type: ignore[no-untyped-call]  # generated
            service, grpc_server
        )
        port = grpc_server.add_insecure_port("127.0.0.1:0")
        grpc_server.start()
        yield Server(service=service, target=f"127.0.0.1:{port}")
        service.hold.set()
        grpc_server.stop(grace=None).wait()


class Caller(Protocol):
    """What the tests need of a client, blocking or not."""

    def clean(self, image: Any, **options: Any) -> CleanResult[Any]: ...
    def clean_many(self, images: Iterable[Any], **options: Any) -> list[Outcome]: ...
    def first_of_many(self, images: Iterable[Any], **options: Any) -> Outcome: ...
    def models(self) -> tuple[Model, ...]: ...


class Blocking:
    def __init__(self, target: str, retry: RetryPolicy) -> None:
        self.client = Client(target, retry=retry)

    def clean(self, image: Any, **options: Any) -> CleanResult[Any]:
        return self.client.clean(image, **options)

    def clean_many(self, images: Iterable[Any], **options: Any) -> list[Outcome]:
        return list(self.client.clean_many(images, **options))

    def first_of_many(self, images: Iterable[Any], **options: Any) -> Outcome:
        outcomes = self.client.clean_many(images, **options)
        return next(outcomes)

    def models(self) -> tuple[Model, ...]:
        return self.client.models()

    def close(self) -> None:
        self.client.close()


class OnALoop:
    def __init__(self, target: str, retry: RetryPolicy) -> None:
        self.runner = asyncio.Runner()
        self.client = self.runner.run(self._connect(target, retry))

    @staticmethod
    async def _connect(target: str, retry: RetryPolicy) -> AsyncClient:
        return AsyncClient(target, retry=retry)

    def clean(self, image: Any, **options: Any) -> CleanResult[Any]:
        return self.runner.run(self.client.clean(image, **options))

    def clean_many(self, images: Iterable[Any], **options: Any) -> list[Outcome]:
        async def collect() -> list[Outcome]:
            return [outcome async for outcome in self.client.clean_many(images, **options)]

        return self.runner.run(collect())

    def first_of_many(self, images: Iterable[Any], **options: Any) -> Outcome:
        async def take_one() -> Outcome:
            outcomes = self.client.clean_many(images, **options)
            first = await anext(outcomes)
            await outcomes.aclose()
            return first

        return self.runner.run(take_one())

    def models(self) -> tuple[Model, ...]:
        return self.runner.run(self.client.models())

    def close(self) -> None:
        self.runner.run(self.client.close())
        self.runner.close()


Connect = Callable[..., Caller]


@pytest.fixture
def impatient() -> RetryPolicy:
    """The usual number of tries with pauses that nobody notices."""
    return RetryPolicy(first_pause_s=0.0, longest_pause_s=0.0)


@pytest.fixture
def silent_target() -> str:
    """An address where nothing listens: the port was free a moment ago, and is again."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    return f"127.0.0.1:{port}"


@pytest.fixture(params=[Blocking, OnALoop])
def connect(request: pytest.FixtureRequest, impatient: RetryPolicy) -> Iterator[Connect]:
    opened: list[Blocking | OnALoop] = []

    def make(target: str, retry: RetryPolicy = impatient) -> Caller:
        opened.append(request.param(target, retry))
        return opened[-1]

    yield make
    for caller in opened:
        caller.close()


@pytest.fixture
def caller(connect: Connect, server: Server) -> Caller:
    return connect(server.target)
