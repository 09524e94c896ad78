"""Calls that come when they come, whether or not earlier ones are answered. Runs in the clients' process."""

import asyncio
import random
import time
from typing import Final

import grpc

from tests.bench.answers import Checker
from tests.bench.closed_loop import UnaryCall
from tests.bench.jobs import OpenLoop, Outcome
from tests.bench.machine import CpuClock

_SEED: Final = 11
# An answer is on its way when the deadline passes; it is late all the same, but not lost.
_GRACE_S: Final = 5.0


async def perform(loop: OpenLoop, channels: list[grpc.aio.Channel]) -> Outcome:
    """Arrivals in turn over the channels. Latency counts from when a call should have been sent."""
    outcome = Outcome()
    checker = Checker(loop.job)
    methods: list[UnaryCall] = [channel.unary_unary(loop.job.method) for channel in channels]
    clock = CpuClock(loop.job.watched_pid)
    for channel in channels:
        await channel.channel_ready()
    rng = random.Random(_SEED)
    began_cpu_s, began_s = clock.seconds(), time.perf_counter()

    async def call(index: int, due_s: float) -> None:
        message = loop.job.messages[index % len(loop.job.messages)]
        remaining_s = due_s + loop.deadline_s - time.perf_counter()
        try:
            answer = await methods[index % len(methods)](message.data, timeout=max(0.001, remaining_s))
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                outcome.refused_s.append(time.perf_counter() - due_s)
            elif error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                outcome.late_count += 1
            else:
                checker.refused(message, f"{error.code().name}: {error.details()}")
            return
        ended_s = time.perf_counter()
        checker.check(message, answer)
        if ended_s - due_s > loop.deadline_s:
            outcome.late_count += 1
        else:
            outcome.latencies_s.append(ended_s - due_s)
            outcome.ended_s.append(ended_s - began_s)

    tasks = []
    due_s, index = began_s, 0
    while (due_s := due_s + rng.expovariate(loop.rate_per_s)) < began_s + loop.seconds:
        await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
        tasks.append(asyncio.create_task(call(index, due_s)))
        index += 1
    await asyncio.sleep(max(0.0, began_s + loop.seconds - time.perf_counter()))
    outcome.wall_s, outcome.cpu_s = time.perf_counter() - began_s, clock.seconds() - began_cpu_s
    async with asyncio.timeout(loop.deadline_s + _GRACE_S):
        await asyncio.gather(*tasks)
    checker.write_to(outcome)
    return outcome
