"""A denoiser and all around it, real but for what takes time: the clock, the network, and who turns the lanes.

Lanes run when the test turns them, in the test's own thread. The network shows the negative, so that every pixel of
every answer is known: 255 - x of eight bits, 65535 - x of sixteen, 1 - x of floats.
"""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import numpy as np

from denoised.contract import ModelContract
from service import codec
from service.admission import Admission, Limits
from service.batcher import Batcher, BatcherOptions
from service.codec import SampleLayout
from service.codec_pool import CodecPool
from service.cost import CostModel, ModelCost
from service.engine import OnnxEngine
from service.job import FileOrder, Job, Levels, Options, Outcome, RawOrder
from service.lanes import Batch, Lane
from service.metrics import Metrics
from service.pipeline import Denoiser
from service.pixels import Scale
from service.registry import Model
from service.report import ReportBudget
from service.scheduler import Scheduler
from service.submission import Client
from service.types import Container, Data, Image, ImageHeader, Samples, Units

R = TypeVar("R")

ALICE = Client(share="alice", connection="alice:1")
BOB = Client(share="bob", connection="bob:1")
SMALL = (16, 16, 3)
# Several tiles of the contract's edges.
LARGE = (100, 72, 3)
CHW = Options(raw_layout=SampleLayout.CHW)
SIGMA = 0.1
PATIENCE_S = 30.0


@dataclass
class HandClock:
    """Stands still unless the test moves it."""

    now_s: float = 100.0

    def __call__(self) -> float:
        return self.now_s


class HandLane(Lane):
    """A lane without a thread: it works when the test turns it."""

    def __init__(self, name: str, *, clock: Callable[[], float], on_done: Callable[[Lane, Batch], None]) -> None:
        super().__init__(name, clock=clock, on_done=on_done)
        self._tell = on_done
        self.batches: list[Batch] = []

    def start(self) -> None:
        """Nothing to start."""

    def put(self, batch: Batch) -> None:
        self.batches.append(batch)

    def turn(self) -> None:
        """Works on the oldest batch and hands it back."""
        batch = self.batches.pop(0)
        self.run(batch)
        self._tell(self, batch)


@dataclass
class Negative:
    """The network: 1 - x, a noise map of 25.5 levels; takes ``run_s`` on the clock, and fails on poisoned units."""

    clock: HandClock
    contract: ModelContract
    run_s: float = 1.0
    poison: float = 1e9
    digest: str = "f00d"
    shapes: list[tuple[int, ...]] = field(default_factory=list)

    def run(self, units: Units, *, lane: int) -> tuple[Units, Units | None]:
        del lane
        self.shapes.append(units.shape)
        self.clock.now_s += self.run_s
        if (units == np.float32(self.poison)).any():
            raise RuntimeError("poisoned")
        answer: Units = np.float32(1.0) - units
        if not self.contract.sigma_map_scale_px:
            return answer, None
        return answer, np.full((len(units), 1, 4, 4), SIGMA, np.float32)


class CodecsAtOnce(CodecPool):
    """Runs functions in the test's own thread, at once; counts them."""

    def __init__(self) -> None:
        self.run_count = 0

    async def run(self, function: Callable[[], R], **_: Any) -> R:
        self.run_count += 1
        return function()

    def close(self) -> None:
        """Nothing to end."""


class HeldCodecs(CodecPool):
    """One real thread, which begins each function and ends it when the test lets it."""

    def __init__(self, *, clock: Callable[[], float], metrics: Metrics) -> None:
        super().__init__(thread_count=1, clock=clock, metrics=metrics)
        self.began = asyncio.Event()
        self._go = threading.Semaphore(0)

    async def run(self, function: Callable[[], R], **how: Any) -> R:
        loop = asyncio.get_running_loop()

        def held() -> R:
            loop.call_soon_threadsafe(self.began.set)
            assert self._go.acquire(timeout=PATIENCE_S)
            return function()

        return await super().run(held, **how)

    async def wait_begun(self) -> None:
        """Until the thread has a function."""
        await asyncio.wait_for(self.began.wait(), PATIENCE_S)
        self.began.clear()

    def let_go(self) -> None:
        """The function that the thread has ends, or the next one will."""
        self._go.release()


class Bench:
    """A denoiser and all that it works with."""

    def __init__(
        self,
        contract: ModelContract,
        metrics: Metrics,
        *,
        clock: HandClock | None = None,
        codecs: CodecPool | None = None,
        lane_count: int = 1,
        seconds_per_pixel: float = 1e-4,
        memory_bytes: int = 10**9,
        queue_requests: int = 100,
    ) -> None:
        self.clock = clock or HandClock()
        self.metrics = metrics
        self.engine = Negative(self.clock, contract)
        self.model = Model(contract, "f00d", cast("OnnxEngine", self.engine))
        costs = CostModel(first_spread=1.0)
        costs.add_model(self.model.key, ModelCost(seconds_per_pixel))
        self.admission = Admission(
            Limits(
                image_pixels=1_000_000,
                chunked_image_pixels=2_000_000,
                queue_requests=queue_requests,
                queue_bytes=10**9,
                queue_pixels=10**9,
                memory_bytes=memory_bytes,
            ),
            metrics,
        )
        self.lanes: list[HandLane] = []
        self.batcher = Batcher(
            Scheduler(),
            lane_count=lane_count,
            options=BatcherOptions(
                batch_pixels=65_536,
                batch_units=64,
                staged_units_per_image=4,
                wide_units=False,
                stuck_factor=1e9,
                stuck_after_s=1e9,
            ),
            costs=costs,
            clock=self.clock,
            metrics=metrics,
            lane_of=self._lane,
        )
        self.batcher.add_engine(self.model.key, self.engine)
        self.denoiser = Denoiser(
            batcher=self.batcher,
            admission=self.admission,
            codecs=codecs or CodecsAtOnce(),
            costs=costs,
            clock=self.clock,
            metrics=metrics,
            report_budget=ReportBudget(share=0.0, one_in=3),
        )
        self.ends: dict[Job, list[Outcome | Exception]] = {}

    def _lane(self, name: str, **how: Any) -> HandLane:
        lane = HandLane(name, **how)
        self.lanes.append(lane)
        return lane

    # What is sent.

    def raw_job(
        self,
        samples: Samples,
        options: Options | None = None,
        *,
        data: Data | None = None,
        black_level: float = 0.0,
        white_level: float | None = None,
        **how: Any,
    ) -> Job:
        """An image as samples, (H, W, C)."""
        return self.job(
            self.raw_order(samples, options, black_level, white_level), _bytes(samples, options, data), **how
        )

    def raw_order(
        self,
        samples: Samples,
        options: Options | None = None,
        black_level: float = 0.0,
        white_level: float | None = None,
    ) -> RawOrder:
        options = options or Options()
        height_px, width_px, channels = samples.shape
        header = ImageHeader(Container.RAW, height_px, width_px, channels, samples.dtype.itemsize * 8)
        white = {8: 255.0, 16: 65535.0, 32: 1.0}[header.bits] if white_level is None else white_level
        geometry = self.denoiser.geometry(header, self.model, options)
        scale = Scale(black_level, white, self.model.contract.noise.clip)
        return RawOrder(self.model, options, geometry, options.raw_layout, scale)

    def file_job(self, file: bytes, options: Options | None = None, **how: Any) -> Job:
        """An image as a file."""
        return self.job(FileOrder(self.model, options or Options(), None, Levels()), file, **how)

    def job(self, order: RawOrder | FileOrder, data: Data, *, client: Client = ALICE, deadline_s: float = 1e6) -> Job:
        job = Job(order, data, client, deadline_s, lambda job, end: self.ends[job].append(end))
        self.ends[job] = []
        return job

    def start(self, *jobs: Job) -> None:
        for job in jobs:
            self.denoiser.start(job)
            assert not self.ends[job], "nobody is told before start returns"

    # What happens.

    async def settle(self) -> None:
        """All that needs neither lane nor codec happens."""
        for _ in range(12):
            await asyncio.sleep(0)

    async def until(self, is_so: Callable[[], bool]) -> None:
        """A thread's result comes back through the loop."""
        while not is_so():  # noqa: ASYNC110 -- what is waited for is whatever the test asks, and comes soon
            await asyncio.sleep(0)

    async def run_all(self) -> None:
        """Lanes are turned until there is nothing left to do."""
        await self.settle()
        while busy := [lane for lane in self.lanes if lane.batches]:
            busy[0].turn()
            await self.settle()

    async def answers(self, *jobs: Job) -> list[Outcome]:
        """What became of images that are all answered."""
        self.start(*jobs)
        await self.run_all()
        return [self.outcome(job) for job in jobs]

    def end(self, job: Job) -> Outcome | Exception:
        (end,) = self.ends[job]
        return end

    def outcome(self, job: Job) -> Outcome:
        end = self.end(job)
        assert isinstance(end, Outcome), end
        return end

    @property
    def has_room_taken(self) -> bool:
        """Whether anything is in the ledgers; nothing may be there less than once."""
        desk = self.admission
        left = (
            desk.request_count,
            desk.reserved_bytes,
            desk.pending_count,
            desk.pending_unit_count,
            desk.pending_bytes,
            desk.pending_pixel_count,
        )
        assert min(left) >= 0, "given back twice"
        return any(left)


def _bytes(samples: Samples, options: Options | None, data: Data | None) -> Data:
    if data is not None:
        return data
    layout = (options or Options()).raw_layout
    return (samples if layout is SampleLayout.HWC else samples.transpose(2, 0, 1)).tobytes()


def noise(shape: tuple[int, ...], dtype: Any = np.uint8, *, seed: int = 0) -> Samples:
    """Any samples; floats between 0 and 1."""
    draw = np.random.default_rng(seed)
    if np.dtype(dtype) == np.float32:
        return draw.random(shape, np.float32)
    return draw.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def negative(samples: Samples) -> Samples:
    """What the network makes of it."""
    white: Any = np.array(_white(samples), samples.dtype)
    return cast("Samples", white - samples)


def _white(samples: Samples) -> float:
    return {1: 255.0, 2: 65535.0, 4: 1.0}[samples.dtype.itemsize]


def png(samples: Samples) -> bytes:
    """A file of (H, W, C) samples, alpha last."""
    channels = samples.shape[2]
    has_alpha = channels in {2, 4}
    colour = samples[:, :, : channels - has_alpha]
    alpha = samples[:, :, -1] if has_alpha else None
    image = Image(cast("Samples", np.ascontiguousarray(colour)), alpha, 0.0, _white(samples))
    return bytes(codec.encode(image, Container.PNG, jpeg_quality=95))


def samples_of(outcome: Outcome, like: Samples, layout: SampleLayout = SampleLayout.HWC) -> Samples:
    """The answer's raw samples, (H, W, C)."""
    height_px, width_px, channels = like.shape
    header = ImageHeader(Container.RAW, height_px, width_px, channels, like.dtype.itemsize * 8)
    return codec.view_raw(outcome.data, header, layout)


def assert_negative(answer: Samples, picture: Samples) -> None:
    """Exactly; of float samples but for the last bit, because a grey answer is the mean of three channels."""
    np.testing.assert_allclose(answer, negative(picture), rtol=0, atol=1e-7)
