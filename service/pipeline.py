"""One image from its data to its answer: lets it in, and chooses its way.

Small raw images take :mod:`service.express` or :mod:`service.stack_path`, large ones :mod:`service.raw_path`, files and
images with alpha :mod:`service.codec_path`.
"""

import asyncio
from collections.abc import Callable

from service import codec
from service.admission import Admission, Demand, Reservation, held_bytes
from service.batcher import Batcher
from service.codec_path import CodecPath, predict_codec_s
from service.codec_pool import CodecPool
from service.cost import CostModel
from service.entrance import admitted
from service.errors import DeadlineExceeded
from service.express import Express
from service.geometry import geometry_of
from service.image_observer import ImageObserver
from service.image_run import ImageRuns
from service.image_task import ImageTasks
from service.image_tiles import BandedImage
from service.job import NO_TIME, Geometry, Job, Options, Outcome, RawOrder, tell_unless_closed
from service.metrics import Metrics
from service.raw_path import RawPath
from service.registry import Model
from service.report import ReportBudget, ReportMaker, ReportPlan
from service.stack_path import StackPath
from service.types import Container, ImageHeader, ReportLevel


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
        report_budget: ReportBudget,
    ) -> None:
        self._batcher = batcher
        self._admission = admission
        self._costs = costs
        self._clock = clock
        observe = ImageObserver(metrics)
        runs = ImageRuns(batcher=batcher, clock=clock)
        tasks = ImageTasks(runs=runs, codecs=codecs)
        self._reports = ReportMaker(budget=report_budget, tasks=tasks, costs=costs, clock=clock, metrics=metrics)
        self._raw = RawPath(runs=runs, reports=self._reports, observe=observe)
        self._through_codecs = CodecPath(runs=runs, tasks=tasks, reports=self._reports, clock=clock, observe=observe)
        self._stacks = StackPath(batcher=batcher, clock=clock, observe=observe)
        self._express = Express(batcher=batcher, admission=admission, costs=costs, clock=clock, metrics=metrics)

    def start(self, job: Job, *, in_chunks: bool = False, is_alone: bool = False, unsent_bytes: int = 0) -> None:
        """Lets an image in, or refuses it at once.

        Args:
            in_chunks: it came in chunks, and may be larger.
            is_alone: no other image came in the same message; then ``on_done`` may be called before this returns.
            unsent_bytes: the most of its answer that will be in memory once more while it leaves in parts.

        Raises:
            ServiceError: it is refused; ``on_done`` will not be called.
        """
        now_s = self._arrive(job)
        order = job.order
        report = None
        if isinstance(order, RawOrder):
            geometry = order.geometry
            if order.options.report_level is not ReportLevel.NONE:
                report = self._reports.plan(geometry.header, order.model, order.options)
            if report is None and is_alone and order.is_small and self._express.take(job, order):
                job.client.take_pixels(geometry.header.pixel_count)
                return
            codec.check_raw_length(len(job.data), geometry.header)
        else:
            header = codec.sniff(bytes(job.data), claimed=order.claimed)
            geometry = self.geometry(header, order.model, order.options, in_chunks=in_chunks)
            report = self._reports.plan(header, order.model, order.options)
        if geometry.returns_input(order.options):
            if in_chunks:
                job.reservation = self.reserve(len(job.data) + min(unsent_bytes, len(job.data)))
            untouched = Outcome(geometry.container, job.data, None, None, NO_TIME)
            asyncio.get_running_loop().call_soon(tell_unless_closed, job, untouched)
            return
        is_raw = geometry.header.container is Container.RAW
        held = held_bytes(geometry.header, encoded_bytes=len(job.data), is_raw=is_raw)
        held += min(unsent_bytes, geometry.header.decoded_bytes)
        job.reservation = self._admit(job, geometry, now_s, held=held, report=report)
        job.client.take_pixels(geometry.header.pixel_count)
        try:
            self._begin(job, geometry, now_s, report)
        except BaseException:
            job.release()
            raise

    def _begin(self, job: Job, geometry: Geometry, now_s: float, report: ReportPlan | None) -> None:
        order = job.order
        if isinstance(order, RawOrder) and order.is_small and report is None:
            self._stacks.add(job, order, now_s)
        elif isinstance(order, RawOrder) and order.is_direct:
            self._raw.start(job, order, report)
        else:
            self._through_codecs.start(job, geometry, report)

    def start_rows(
        self, job: Job, image: BandedImage, *, on_tile: Callable[[int], None], unsent_bytes: int = 0
    ) -> Callable[[int], None]:
        """Lets an image in whose rows are still to come. Its outcome has no data.

        Args:
            on_tile: called on the event loop with the number of each tile that is done.
            unsent_bytes: the most of its answer that will be in memory once more while it leaves.

        Returns:
            What to call when more has come: the tiles with lower numbers than its argument may run.

        Raises:
            ServiceError: it is refused; ``on_done`` will not be called.
        """
        now_s = self._arrive(job)
        order = job.order
        assert isinstance(order, RawOrder)
        header = order.geometry.header
        held = BandedImage.held_bytes(header, order.geometry.plan) + min(unsent_bytes, header.decoded_bytes)
        report = self._reports.plan(header, order.model, order.options)
        job.reservation = self._admit(job, order.geometry, now_s, held=held, report=report)
        job.client.take_pixels(header.pixel_count)
        try:
            return self._raw.start_rows(job, order, image, on_tile=on_tile, report=report)
        except BaseException:
            job.release()
            raise

    def reserve(self, size_bytes: int) -> Reservation:
        """Room for bytes that come in parts and are an image once they are all there. Raises as :meth:`start`."""
        return self._admission.reserve(size_bytes)

    def forget(self) -> None:
        """Other models are served from now on."""
        self._express.forget()
        self._reports.forget()

    def close(self, job: Job) -> None:
        """Its call is over, answered or not: what has not run is dropped, its room is free once nothing uses it."""
        if job.running is None:
            job.release()
            job.running = _CLOSED
        else:
            job.running.close()

    def geometry(self, header: ImageHeader, model: Model, options: Options, *, in_chunks: bool = False) -> Geometry:
        """What an image of this size asks of a model.

        Raises:
            InvalidArgument: too large, or it does not fit the container that is asked for, or the model.
            CapabilityMissing: the model does not denoise.
        """
        self._admission.check_size(header, in_chunks=in_chunks)
        return geometry_of(header, model, options)

    def _arrive(self, job: Job) -> float:
        job.arrived_at_s = now_s = self._clock()
        if job.deadline_s <= now_s:
            raise DeadlineExceeded("the deadline had passed when the image arrived; allow more time")
        return now_s

    def _admit(
        self, job: Job, geometry: Geometry, now_s: float, *, held: int, report: ReportPlan | None
    ) -> Reservation:
        plan, group, header = geometry.plan, geometry.group, geometry.header
        has_codec = header.container is not Container.RAW or geometry.container is not Container.RAW
        codec_s = predict_codec_s(header) if has_codec else 0.0
        if job.order.options.strength == 0.0:
            return self._admission.admit_to_codecs(
                len(job.data), held_bytes=held, codec_s=codec_s, remaining_s=job.deadline_s - now_s
            )
        tile_count = plan.tile_count
        demand = Demand(
            pixel_count=tile_count * plan.tile_pixel_count,
            encoded_bytes=len(job.data),
            held_bytes=held,
            cost_s=tile_count * self._costs.predict_s(group.model, group.height_px, group.width_px),
            unit_count=tile_count,
            codec_s=codec_s,
        )
        if report is not None:
            demand = report.added_to(demand)
        return admitted(
            demand,
            admission=self._admission,
            batcher=self._batcher,
            costs=self._costs,
            client=job.client,
            service_class=job.order.options.service_class,
            remaining_s=job.deadline_s - now_s,
        )


class _Closed:
    """An image that nobody waited for any more before anything worked for it."""

    __slots__ = ()

    def close(self) -> None:
        """It is."""


_CLOSED = _Closed()
