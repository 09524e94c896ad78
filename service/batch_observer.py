"""Shows in the metrics what became of batches."""

from service.lanes import Batch
from service.metrics import Lane, Metrics, Release
from service.submission import Group


class BatchObserver:
    """Counts batches; one for the service."""

    def __init__(self, metrics: Metrics, *, batch_pixels: int) -> None:
        """``batch_pixels`` is what a full batch has."""
        self._metrics = metrics
        self._batch_pixels = batch_pixels

    def started(
        self, release: Release, group: Group, unit_count: int, image_count: int, client_count: int, *, count: int = 1
    ) -> None:
        """``count`` batches that are alike: what ended their filling, and what is in each of them."""
        metrics = self._metrics
        pixel_count = group.pixel_count * unit_count
        metrics.batch_releases[release].inc(count)
        metrics.batch_units.observe_many(unit_count, count)
        metrics.batch_requests.observe_many(image_count, count)
        metrics.batch_clients.observe_many(client_count, count)
        metrics.batch_fill.observe_many(min(1.0, pixel_count / self._batch_pixels), count)
        metrics.computed_pixels.inc(pixel_count * count)

    def ended(self, lane: Lane, batch: Batch) -> None:
        """One batch, as its lane left it."""
        metrics = self._metrics
        seconds = batch.ended_at_s - batch.started_at_s
        metrics.batch_wait_seconds.observe(batch.started_at_s - batch.sent_at_s)
        metrics.batch_seconds.observe(seconds)
        metrics.batch_stitch_seconds.observe(batch.stitch_s)
        metrics.lane_busy_seconds[lane].inc(seconds)
        if batch.failure_count:
            metrics.batch_failures.inc(batch.failure_count)
