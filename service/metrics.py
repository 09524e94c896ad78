"""Every metric of the service, with its help text, on an injected registry. Histograms, never summaries."""

from enum import Enum
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest

# From a tiny raw tile (0.3 ms) to a large image on a busy machine; about a factor of two apart.
_SECONDS_BUCKETS: Final = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip
_COUNT_BUCKETS: Final = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
_PIXEL_BUCKETS: Final = tuple(4.0**power for power in range(6, 15))
_SIGMA_BUCKETS: Final = (1, 2, 5, 10, 15, 20, 25, 30, 40, 50, 75, 100)


class Stage(Enum):
    """Where a request's time goes."""

    DECODE = "decode"
    QUEUE = "queue"
    COMPUTE = "compute"
    ENCODE = "encode"
    TOTAL = "total"


class Release(Enum):
    """What ended the filling of a batch: its pixel budget, its lane's share of the queue, or no more units alike."""

    FULL = "full"
    LANE_SHARE = "lane_share"
    NO_MORE = "no_more"


class Metrics:
    """All metrics; the registry is given so that tests have their own."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self.requests = Counter(
            "denoised_requests", "Calls and stream items by outcome.", ["method", "code"], registry=registry
        )
        self.refusals = Counter(
            "denoised_refusals", "Images refused or failed, by the reason in ErrorInfo.", ["reason"], registry=registry
        )
        self.images = Counter("denoised_images", "Images denoised, by model.", ["model", "version"], registry=registry)
        self.pixels = Counter(
            "denoised_pixels", "Pixels of denoised images, halos and padding left out.", registry=registry
        )
        self.computed_pixels = Counter(
            "denoised_computed_pixels", "Pixels given to the network, halos and padding included.", registry=registry
        )
        self.stage_seconds = Histogram(
            "denoised_stage_seconds",
            "Time of one image in each stage.",
            ["stage"],
            buckets=_SECONDS_BUCKETS,
            registry=registry,
        )
        self.image_pixels = Histogram(
            "denoised_image_pixels", "Sizes of images.", buckets=_PIXEL_BUCKETS, registry=registry
        )
        self.batch_units = Histogram(
            "denoised_batch_units", "Tiles in one batch.", buckets=_COUNT_BUCKETS, registry=registry
        )
        self.batch_requests = Histogram(
            "denoised_batch_requests", "Images that shared one batch.", buckets=_COUNT_BUCKETS, registry=registry
        )
        self.batch_clients = Histogram(
            "denoised_batch_clients",
            "Client connections that shared one batch.",
            buckets=_COUNT_BUCKETS,
            registry=registry,
        )
        self.batch_seconds = Histogram(
            "denoised_batch_seconds", "Time of one batch in a lane.", buckets=_SECONDS_BUCKETS, registry=registry
        )
        self.batch_releases = Counter(
            "denoised_batch_releases", "Batches by what ended their filling.", ["reason"], registry=registry
        )
        self.batch_failures = Counter(
            "denoised_batch_failures", "Batches that raised and were split.", registry=registry
        )
        self.units_dropped = Counter(
            "denoised_units_dropped", "Tiles dropped before they ran.", ["reason"], registry=registry
        )
        self.queued_pixels = Gauge("denoised_queued_pixels", "Pixels that wait for the network.", registry=registry)
        self.queued_units = Gauge("denoised_queued_units", "Tiles that wait for the network.", registry=registry)
        self.busy_lanes = Gauge("denoised_busy_lanes", "Lanes at work.", registry=registry)
        self.lanes = Gauge("denoised_lanes", "Lanes.", registry=registry)
        self.admitted_images = Gauge("denoised_admitted_images", "Images in the service.", registry=registry)
        self.reserved_bytes = Gauge(
            "denoised_reserved_bytes", "Memory reserved for the images in the service.", registry=registry
        )
        self.noise_sigma = Histogram(
            "denoised_noise_sigma_levels",
            "Noise found in images, standard deviation in 8-bit levels.",
            buckets=_SIGMA_BUCKETS,
            registry=registry,
        )
        self.model_info = Gauge(
            "denoised_model_info", "1 for each loaded model.", ["model", "version", "digest"], registry=registry
        )
        self.state = Gauge("denoised_state", "1 for the state that the service is in.", ["state"], registry=registry)
        for stage in Stage:
            self.stage_seconds.labels(stage.value)
        for release in Release:
            self.batch_releases.labels(release.value)

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self._registry)
