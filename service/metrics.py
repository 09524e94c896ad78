"""Every metric of the service, with its help text, on an injected registry. Histograms, never summaries.

Owned by the event loop's thread, as ``metrics_types`` demands: it alone changes them, and scrapes are answered on it.
"""

from collections.abc import Callable
from enum import Enum
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from service.errors import all_reasons
from service.metrics_types import Counter, Gauge, Histogram, Instruments, Labelled

# From a tiny raw tile (0.3 ms) to a large image on a busy machine; about a factor of two apart.
_SECONDS_BUCKETS: Final = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip
_LAG_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
_COUNT_BUCKETS: Final = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
_SHARE_BUCKETS: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_PIXEL_BUCKETS: Final = tuple(4.0**power for power in range(6, 15))
# The ends are where an image is unusual.
_QUANTILE_BUCKETS: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
_SIGMA_BUCKETS: Final = (1, 2, 5, 10, 15, 20, 25, 30, 40, 50, 75, 100)


class Stage(Enum):
    """Where a request's time goes."""

    ADMISSION = "admission"
    DECODE = "decode"
    QUEUE = "queue"
    COMPUTE = "compute"
    ENCODE = "encode"
    TOTAL = "total"


class Release(Enum):
    """What ended the filling of a batch.

    Its pixel budget, its lane's share of the queue, no more units alike, or a lone unit that got all cores.
    """

    FULL = "full"
    LANE_SHARE = "lane_share"
    NO_MORE = "no_more"
    ALONE = "alone"


class Drop(Enum):
    """Why a unit left the queue without running: its call ended, its deadline passed, or its image failed."""

    CANCELLED = "cancelled"
    EXPIRED = "expired"
    FAILED = "failed"


class Lane(Enum):
    """A lane that shares the cores with others, the one that takes them all for a lone unit, or the event loop."""

    NARROW = "narrow"
    LOOP = "loop"
    WIDE = "wide"


class Verdict(Enum):
    """What admission made of an image."""

    ADMITTED = "admitted"
    REFUSED = "refused"


class Reloaded(Enum):
    """What is read again without a restart."""

    CERTIFICATE = "certificate"
    CALLERS = "callers"
    MODEL = "model"


class ReloadOutcome(Enum):
    """Whether what was read is used now, or what was there before goes on."""

    TAKEN = "taken"
    REFUSED = "refused"


class Metrics:
    """All metrics; the registry is given so that tests have their own.

    Bind a labelled child where it is used (``decode = metrics.stage_seconds[Stage.DECODE]``): looking up costs more
    than observing.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        make = self._instruments = Instruments()
        self._of_images(make)
        self._of_admission(make)
        self._of_batches(make)
        self._of_machine(make)
        registry.register(make)
        self.descriptions: Final = tuple(make.descriptions)

    def _of_images(self, make: Instruments) -> None:
        """Requests and images."""
        self.requests: Labelled[tuple[str, str], Counter] = make.counters(
            "denoised_requests", "Calls and stream items by outcome.", ("method", "code")
        )
        self.refusals = make.counters(
            "denoised_refusals", "Images refused or failed, by the reason in ErrorInfo.", ("reason",), all_reasons()
        )
        self.images: Labelled[tuple[str, str], Counter] = make.counters(
            "denoised_images", "Images denoised, by model.", ("model", "version")
        )
        self.latent_images: Labelled[tuple[str, str, str], Counter] = make.counters(
            "denoised_latent_images",
            "Images that went into latent codes or came out of them, by model and method.",
            ("model", "version", "method"),
        )
        self.pixels = make.counter("denoised_pixels", "Pixels of denoised images, halos and padding left out.")
        self.halo_pixels = make.counter(
            "denoised_halo_pixels", "Pixels that tiles of denoised images computed for their surroundings alone."
        )
        self.padding_pixels = make.counter(
            "denoised_padding_pixels", "Pixels that tiles of denoised images computed beyond the image's border."
        )
        self.image_pixels = make.histogram("denoised_image_pixels", "Sizes of images.", _PIXEL_BUCKETS)
        self.noise_sigma = make.histogram(
            "denoised_noise_sigma_levels",
            "Noise found in images, standard deviation in 8-bit levels.",
            _SIGMA_BUCKETS,
        )
        self.energy_reports: Labelled[tuple[str, str, str], Counter] = make.counters(
            "denoised_energy_reports", "Energy reports that were made, by model.", ("model", "version", "level")
        )
        self.energy_verdicts: Labelled[tuple[str, str, str], Counter] = make.counters(
            "denoised_energy_verdicts",
            "Verdicts of energy reports; an image may have several, and OK where it has none.",
            ("model", "version", "verdict"),
        )
        self.energy_quantiles: Labelled[tuple[str, str, str], Histogram] = make.histograms(
            "denoised_energy_quantile",
            "Where images' statistics lie among those of the model's calibration; flat for images like those.",
            _QUANTILE_BUCKETS,
            ("model", "version", "statistic"),
        )
        self.energy_report_seconds = make.histogram(
            "denoised_energy_report_seconds",
            "Time of a report's statistics, its wait for a codec's thread included.",
            _SECONDS_BUCKETS,
        )
        self.stage_seconds = make.histograms(
            "denoised_stage_seconds", "Time of one image in each stage.", _SECONDS_BUCKETS, ("stage",), Stage
        )

    def _of_admission(self, make: Instruments) -> None:
        """The ledger, and the limits that it keeps."""
        self.offered_work_seconds = make.counters(
            "denoised_offered_work_seconds",
            "Predicted seconds of one lane that arrived, by what admission made of them.",
            ("verdict",),
            Verdict,
        )
        self.admitted_images = make.gauge("denoised_admitted_images", "Images in the service.")
        self.reserved_bytes = make.gauge("denoised_reserved_bytes", "Memory reserved for the images in the service.")
        self.reserved_bytes_limit = make.gauge(
            "denoised_reserved_bytes_limit", "Most memory that may be reserved for images."
        )
        self.pending_images = make.gauge("denoised_pending_images", "Admitted images whose tiles have not all run.")
        self.pending_images_limit = make.gauge("denoised_pending_images_limit", "Most images that may be pending.")
        self.pending_bytes = make.gauge("denoised_pending_bytes", "Size of the pending images as they arrived.")
        self.pending_bytes_limit = make.gauge("denoised_pending_bytes_limit", "Most bytes that may be pending.")
        self.pending_pixels = make.gauge(
            "denoised_pending_pixels", "Pixels of the pending images, halos and padding included."
        )
        self.pending_pixels_limit = make.gauge("denoised_pending_pixels_limit", "Most pixels that may be pending.")

    def _of_batches(self, make: Instruments) -> None:
        """The queue and the batches."""
        self.queued_pixels = make.gauge("denoised_queued_pixels", "Pixels that wait for the network.")
        self.queued_units = make.gauge("denoised_queued_units", "Tiles that wait for the network.")
        self.queued_work_seconds = make.gauge(
            "denoised_queued_work_seconds", "Predicted seconds of one lane that wait for the network."
        )
        self.queued_clients = make.gauge("denoised_queued_clients", "Clients with work that waits for the network.")
        self.largest_client_work_seconds = make.gauge(
            "denoised_largest_client_work_seconds",
            "Predicted seconds of one lane that wait for the network, of the client with most.",
        )
        self.units_dropped = make.counters(
            "denoised_units_dropped", "Tiles dropped before they ran.", ("reason",), Drop
        )
        self.batch_units = make.histogram("denoised_batch_units", "Tiles in one batch.", _COUNT_BUCKETS)
        self.batch_requests = make.histogram("denoised_batch_requests", "Images that shared one batch.", _COUNT_BUCKETS)
        self.batch_clients = make.histogram(
            "denoised_batch_clients", "Client connections that shared one batch.", _COUNT_BUCKETS
        )
        self.batch_fill = make.histogram(
            "denoised_batch_fill", "Share of its pixel budget that one batch used.", _SHARE_BUCKETS
        )
        self.batch_wait_seconds = make.histogram(
            "denoised_batch_wait_seconds",
            "Time from when a batch was put together until its lane began.",
            _SECONDS_BUCKETS,
        )
        self.batch_seconds = make.histogram("denoised_batch_seconds", "Time of one batch in a lane.", _SECONDS_BUCKETS)
        self.batch_stitch_seconds = make.histogram(
            "denoised_batch_stitch_seconds",
            "Time in which a lane put a batch's tiles into their images.",
            _SECONDS_BUCKETS,
        )
        self.batch_releases = make.counters(
            "denoised_batch_releases", "Batches by what ended their filling.", ("reason",), Release
        )
        self.batch_failures = make.counter("denoised_batch_failures", "Batches that raised and were split.")
        self.computed_pixels = make.counter(
            "denoised_computed_pixels", "Pixels given to the network, halos and padding included."
        )

    def _of_machine(self, make: Instruments) -> None:
        """What does the work."""
        self.lanes = make.gauge("denoised_lanes", "Lanes.")
        self.busy_lanes = make.gauge("denoised_busy_lanes", "Lanes at work.")
        self.stuck_lanes = make.gauge("denoised_stuck_lanes", "Lanes whose batch is far overdue.")
        self.lane_busy_seconds = make.counters(
            "denoised_lane_busy_seconds", "Time that lanes were at work, by kind of lane.", ("lane",), Lane
        )
        self.codec_jobs_queued = make.gauge(
            "denoised_codec_jobs_queued", "Images that wait to be read or written by a codec thread."
        )
        self.codec_jobs_busy = make.gauge("denoised_codec_jobs_busy", "Images being read or written.")
        self.codec_threads = make.gauge("denoised_codec_threads", "Codec threads.")
        self.codec_busy_seconds = make.counter("denoised_codec_busy_seconds", "Time that codec threads were at work.")
        self.codec_wait_seconds = make.histogram(
            "denoised_codec_wait_seconds", "Time that images waited for a codec thread.", _SECONDS_BUCKETS
        )
        self.loop_lag_seconds = make.histogram(
            "denoised_loop_lag_seconds", "How late the event loop came back to a timer.", _LAG_BUCKETS
        )
        self.model_info: Labelled[tuple[str, str, str], Gauge] = make.gauges(
            "denoised_model_info", "1 for each loaded model.", ("model", "version", "digest")
        )
        self.model_memory_bytes: Labelled[tuple[str, str], Gauge] = make.gauges(
            "denoised_model_memory_bytes", "Memory of a loaded model, measured at load.", ("model", "version")
        )
        self.model_share: Labelled[tuple[str, str], Gauge] = make.gauges(
            "denoised_model_share", "Share of the requests without a version that a model gets.", ("model", "version")
        )
        self.reloads = make.counters(
            "denoised_reloads",
            "What was read again while the service ran, and whether it was taken.",
            ("what", "outcome"),
            tuple((reloaded, outcome) for reloaded in Reloaded for outcome in ReloadOutcome),
        )
        self.state: Labelled[str, Gauge] = make.gauges(
            "denoised_state", "1 for the state that the service is in.", ("state",)
        )

    def before_scrape(self, catch_up: Callable[[], None]) -> None:
        """``catch_up`` adds what its owner counts by itself, each time before somebody looks."""
        self._instruments.before(catch_up)

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self._registry)
