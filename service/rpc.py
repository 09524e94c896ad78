"""The API's methods: messages in, stages called, messages out. Decides nothing about images or queues.

Images travel as bytes: see :mod:`service.wire`.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

import grpc
from google.rpc.code_pb2 import Code
from google.rpc.status_pb2 import Status

from denoised.v1 import denoised_pb2 as pb
from service import convert, wire
from service.clients import Clients, Context
from service.convert import Recipe, Recipes, Replies, too_large
from service.deadlines import Deadlines
from service.errors import InvalidOption
from service.job import Job, Outcome
from service.lifecycle import InFlight, Lifecycle
from service.metrics import Metrics
from service.pipeline import Denoiser
from service.registry import Registry
from service.status import Calls, observe_failure, when_over
from service.stream import ItemStream, StreamLimits
from service.submission import Client
from service.types import Data

SERVICE_NAME: Final = pb.DESCRIPTOR.services_by_name["DenoiseService"].full_name
# What an image of a stream is counted as, beside the call that brought it.
_STREAM_ITEM: Final = "DenoiseStream.item"


@dataclass(frozen=True, slots=True)
class RpcLimits:
    """What one call may ask for."""

    default_timeout_s: float
    longest_timeout_s: float
    message_bytes: int
    chunk_bytes: int
    image_pixels: int
    chunked_image_pixels: int
    batch_image_count: int
    stream_items_in_flight: int
    generated_image_count: int
    interpolation_step_count: int
    report_one_in: int


class DenoiseMethods:
    """Serves ``denoised.v1.DenoiseService``."""

    def __init__(
        self,
        *,
        denoiser: Denoiser,
        registry: Callable[[], Registry],
        limits: RpcLimits,
        lifecycle: Lifecycle,
        in_flight: InFlight,
        clients: Clients,
        deadlines: Deadlines,
        clock: Callable[[], float],
        metrics: Metrics,
    ) -> None:
        self._denoiser = denoiser
        self._registry = registry
        self._limits = limits
        self._lifecycle = lifecycle
        self._in_flight = in_flight
        self._clients = clients
        self._deadlines = deadlines
        self._clock = clock
        self._metrics = metrics
        self._recipes = Recipes(registry=registry, denoiser=denoiser)
        self._replies = Replies(report_one_in=limits.report_one_in)

    def handler(self, calls: Calls) -> grpc.GenericRpcHandler:
        """All methods, for the server."""
        unary, stream = grpc.unary_unary_rpc_method_handler, grpc.stream_stream_rpc_method_handler
        calls.show_codes(_STREAM_ITEM)
        return grpc.method_handlers_generic_handler(
            SERVICE_NAME,
            {
                "Denoise": unary(calls.unary(self._denoise, "Denoise")),
                "DenoiseBatch": unary(calls.unary(self._denoise_batch, "DenoiseBatch")),
                "DenoiseStream": stream(calls.stream(self._denoise_stream, "DenoiseStream")),
                "Inspect": unary(calls.unary(self._inspect, "Inspect")),
                "ListModels": unary(
                    calls.unary(self._list_models, "ListModels"),
                    pb.ListModelsRequest.FromString,
                    pb.ListModelsResponse.SerializeToString,
                ),
                "GetModel": unary(
                    calls.unary(self._get_model, "GetModel"),
                    pb.GetModelRequest.FromString,
                    pb.GetModelResponse.SerializeToString,
                ),
            },
        )

    def forget(self) -> None:
        """Other models are served from now on: nothing that is remembered holds on to those that left."""
        self._recipes.forget()
        self._denoiser.forget()

    async def _denoise(self, message: bytes, context: Context) -> bytes:
        split = wire.split_request(message)
        client = self._clients.of(context)
        recipe = self._recipes.of(split.rest, client.most_urgent_class)
        return await self._one(recipe, split.data, client, context)

    async def _inspect(self, message: bytes, context: Context) -> bytes:
        """Requests and answers are those of Denoise with fewer fields."""
        split = wire.split_request(message)
        client = self._clients.of(context)
        recipe = self._recipes.of_inspection(split.rest, client.most_urgent_class)
        return await self._one(recipe, split.data, client, context)

    async def _one(self, recipe: Recipe, data: Data, client: Client, context: Context) -> bytes:
        waiter: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        job = Job(recipe.order, data, client, self._deadlines.of(context), _Teller(waiter))
        self._denoiser.start(job, is_alone=True)
        # Slow readers count: the room is theirs until the call has ended.
        when_over(context, lambda: self._denoiser.close(job))
        parts, size_bytes = self._replies.response_parts(await waiter, recipe)
        if size_bytes > self._limits.message_bytes:
            raise too_large(size_bytes, self._limits.message_bytes)
        return b"".join(parts)

    async def _denoise_batch(self, message: bytes, context: Context) -> bytes:
        splits = wire.split_batch(message)
        if not 1 <= len(splits) <= self._limits.batch_image_count:
            raise InvalidOption(
                f"the batch has {len(splits)} images; 1 to {self._limits.batch_image_count} are allowed; split it",
                field="requests",
            )
        client, deadline_s = self._clients.of(context), self._deadlines.of(context)
        batch = _Batch(len(splits), asyncio.get_running_loop().create_future())
        jobs: list[Job] = []

        def close() -> None:
            for job in jobs:
                self._denoiser.close(job)

        when_over(context, close)
        for index, split in enumerate(splits):
            try:
                recipe = self._recipes.of(split.rest, client.most_urgent_class)
                job = Job(recipe.order, split.data, client, deadline_s, batch.listener(index, recipe))
                self._denoiser.start(job)
                jobs.append(job)
            except Exception as error:  # noqa: BLE001 -- an image's failure is its outcome, whatever it is
                batch.settle(index, error)
        await batch.done
        return self._batch_reply(batch)

    def _batch_reply(self, batch: "_Batch") -> bytes:
        reply: list[Data] = []
        reply_bytes, limit_bytes = 0, self._limits.message_bytes
        for end in batch.ends:
            assert end is not None
            if isinstance(end, Exception):
                parts, size_bytes = self._failed_result(end)
            else:
                parts, size_bytes = wire.result_parts(*self._replies.response_parts(*end))
                if reply_bytes + size_bytes > limit_bytes:
                    parts, size_bytes = self._failed_result(too_large(reply_bytes + size_bytes, limit_bytes))
            parts, size_bytes = wire.batch_result_parts(parts, size_bytes)
            reply += parts
            reply_bytes += size_bytes
        return b"".join(reply)

    def _failed_result(self, error: Exception) -> tuple[list[Data], int]:
        result = pb.DenoiseResult(status=observe_failure(error, self._metrics)).SerializeToString()
        return [result], len(result)

    async def _denoise_stream(self, context: Context) -> None:
        stream = ItemStream(
            _Call(context),
            denoiser=self._denoiser,
            recipes=self._recipes,
            replies=self._replies,
            client=self._clients.of(context),
            deadline_s=self._deadlines.of_stream(context),
            limits=StreamLimits(
                items_in_flight=self._limits.stream_items_in_flight,
                default_timeout_s=self._limits.default_timeout_s,
                longest_timeout_s=self._limits.longest_timeout_s,
                message_bytes=self._limits.message_bytes,
                chunk_bytes=self._limits.chunk_bytes,
            ),
            lifecycle=self._lifecycle,
            in_flight=self._in_flight,
            clock=self._clock,
            count=self._count_item,
        )
        await stream.serve()

    def _count_item(self, error: Exception | None) -> Status | None:
        status = None if error is None else observe_failure(error, self._metrics, method="DenoiseStream")
        self._metrics.requests[_STREAM_ITEM, Code.Name(status.code if status else Code.OK)].inc()
        return status

    async def _list_models(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        del request, context
        default = self._registry().get("", "")
        limits = self._limits
        return pb.ListModelsResponse(
            models=[convert.model_message(m, is_default=m is default) for m in self._registry().all()],
            limits=pb.Limits(
                message_bytes=limits.message_bytes,
                image_pixels=limits.image_pixels,
                batch_image_count=limits.batch_image_count,
                chunked_image_pixels=limits.chunked_image_pixels,
                generated_image_count=limits.generated_image_count,
                interpolation_step_count=limits.interpolation_step_count,
            ),
        )

    async def _get_model(self, request: pb.GetModelRequest, context: Context) -> pb.GetModelResponse:
        del context
        model = self._registry().get(request.name, request.version)
        return pb.GetModelResponse(model=convert.model_message(model, is_default=model is self._registry().get("", "")))


class _Teller:
    """Tells the one task that waits for an image."""

    __slots__ = ("_waiter",)

    def __init__(self, waiter: "asyncio.Future[Outcome]") -> None:
        self._waiter = waiter

    def __call__(self, job: Job, end: Outcome | Exception) -> None:
        del job
        if self._waiter.done():
            return
        if isinstance(end, Exception):
            self._waiter.set_exception(end)
        else:
            self._waiter.set_result(end)


class _Batch:
    """The images of one DenoiseBatch: for each what became of it, and a future for all."""

    def __init__(self, count: int, done: "asyncio.Future[None]") -> None:
        self.ends: list[tuple[Outcome, Recipe] | Exception | None] = [None] * count
        self.done = done
        self._left_count = count

    def listener(self, index: int, recipe: Recipe) -> Callable[[Job, Outcome | Exception], None]:
        return lambda _, end: self.settle(index, end if isinstance(end, Exception) else (end, recipe))

    def settle(self, index: int, end: tuple[Outcome, Recipe] | Exception) -> None:
        self.ends[index] = end
        self._left_count -= 1
        if self._left_count == 0 and not self.done.done():
            self.done.set_result(None)


class _Call:
    """A stream's messages, as :class:`service.stream.Wire` wants them."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def read(self) -> bytes | None:
        message: Any = await self._context.read()
        return None if message is grpc.aio.EOF else cast("bytes", message)

    async def write(self, message: bytes) -> None:
        await self._context.write(message)
