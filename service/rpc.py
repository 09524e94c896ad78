"""The API's methods: messages in, stages called, messages out. Decides nothing about images or queues."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final, cast

from google.rpc.code_pb2 import Code

from denoised.v1 import denoised_pb2 as pb
from denoised.v1 import denoised_pb2_grpc
from service import convert
from service.batcher import Client
from service.errors import DeadlineExceeded, ImageTooLarge, InvalidOption, ServiceError
from service.lifecycle import InFlight, Lifecycle
from service.metrics import Metrics
from service.pipeline import Denoiser
from service.registry import Registry
from service.status import Context, observe_failure
from service.stream import ItemStream

# Field tags and lengths around one result.
_FRAMING_BYTES: Final = 16
SERVICE_NAME: Final = pb.DESCRIPTOR.services_by_name["DenoiseService"].full_name


@dataclass(frozen=True, slots=True)
class RpcLimits:
    """What one call may ask for."""

    default_timeout_s: float
    message_bytes: int
    image_pixels: int
    batch_image_count: int
    stream_items_in_flight: int


class DenoiseServicer(denoised_pb2_grpc.DenoiseServiceServicer):
    """Serves ``denoised.v1.DenoiseService``."""

    def __init__(
        self,
        *,
        denoiser: Denoiser,
        registry: Callable[[], Registry],
        limits: RpcLimits,
        lifecycle: Lifecycle,
        in_flight: InFlight,
        clock: Callable[[], float],
        metrics: Metrics,
    ) -> None:
        self._lifecycle = lifecycle
        self._in_flight = in_flight
        self._denoiser = denoiser
        self._registry = registry
        self._limits = limits
        self._clock = clock
        self._metrics = metrics

    async def Denoise(  # noqa: N802 -- the name is the API's
        self, request: pb.DenoiseRequest, context: Context
    ) -> pb.DenoiseResponse:
        response, _ = await self._denoise(request, _client_of(context), self._deadline_s(context))
        return response

    async def DenoiseBatch(  # noqa: N802 -- the name is the API's
        self, request: pb.DenoiseBatchRequest, context: Context
    ) -> pb.DenoiseBatchResponse:
        count, limit = len(request.requests), self._limits.batch_image_count
        if not 1 <= count <= limit:
            raise InvalidOption(f"the batch has {count} images; 1 to {limit} are allowed; split it", field="requests")
        client, deadline_s = _client_of(context), self._deadline_s(context)
        outcomes = await asyncio.gather(*(self._outcome(item, client, deadline_s) for item in request.requests))
        response = pb.DenoiseBatchResponse()
        size_bytes = 0
        for result, most_bytes in outcomes:
            with_this_bytes = size_bytes + most_bytes + _FRAMING_BYTES
            if with_this_bytes > self._limits.message_bytes:
                error = self._too_large(with_this_bytes, "send fewer images in one batch")
                response.results.append(pb.DenoiseResult(status=observe_failure(error, self._metrics)))
            else:
                size_bytes = with_this_bytes
                response.results.append(result)
        return response

    async def DenoiseStream(  # noqa: N802 -- the name is the API's
        self, request_iterator: AsyncIterator[pb.DenoiseStreamRequest], context: Context
    ) -> None:
        client = _client_of(context)
        remaining_s = _remaining_s(context)
        stream_deadline_s = math.inf if remaining_s is None else self._clock() + remaining_s

        stream = ItemStream(
            run=lambda frame: self._item_outcome(frame, client, stream_deadline_s),
            refuse=lambda error: self._counted(pb.DenoiseResult(status=observe_failure(error, self._metrics))),
            write=context.write,
            hold=self._in_flight.hold,
            items_in_flight=self._limits.stream_items_in_flight,
        )
        await stream.serve(request_iterator)

    async def ListModels(  # noqa: N802 -- the name is the API's
        self, request: pb.ListModelsRequest, context: Context
    ) -> pb.ListModelsResponse:
        del request, context
        default = self._registry().get("", "")
        return pb.ListModelsResponse(
            models=[convert.model_message(m, is_default=m is default) for m in self._registry().all()],
            limits=pb.Limits(
                message_bytes=self._limits.message_bytes,
                image_pixels=self._limits.image_pixels,
                batch_image_count=self._limits.batch_image_count,
            ),
        )

    async def GetModel(  # noqa: N802 -- the name is the API's
        self, request: pb.GetModelRequest, context: Context
    ) -> pb.GetModelResponse:
        del context
        model = self._registry().get(request.name, request.version)
        return pb.GetModelResponse(model=convert.model_message(model, is_default=model is self._registry().get("", "")))

    async def _denoise(
        self, request: pb.DenoiseRequest, client: Client, deadline_s: float
    ) -> tuple[pb.DenoiseResponse, int]:
        """Everything that happens to one image, whichever method brought it; and the most bytes that it answers."""
        model = self._registry().get(request.options.model, request.options.model_version)
        options = convert.options_of(request.options, request.image)
        source = convert.source_of(request.image)
        try:
            async with asyncio.timeout(deadline_s - self._clock()):
                outcome = await self._denoiser.denoise(source, options, model, client=client, deadline_s=deadline_s)
        except TimeoutError as error:
            raise DeadlineExceeded("the deadline passed before the image was done; allow more time") from error
        most_bytes = convert.most_bytes(outcome, source)
        if most_bytes > self._limits.message_bytes:
            raise self._too_large(most_bytes, "ask for JPEG, or send the image in parts")
        return convert.response_of(outcome, request, model), most_bytes

    def _too_large(self, size_bytes: int, remedy: str) -> ImageTooLarge:
        return ImageTooLarge(
            f"the answer has up to {size_bytes} bytes; a message holds at most {self._limits.message_bytes}; {remedy}",
            field="options.output_container",
        )

    async def _outcome(
        self, request: pb.DenoiseRequest, client: Client, deadline_s: float
    ) -> tuple[pb.DenoiseResult, int]:
        """Like :meth:`_denoise`, with errors as a status."""
        try:
            response, most_bytes = await self._denoise(request, client, deadline_s)
        except Exception as error:  # noqa: BLE001 -- an item's failure is its outcome, whatever it is
            result = pb.DenoiseResult(status=observe_failure(error, self._metrics))
            return result, result.ByteSize()
        return pb.DenoiseResult(response=response), most_bytes

    async def _item_outcome(
        self, frame: pb.DenoiseStreamRequest, client: Client, stream_deadline_s: float
    ) -> pb.DenoiseResult:
        """The outcome of one item of a stream, which has a deadline of its own."""
        try:
            self._lifecycle.require_serving()
            timeout_s = convert.timeout_s(frame) if frame.HasField("timeout") else self._limits.default_timeout_s
        except ServiceError as error:
            return self._counted(pb.DenoiseResult(status=observe_failure(error, self._metrics)))
        deadline_s = min(stream_deadline_s, self._clock() + timeout_s)
        result, _ = await self._outcome(frame.request, client, deadline_s)
        return self._counted(result)

    def _counted(self, result: pb.DenoiseResult) -> pb.DenoiseResult:
        self._metrics.requests.labels("DenoiseStream.item", Code.Name(result.status.code)).inc()
        return result

    def _deadline_s(self, context: Context) -> float:
        """When the call must be answered, on the clock."""
        remaining_s = _remaining_s(context)
        return self._clock() + (self._limits.default_timeout_s if remaining_s is None else remaining_s)


def _client_of(context: Context) -> Client:
    """Who calls: fairness is kept between addresses, without their ports; connections are only counted."""
    peer = context.peer()
    return Client(share=peer.rsplit(":", 1)[0], connection=peer)


def _remaining_s(context: Context) -> float | None:
    """Time until the call's deadline, None when it has none; the type stubs forget the latter."""
    return cast("float | None", context.time_remaining())
