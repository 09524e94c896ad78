"""Rows of a busy service: images a second and CPU time of an image, against ONNX Runtime alone and the bare echo."""

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Literal

from tests.bench.bench import Bench
from tests.bench.clients import Job, Outcome
from tests.bench.echo import SERVICE as ECHO_SERVICE
from tests.bench.figures import Rate, Row, figure_of
from tests.bench.networks import Network, Networks
from tests.bench.payload import Sample, batches, frames, samples
from tests.bench.raw import Runner, Way, ways

Mode = Literal["unary", "batch", "stream"]

_SERVICE: str = "denoised.v1.DenoiseService"
_METHODS: dict[Mode, str] = {"unary": "Denoise", "batch": "DenoiseBatch", "stream": "DenoiseStream"}


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of load.

    Attributes:
        network: which of the three.
        side_px: of the square images.
        images_per_message: of ``batch``; 1 of others.
        in_flight: unanswered frames of each stream; 1 of others.
        raw_batches: batch sizes that raw may use.
        adds_echo: whether the CPU's measure is raw and echo, or raw alone.
        cpu_target: of the CPU's ratio.
        rate_target: of the rate's ratio to raw, None where there is none.
    """

    key: str
    title: str
    network: Callable[[Networks], Network]
    side_px: int
    mode: Mode
    client_count: int
    raw_batches: tuple[int, ...]
    cpu_target: float
    adds_echo: bool = True
    images_per_message: int = 1
    in_flight: int = 1
    rate_target: float | None = None


CASES = (
    Case(
        "m256",
        "M 256x256 raw u8 unary, 32 clients",
        lambda n: n.m,
        256,
        "unary",
        32,
        (1, 2),
        1.03,
        adds_echo=False,
        rate_target=0.97,
    ),
    Case("base256", "shipped base 256x256 raw u8 unary", lambda n: n.base, 256, "unary", 32, (1, 2, 4), 1.03),
    Case("base1024", "shipped base 1024x1024 raw u8 unary", lambda n: n.base, 1024, "unary", 8, (1, 2), 1.03),
    Case("s64", "S 64x64 unary", lambda n: n.s, 64, "unary", 32, (1, 4, 16), 1.1),
    Case("s28", "S 28x28 unary", lambda n: n.s, 28, "unary", 32, (1, 4, 16), 1.2),
    Case(
        "s28batch",
        "S 28x28, 64 in a message",
        lambda n: n.s,
        28,
        "batch",
        4,
        (1, 4, 16),
        1.12,
        adds_echo=False,
        images_per_message=64,
    ),
    Case("s28stream", "S 28x28 in a stream", lambda n: n.s, 28, "stream", 4, (1, 4, 16), 1.2, in_flight=16),
)


def measure(case: Case, bench: Bench, on_round: Callable[[], object]) -> Row:
    """Rounds of raw in all its ways, echo and service, in turn."""
    options = bench.options
    network = case.network(bench.networks)
    if options.is_short:
        case = replace(case, side_px=min(case.side_px, 256), client_count=min(case.client_count, 8))
    row = Row(case.key, case.title)
    runners = {
        way: Runner(network, way, height_px=case.side_px, width_px=case.side_px)
        for way in ways(case.raw_batches[:1] if options.is_short else case.raw_batches)
    }
    messages = _messages(case, samples(network, case.side_px, case.side_px))
    raws: dict[Way, list[Rate]] = {way: [] for way in runners}
    echoes: list[Rate] = []
    services: list[Rate] = []
    for _ in range(options.rounds):
        for way, runner in runners.items():
            raws[way].append(runner.measure(options.seconds / len(runners)))
        for rates, is_echo in ((echoes, True), (services, False)):
            outcome = bench.clients.run(_job(case, bench, messages, is_echo=is_echo))
            row.wrong += [f"{'echo' if is_echo else 'service'}: {problem}" for problem in outcome.problems()]
            rates.append(_rate(outcome, case.images_per_message))
        on_round()
    _judge(row, case, raws, echoes, services)
    return row


def _judge(row: Row, case: Case, raws: dict[Way, list[Rate]], echoes: list[Rate], services: list[Rate]) -> None:
    cheapest = min(raws, key=lambda way: statistics.median(rate.cpu_ms for rate in raws[way]))
    fastest = max(raws, key=lambda way: statistics.median(rate.images_per_s for rate in raws[way]))
    floors_ms = [
        raw.cpu_ms + (echo.cpu_ms if case.adds_echo else 0.0) for raw, echo in zip(raws[cheapest], echoes, strict=True)
    ]
    floor = "raw + echo" if case.adds_echo else "raw"
    cpu_ratios = [own.cpu_ms / floor_ms for own, floor_ms in zip(services, floors_ms, strict=True)]
    rate_ratios = [own.images_per_s / raw.images_per_s for own, raw in zip(services, raws[fastest], strict=True)]
    row.figures += [
        figure_of(f"CPU / ({floor})", cpu_ratios, target=case.cpu_target),
        figure_of("images/s / raw", rate_ratios, target=case.rate_target, want="at least"),
        figure_of("service CPU", [rate.cpu_ms for rate in services], unit="ms"),
        figure_of("raw CPU", [rate.cpu_ms for rate in raws[cheapest]], unit="ms"),
        figure_of("echo CPU", [rate.cpu_ms for rate in echoes], unit="ms"),
        figure_of("service", [rate.images_per_s for rate in services], unit="images/s"),
        figure_of("raw", [rate.images_per_s for rate in raws[fastest]], unit="images/s"),
    ]
    row.notes.append(f"raw: least CPU {cheapest}; fastest {fastest}")
    row.raw = {
        "raw": {str(way): [asdict(rate) for rate in rates] for way, rates in raws.items()},
        "echo": [asdict(rate) for rate in echoes],
        "service": [asdict(rate) for rate in services],
    }


def _messages(case: Case, of: list[Sample]) -> list[tuple[bytes, list[bytes]]]:
    if case.mode == "batch":
        return batches(of, case.images_per_message)
    if case.mode == "stream":
        return frames(of, case.in_flight)
    return [(sample.request.SerializeToString(), [sample.expected]) for sample in of]


def _job(case: Case, bench: Bench, messages: list[tuple[bytes, list[bytes]]], *, is_echo: bool) -> Job:
    is_stream = case.mode == "stream"
    if is_echo:
        target, pid = bench.echo.target, bench.echo.pid
        method = f"/{ECHO_SERVICE}/{'Stream' if is_stream else 'Unary'}"
    else:
        target, pid = bench.service.grpc_target, bench.service.process.pid
        method = f"/{_SERVICE}/{_METHODS[case.mode]}"
    return Job(
        target=target,
        method=method,
        answer="echo" if is_echo else case.mode,
        is_stream=is_stream,
        messages=messages,
        client_count=case.client_count,
        warm_s=bench.options.warm_s,
        seconds=bench.options.seconds,
        watched_pid=pid,
    )


def _rate(outcome: Outcome, images_per_message: int) -> Rate:
    image_count = max(1, outcome.message_count * images_per_message)
    return Rate(image_count / outcome.wall_s, 1000 * outcome.cpu_s / image_count)
