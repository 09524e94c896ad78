"""Raw samples to raw samples: nothing but the network.

Lanes read them out of the message that brought them, and no task or thread is used for them besides.
"""

from collections.abc import Callable

import numpy as np

from service import codec
from service.errors import ServiceError
from service.image_observer import ImageObserver
from service.image_run import ImageRuns, findings_of
from service.image_tiles import BandedImage, TiledImage, WholeImage
from service.job import Job, Outcome, RawOrder
from service.submission import Submission
from service.types import Container, Data


class RawPath:
    """The way of raw images that are not small."""

    def __init__(self, *, runs: ImageRuns, observe: ImageObserver) -> None:
        self._runs = runs
        self._observe = observe

    def start(self, job: Job, order: RawOrder) -> None:
        """Runs an admitted image, whose order ``is_direct``."""
        samples = codec.view_raw(job.data, order.geometry.header, order.layout)
        # In the order of the request, so that the memory behind it is the answer's data.
        target = np.empty_like(samples)
        image = WholeImage(
            samples, target, plan=order.geometry.plan, scale=order.scale, strength=order.options.strength
        )
        data = codec.raw_bytes(target, order.layout)
        job.running = self._runs.submit(job, image, order.geometry, self._done(job, image, order, data))

    def start_rows(
        self, job: Job, order: RawOrder, image: BandedImage, *, on_tile: Callable[[int], None]
    ) -> Callable[[int], None]:
        """Runs an admitted image whose rows are still to come; see :meth:`service.pipeline.Denoiser.start_rows`."""

        def on_unit(_: Submission, index: int, error: ServiceError | None) -> None:
            if error is None:
                on_tile(index)

        run = job.running = self._runs.submit(
            job, image, order.geometry, self._done(job, image, order, b""), available_count=0, on_unit=on_unit
        )
        return run.extend

    def _done(
        self, job: Job, image: TiledImage, order: RawOrder, data: Data
    ) -> Callable[[Submission, ServiceError | None], None]:
        def done(submission: Submission, error: ServiceError | None) -> None:
            if error is not None:
                job.on_done(job, error)
                return
            timings = self._runs.timings(
                job, submission, decoded_at_s=job.arrived_at_s, computed_at_s=submission.ended_at_s
            )
            outcome = Outcome(Container.RAW, data, None, findings_of(image, submission), timings)
            self._observe(outcome, order.geometry, order.model, admission_s=submission.offered_at_s - job.arrived_at_s)
            job.on_done(job, outcome)

        return done
