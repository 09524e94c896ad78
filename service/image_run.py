"""An image's units through the batcher: what all images that are not small have in common."""

from collections.abc import Callable

from service.batcher import Batcher
from service.errors import DeadlineExceeded, ServiceError
from service.image_tiles import TiledImage
from service.job import Findings, Job, Timings
from service.lanes import Tiles
from service.submission import Group, Submission


class ImageRuns:
    """Runs images' units; one for the service."""

    def __init__(self, *, batcher: Batcher, clock: Callable[[], float]) -> None:
        self._batcher = batcher
        self._clock = clock

    def submit(
        self,
        job: Job,
        tiles: Tiles,
        group: Group,
        unit_count: int,
        on_done: Callable[[Submission, ServiceError | None], None],
        *,
        available_count: int | None = None,
        on_unit: Callable[[Submission, int, ServiceError | None], None] | None = None,
    ) -> "ImageRun":
        """Offers the units of an admitted image; see :meth:`service.batcher.Batcher.submit`."""

        def computed(submission: Submission, error: ServiceError | None) -> None:
            job.leave_queue()
            if error is None or isinstance(error, DeadlineExceeded):
                job.note_computed(self._clock(), is_late=error is not None)
            on_done(submission, error)

        submission = self._batcher.submit(
            tiles,
            group=group,
            unit_count=unit_count,
            available_count=available_count,
            client=job.client,
            service_class=job.order.options.service_class,
            deadline_s=job.deadline_s,
            on_done=computed,
            on_unit=on_unit,
        )
        return ImageRun(job, submission, self._batcher)

    def timings(self, job: Job, submission: Submission | None, *, decoded_at_s: float, computed_at_s: float) -> Timings:
        """When the answer is there; ``submission`` is None when nothing was computed."""
        now_s = self._clock()
        return Timings(
            decode_s=decoded_at_s - job.arrived_at_s,
            queue_s=submission.started_at_s - submission.offered_at_s if submission else 0.0,
            compute_s=submission.ended_at_s - submission.started_at_s if submission else 0.0,
            encode_s=now_s - computed_at_s,
            total_s=now_s - job.arrived_at_s,
        )


class ImageRun:
    """An image whose units are in the batcher."""

    __slots__ = ("_batcher", "_job", "_submission")

    def __init__(self, job: Job, submission: Submission, batcher: Batcher) -> None:
        self._job = job
        self._submission = submission
        self._batcher = batcher

    def extend(self, available_count: int) -> None:
        """More of the image has arrived: its first ``available_count`` units may run."""
        self._batcher.extend(self._submission, available_count)

    def close(self) -> None:
        """See :class:`service.job.Running`."""
        self._batcher.withdraw(self._submission, on_still=self._job.release)


def findings_of(tiles: TiledImage, submission: Submission) -> Findings:
    """What was learnt of an image whose units have run."""
    return Findings(
        noise_sigma=tiles.noise_sigma,
        clipped_sample_count=tiles.outside_count,
        tile_count=submission.unit_count,
        shared_request_count=submission.shared_request_count,
        shared_client_count=submission.shared_client_count,
    )
