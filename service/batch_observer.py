"""Shows in the metrics what became of batches."""

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

    def ended(self, lane: Lane, seconds: float, failure_count: int) -> None:
        """One batch; ``failure_count`` is that of the network's runs that raised."""
        metrics = self._metrics
        metrics.batch_seconds.observe(seconds)
        metrics.lane_busy_seconds[lane].inc(seconds)
        if failure_count:
            metrics.batch_failures.inc(failure_count)
