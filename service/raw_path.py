"""Raw samples to raw samples: nothing but the network.

Lanes read them out of the message that brought them, and no task or thread is used for them besides, unless a report is
made of them.
"""

from collections.abc import Callable

import numpy as np

from service import codec
from service.errors import ServiceError
from service.image_observer import ImageObserver
from service.image_run import ImageRun, ImageRuns, findings_of
from service.image_task import ImageTask, Waiter
from service.image_tiles import BandedImage, TiledImage, WholeImage
from service.job import Job, Outcome, RawOrder
from service.report import ReportMaker, ReportPlan
from service.submission import Submission
from service.types import Container, Data


class RawPath:
    """The way of raw images that are not small."""

    def __init__(self, *, runs: ImageRuns, reports: ReportMaker, observe: ImageObserver) -> None:
        self._runs = runs
        self._reports = reports
        self._observe = observe

    def start(self, job: Job, order: RawOrder, report: ReportPlan | None = None) -> None:
        """Runs an admitted image, whose order ``is_direct``."""
        samples = codec.view_raw(job.data, order.geometry.header, order.layout)
        # In the order of the request, so that the memory behind it is the answer's data.
        target = np.empty_like(samples)
        image = WholeImage(
            samples, target, plan=order.geometry.plan, scale=order.scale, strength=order.options.strength
        )
        data = codec.raw_bytes(target, order.layout)
        plan, group = order.geometry.plan, order.geometry.group
        if report is None:
            on_done = self._done(job, image, order, data)
            job.running = self._runs.submit(job, image, group, plan.tile_count, on_done)
        else:
            image.observed_by(report.samples.take)
            waiter = Waiter()
            run = self._runs.submit(job, image, group, plan.tile_count, waiter)
            self._report(job, image, order, b"" if order.options.report_only else data, report, waiter, run)

    def start_rows(
        self,
        job: Job,
        order: RawOrder,
        image: BandedImage,
        *,
        on_tile: Callable[[int], None],
        report: ReportPlan | None = None,
    ) -> Callable[[int], None]:
        """Runs an admitted image whose rows are still to come; see :meth:`service.pipeline.Denoiser.start_rows`."""

        def on_unit(_: Submission, index: int, error: ServiceError | None) -> None:
            if error is None:
                on_tile(index)

        plan, group = order.geometry.plan, order.geometry.group
        waiter = None if report is None else Waiter()
        image.observed_by(None if report is None else report.samples.take)
        on_done = waiter or self._done(job, image, order, b"")
        run = self._runs.submit(job, image, group, plan.tile_count, on_done, available_count=0, on_unit=on_unit)
        if report is None or waiter is None:
            job.running = run
        else:
            self._report(job, image, order, b"", report, waiter, run)
        return run.extend

    def _report(
        self,
        job: Job,
        image: TiledImage,
        order: RawOrder,
        data: Data,
        report: ReportPlan,
        waiter: Waiter,
        run: ImageRun,
    ) -> None:
        """Waits for the image's units, and then for its report."""
        header = order.geometry.header

        async def steps(task: ImageTask) -> Outcome:
            submission = await waiter.future
            energy = await self._reports.make(job, report, image, header, task)
            outcome = self._outcome(job, image, data, submission, energy)
            self._show(job, order, outcome, submission)
            return outcome

        task = ImageTask(job, steps)
        task.units = run
        job.running = task

    def _done(
        self, job: Job, image: TiledImage, order: RawOrder, data: Data
    ) -> Callable[[Submission, ServiceError | None], None]:
        def done(submission: Submission, error: ServiceError | None) -> None:
            if error is not None:
                job.on_done(job, error)
                return
            outcome = self._outcome(job, image, data, submission, b"")
            self._show(job, order, outcome, submission)
            job.on_done(job, outcome)

        return done

    def _show(self, job: Job, order: RawOrder, outcome: Outcome, submission: Submission) -> None:
        admission_s = submission.offered_at_s - job.arrived_at_s
        self._observe(outcome, order.geometry, order.model, admission_s=admission_s)

    def _outcome(self, job: Job, image: TiledImage, data: Data, submission: Submission, energy: bytes) -> Outcome:
        timings = self._runs.timings(
            job, submission, decoded_at_s=job.arrived_at_s, computed_at_s=submission.ended_at_s
        )
        return Outcome(Container.RAW, data, None, findings_of(image, submission), timings, energy)
