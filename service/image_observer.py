"""Shows in the metrics what became of images."""

from typing import Final

from service.job import Outcome
from service.metrics import Metrics, Stage
from service.registry import Model
from service.types import ImageHeader

# In the order of Timings.
_STAGES: Final = (Stage.DECODE, Stage.QUEUE, Stage.COMPUTE, Stage.ENCODE, Stage.TOTAL)


class ImageObserver:
    """Counts images that were answered; one for the service."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._stages = [metrics.stage_seconds[stage] for stage in _STAGES]

    def __call__(self, outcome: Outcome, header: ImageHeader, model: Model, *, count: int = 1) -> None:
        """``count`` images with the same outcome."""
        metrics = self._metrics
        metrics.images[model.key].inc(count)
        metrics.pixels.inc(header.pixel_count * count)
        metrics.image_pixels.observe_many(header.pixel_count, count)
        for stage, seconds in zip(self._stages, outcome.timings, strict=True):
            stage.observe_many(seconds, count)
        if outcome.findings is not None and outcome.findings.noise_sigma is not None:
            self.noise_sigma(outcome.findings.noise_sigma)

    def noise_sigma(self, sigma: float) -> None:
        """What was found in one image, in 8-bit levels."""
        self._metrics.noise_sigma.observe(sigma)
