"""Everything that a run is to do, checked before it begins."""

from dataclasses import dataclass
from typing import Final

from denoised.load.arrivals import Arrivals
from denoised.load.gates import Gate
from denoised.load.kinds import Kind
from denoised.load.wire import Method

# After the last deadline, for answers on their way; what has not come then is lost.
GRACE_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Rate:
    """Images a second, or a multiple of the capacity that is measured first."""

    value: float
    is_multiple: bool

    def images_per_s(self, capacity_per_s: float | None) -> float:
        if not self.is_multiple:
            return self.value
        assert capacity_per_s is not None
        return self.value * capacity_per_s

    def __str__(self) -> str:
        return f"x{self.value:g}" if self.is_multiple else f"{self.value:g}/s"


def parse_rates(entries: tuple[str, ...]) -> tuple[Rate, ...]:
    """Rates such as ``50`` (images a second) and ``x2`` (twice the capacity), comma-separated or one by one.

    Raises:
        ValueError: one is neither.
    """
    return tuple(_rate(text.strip()) for entry in entries for text in entry.split(","))


def _rate(text: str) -> Rate:
    try:
        value = float(text.removeprefix("x"))
    except ValueError:
        value = 0.0
    if not 0.0 < value < float("inf"):
        raise ValueError(f"rate {text!r}: write images a second, such as 50, or a multiple of the capacity, such as x2")
    return Rate(value, is_multiple=text.startswith("x"))


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """One run.

    Attributes:
        target: ``host:port`` of the server.
        method: how images travel.
        rates: one stage for each.
        duration_s: of each stage, until its last arrival.
        arrivals: pattern of the times.
        seed: of all draws.
        kinds: what images there are.
        pictures_per_kind: different images of each kind.
        timeout_s: time for each request, from when it is due to be sent.
        connection_count: connections, each seen as a client of its own.
        slow_connection_count: how many of them read slowly.
        slow_pause_s: how long those wait before they read an answer.
        cancel_share: share (0..1) of requests that are taken back.
        cancel_after_s: mean of the exponential delay after which they are.
        batch_images: images in one request of the method ``batch``.
        max_in_flight: images sent and not settled; what is due beyond it is not sent.
        warm_up_s: length of a closed loop before anything is counted.
        capacity_s: length of the closed loop that measures the capacity.
        capacity_in_flight: requests under way in both.
        is_verified: whether answers are compared with what each image got alone.
        model: name of the model; empty for the server's default.
        metrics_url: where the service shows its metrics; empty when it is not asked.
        gates: what each stage must hold.
    """

    target: str
    method: Method
    rates: tuple[Rate, ...]
    duration_s: float
    arrivals: Arrivals
    seed: int
    kinds: tuple[Kind, ...]
    pictures_per_kind: int
    timeout_s: float
    connection_count: int
    slow_connection_count: int
    slow_pause_s: float
    cancel_share: float
    cancel_after_s: float
    batch_images: int
    max_in_flight: int
    warm_up_s: float
    capacity_s: float
    capacity_in_flight: int
    is_verified: bool
    model: str
    metrics_url: str
    gates: tuple[Gate, ...]

    def __post_init__(self) -> None:
        if self.slow_connection_count >= self.connection_count:
            raise ValueError(
                f"{self.slow_connection_count} of {self.connection_count} connections would read slowly; "
                "at least one must read promptly, so that there are latencies to report: add connections"
            )
        if self.max_in_flight < self.images_per_request:
            raise ValueError(
                f"at most {self.max_in_flight} images may be in flight, but a request has {self.images_per_request}; "
                "raise --max-in-flight or lower --batch-images"
            )

    @property
    def images_per_request(self) -> int:
        return self.batch_images if self.method == "batch" else 1

    @property
    def needs_capacity(self) -> bool:
        return any(rate.is_multiple for rate in self.rates)
