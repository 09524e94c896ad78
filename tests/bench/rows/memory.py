"""Rows of memory: resident size under load against that after warm-up, and its growth under cancellations."""

import time
from collections.abc import Mapping
from dataclasses import replace
from statistics import median
from typing import Final

from denoised.v1 import denoised_pb2 as pb
from tests.bench.bench import Bench, echo_job, service_job
from tests.bench.figures import Figure, Row
from tests.bench.floors import png, served_png
from tests.bench.jobs import ClosedLoop, Message, Outcome
from tests.bench.machine import memory_of, reset_peak_memory
from tests.bench.networks import BASE_FOLDER, M_FOLDER, OPEN_FOLDER, S_FOLDER
from tests.bench.payload import overflowing, picture, samples, unary
from tests.integration.harness import RunningService

_MB: Final = 1_000_000
_CLIENT_COUNT: Final = 32
_SHORT_CLIENT_COUNT: Final = 4
_LOAD_SECONDS: Final = 60.0
_GROWTH_TARGET: Final = 1.3
_PEAK_TARGET_MB: Final = 500.0

_CANCELLED_SHARE: Final = 0.3
_SERVICE_CANCELLED_WITHIN_S: Final = 0.2
# The echo answers so fast that later ones would find nothing to take back.
_ECHO_CANCELLED_WITHIN_S: Final = 0.005
# Growth is counted from here: pools, arenas and heaps have what they need by then.
_SETTLING_SHARE: Final = 0.25
_SAMPLE_COUNT: Final = 40
_EXCESS_TARGET: Final = 0.03
_REST_LIMIT_S: Final = 10.0
_POLL_S: Final = 0.02


def measure_load(bench: Bench) -> Row:
    """32 clients with M at 256x256, on a service that has only warmed up."""
    options = bench.options
    seconds = options.seconds if options.is_short else _LOAD_SECONDS
    row = Row("rss", f"RSS, 32 clients x M 256x256 for {seconds:.0f} s")
    messages = unary(samples(bench.networks.m, 256, 256))
    with bench.fresh_service(M_FOLDER) as service:
        pid = service.process.pid
        warm = memory_of(pid)
        reset_peak_memory(pid)
        job = service_job(service, messages, client_count=_SHORT_CLIENT_COUNT if options.is_short else _CLIENT_COUNT)
        outcome = bench.clients.run(ClosedLoop(job, seconds=seconds))
        row.wrong += outcome.problems()
        loaded = memory_of(pid)
    row.figures += [
        Figure("most RSS / RSS after warm-up", loaded.peak_bytes / warm.rss_bytes, target=_GROWTH_TARGET),
        Figure("most RSS", loaded.peak_bytes / _MB, target=_PEAK_TARGET_MB, unit="MB"),
        Figure("RSS after warm-up", warm.rss_bytes / _MB, unit="MB"),
        Figure("RSS after the load", loaded.rss_bytes / _MB, unit="MB"),
    ]
    row.raw = {"images": outcome.message_count, "warm_bytes": warm.rss_bytes, "peak_bytes": loaded.peak_bytes}
    return row


def measure_soak(bench: Bench) -> Row:
    """Sizes, networks and files mixed, a third of the calls taken back, and the echo under as many calls."""
    options = bench.options
    seconds = options.seconds if options.is_short else options.soak_seconds
    client_count = _SHORT_CLIENT_COUNT if options.is_short else _CLIENT_COUNT
    row = Row("soak", f"{seconds:.0f} s of mixed load with {_CANCELLED_SHARE:.0%} cancellations")
    messages = _mixed(bench)
    with bench.fresh_service(S_FOLDER, M_FOLDER, OPEN_FOLDER, BASE_FOLDER) as service:
        loop = ClosedLoop(
            service_job(service, messages, client_count=client_count),
            seconds=seconds,
            cancelled_share=_CANCELLED_SHARE,
            cancelled_within_s=_SERVICE_CANCELLED_WITHIN_S,
        )
        served, service_sizes = _watched(bench, loop)
        row.wrong += served.problems()
        row.wrong += [f"{name} is still {value:.0f}" for name, value in _left(service).items()]
    # As many calls, and as many of them taken back.
    calls = served.message_count + served.cancelled_count
    echoed, echo_sizes = _watched(
        bench,
        replace(
            loop,
            job=replace(echo_job(bench.echo, messages, client_count=client_count), are_checked=False),
            seconds=0.0,
            total=calls,
            cancelled_within_s=_ECHO_CANCELLED_WITHIN_S,
        ),
    )
    growth, echo_growth = _growth(service_sizes), _growth(echo_sizes)
    row.figures += [
        Figure("RSS growth beyond the echo's", growth - echo_growth, target=_EXCESS_TARGET),
        Figure("RSS growth", growth),
        Figure("echo's RSS growth", echo_growth),
        Figure("answered", served.message_count),
        Figure("taken back", served.cancelled_count),
        Figure("echo: taken back", echoed.cancelled_count),
    ]
    row.notes.append("ledger, queues and lanes are at rest afterwards; every answer that was not taken back is right")
    row.raw = {"service_bytes": service_sizes, "echo_bytes": echo_sizes}
    return row


def _watched(bench: Bench, loop: ClosedLoop) -> tuple[Outcome, list[int]]:
    """The outcome, and the watched process's resident bytes meanwhile."""
    sizes: list[int] = []
    pause_s = max(0.05, loop.seconds / _SAMPLE_COUNT)
    bench.clients.start(loop)
    while not bench.clients.is_done(within_s=pause_s):
        sizes.append(memory_of(loop.job.watched_pid).rss_bytes)
    sizes.append(memory_of(loop.job.watched_pid).rss_bytes)
    return bench.clients.result(), sizes


def _left(service: RunningService) -> Mapping[str, float]:
    """Gauges of work in progress that do not return to 0; units of what was taken back may run to their end."""
    limit_s = time.monotonic() + _REST_LIMIT_S
    while (left := service.not_at_rest()) and time.monotonic() < limit_s:
        time.sleep(_POLL_S)
    return left


def _growth(sizes: list[int]) -> float:
    """By which share of what it had settled at a process has grown."""
    settled = sizes[int(len(sizes) * _SETTLING_SHARE)]
    return median(sizes[-3:]) / settled - 1


def _mixed(bench: Bench) -> tuple[Message, ...]:
    networks = bench.networks
    noisy = picture(200, 150, 3, 0)
    file = pb.DenoiseRequest(
        image=pb.Image(encoded=pb.EncodedImage(data=png(noisy))),
        options=pb.DenoiseOptions(report_level=pb.REPORT_LEVEL_NONE, model=networks.base.name),
    )
    return (
        *unary(samples(networks.s, 28, 28)),
        *unary(samples(networks.base, 100, 130, count=2)),
        *unary(samples(networks.base, 256, 256, count=2)),
        *unary(samples(networks.m, 64, 64, count=2)),
        Message(file.SerializeToString(), (served_png(networks.base.answer(noisy)),)),
        *unary([overflowing(networks.open, 64)]),
    )
