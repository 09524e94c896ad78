"""What every row is given: options, networks, and the processes that rows share, each started when first needed."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tests.bench.echo import SERVICE as ECHO_SERVICE
from tests.bench.jobs import AnswerKind, Job, Message
from tests.bench.networks import BASE_FOLDER, BASE_NAME, M_FOLDER, OPEN_FOLDER, S_FOLDER, Networks, model_store
from tests.bench.peers import Clients, Peer, clients, echo
from tests.integration.harness import RunningService, running

_METHODS: Final[Mapping[AnswerKind, str]] = {
    "unary": "Denoise",
    "batch": "DenoiseBatch",
    "stream": "DenoiseStream",
}


@dataclass(frozen=True, slots=True)
class Options:
    """How long and how often.

    Attributes:
        rounds: of each row; ratios are taken within a round.
        seconds: of one measurement.
        is_short: small sizes and few seconds, for the answers' sake alone.
    """

    rounds: int
    seconds: float
    is_short: bool

    @property
    def warm_s(self) -> float:
        """Before answers count: connections, arenas and caches settle."""
        return min(1.0, self.seconds / 2)


class Bench:
    """Shared by all rows of a run; see :func:`bench`."""

    def __init__(self, options: Options, stack: ExitStack) -> None:
        self.options = options
        self.networks = Networks()
        self._stack = stack

    @cached_property
    def store(self) -> Path:
        """S, M and the shipped base."""
        return self._stack.enter_context(model_store(S_FOLDER, M_FOLDER, OPEN_FOLDER, BASE_FOLDER))

    @cached_property
    def service(self) -> RunningService:
        """The service with all three networks and its own defaults."""
        return self._stack.enter_context(self.fresh_service())

    @cached_property
    def echo(self) -> Peer:
        return self._stack.enter_context(echo())

    @cached_property
    def clients(self) -> Clients:
        return self._stack.enter_context(clients())

    @contextmanager
    def fresh_service(self, **settings: object) -> Iterator[RunningService]:
        """A service of one's own, which must end with 0 and without an error in its log."""
        chosen = {"models_dir": self.store, "default_model": BASE_NAME} | settings
        with TemporaryDirectory(prefix="denoised-bench-") as folder, running(Path(folder), **chosen) as service:
            yield service


def echo_job(peer: Peer, messages: tuple[Message, ...], *, client_count: int, is_stream: bool = False) -> Job:
    """The same bytes to the echo."""
    method = f"/{ECHO_SERVICE}/{'Stream' if is_stream else 'Unary'}"
    return Job(peer.target, method, "echo", messages, client_count, peer.pid)


def service_job(
    service: RunningService, messages: tuple[Message, ...], *, client_count: int, answer: AnswerKind = "unary"
) -> Job:
    """Messages to the service."""
    method = f"/denoised.v1.DenoiseService/{_METHODS[answer]}"
    return Job(service.grpc_target, method, answer, messages, client_count, service.process.pid)


@contextmanager
def bench(options: Options) -> Iterator[Bench]:
    """All that was started ends with the block."""
    with ExitStack() as stack:
        yield Bench(options, stack)
