"""Whatever is a file before or after, or has alpha: through the codecs' threads before and after the network.

Such an image is a task of its own, because it waits for threads.
"""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import numpy as np

from denoised.contract import ModelContract
from service import codec
from service.image_observer import ImageObserver
from service.image_run import ImageRuns, findings_of
from service.image_task import ImageTask, ImageTasks
from service.image_tiles import WholeImage
from service.job import Geometry, Job, Options, Outcome, RawOrder
from service.pixels import Scale
from service.report import ReportMaker, ReportPlan
from service.types import Container, Data, Image, ImageHeader

R = TypeVar("R")

# Both directions of the slowest container, measured: what the codec queue is shared by.
CODEC_S_PER_PIXEL = 25e-9


def predict_codec_s(header: ImageHeader) -> float:
    """Seconds of a codec's thread, both ways."""
    return header.pixel_count * CODEC_S_PER_PIXEL


class CodecPath:
    """The way of images that need a codec."""

    def __init__(
        self,
        *,
        runs: ImageRuns,
        tasks: ImageTasks,
        reports: ReportMaker,
        clock: Callable[[], float],
        observe: ImageObserver,
    ) -> None:
        self._runs = runs
        self._tasks = tasks
        self._reports = reports
        self._clock = clock
        self._observe = observe

    def start(self, job: Job, geometry: Geometry, report: ReportPlan | None = None) -> None:
        """Runs an admitted image."""
        job.running = ImageTask(job, partial(self._through_codecs, job, geometry, report))

    async def _through_codecs(
        self, job: Job, geometry: Geometry, report: ReportPlan | None, task: ImageTask
    ) -> Outcome:
        order, options, header = job.order, job.order.options, geometry.header
        contract = order.model.contract
        offered_at_s = self._clock()
        image = await self._in_codec(job, header, lambda: _decode(job, header, contract))
        decoded_at_s = self._clock()
        answer, findings, submission, energy = image, None, None, b""
        if options.strength > 0.0:
            target = np.empty(image.colour.shape, image.colour.dtype)
            scale = Scale(image.black_level, image.white_level, contract.noise.clip)
            tiles = WholeImage(image.colour, target, plan=geometry.plan, scale=scale, strength=options.strength)
            tiles.observed_by(None if report is None else report.samples.take)
            submission = await self._tasks.computed(job, tiles, geometry, task)
            findings = findings_of(tiles, submission)
            answer = Image(target, image.alpha, image.black_level, image.white_level, image.metadata)
            # Admission counts on it: what was decoded makes room for the answer's file.
            tiles.let_go()
            image = answer
            if report is not None:
                energy = await self._reports.make(job, report, tiles, header, task)
        computed_at_s = self._clock()
        data: Data = b""
        if not options.report_only:
            data = await self._in_codec(job, header, lambda: _encode(answer, geometry.container, options))
        timings = self._runs.timings(job, submission, decoded_at_s=decoded_at_s, computed_at_s=computed_at_s)
        outcome = Outcome(geometry.container, data, answer, findings, timings, energy)
        self._observe(outcome, geometry, order.model, admission_s=offered_at_s - job.arrived_at_s)
        return outcome

    async def _in_codec(self, job: Job, header: ImageHeader, function: Callable[[], R]) -> R:
        return await self._tasks.in_codec(job, header.pixel_count, predict_codec_s(header), function)


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
