"""A stream whose client, wire, clock and lanes are in the test's hands; all that lies between is the real thing."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

import numpy as np
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from prometheus_client import CollectorRegistry

from denoised.contract import GoldenPair, ModelContract
from denoised.v1 import denoised_pb2 as pb
from service.admission import Admission, Limits
from service.batcher import Batcher, BatcherOptions
from service.codec_pool import CodecPool
from service.convert import Recipes, Replies
from service.cost import CostModel, ModelCost
from service.engine import OnnxEngine
from service.lanes import Batch, Lane
from service.lifecycle import InFlight, Lifecycle, State
from service.metrics import Metrics
from service.pipeline import Denoiser
from service.registry import Model, Registry
from service.report import ReportBudget
from service.scheduler import Scheduler
from service.status import status_of
from service.stream import ItemStream, StreamLimits
from service.submission import Client
from service.types import Units

R = TypeVar("R")

EDGE_PX, HALO_PX = 16, 4
DEFAULT_TIMEOUT_S, LONGEST_TIMEOUT_S = 60.0, 90.0
MEMORY_BYTES = 64 * 1024 * 1024


@dataclass
class HandClock:
    """Stands still unless the test moves it."""

    now_s: float = 100.0

    def __call__(self) -> float:
        return self.now_s


class HandLane(Lane):
    """Runs a batch when the test says so, in the test's own thread."""

    def __init__(self, name: str, *, clock: Callable[[], float], on_done: Callable[[Lane, Batch], None]) -> None:
        super().__init__(name, clock=clock, on_done=on_done)
        self._tell = on_done
        self.waiting: list[Batch] = []

    def start(self) -> None:
        """There is no thread."""

    def put(self, batch: Batch) -> None:
        self.waiting.append(batch)

    def turn(self) -> None:
        """Runs the batch that waits longest."""
        batch = self.waiting.pop(0)
        self.run(batch)
        self._tell(self, batch)


class Negative:
    """A network whose answer to 8-bit samples is known by heart: 255 minus the sample."""

    def run(self, units: Units, *, lane: int) -> tuple[Units, Units | None]:
        del lane
        return np.float32(1) - units, None


class InlineCodecs:
    """Codecs without threads."""

    async def run(self, function: Callable[[], R], **_: object) -> R:
        return function()


class Wire:
    """The client's end: the test sends, and says when the client reads."""

    def __init__(self) -> None:
        self.frames: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.read_count = 0
        self.answers: list[pb.DenoiseStreamResponse] = []
        self.is_open = asyncio.Event()
        self.is_open.set()
        self.error: Exception | None = None
        self._is_writing = False

    async def read(self) -> bytes | None:
        frame = await self.frames.get()
        self.read_count += 1
        return frame

    async def write(self, message: bytes) -> None:
        assert not self._is_writing, "gRPC allows one write at a time"
        self._is_writing = True
        try:
            await self.is_open.wait()
            if self.error is not None:
                raise self.error
            self.answers.append(pb.DenoiseStreamResponse.FromString(message))
        finally:
            self._is_writing = False


class Service:
    """What a stream needs of the service: real, but for the lanes, the network and the codecs' threads."""

    def __init__(self, contract: ModelContract, *, memory_bytes: int = MEMORY_BYTES) -> None:
        self.clock = HandClock()
        self.lane: HandLane
        metrics = Metrics(CollectorRegistry())
        costs = CostModel()
        self.batcher = Batcher(
            Scheduler(),
            lane_count=1,
            options=BatcherOptions(
                batch_pixels=1 << 16,
                batch_units=64,
                staged_units_per_image=64,
                wide_units=False,
                stuck_factor=1e6,
                stuck_after_s=1e6,
            ),
            costs=costs,
            clock=self.clock,
            metrics=metrics,
            lane_of=self._lane_of,
        )
        self.admission = Admission(
            Limits(
                image_pixels=10**7,
                chunked_image_pixels=10**8,
                queue_requests=1000,
                queue_bytes=10**9,
                queue_pixels=10**9,
                memory_bytes=memory_bytes,
            ),
            metrics,
        )
        self.denoiser = Denoiser(
            batcher=self.batcher,
            admission=self.admission,
            codecs=cast("CodecPool", InlineCodecs()),
            costs=costs,
            clock=self.clock,
            metrics=metrics,
            report_budget=ReportBudget(share=0.1, one_in=16),
        )
        colour = replace(contract, name="colour", unit_edges_px=(EDGE_PX,), halo_px=HALO_PX, sigma_map_scale_px=0)
        grey_golden = GoldenPair.of(*[np.zeros((4, 8, 1), np.uint8)] * 2)
        grey = replace(colour, name="grey", channels=1, golden=grey_golden)
        models = [Model(contract, contract.name, cast("OnnxEngine", Negative())) for contract in (grey, colour)]
        for model in models:
            self.batcher.add_engine(model.key, model.engine)
            # Long enough for a lane, short enough for every deadline.
            costs.add_model(model.key, ModelCost(seconds_per_pixel=1e-5))
        registry = Registry(models, default_name="grey")
        self.registry = lambda: registry
        self.lifecycle = Lifecycle()
        self.lifecycle.enter(State.SERVING)
        self.in_flight = InFlight()

    def _lane_of(self, name: str, *, clock: Callable[[], float], on_done: Callable[[Lane, Batch], None]) -> Lane:
        lane = HandLane(name, clock=clock, on_done=on_done)
        if name != "loop":
            self.lane = lane
        return lane

    async def is_idle(self) -> bool:
        """Whether nothing is left of any item: in flight, in the ledger, or in the batcher."""
        return (
            await self.in_flight.wait_idle(0)
            and (self.admission.request_count, self.admission.reserved_bytes, self.admission.pending_count) == (0, 0, 0)
            and not self.batcher.queued_s
            and not self.lane.waiting
        )


class Call:
    """One stream."""

    def __init__(
        self,
        service: Service,
        *,
        denoiser: object = None,
        items_in_flight: int = 8,
        message_bytes: int = 1 << 20,
        chunk_bytes: int = 1 << 18,
        deadline_s: float = 1e9,
    ) -> None:
        """``denoiser`` takes the place of the service's own."""
        self.service = service
        self.wire = Wire()
        self.codes: list[int] = []
        used = service.denoiser if denoiser is None else cast("Denoiser", denoiser)
        self.recipes = Recipes(registry=service.registry, denoiser=used)
        stream = ItemStream(
            self.wire,
            denoiser=used,
            recipes=self.recipes,
            replies=Replies(report_one_in=16),
            client=Client("alice", "alice:1"),
            deadline_s=deadline_s,
            limits=StreamLimits(items_in_flight, DEFAULT_TIMEOUT_S, LONGEST_TIMEOUT_S, message_bytes, chunk_bytes),
            lifecycle=service.lifecycle,
            in_flight=service.in_flight,
            clock=service.clock,
            count=self._count,
        )
        self.served = asyncio.create_task(stream.serve())

    def _count(self, error: Exception | None) -> Status | None:
        status = None if error is None else status_of(error)
        self.codes.append(Code.OK if status is None else status.code)
        return status

    async def send(self, *frames: pb.DenoiseStreamRequest | bytes) -> None:
        for frame in frames:
            self.wire.frames.put_nowait(frame if isinstance(frame, bytes) else frame.SerializeToString())
        await turn()

    async def end(self) -> None:
        """The client sends nothing more, and the call ends by itself."""
        self.wire.frames.put_nowait(None)
        await turn()
        assert self.served.done()
        self.served.result()

    async def run_lane(self) -> None:
        """Turns the lane until nothing waits for it."""
        await turn()
        while self.service.lane.waiting:
            self.service.lane.turn()
            await turn()

    @property
    def answers(self) -> list[pb.DenoiseStreamResponse]:
        return self.wire.answers

    def results(self) -> list[tuple[str, int]]:
        """(id, code) of each result, in their order."""
        return [(a.item_id, a.result.status.code) for a in self.answers if a.HasField("result")]

    def result(self, item_id: str) -> pb.DenoiseResult:
        """The only result of an item; nothing about the item comes after it."""
        own = [answer for answer in self.answers if answer.item_id == item_id]
        assert [answer.HasField("result") for answer in own].index(True) == len(own) - 1
        return own[-1].result

    def data(self, item_id: str) -> bytes:
        """The answer of an item that came in chunks, all of it."""
        assert self.result(item_id).HasField("response")
        chunks = [a.chunk for a in self.answers if a.item_id == item_id and a.HasField("chunk")]
        assert [chunk.last for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
        return b"".join(chunk.data for chunk in chunks)

    def reason(self, item_id: str) -> str:
        """Why an item was refused, as ErrorInfo says; and that it was."""
        result = self.result(item_id)
        assert not result.HasField("response")
        info = ErrorInfo()
        assert result.status.details[0].Unpack(info)
        return str(info.reason)


async def turn() -> None:
    """Lets the event loop do all that it can do now: nothing here waits for anything but other callbacks."""
    for _ in range(25):
        await asyncio.sleep(0)


def cancel(item_id: str) -> pb.DenoiseStreamRequest:
    return pb.DenoiseStreamRequest(item_id=item_id, cancel=pb.CancelItem())


def chunk(item_id: str, data: bytes = b"", *, last: bool = False) -> pb.DenoiseStreamRequest:
    return pb.DenoiseStreamRequest(item_id=item_id, chunk=pb.ImageChunk(data=data, last=last))


def raw(height_px: int, width_px: int, *, channel_count: int = 1, **fields: Any) -> pb.Image:
    """Samples of 8 bits unless the fields say otherwise."""
    right: dict[str, Any] = {"sample_type": pb.SAMPLE_TYPE_U8, "channel_count": channel_count}
    return pb.Image(raw=pb.RawImage(**right | fields, height_px=height_px, width_px=width_px))
