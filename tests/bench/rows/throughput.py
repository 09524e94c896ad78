"""Rows of a busy service: images a second and CPU time of an image, against ONNX Runtime alone and the bare echo."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Final, Literal

from tests.bench.bench import Bench, echo_job, service_job
from tests.bench.figures import Rate, Row, figure_of, steady_rate
from tests.bench.jobs import ClosedLoop, Job, Message, Outcome
from tests.bench.networks import Network, Networks
from tests.bench.payload import Sample, batches, frames, samples, unary
from tests.bench.raw import Runner, Way, ways

_SHORT_SIDE_PX: Final = 256
_SHORT_CLIENT_COUNT: Final = 4
# Images of each client, so that the loop is full for most of the time.
_LEAST_TURNS: Final = 5


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of load.

    Attributes:
        network: which one.
        side_px: of the square images.
        raw_batches: batch sizes that raw may use.
        cpu_target: of the CPU's ratio.
        rate_target: of the rate's ratio to raw, None where there is none.
        adds_echo: whether CPU is measured against raw and echo together, or against raw alone.
        images_per_message: of ``batch``; 1 of others.
        in_flight: unanswered frames of each stream; 1 of others.
        is_heavy: an image takes so long that those in flight at a window's ends would count: the service begins and
            ends idle instead.
    """

    key: str
    title: str
    network: Callable[[Networks], Network]
    side_px: int
    mode: Literal["unary", "batch", "stream"]
    client_count: int
    raw_batches: tuple[int, ...]
    cpu_target: float
    rate_target: float | None = None
    adds_echo: bool = True
    images_per_message: int = 1
    in_flight: int = 1
    is_heavy: bool = False


_M256: Final = Case(
    key="m256",
    title="M 256x256 raw u8 unary, 32 clients",
    network=lambda networks: networks.m,
    side_px=256,
    mode="unary",
    client_count=32,
    raw_batches=(1, 2),
    cpu_target=1.03,
    rate_target=0.97,
    adds_echo=False,
    is_heavy=True,
)
_BASE256: Final = Case(
    key="base256",
    title="shipped base, 256x256 raw u8 unary",
    network=lambda networks: networks.base,
    side_px=256,
    mode="unary",
    client_count=32,
    raw_batches=(1, 2, 4),
    cpu_target=1.03,
    is_heavy=True,
)
_S28: Final = Case(
    key="s28",
    title="S 28x28 unary",
    network=lambda networks: networks.s,
    side_px=28,
    mode="unary",
    client_count=32,
    raw_batches=(1, 4, 16),
    cpu_target=1.2,
)
CASES: Final = (
    _M256,
    _BASE256,
    replace(
        _BASE256,
        key="base1024",
        title="shipped base, 1024x1024 raw u8 unary",
        side_px=1024,
        client_count=4,
        raw_batches=(1, 2),
    ),
    replace(_S28, key="s64", title="S 64x64 unary", side_px=64, cpu_target=1.1),
    _S28,
    replace(
        _S28,
        key="s28batch",
        title="S 28x28, 64 in a message",
        mode="batch",
        client_count=4,
        images_per_message=64,
        cpu_target=1.12,
        adds_echo=False,
    ),
    replace(_S28, key="s28stream", title="S 28x28 in a stream", mode="stream", client_count=4, in_flight=16),
)


def measure(case: Case, bench: Bench) -> Row:
    """Rounds of raw in all its ways, echo and service, in turn."""
    options = bench.options
    network = case.network(bench.networks)
    if options.is_short:
        case = replace(
            case,
            side_px=min(case.side_px, _SHORT_SIDE_PX),
            client_count=min(case.client_count, _SHORT_CLIENT_COUNT),
            raw_batches=case.raw_batches[:1],
        )
    row = Row(case.key, case.title)
    size = {"height_px": case.side_px, "width_px": case.side_px}
    runners = {way: Runner(network, way, **size) for way in ways(case.raw_batches)}
    messages = _messages(case, samples(network, **size))
    echoed = echo_job(bench.echo, messages, client_count=case.client_count, is_stream=case.mode == "stream")
    served = service_job(bench.service, messages, client_count=case.client_count, answer=case.mode)
    raws: dict[Way, list[Rate]] = {way: [] for way in runners}
    echoes: list[Rate] = []
    services: list[Rate] = []
    for _ in range(options.rounds):
        for way, runner in runners.items():
            raws[way].append(runner.measure(options.seconds / len(runners)))
        total = 0
        if case.is_heavy:
            fastest = max(rates[-1].images_per_s for rates in raws.values())
            total = max(_LEAST_TURNS * case.client_count, round(options.seconds * fastest))
        for name, job, rates in (("echo", echoed, echoes), ("service", served, services)):
            outcome = bench.clients.run(_loop(case, bench, job, total))
            row.wrong += [f"{name}: {problem}" for problem in outcome.problems()]
            rates.append(_rate(case, outcome))
    _judge(row, case, raws, echoes, services)
    return row


def _loop(case: Case, bench: Bench, job: Job, total: int) -> ClosedLoop:
    options = bench.options
    is_stream = case.mode == "stream"
    if total:
        return ClosedLoop(job, is_stream=is_stream, total=total)
    return ClosedLoop(job, is_stream=is_stream, warm_s=options.warm_s, seconds=options.seconds)


def _judge(row: Row, case: Case, raws: dict[Way, list[Rate]], echoes: Sequence[Rate], services: Sequence[Rate]) -> None:
    cheapest = min(raws, key=lambda way: statistics.median(rate.cpu_ms for rate in raws[way]))
    fastest = max(raws, key=lambda way: statistics.median(rate.images_per_s for rate in raws[way]))
    floor = "(raw + echo)" if case.adds_echo else "raw"
    cpu_ratios = [
        own.cpu_ms / (raw.cpu_ms + (echo.cpu_ms if case.adds_echo else 0.0))
        for own, raw, echo in zip(services, raws[cheapest], echoes, strict=True)
    ]
    rate_ratios = [own.images_per_s / raw.images_per_s for own, raw in zip(services, raws[fastest], strict=True)]
    row.figures += [
        figure_of("images/s / raw", rate_ratios, target=case.rate_target, want="at least"),
        figure_of(f"CPU / {floor}", cpu_ratios, target=case.cpu_target),
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


def _messages(case: Case, of: list[Sample]) -> tuple[Message, ...]:
    if case.mode == "batch":
        return batches(of, case.images_per_message)
    if case.mode == "stream":
        return frames(of, case.in_flight)
    return unary(of)


def _rate(case: Case, outcome: Outcome) -> Rate:
    image_count = outcome.message_count * case.images_per_message
    images_per_s = image_count / outcome.wall_s
    if outcome.message_count >= _LEAST_TURNS * case.client_count and case.is_heavy:
        # Without the beginning and the end, when lanes idle.
        images_per_s = steady_rate(outcome.ended_s, outcome.latencies_s, case.client_count)
    return Rate(images_per_s, 1000 * outcome.cpu_s / image_count)
