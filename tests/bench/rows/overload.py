"""Row of overload: what is still delivered when far more comes than can be done, service and generator a core each."""

import os
from dataclasses import replace
from statistics import median
from typing import Final

from tests.bench.bench import Bench, echo_job, service_job
from tests.bench.figures import Figure, Row, quantile
from tests.bench.jobs import ClosedLoop, OpenLoop
from tests.bench.networks import M_FOLDER
from tests.bench.payload import samples, unary
from tests.bench.peers import clients, echo, on_cores

_SIDE_PX: Final = 256
_SHORT_SIDE_PX: Final = 64
_FACTORS: Final = (2, 5, 10)
_SHORT_FACTORS: Final = (4,)
_CONNECTION_COUNT: Final = 16
_DEADLINE_S: Final = 1.0
# Longer than a measurement of other rows: goodput is counted in images, and there are few a second.
_SECONDS_FACTOR: Final = 4
_GOODPUT_TARGET: Final = 0.95
_LATE_TARGET: Final = 0.01
_REFUSAL_TARGET: Final = 3.0
_FRESH_TARGET: Final = 1.5
_FRESH_COUNT: Final = 5


def measure(bench: Bench) -> Row:
    """M, peak in a closed loop first, then Poisson arrivals at multiples of it; the echo under the same arrivals."""
    options = bench.options
    row = Row("overload", "2x, 5x, 10x of capacity, M 256x256, 1 s deadlines, a core each")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        row.skipped = "it needs two cores"
        return row
    side_px = _SHORT_SIDE_PX if options.is_short else _SIDE_PX
    seconds = options.seconds if options.is_short else _SECONDS_FACTOR * options.seconds
    messages = unary(samples(bench.networks.m, side_px, side_px))
    with (
        on_cores({cores[0]}),
        bench.fresh_service(M_FOLDER) as service,
        echo() as bare,
        on_cores({cores[1]}),
        clients() as generator,
    ):
        one = ClosedLoop(service_job(service, messages, client_count=1), total=_FRESH_COUNT)
        generator.run(one)
        normal_s = median(generator.run(one).latencies_s)
        busy = ClosedLoop(service_job(service, messages, client_count=8), warm_s=options.warm_s, seconds=seconds)
        peak = generator.run(busy)
        row.wrong += peak.problems()
        peak_per_s = peak.message_count / peak.wall_s
        row.notes.append(f"peak {peak_per_s:.1f} images/s; alone {1000 * normal_s:.0f} ms")
        for factor in _SHORT_FACTORS if options.is_short else _FACTORS:
            load = OpenLoop(
                service_job(service, messages, client_count=_CONNECTION_COUNT),
                rate_per_s=factor * peak_per_s,
                seconds=seconds,
                deadline_s=_DEADLINE_S,
            )
            served = generator.run(load)
            fresh = generator.run(replace(one, total=1))
            echoed = generator.run(replace(load, job=echo_job(bare, messages, client_count=_CONNECTION_COUNT)))
            row.wrong += [
                f"{factor}x: {problem}" for problem in (*served.problems(), *fresh.problems(), *echoed.problems())
            ]
            good, refused = served.message_count, len(served.refused_s)
            taken = good + served.late_count
            offered = taken + refused
            # What the echo spends on those calls that were refused here; the others' receipt is part of the peak.
            share = echoed.cpu_s / echoed.wall_s * refused / max(1, offered)
            row.figures += [
                Figure(
                    f"{factor}x: goodput / (peak x (1 - share of refusing))",
                    good / served.wall_s / (peak_per_s * (1 - share)),
                    target=_GOODPUT_TARGET,
                    want="at least",
                ),
                Figure(f"{factor}x: late of admitted", served.late_count / max(1, taken), target=_LATE_TARGET),
                *_refusals(f"{factor}x", served.refused_s, echoed.latencies_s),
                Figure(
                    f"{factor}x: a fresh request right after / alone",
                    (fresh.latencies_s or [float("inf")])[0] / normal_s,
                    target=_FRESH_TARGET,
                ),
                Figure(f"{factor}x: goodput / peak", good / served.wall_s / peak_per_s),
                Figure(f"{factor}x: share of refusing", share),
                Figure(f"{factor}x: answers' p99", 1000 * quantile(served.latencies_s or [0.0], 0.99), unit="ms"),
            ]
            row.raw[f"{factor}x"] = {
                "offered": offered,
                "refused": refused,
                "late": served.late_count,
                "good": good,
                "wall_s": served.wall_s,
                "service_cpu_s": served.cpu_s,
                "echo_cpu_s": echoed.cpu_s,
            }
    return row


def _refusals(factor: str, refused_s: list[float], echoed_s: list[float]) -> list[Figure]:
    """How long a refusal takes, beside an echo; none where nothing was refused."""
    if not refused_s:
        return []
    refused_ms, echoed_ms = (1000 * quantile(values, 0.99) for values in (refused_s, echoed_s))
    return [
        Figure(f"{factor}: refusals' p99 / echo's p99", refused_ms / echoed_ms, target=_REFUSAL_TARGET),
        Figure(f"{factor}: refusals' p99", refused_ms, unit="ms"),
        Figure(f"{factor}: echo's p99", echoed_ms, unit="ms"),
    ]
