"""Shows in the metrics what became of images."""

from typing import Final

from service.job import Geometry, Outcome
from service.metrics import Metrics, Stage
from service.registry import Model

# In the order of Timings.
_STAGES: Final = (Stage.DECODE, Stage.QUEUE, Stage.COMPUTE, Stage.ENCODE, Stage.TOTAL)


class ImageObserver:
    """Counts images that were answered; one for the service."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._admission = metrics.stage_seconds[Stage.ADMISSION]
        self._stages = [metrics.stage_seconds[stage] for stage in _STAGES]

    def __call__(
        self, outcome: Outcome, geometry: Geometry, model: Model, *, admission_s: float, count: int = 1
    ) -> None:
        """``count`` images with the same outcome; ``admission_s``: until a codec or the queue had them."""
        metrics, header, plan = self._metrics, geometry.header, geometry.plan
        metrics.images[model.key].inc(count)
        metrics.pixels.inc(header.pixel_count * count)
        metrics.image_pixels.observe_many(header.pixel_count, count)
        metrics.halo_pixels.inc(plan.halo_pixel_count * count)
        metrics.padding_pixels.inc(plan.padding_pixel_count * count)
        self._admission.observe_many(admission_s, count)
        for stage, seconds in zip(self._stages, outcome.timings, strict=True):
            stage.observe_many(seconds, count)
        if outcome.findings is not None and outcome.findings.noise_sigma is not None:
            self.noise_sigma(outcome.findings.noise_sigma)

    def noise_sigma(self, sigma: float) -> None:
        """What was found in one image, in 8-bit levels."""
        self._metrics.noise_sigma.observe(sigma)
