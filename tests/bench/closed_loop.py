"""Clients that each wait for an answer before they send again. Runs in the clients' process."""

import asyncio
import random
import signal
import time
from contextlib import suppress

import grpc

from denoised.v1 import denoised_pb2 as pb
from tests.bench.answers import Checker
from tests.bench.jobs import ClosedLoop, Outcome
from tests.bench.machine import CpuClock

_SEED = 7

UnaryCall = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
StreamCall = grpc.aio.StreamStreamCall[bytes, bytes]


class _Run:
    """What was answered while the window was open, and whatever was wrong at any time."""

    def __init__(self, loop: ClosedLoop) -> None:
        self.loop = loop
        self.outcome = Outcome()
        self.checker = Checker(loop.job)
        self.is_open = False
        self.is_over = False
        self.began_s = 0.0
        self._left = loop.total
        self._call_count = 0

    def takes_another(self) -> bool:
        """Whether one more may be sent; of a job with a total it is counted off."""
        if self.loop.total:
            self._left -= 1
            return self._left >= 0
        return not self.is_over

    def shall_cancel(self) -> bool:
        """Whether to try with this call, which counts as cancelled from now on: other clients decide meanwhile.

        Many are answered before their moment comes; :meth:`could_not_cancel` lets others make up for them.
        """
        self._call_count += 1
        is_behind = self.outcome.cancelled_count < self.loop.cancelled_share * self._call_count
        self.outcome.cancelled_count += is_behind
        return is_behind

    def could_not_cancel(self) -> None:
        """The answer came first."""
        self.outcome.cancelled_count -= 1

    def take(self, index: int, answer: bytes, began_s: float) -> None:
        if self.is_open:
            now_s = time.perf_counter()
            self.outcome.latencies_s.append(now_s - began_s)
            self.outcome.ended_s.append(now_s - self.began_s)
        self.checker.check(self.loop.job.messages[index], answer)


async def perform(loop: ClosedLoop, channels: list[grpc.aio.Channel]) -> Outcome:
    """One client on each channel."""
    run = _Run(loop)
    clock = CpuClock(loop.job.watched_pid)
    for channel in channels:
        await channel.channel_ready()
    clients = [asyncio.create_task(_client(run, channel, index)) for index, channel in enumerate(channels)]
    is_interrupted = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, is_interrupted.set)
    if not loop.total:
        await asyncio.sleep(loop.warm_s)
    run.is_open = True
    began_cpu_s, run.began_s = clock.seconds(), time.perf_counter()
    if loop.total:
        await asyncio.gather(*clients)
    else:
        with suppress(TimeoutError):
            await asyncio.wait_for(is_interrupted.wait(), loop.seconds)
    run.is_open = False
    run.outcome.wall_s, run.outcome.cpu_s = time.perf_counter() - run.began_s, clock.seconds() - began_cpu_s
    run.is_over = True
    if loop.are_abandoned:
        for client in clients:
            client.cancel()
    for result in await asyncio.gather(*clients, return_exceptions=True):
        if isinstance(result, Exception):
            raise result
    run.checker.write_to(run.outcome)
    return run.outcome


async def _client(run: _Run, channel: grpc.aio.Channel, index: int) -> None:
    if run.loop.is_stream:
        await _stream(run, channel.stream_stream(run.loop.job.method)())
    else:
        await _unary(run, channel.unary_unary(run.loop.job.method), index)


async def _unary(run: _Run, method: UnaryCall, client_index: int) -> None:
    loop = run.loop
    rng = random.Random(_SEED + client_index)
    index = client_index
    while run.takes_another():
        index = (index + 1) % len(loop.job.messages)
        message = loop.job.messages[index]
        began_s = time.perf_counter()
        call = method(message.data, timeout=loop.timeout_s)
        if run.shall_cancel():
            await asyncio.sleep(rng.uniform(0, loop.cancelled_within_s))
            if not call.cancel():
                run.could_not_cancel()
        try:
            answer = await call
        except grpc.aio.AioRpcError as error:
            run.checker.refused(message, f"{error.code().name}: {error.details()}")
            continue
        except asyncio.CancelledError:
            if not call.cancelled() or run.is_over:
                raise
            continue
        run.take(index, answer, began_s)


async def _stream(run: _Run, call: StreamCall) -> None:
    """Every message is in flight once; its answer, which bears its id, sends it again."""
    job = run.loop.job
    frame = pb.DenoiseStreamRequest if job.answer == "echo" else pb.DenoiseStreamResponse
    began_s = [0.0] * len(job.messages)
    in_flight = 0
    for index, message in enumerate(job.messages):
        began_s[index] = time.perf_counter()
        await call.write(message.data)
        in_flight += 1
    while in_flight:
        answer = await call.read()
        if not isinstance(answer, bytes):
            for message in job.messages[:in_flight]:
                run.checker.refused(message, f"the stream ended early: {await call.code()} {await call.details()}")
            return
        index = int(frame.FromString(answer).item_id)
        run.take(index, answer, began_s[index])
        if run.is_over:
            in_flight -= 1
        else:
            began_s[index] = time.perf_counter()
            await call.write(job.messages[index].data)
    await call.done_writing()
