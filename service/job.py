"""One image on its way: what is asked for it, what it needs, and what became of it. Pure data."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from denoised.contract import SampleLevels
from service import codec, tiling
from service.admission import Reservation
from service.codec import SampleLayout
from service.pixels import Scale
from service.registry import Model
from service.submission import Client, Group
from service.types import Container, Data, Image, ImageHeader, ReportLevel, ServiceClass

_WITHOUT_ALPHA = frozenset({1, 3})
# Above this an inference costs so much more than its way that sharing the way saves nothing.
SMALL_PIXELS = 128 * 128


@dataclass(frozen=True, slots=True)
class Options:
    """How to denoise; already checked to lie in their ranges."""

    strength: float = 1.0
    output_container: Container | None = None
    jpeg_quality: int = 95
    raw_layout: SampleLayout = SampleLayout.HWC
    service_class: ServiceClass = ServiceClass.NORMAL
    report_level: ReportLevel = ReportLevel.NONE
    report_only: bool = False
    noise_sigma: float | None = None


@dataclass(frozen=True, slots=True)
class Levels:
    """Black and white as a request states them; None is not stated."""

    black: float | None = None
    white: float | None = None

    def or_those_of(self, levels: SampleLevels, header: ImageHeader) -> "Levels":
        """The model's where none is stated: who states one of them describes samples of another make."""
        if self == Levels() and codec.SampleType[levels.sample_type.upper()].dtype.itemsize * 8 == header.bits:
            return Levels(levels.black, levels.white)
        return self


@dataclass(frozen=True, slots=True)
class Geometry:
    """What an image of some size asks of a model. The same for all images of that size."""

    header: ImageHeader
    container: Container
    plan: tiling.TilePlan
    group: Group

    def returns_input(self, options: Options) -> bool:
        """Whether the input's own bytes are the answer."""
        return options.strength == 0.0 and self.container is self.header.container


@dataclass(frozen=True, slots=True, eq=False)
class RawOrder:
    """What is asked for raw samples; all that can be known without seeing them. Requests alike share one.

    Attributes:
        is_direct: whether nothing but the network is needed: raw to raw, without alpha.
        is_rowwise: whether, besides, its rows come and go one after the other, so that the first can be done before
            the last is there.
        is_small: whether, besides, it is one unit, and may run side by side with others of its kind.
        is_plain: whether, besides, its samples are in the network's own order, and nothing is to be found out about
            any: one plane, no padding, no levels of its own, full strength.
    """

    model: Model
    options: Options
    geometry: Geometry
    layout: SampleLayout
    scale: Scale
    is_direct: bool = field(init=False)
    is_rowwise: bool = field(init=False)
    is_small: bool = field(init=False)
    is_plain: bool = field(init=False)

    def __post_init__(self) -> None:
        header, plan = self.geometry.header, self.geometry.plan
        is_direct = self.geometry.container is Container.RAW and header.channels in _WITHOUT_ALPHA
        is_small = is_direct and plan.tile_count == 1 and plan.tile_pixel_count <= SMALL_PIXELS
        is_plain = (
            is_small
            and self.options.strength == 1.0
            and header.channels == self.geometry.group.channels == 1
            and (header.height_px, header.width_px) == (plan.rows.edge_px, plan.columns.edge_px)
            and self.scale.is_plain(codec.dtype_of(header))
        )
        object.__setattr__(self, "is_direct", is_direct)
        object.__setattr__(self, "is_rowwise", is_direct and self.layout is SampleLayout.HWC)
        object.__setattr__(self, "is_small", is_small)
        object.__setattr__(self, "is_plain", is_plain)


@dataclass(frozen=True, slots=True)
class FileOrder:
    """What is asked for an image file."""

    model: Model
    options: Options
    claimed: Container | None
    levels: Levels


class Timings(NamedTuple):
    """Seconds spent in each stage."""

    decode_s: float
    queue_s: float
    compute_s: float
    encode_s: float
    total_s: float


NO_TIME: Final = Timings(0.0, 0.0, 0.0, 0.0, 0.0)


class Findings(NamedTuple):
    """What was learnt on the way.

    Attributes:
        noise_sigma: mean of the network's noise map, in 8-bit levels; None when it has no map.
        clipped_sample_count: samples that lay outside black..white.
        tile_count: units that the image was cut into.
        shared_request_count, shared_client_count: the most requests, and client connections, in one batch.
    """

    noise_sigma: float | None
    clipped_sample_count: int
    tile_count: int
    shared_request_count: int
    shared_client_count: int


class Outcome(NamedTuple):
    """What became of an image.

    Attributes:
        container: what the answer is.
        data: the answer's file or samples.
        image: the answer's samples where their form is not the request's own; None where it is.
        findings: None when nothing was computed.
        timings: seconds in each stage.
        energy: the energy report as a serialised DenoiseResponse; empty without one.
    """

    container: Container
    data: Data
    image: Image | None
    findings: Findings | None
    timings: Timings
    energy: bytes = b""


class Running(Protocol):
    """Something in the service that works for one job."""

    def close(self) -> None:
        """Nobody waits any more: what has not run is dropped. Gives the job's room back once nothing uses it."""
        ...


@dataclass(slots=True, eq=False)
class Job:
    """One image in the service.

    Attributes:
        order: what is asked for.
        data: the image's samples or file; a view into the message that brought it.
        deadline_s: absolute, on the clock.
        on_done: called once on the event loop with what became of it, unless it is closed before; see
            :meth:`service.pipeline.Denoiser.start`.
        arrived_at_s: when it was let in.
        reservation, running: the denoiser's own; its room in the service, and what works for it.
    """

    order: RawOrder | FileOrder
    data: Data
    client: Client
    deadline_s: float
    on_done: "Callable[[Job, Outcome | Exception], None]"
    arrived_at_s: float = 0.0
    reservation: Reservation | None = None
    running: Running | None = None

    def leave_queue(self) -> None:
        """Its units have run."""
        if self.reservation is not None:
            self.reservation.leave_queue()

    def note_computed(self, now_s: float, *, is_late: bool) -> None:
        """Its units have run, or its deadline has passed: what it was foretold is compared with."""
        if self.reservation is not None:
            self.reservation.note_computed(now_s - self.arrived_at_s, is_late=is_late)

    def release(self) -> None:
        """Gives its room back. Nothing uses it any more, nor does it hold on to anything.

        What works for it refers to it, so that its samples would wait for the garbage collector.
        """
        if self.reservation is not None:
            self.reservation.release()
        self.running = None
        self.data = b""


def tell_unless_closed(job: Job, end: Outcome | Exception) -> None:
    """For images that nothing works for."""
    if job.running is None:
        job.on_done(job, end)
