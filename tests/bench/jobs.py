"""What the clients' process is asked to do, and what it answers. Pure data; it travels pickled."""

from dataclasses import dataclass, field
from typing import Literal

AnswerKind = Literal["echo", "unary", "batch", "stream"]


@dataclass(frozen=True, slots=True)
class Message:
    """Prepared bytes, and for each image in them the samples or file that must come back; None must be refused."""

    data: bytes
    expected: tuple[bytes | None, ...]


@dataclass(frozen=True, slots=True)
class Job:
    """What every job says.

    Attributes:
        target: host and port.
        method: full name.
        answer: what the answers are, so that they can be checked; ``echo`` is the message itself.
        messages: sent in turn.
        client_count: connections.
        watched_pid: whose CPU time is read when the window opens and closes.
        are_checked: whether answers are compared with what is expected, or only counted.
    """

    target: str
    method: str
    answer: AnswerKind
    messages: tuple[Message, ...]
    client_count: int
    watched_pid: int
    are_checked: bool = True


@dataclass(frozen=True, slots=True)
class ClosedLoop:
    """Clients that each wait for an answer before they send again.

    Attributes:
        is_stream: each client has one stream with every message in flight; else one call at a time.
        warm_s: before the window opens.
        seconds: that the window is open, unless it is interrupted; what is in flight at its ends is not counted.
        total: where not 0, the window opens on an idle service and closes when so many are answered: for images
            that take so long that those at the window's ends would matter.
        timeout_s: of one unary call.
        cancelled_share: of unary calls that are taken back, each at a random moment within ``cancelled_within_s``.
        are_abandoned: whether calls in flight at the end are taken back instead of awaited.
    """

    job: Job
    is_stream: bool = False
    warm_s: float = 0.0
    seconds: float = 0.0
    total: int = 0
    timeout_s: float = 120.0
    cancelled_share: float = 0.0
    cancelled_within_s: float = 0.0
    are_abandoned: bool = False


@dataclass(frozen=True, slots=True)
class OpenLoop:
    """Calls that come at random moments (Poisson), whether or not earlier ones are answered.

    Attributes:
        rate_per_s: of arrivals.
        seconds: that they keep coming.
        deadline_s: of each, from the moment that it should have been sent.
    """

    job: Job
    rate_per_s: float
    seconds: float
    deadline_s: float


@dataclass(frozen=True, slots=True)
class Chunked:
    """One image, the job's only message, as chunks of a stream.

    Attributes:
        header: a serialized ``ImageHeader``.
        chunk_bytes: of each chunk but the last.
    """

    job: Job
    header: bytes
    chunk_bytes: int


Work = ClosedLoop | OpenLoop | Chunked


@dataclass(slots=True)
class Outcome:
    """What came of a job. Times are seconds.

    Attributes:
        wall_s: how long the window was open.
        cpu_s: CPU time of the watched process meanwhile.
        latencies_s: of each message answered within the window; in an open loop from when it should have been sent.
        ended_s: when each of these was answered, from the window's opening.
        refused_s: like ``latencies_s``, of calls answered with RESOURCE_EXHAUSTED.
        late_count: calls that were taken, and ended after their deadline.
        cancelled_count: taken back by the client.
        failures: images without an answer at any time, by what was said; refusals of an open loop are not among them.
        wrong_count: images with an answer other than expected.
    """

    wall_s: float = 0.0
    cpu_s: float = 0.0
    latencies_s: list[float] = field(default_factory=list)
    ended_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)
    late_count: int = 0
    cancelled_count: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    wrong_count: int = 0

    @property
    def message_count(self) -> int:
        """Answered within the window."""
        return len(self.latencies_s)

    def problems(self) -> list[str]:
        """What must not happen, in words."""
        found = [f"{count} x {what}" for what, count in self.failures.items()]
        if self.wrong_count:
            found.append(f"{self.wrong_count} wrong answers")
        return found
