"""What every row is given: options, networks, and the processes that rows share, each started when first needed."""

import signal
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import grpc

from denoised.v1 import denoised_pb2 as pb
from tests.bench.echo import SERVICE as ECHO_SERVICE
from tests.bench.figures import MeasurementFailed
from tests.bench.jobs import AnswerKind, Job, Message
from tests.bench.networks import BASE_FOLDER, M_FOLDER, OPEN_FOLDER, S_FOLDER, Networks, model_store
from tests.bench.peers import Clients, Peer, clients, echo
from tests.integration.harness import LIMIT_S, RunningService, connected, launched, ready

_SHOWN_LINES: Final = 3
_SHOWN_CHARACTERS: Final = 600
# The reason of images whose values make a network overflow; rows send such on purpose.
_POISONED: Final = "NONFINITE_OUTPUT"
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
        soak_seconds: of the row that watches memory under cancellations.
    """

    rounds: int
    seconds: float
    is_short: bool
    soak_seconds: float

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
    def service(self) -> RunningService:
        """The service with all networks and its own defaults."""
        return self._stack.enter_context(self.fresh_service(S_FOLDER, M_FOLDER, OPEN_FOLDER, BASE_FOLDER))

    @cached_property
    def echo(self) -> Peer:
        return self._stack.enter_context(echo())

    @cached_property
    def clients(self) -> Clients:
        return self._stack.enter_context(clients())

    @contextmanager
    def fresh_service(self, *models: Path, **settings: object) -> Iterator[RunningService]:
        """A service of one's own with these models, which must end as it should: see :func:`_stop`."""
        with (
            model_store(*models) as store,
            TemporaryDirectory(prefix="denoised-bench-") as folder,
            launched(Path(folder), models_dir=store, default_model=models[-1].name, **settings) as process,
        ):
            service = ready(process, Path(folder))
            yield service
            _stop(service)


def _stop(service: RunningService) -> None:
    """SIGTERM; it must end with 0, having logged no error but that of images that were made to fail.

    Raises:
        MeasurementFailed: it did otherwise; with its log.
    """
    service.process.send_signal(signal.SIGTERM)
    exit_code = service.process.wait(LIMIT_S)
    lines = service.log().splitlines()
    errors = [line for line in lines if ('"level": "error"' in line or "Traceback" in line) and _POISONED not in line]
    if exit_code or errors:
        shown = [line[-_SHOWN_CHARACTERS:] for line in errors[:_SHOWN_LINES] or lines[-_SHOWN_LINES:]]
        raise MeasurementFailed(
            "\n".join([f"the service ended with exit code {exit_code} and {len(errors)} errors in its log:", *shown])
        )


def ask(service: RunningService, request: pb.DenoiseRequest) -> pb.DenoiseResponse:
    """One answer, outside of anything that is timed.

    Raises:
        MeasurementFailed: there was an error instead.
    """
    with connected(service.grpc_target) as stub:
        try:
            response: pb.DenoiseResponse = stub.Denoise(request)
        except grpc.RpcError as error:
            raise MeasurementFailed(f"no answer: {error}") from error
    return response


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
