"""An image's units on their way through queue and lanes, and whose they are. Data, changed by the batcher alone."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from service.errors import ServiceError
from service.identities import Pass
from service.lanes import Tiles
from service.scheduler import Ticket
from service.types import ServiceClass


@dataclass(frozen=True, slots=True)
class Client:
    """Who sent a request.

    Attributes:
        share: what fairness is kept between.
        connection: only counted.
        entry: what they were let in with; None where anybody is.
    """

    share: Hashable
    connection: Hashable
    entry: Pass | None = field(default=None, compare=False)

    @property
    def most_urgent_class(self) -> ServiceClass:
        return ServiceClass.INTERACTIVE if self.entry is None else self.entry.caller.most_urgent_class

    def enter(self, size_bytes: int) -> None:
        """A request of that size begins; :meth:`leave` is called once its answer has left.

        Raises:
            Unauthenticated: what they were let in with was revoked.
            QuotaExceeded: they have taken more than they may; nothing was taken.
        """
        if self.entry is not None:
            self.entry.require_valid()
            self.entry.caller.allowance.enter(size_bytes)

    def take_bytes(self, count: int) -> None:
        """More of a request arrived."""
        if self.entry is not None:
            self.entry.caller.allowance.take_bytes(count)

    def take_pixels(self, count: int) -> None:
        """An image of so many pixels was let in."""
        if self.entry is not None:
            self.entry.caller.allowance.take_pixels(count)

    def leave(self) -> None:
        """An answer has left, or nobody wants it."""
        if self.entry is not None:
            self.entry.caller.allowance.leave()


@dataclass(frozen=True, slots=True)
class Group:
    """Units of one group can be stacked into one batch.

    Attributes:
        model: of the engine that runs them.
        channels, height_px, width_px: of the image that a unit is, or is made into.
        code_length: numbers in a unit that is a latent code; 0 of one that is an image.
        is_widened: whether a lone unit may get all cores.
    """

    model: Hashable
    channels: int
    height_px: int
    width_px: int
    code_length: int = 0
    is_widened: bool = True

    @property
    def pixel_count(self) -> int:
        return self.height_px * self.width_px

    @property
    def unit_shape(self) -> tuple[int, ...]:
        """Of one unit as the network gets it: (C, h, w), or (d,)."""
        return (self.code_length,) if self.code_length else (self.channels, self.height_px, self.width_px)


@dataclass(slots=True, eq=False)
class Submission:
    """An image's units on their way. ``on_done`` is called at most once: with what went wrong, or None.

    Attributes:
        pack_count: most units that are queued and run as one.
        available_count: units that may be offered; fewer than ``unit_count`` while the image is still arriving.
        on_unit: told of each unit that ended, and how; see :meth:`Batcher.submit`.
        offered_at_s, started_at_s, ended_at_s: on the batcher's clock; of the first and the last unit.
        shared_request_count, shared_client_count: the most images, and client connections, in one batch with it.
    """

    tiles: Tiles
    group: Group
    client: Client
    service_class: ServiceClass
    deadline_s: float
    unit_count: int
    pack_count: int
    available_count: int
    unit_cost_s: float
    offered_at_s: float
    on_done: Callable[["Submission", ServiceError | None], None]
    on_unit: Callable[["Submission", int, ServiceError | None], None] | None = None
    units_fail_alone: bool = False
    started_at_s: float = float("inf")
    ended_at_s: float = 0.0
    shared_request_count: int = 0
    shared_client_count: int = 0
    next_index: int = 0
    remaining_count: int = 0
    running_count: int = 0
    is_over: bool = False
    queued: "set[Ticket[Pack]]" = field(default_factory=set)
    on_still: Callable[[], None] | None = None


class Pack:
    """Units of a submission that are queued as one, as lanes see them."""

    __slots__ = ("count", "first", "submission", "tiles")

    def __init__(self, submission: Submission, first: int, count: int) -> None:
        self.submission = submission
        self.tiles = submission.tiles
        self.first = first
        self.count = count

    def is_wanted(self, now_s: float) -> bool:
        return not self.submission.is_over and now_s < self.submission.deadline_s
