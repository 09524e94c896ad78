"""Row of overload: what is still delivered when far more comes than can be done, service and generator a core each."""

import os
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Final

from tests.bench.bench import Bench, echo_job, service_job
from tests.bench.figures import Figure, Row, figure_of, quantile, steady_rate
from tests.bench.jobs import ClosedLoop, Job, Message, OpenLoop
from tests.bench.networks import M_FOLDER
from tests.bench.payload import samples, unary
from tests.bench.peers import Clients, Peer, clients, echo, on_cores
from tests.integration.harness import RunningService

_SIDE_PX: Final = 256
_SHORT_SIDE_PX: Final = 64
_FACTORS: Final = (2, 5, 10)
_SHORT_FACTORS: Final = (4,)
_MOST_ROUNDS: Final = 3
_CONNECTION_COUNT: Final = 16
_PEAK_CLIENT_COUNT: Final = 8
# Calls of each client in a closed loop, so that it is full for most of the time.
_LEAST_TURNS: Final = 5
_DEADLINE_S: Final = 1.0
# Longer than a measurement of other rows: goodput is counted in images, and there are few a second.
_SECONDS_FACTOR: Final = 4
_GOODPUT_TARGET: Final = 0.95
_LATE_TARGET: Final = 0.01
_REFUSAL_TARGET: Final = 3.0
# What counts as normal latency: one request alone scatters by so much on a shared machine.
_FRESH_TARGET: Final = 1.5
_FRESH_COUNT: Final = 5


@dataclass(frozen=True, slots=True)
class Trial:
    """One round at one multiple of the peak.

    Attributes:
        peak_per_s: images a second of a closed loop, just before.
        good_per_s: answered in time while arrivals came.
        refusing_share: of the core, what the echo spends on as many calls as were refused here; what receiving the
            others costs is part of the peak.
        late_share: of the calls that were not refused.
        refused_p99_ms, echo_p99_ms: the former None where nothing was refused.
        fresh_ratio: time of a request right after, against one alone.
    """

    peak_per_s: float
    good_per_s: float
    refusing_share: float
    late_share: float
    refused_p99_ms: float | None
    echo_p99_ms: float
    fresh_ratio: float


@dataclass(frozen=True, slots=True)
class _Stand:
    """Service, echo and generator, each where it belongs, and what is sent."""

    service: RunningService
    bare: Peer
    generator: Clients
    messages: tuple[Message, ...]
    seconds: float

    def alone(self) -> ClosedLoop:
        return ClosedLoop(service_job(self.service, self.messages, client_count=1), total=_FRESH_COUNT)


def measure(bench: Bench) -> Row:
    """M: the peak of a closed loop, then Poisson arrivals at multiples of it, and the echo under the same arrivals."""
    options = bench.options
    factors = _SHORT_FACTORS if options.is_short else _FACTORS
    row = Row("overload", "2x, 5x, 10x of capacity, M 256x256, 1 s deadlines, a core each")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        row.skipped = "it needs two cores"
        return row
    side_px = _SHORT_SIDE_PX if options.is_short else _SIDE_PX
    messages = unary(samples(bench.networks.m, side_px, side_px))
    seconds = options.seconds if options.is_short else _SECONDS_FACTOR * options.seconds
    trials: dict[int, list[Trial]] = {factor: [] for factor in factors}
    with (
        on_cores({cores[0]}),
        bench.fresh_service(M_FOLDER) as service,
        echo() as bare,
        on_cores({cores[1]}),
        clients() as generator,
    ):
        stand = _Stand(service, bare, generator, messages, seconds)
        generator.run(stand.alone())
        for _ in range(min(options.rounds, _MOST_ROUNDS)):
            normal_s = median(generator.run(stand.alone()).latencies_s)
            busy = service_job(service, messages, client_count=_PEAK_CLIENT_COUNT)
            peak_per_s = _peak(generator, busy, seconds, row)
            for factor in factors:
                trials[factor].append(_trial(stand, factor, peak_per_s, normal_s, row))
    for factor in factors:
        row.figures += _figures(factor, trials[factor])
    row.raw = {f"{factor}x": [asdict(trial) for trial in of] for factor, of in trials.items()}
    return row


def _trial(stand: _Stand, factor: int, peak_per_s: float, normal_s: float, row: Row) -> Trial:
    load = OpenLoop(
        service_job(stand.service, stand.messages, client_count=_CONNECTION_COUNT),
        rate_per_s=factor * peak_per_s,
        seconds=stand.seconds,
        deadline_s=_DEADLINE_S,
    )
    served = stand.generator.run(load)
    fresh = stand.generator.run(replace(stand.alone(), total=1))
    echoed = stand.generator.run(
        replace(load, job=echo_job(stand.bare, stand.messages, client_count=_CONNECTION_COUNT))
    )
    for outcome in (served, fresh, echoed):
        row.wrong += [f"{factor}x: {problem}" for problem in outcome.problems()]
    taken, refused = served.message_count + served.late_count, len(served.refused_s)
    return Trial(
        peak_per_s=peak_per_s,
        # What was still on its way when arrivals ended is not what the service delivered meanwhile.
        good_per_s=sum(ended_s <= stand.seconds for ended_s in served.ended_s) / stand.seconds,
        refusing_share=echoed.cpu_s / echoed.wall_s * refused / (taken + refused),
        late_share=served.late_count / taken,
        refused_p99_ms=1000 * quantile(served.refused_s, 0.99) if refused else None,
        echo_p99_ms=1000 * quantile(echoed.latencies_s, 0.99),
        fresh_ratio=fresh.latencies_s[0] / normal_s,
    )


def _peak(generator: Clients, job: Job, seconds: float, row: Row) -> float:
    """Images a second of a closed loop that keeps the service busy, the better of two."""
    total = _LEAST_TURNS * job.client_count
    rates = []
    for _ in range(2):
        outcome = generator.run(ClosedLoop(job, total=total))
        row.wrong += outcome.problems()
        rates.append(steady_rate(outcome.ended_s, outcome.latencies_s, job.client_count))
        total = max(total, round(rates[-1] * seconds))
    return max(rates)


def _figures(factor: int, trials: list[Trial]) -> list[Figure]:
    figures = [
        figure_of(
            f"{factor}x: goodput / (peak x (1 - share of refusing))",
            [trial.good_per_s / (trial.peak_per_s * (1 - trial.refusing_share)) for trial in trials],
            target=_GOODPUT_TARGET,
            want="at least",
        ),
        figure_of(f"{factor}x: late of admitted", [trial.late_share for trial in trials], target=_LATE_TARGET),
        figure_of(
            f"{factor}x: a fresh request right after / alone",
            [trial.fresh_ratio for trial in trials],
            target=_FRESH_TARGET,
        ),
        figure_of(f"{factor}x: peak", [trial.peak_per_s for trial in trials], unit="images/s"),
        figure_of(f"{factor}x: goodput / peak", [trial.good_per_s / trial.peak_per_s for trial in trials]),
        figure_of(f"{factor}x: share of refusing", [trial.refusing_share for trial in trials]),
    ]
    refusals = [(trial.refused_p99_ms, trial.echo_p99_ms) for trial in trials]
    own_ms = [own for own, _ in refusals if own is not None]
    ratios = [own / bare for own, bare in refusals if own is not None]
    if ratios:
        figures += [
            figure_of(f"{factor}x: refusals' p99 / echo's p99", ratios, target=_REFUSAL_TARGET),
            figure_of(f"{factor}x: refusals' p99", own_ms, unit="ms"),
        ]
    return figures
