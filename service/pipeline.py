"""One image from bytes to bytes: the stages of the design, in order."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from denoised.contract import ModelContract, SampleLevels
from service import codec, pixels, tiling
from service.admission import Admission
from service.batcher import Batcher, Client, Group, WorkReport
from service.codec import SampleLayout
from service.errors import CapabilityMissing, DeadlineExceeded, NonFiniteOutput, UnsupportedImage
from service.metrics import Metrics, Stage
from service.registry import Model
from service.types import Container, Image, ImageHeader, Samples, Units

R = TypeVar("R")

# Below this many samples, reading raw memory costs less than handing it to a thread and back (about 0.1 ms).
_INLINE_RAW_PIXELS = 128 * 128
# Images above this have their own codec thread, so that they never delay small ones.
_LARGE_IMAGE_PIXELS = 4_000_000
_LEVELS_8BIT = 255.0


@dataclass(frozen=True, slots=True)
class Options:
    """How to denoise; already checked to lie in their ranges."""

    strength: float = 1.0
    output_container: Container | None = None
    jpeg_quality: int = 95
    raw_layout: SampleLayout = SampleLayout.HWC


class Source(Protocol):
    """An image as it arrived: a file or raw samples."""

    @property
    def header(self) -> ImageHeader: ...

    @property
    def size_bytes(self) -> int: ...

    def decode(self, levels: SampleLevels) -> Image:
        """The image; ``levels`` are those of samples of their type when the request states none."""
        ...


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds spent in each stage."""

    decode_s: float
    queue_s: float
    compute_s: float
    encode_s: float
    total_s: float


@dataclass(frozen=True, slots=True)
class Answer:
    """The denoised image and its bytes, as a file or as raw samples."""

    image: Image
    data: bytes


@dataclass(frozen=True, slots=True)
class Findings:
    """What was learnt on the way.

    Attributes:
        noise_sigma: mean of the network's noise map, in 8-bit levels; None when it has no map.
        clipped_sample_count: samples that lay outside black..white.
        tile_count: units that the image was cut into.
        shared_request_count, shared_client_count: the most requests, and client connections, in one batch.
    """

    noise_sigma: float | None
    clipped_sample_count: int
    tile_count: int
    shared_request_count: int
    shared_client_count: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an image.

    Attributes:
        container: what the answer is.
        answer: None when the input's own bytes are the answer.
        findings: None when nothing was computed.
        timings: seconds in each stage.
    """

    container: Container
    answer: Answer | None
    findings: Findings | None
    timings: Timings


class CodecPool:
    """Threads for reading and writing images; large images queue by themselves."""

    def __init__(self, thread_count: int) -> None:
        self._small = ThreadPoolExecutor(thread_count, thread_name_prefix="codec")
        self._large = ThreadPoolExecutor(1, thread_name_prefix="codec-large")

    async def run(self, pixel_count: int, function: Callable[[], R]) -> R:
        """The function's result, from a thread of the right queue."""
        executor: Executor = self._large if pixel_count > _LARGE_IMAGE_PIXELS else self._small
        return await asyncio.get_running_loop().run_in_executor(executor, function)

    def close(self) -> None:
        self._small.shutdown()
        self._large.shutdown()


class Denoiser:
    """Takes one image through all stages."""

    def __init__(
        self,
        *,
        batcher: Batcher,
        admission: Admission,
        codecs: CodecPool,
        clock: Callable[[], float],
        metrics: Metrics,
    ) -> None:
        self._batcher = batcher
        self._admission = admission
        self._codecs = codecs
        self._clock = clock
        self._metrics = metrics

    async def denoise(
        self, source: Source, options: Options, model: Model, *, client: Client, deadline_s: float
    ) -> Outcome:
        """The denoised image.

        Args:
            source: read only as far as each stage needs.
            client: whose share the work is charged to.
            deadline_s: absolute, on the clock.

        Raises:
            ServiceError: see ``errors``.
        """
        arrived_at_s = self._clock()
        if deadline_s <= arrived_at_s:
            raise DeadlineExceeded("the deadline had passed when the image arrived; allow more time")
        header = source.header
        container = options.output_container or header.container
        self._admission.check_size(header)
        codec.check_encodable(header, container, jpeg_quality=options.jpeg_quality)
        _check_model(header, model.contract)
        if options.strength == 0.0 and container is header.container:
            return _untouched(container, total_s=self._clock() - arrived_at_s)
        plan = _plan(header, model.contract)
        with self._admission.reserve(
            header,
            encoded_bytes=source.size_bytes,
            wait_s=self._batcher.predicted_wait_s(plan.tile_count * plan.tile_pixel_count),
            remaining_s=deadline_s - arrived_at_s,
        ):
            # Looking at all samples belongs in the codec's thread, as decoding does.
            work = await self._in_codec(
                header,
                lambda: _Work(source.decode(model.contract.levels), plan, model.contract, strength=options.strength),
            )
            decoded_at_s = self._clock()
            report = None
            if options.strength > 0.0:
                report = await self._batcher.submit(
                    [_TileUnit(work, index) for index in range(plan.tile_count)],
                    group=Group(model.key, plan.rows.edge_px, plan.columns.edge_px),
                    client=client,
                    deadline_s=deadline_s,
                )
            answer = work.answer() if report else work.image
            computed_at_s = self._clock()
            data = await self._in_codec(header, lambda: _encode(answer, container, options))
            encoded_at_s = self._clock()
        outcome = Outcome(
            container=container,
            answer=Answer(answer, data),
            findings=work.findings(report) if report else None,
            timings=Timings(
                decode_s=decoded_at_s - arrived_at_s,
                queue_s=report.started_at_s - report.offered_at_s if report else 0.0,
                compute_s=report.ended_at_s - report.started_at_s if report else 0.0,
                encode_s=encoded_at_s - computed_at_s,
                total_s=encoded_at_s - arrived_at_s,
            ),
        )
        self._observe(outcome, header, model)
        return outcome

    async def _in_codec(self, header: ImageHeader, function: Callable[[], R]) -> R:
        if header.container is Container.RAW and header.pixel_count <= _INLINE_RAW_PIXELS:
            return function()
        return await self._codecs.run(header.pixel_count, function)

    def _observe(self, outcome: Outcome, header: ImageHeader, model: Model) -> None:
        metrics, timings = self._metrics, outcome.timings
        metrics.images.labels(*model.key).inc()
        metrics.pixels.inc(header.pixel_count)
        metrics.image_pixels.observe(header.pixel_count)
        if outcome.findings is not None and outcome.findings.noise_sigma is not None:
            metrics.noise_sigma.observe(outcome.findings.noise_sigma)
        for stage, seconds in (
            (Stage.DECODE, timings.decode_s),
            (Stage.QUEUE, timings.queue_s),
            (Stage.COMPUTE, timings.compute_s),
            (Stage.ENCODE, timings.encode_s),
            (Stage.TOTAL, timings.total_s),
        ):
            metrics.stage_seconds.labels(stage.value).observe(seconds)


class _Work:
    """An image with the place for its answer. Tiles write disjoint parts, so their threads need no lock."""

    def __init__(self, image: Image, plan: tiling.TilePlan, contract: ModelContract, *, strength: float) -> None:
        self.image = image
        self.plan = plan
        self.contract = contract
        self.strength = strength
        self.grey = pixels.is_grey(image.colour)
        self.clipped_sample_count = pixels.count_outside(image) if contract.noise.clip else 0
        self.target: Samples = np.empty_like(image.colour)
        self.sigmas = np.zeros(self.plan.tile_count) if contract.sigma_map_scale_px else None

    def answer(self) -> Image:
        image = self.image
        return Image(self.target, image.alpha, image.black_level, image.white_level, image.metadata)

    def findings(self, report: WorkReport) -> Findings:
        """Once all tiles have run. Tiles count by the pixels that they own."""
        areas = [_owned_pixel_count(self.plan, index) for index in range(self.plan.tile_count)]
        # On clean images a network's map may come out a little below zero; no noise level is.
        sigma = None if self.sigmas is None else max(0.0, float(np.average(self.sigmas, weights=areas))) * _LEVELS_8BIT
        return Findings(
            noise_sigma=sigma,
            clipped_sample_count=self.clipped_sample_count,
            tile_count=self.plan.tile_count,
            shared_request_count=report.shared_request_count,
            shared_client_count=report.shared_client_count,
        )


class _TileUnit:
    """One tile of an image, as the batcher runs it."""

    def __init__(self, work: _Work, index: int) -> None:
        self._work = work
        self._index = index
        self._noisy: Units | None = None

    def read(self) -> Units:
        image, contract = self._work.image, self._work.contract
        self._noisy = pixels.to_unit(
            tiling.read_tile(image.colour, self._work.plan, self._index),
            black_level=image.black_level,
            white_level=image.white_level,
            channels=contract.channels,
            clip=contract.noise.clip,
        )[np.newaxis]
        return self._noisy

    def write(self, denoised: Units, sigma_map: Units | None) -> None:
        work, image = self._work, self._work.image
        noisy, self._noisy = self._noisy, None
        assert noisy is not None
        if not (np.isfinite(denoised).all() and (sigma_map is None or np.isfinite(sigma_map).all())):
            raise NonFiniteOutput(
                "the network answered with values that are not finite for this image; "
                "its samples may lie far outside what the model was trained for"
            )
        samples = pixels.from_unit(
            denoised[0],
            noisy[0],
            strength=work.strength,
            black_level=image.black_level,
            white_level=image.white_level,
            clip=work.contract.noise.clip,
            grey=work.grey,
            like=image.colour,
        )
        tiling.write_tile(work.target, work.plan, self._index, samples)
        if work.sigmas is not None and sigma_map is not None:
            work.sigmas[self._index] = float(sigma_map.mean())


def _plan(header: ImageHeader, contract: ModelContract) -> tiling.TilePlan:
    return tiling.plan(
        height_px=header.height_px,
        width_px=header.width_px,
        edges_px=contract.unit_edges_px,
        halo_px=contract.halo_px,
        multiple_px=contract.size_multiple_px,
    )


def _owned_pixel_count(plan: tiling.TilePlan, index: int) -> int:
    row, column = plan.tile(index)
    return (row.stop_px - row.keep_px) * (column.stop_px - column.keep_px)


def _check_model(header: ImageHeader, contract: ModelContract) -> None:
    """Raises unless the model denoises, and images like this one."""
    if "denoise" not in contract.capabilities:
        raise CapabilityMissing(
            f"the model {contract.name!r} can't denoise, it can {', '.join(contract.capabilities)}; "
            "choose another one, ListModels tells what each can"
        )
    if contract.channels == 1 and header.channels >= 3:
        raise UnsupportedImage(
            f"the image has colour and the model {contract.name!r} takes grey images only; "
            "choose a colour model or send a grey image",
            field="options.model",
        )
    side_px = contract.fixed_side_px
    if side_px and (header.width_px, header.height_px) != (side_px, side_px):
        raise UnsupportedImage(
            f"the image has {header.width_px} x {header.height_px} px and the model {contract.name!r} takes images of "
            f"{side_px} x {side_px} px only; scale or crop it to that size, or choose another model",
            field="options.model",
        )


def _encode(image: Image, container: Container, options: Options) -> bytes:
    if container is Container.RAW:
        return codec.encode_raw(image, options.raw_layout)
    return codec.encode(image, container, jpeg_quality=options.jpeg_quality)


def _untouched(container: Container, *, total_s: float) -> Outcome:
    """Strength 0 in the container it came in: the input's own bytes are the answer."""
    return Outcome(container, answer=None, findings=None, timings=Timings(0.0, 0.0, 0.0, 0.0, total_s))
