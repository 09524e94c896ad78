"""One image from its data to its answer: the stages of the design, in order.

Raw samples need no stage but the network: lanes read them out of the message that brought them, and no task or thread
is used for them besides. Files go through the codecs' threads before and after.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import structlog

from denoised.contract import ModelContract, SampleLevels
from service import codec, tiling
from service.admission import Admission, Demand, Reservation, held_bytes
from service.batcher import Batcher, Client, Group, Submission
from service.codec import SampleLayout
from service.codec_pool import CodecPool
from service.cost import CostModel
from service.errors import CapabilityMissing, DeadlineExceeded, ServiceError, UnsupportedImage
from service.image_tiles import BandedImage, TiledImage, WholeImage
from service.metrics import Metrics, Stage
from service.pixels import Scale
from service.registry import Model
from service.types import Container, Data, Image, ImageHeader, ServiceClass

R = TypeVar("R")

_log = structlog.get_logger()

# Both directions of the slowest container, measured: what the codec queue is shared by.
_CODEC_S_PER_PIXEL = 25e-9
_WITHOUT_ALPHA = frozenset({1, 3})


@dataclass(frozen=True, slots=True)
class Options:
    """How to denoise; already checked to lie in their ranges."""

    strength: float = 1.0
    output_container: Container | None = None
    jpeg_quality: int = 95
    raw_layout: SampleLayout = SampleLayout.HWC
    service_class: ServiceClass = ServiceClass.NORMAL


@dataclass(frozen=True, slots=True)
class Levels:
    """Black and white as a request states them; None is not stated."""

    black: float | None = None
    white: float | None = None

    def or_those_of(self, levels: SampleLevels, header: ImageHeader) -> "Levels":
        """The model's where none is stated: who states one of them describes samples of another make."""
        if self == Levels() and codec.SampleType[levels.sample_type.upper()].dtype.itemsize * 8 == header.bits:
            return Levels(levels.black, levels.white)
        return self


@dataclass(frozen=True, slots=True)
class Geometry:
    """What an image of some size asks of a model. The same for all images of that size."""

    header: ImageHeader
    container: Container
    plan: tiling.TilePlan
    group: Group


@dataclass(frozen=True, slots=True)
class RawOrder:
    """What is asked for raw samples; all that can be known without seeing them."""

    model: Model
    options: Options
    geometry: Geometry
    layout: SampleLayout
    scale: Scale

    @property
    def is_rowwise(self) -> bool:
        """Whether its rows come and go one after the other, so that the first can be done before the last is there."""
        header = self.geometry.header
        return (
            self.layout is SampleLayout.HWC
            and header.channels in _WITHOUT_ALPHA
            and self.geometry.container is Container.RAW
        )


@dataclass(frozen=True, slots=True)
class FileOrder:
    """What is asked for an image file."""

    model: Model
    options: Options
    claimed: Container | None
    levels: Levels


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds spent in each stage."""

    decode_s: float
    queue_s: float
    compute_s: float
    encode_s: float
    total_s: float


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
        data: the answer's file or samples.
        image: the answer's samples where their form is not the request's own; None where it is.
        findings: None when nothing was computed.
        timings: seconds in each stage.
    """

    container: Container
    data: Data
    image: Image | None
    findings: Findings | None
    timings: Timings


@dataclass(slots=True, eq=False)
class Job:
    """One image in the service.

    Attributes:
        order: what is asked for.
        data: the image's samples or file; a view into the message that brought it.
        deadline_s: absolute, on the clock.
        on_done: called once on the event loop with what became of it, unless it is closed before; never before
            :meth:`Denoiser.start` returns.
        reservation, submission, task: the denoiser's own; its room in the service, its units, its way through codecs.
    """

    order: RawOrder | FileOrder
    data: Data
    client: Client
    deadline_s: float
    on_done: "Callable[[Job, Outcome | Exception], None]"
    arrived_at_s: float = 0.0
    reservation: Reservation | None = None
    submission: Submission | None = field(default=None, init=False)
    task: "asyncio.Task[None] | None" = field(default=None, init=False)

    def release(self) -> None:
        """Gives its room back."""
        if self.reservation is not None:
            self.reservation.release()


class Denoiser:
    """Takes images through all stages."""

    def __init__(
        self,
        *,
        batcher: Batcher,
        admission: Admission,
        codecs: CodecPool,
        costs: CostModel,
        clock: Callable[[], float],
        metrics: Metrics,
    ) -> None:
        self._batcher = batcher
        self._admission = admission
        self._codecs = codecs
        self._costs = costs
        self._clock = clock
        self._metrics = metrics

    def start(self, job: Job) -> None:
        """Lets an image in, or refuses it at once.

        Raises:
            ServiceError: it is refused; ``on_done`` will not be called.
        """
        job.arrived_at_s = now_s = self._clock()
        if job.deadline_s <= now_s:
            raise DeadlineExceeded("the deadline had passed when the image arrived; allow more time")
        order = job.order
        if isinstance(order, FileOrder):
            header = codec.sniff(bytes(job.data), claimed=order.claimed)
            geometry = self.geometry(header, order.model, order.options)
        else:
            geometry = order.geometry
            codec.check_raw_length(len(job.data), geometry.header)
        options = order.options
        if options.strength == 0.0 and geometry.container is geometry.header.container:
            # The input's own bytes are the answer.
            untouched = Outcome(geometry.container, job.data, None, None, Timings(0.0, 0.0, 0.0, 0.0, 0.0))
            asyncio.get_running_loop().call_soon(job.on_done, job, untouched)
            return
        held = held_bytes(
            geometry.header, encoded_bytes=len(job.data), is_raw=geometry.header.container is Container.RAW
        )
        job.reservation = self._admit(job, geometry, now_s, held=held)
        try:
            self._begin(job, order, geometry)
        except BaseException:
            job.release()
            raise

    def _begin(self, job: Job, order: RawOrder | FileOrder, geometry: Geometry) -> None:
        if (
            isinstance(order, RawOrder)
            and geometry.container is Container.RAW
            and geometry.header.channels in _WITHOUT_ALPHA
        ):
            self._start_raw(job, order)
        else:
            job.task = asyncio.create_task(self._guarded(job, self._through_codecs(job, geometry)))

    def start_rows(self, job: Job, image: BandedImage, *, on_unit: Callable[[int], None]) -> None:
        """Lets an image in whose rows are still to come; see :meth:`extend`. Its outcome has no data.

        Args:
            on_unit: called on the event loop with the number of each tile that is done.

        Raises:
            ServiceError: it is refused; ``on_done`` will not be called.
        """
        order = job.order
        assert isinstance(order, RawOrder)
        geometry = order.geometry
        job.arrived_at_s = now_s = self._clock()
        if job.deadline_s <= now_s:
            raise DeadlineExceeded("the deadline had passed when the image arrived; allow more time")
        held = BandedImage.held_bytes(geometry.header, geometry.plan)
        job.reservation = self._admit(job, geometry, now_s, held=held)
        self._submit_raw(job, image, order, data=b"", available_count=0, on_unit=on_unit)

    def extend(self, job: Job, available_count: int) -> None:
        """The first ``available_count`` tiles of an image that :meth:`start_rows` let in may run."""
        if job.submission is not None:
            self._batcher.extend(job.submission, available_count)

    def reserve(self, size_bytes: int) -> Reservation:
        """Room for bytes that come in parts and are an image once they are all there. Raises as :meth:`start`."""
        return self._admission.reserve(size_bytes)

    def close(self, job: Job) -> None:
        """Its call is over, answered or not: what has not run is dropped, its room is free once nothing uses it."""
        if job.task is not None and not job.task.done():
            job.task.cancel()
        elif job.submission is not None:
            self._batcher.withdraw(job.submission, on_still=job.release)
        else:
            job.release()

    def geometry(self, header: ImageHeader, model: Model, options: Options, *, in_chunks: bool = False) -> Geometry:
        """What an image of this size asks of a model.

        Raises:
            InvalidArgument: too large, or it does not fit the container that is asked for, or the model.
            CapabilityMissing: the model does not denoise.
        """
        container = options.output_container or header.container
        self._admission.check_size(header, in_chunks=in_chunks)
        codec.check_encodable(header, container, jpeg_quality=options.jpeg_quality)
        contract = model.contract
        _check_model(header, contract)
        plan = tiling.plan(
            height_px=header.height_px,
            width_px=header.width_px,
            edges_px=contract.unit_edges_px,
            halo_px=contract.halo_px,
            multiple_px=contract.size_multiple_px,
        )
        group = Group(model.key, contract.channels, plan.rows.edge_px, plan.columns.edge_px)
        return Geometry(header, container, plan, group)

    def _admit(self, job: Job, geometry: Geometry, now_s: float, *, held: int) -> Reservation:
        plan, group = geometry.plan, geometry.group
        header = geometry.header
        has_codec = header.container is not Container.RAW or geometry.container is not Container.RAW
        return self._admission.admit(
            Demand(
                pixel_count=plan.tile_count * plan.tile_pixel_count,
                encoded_bytes=len(job.data),
                held_bytes=held,
                cost_s=plan.tile_count * self._costs.predict_s(group.model, group.height_px, group.width_px),
                unit_count=plan.tile_count,
                codec_s=header.pixel_count * _CODEC_S_PER_PIXEL if has_codec else 0.0,
            ),
            backlog_s=self._batcher.backlog_s(job.client, job.order.options.service_class),
            lane_count=self._batcher.lane_count,
            remaining_s=job.deadline_s - now_s,
            spread=self._costs.spread(),
        )

    def _start_raw(self, job: Job, order: RawOrder) -> None:
        """Raw samples to raw samples: nothing but the network."""
        geometry = order.geometry
        samples = codec.view_raw(job.data, geometry.header, order.layout)
        # In the order of the request, so that the memory behind it is the answer's data.
        target = np.empty_like(samples)
        image = WholeImage(samples, target, plan=geometry.plan, scale=order.scale, strength=order.options.strength)
        self._submit_raw(job, image, order, data=codec.raw_bytes(target, order.layout))

    def _submit_raw(
        self,
        job: Job,
        image: TiledImage,
        order: RawOrder,
        *,
        data: Data,
        available_count: int | None = None,
        on_unit: Callable[[int], None] | None = None,
    ) -> None:
        def done(submission: Submission, error: ServiceError | None) -> None:
            if error is not None:
                job.on_done(job, error)
                return
            timings = self._timings(job, submission, decoded_at_s=job.arrived_at_s, computed_at_s=submission.ended_at_s)
            outcome = Outcome(Container.RAW, data, None, _findings(image, submission), timings)
            self._observe(outcome, order.geometry.header, order.model)
            job.on_done(job, outcome)

        self._submit(job, image, order.geometry, done, available_count=available_count, on_unit=on_unit)

    async def _through_codecs(self, job: Job, geometry: Geometry) -> None:
        """Whatever is a file before or after, or has an alpha channel."""
        order, options = job.order, job.order.options
        contract = order.model.contract
        header = geometry.header
        image = await self._in_codec(job, header, lambda: _decode(job, header, contract))
        decoded_at_s = self._clock()
        target = np.empty(image.colour.shape, image.colour.dtype)
        scale = Scale(image.black_level, image.white_level, contract.noise.clip)
        findings = None
        submission = None
        if options.strength > 0.0:
            tiles = WholeImage(image.colour, target, plan=geometry.plan, scale=scale, strength=options.strength)
            submission = await self._computed(job, tiles, geometry)
            findings = _findings(tiles, submission)
            answer = Image(target, image.alpha, image.black_level, image.white_level, image.metadata)
        else:
            answer = image
        computed_at_s = self._clock()
        data = await self._in_codec(job, header, lambda: _encode(answer, geometry.container, options))
        timings = self._timings(job, submission, decoded_at_s=decoded_at_s, computed_at_s=computed_at_s)
        outcome = Outcome(geometry.container, data, answer, findings, timings)
        self._observe(outcome, header, order.model)
        job.on_done(job, outcome)

    async def _guarded(self, job: Job, steps: Coroutine[None, None, None]) -> None:
        """Runs the steps; what they raise is the job's outcome, and cancelling them gives its room back."""
        try:
            await steps
        except asyncio.CancelledError:
            if job.submission is not None:
                self._batcher.withdraw(job.submission, on_still=job.release)
            else:
                job.release()
            raise
        except Exception as error:  # noqa: BLE001 -- a job's failure is its outcome, whatever it is
            job.on_done(job, error)

    async def _computed(self, job: Job, tiles: TiledImage, geometry: Geometry) -> Submission:
        future: asyncio.Future[Submission] = asyncio.get_running_loop().create_future()

        def done(submission: Submission, error: ServiceError | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(submission)

        self._submit(job, tiles, geometry, done)
        return await future

    def _submit(
        self,
        job: Job,
        tiles: TiledImage,
        geometry: Geometry,
        on_done: Callable[[Submission, ServiceError | None], None],
        *,
        available_count: int | None = None,
        on_unit: Callable[[int], None] | None = None,
    ) -> None:
        def computed(submission: Submission, error: ServiceError | None) -> None:
            assert job.reservation is not None
            job.reservation.leave_queue()
            on_done(submission, error)

        job.submission = self._batcher.submit(
            tiles,
            group=geometry.group,
            unit_count=geometry.plan.tile_count,
            available_count=available_count,
            client=job.client,
            service_class=job.order.options.service_class,
            deadline_s=job.deadline_s,
            on_done=computed,
            on_unit=on_unit,
        )

    async def _in_codec(self, job: Job, header: ImageHeader, function: Callable[[], R]) -> R:
        return await self._codecs.run(
            function,
            client=job.client.share,
            service_class=job.order.options.service_class,
            pixel_count=header.pixel_count,
            cost_s=header.pixel_count * _CODEC_S_PER_PIXEL,
            deadline_s=job.deadline_s,
        )

    def _timings(
        self, job: Job, submission: Submission | None, *, decoded_at_s: float, computed_at_s: float
    ) -> Timings:
        now_s = self._clock()
        return Timings(
            decode_s=decoded_at_s - job.arrived_at_s,
            queue_s=submission.started_at_s - submission.offered_at_s if submission else 0.0,
            compute_s=submission.ended_at_s - submission.started_at_s if submission else 0.0,
            encode_s=now_s - computed_at_s,
            total_s=now_s - job.arrived_at_s,
        )

    def _observe(self, outcome: Outcome, header: ImageHeader, model: Model) -> None:
        metrics, timings = self._metrics, outcome.timings
        metrics.images[model.key].inc()
        metrics.pixels.inc(header.pixel_count)
        metrics.image_pixels.observe(header.pixel_count)
        if outcome.findings is not None and outcome.findings.noise_sigma is not None:
            metrics.noise_sigma.observe(outcome.findings.noise_sigma)
        stages = metrics.stage_seconds
        stages[Stage.DECODE].observe(timings.decode_s)
        stages[Stage.QUEUE].observe(timings.queue_s)
        stages[Stage.COMPUTE].observe(timings.compute_s)
        stages[Stage.ENCODE].observe(timings.encode_s)
        stages[Stage.TOTAL].observe(timings.total_s)


def _findings(tiles: TiledImage, submission: Submission) -> Findings:
    return Findings(
        noise_sigma=tiles.noise_sigma,
        clipped_sample_count=tiles.outside_count,
        tile_count=submission.unit_count,
        shared_request_count=submission.shared_request_count,
        shared_client_count=submission.shared_client_count,
    )


def _decode(job: Job, header: ImageHeader, contract: ModelContract) -> Image:
    order = job.order
    if isinstance(order, RawOrder):
        return codec.decode_raw(
            job.data,
            header,
            layout=order.layout,
            black_level=order.scale.black_level,
            white_level=order.scale.white_level,
        )
    levels = order.levels.or_those_of(contract.levels, header)
    return codec.decode(bytes(job.data), header, black_level=levels.black, white_level=levels.white)


def _encode(image: Image, container: Container, options: Options) -> Data:
    if container is Container.RAW:
        return codec.encode_raw(image, options.raw_layout)
    return codec.encode(image, container, jpeg_quality=options.jpeg_quality)


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
