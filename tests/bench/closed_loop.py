"""Clients that each wait for an answer before they send again, in a process of their own.

Reads jobs from standard input, one pickled tuple each, and answers each on standard output; see ``clients``. Messages
travel as prepared bytes. The CPU clock of the measured process is read here, at the very moment the window opens and
closes, so that nothing is counted that belongs to warming up.
"""

import asyncio
import gc
import pickle
import sys
import time
from collections import Counter
from typing import Final

import grpc
import uvloop

from denoised.v1 import denoised_pb2 as pb
from tests.bench.clients import Job, Outcome
from tests.bench.machine import CpuClock

OPTIONS: Final = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
)


class _Run:
    """One job: what was answered while the window was open, and whatever was wrong at any time."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.is_open = False
        self.is_over = False
        self.message_count = 0
        self.latencies_s: list[float] = []
        self.failures: Counter[str] = Counter()
        self.wrong_count = 0

    def take(self, answer: bytes, index: int, began_s: float) -> None:
        if self.is_open:
            self.message_count += 1
            self.latencies_s.append(time.perf_counter() - began_s)
        self._check(answer, index)

    def fail(self, what: str) -> None:
        self.failures[what] += 1

    def _check(self, answer: bytes, index: int) -> None:
        message, expected = self.job.messages[index]
        if self.job.answer == "echo":
            self.wrong_count += answer != message
            return
        for got, wanted in zip(_images(self.job, answer), expected, strict=True):
            if isinstance(got, str):
                self.fail(got)
            elif got != wanted:
                self.wrong_count += 1


def _images(job: Job, answer: bytes) -> list[bytes | str]:
    """The images of an answer: their samples or files, or the reason why there is none."""
    if job.answer == "unary":
        return [_data(pb.DenoiseResponse.FromString(answer))]
    if job.answer == "batch":
        results = list(pb.DenoiseBatchResponse.FromString(answer).results)
    else:
        results = [pb.DenoiseStreamResponse.FromString(answer).result]
    return [_data(result.response) if result.HasField("response") else result.status.message for result in results]


def _data(response: pb.DenoiseResponse) -> bytes:
    image = response.image
    return image.raw.data if image.WhichOneof("content") == "raw" else image.encoded.data


async def _unary(run: _Run, channel: grpc.aio.Channel, first: int) -> None:
    call = channel.unary_unary(run.job.method)
    index = first
    while not run.is_over:
        index = (index + 1) % len(run.job.messages)
        began_s = time.perf_counter()
        try:
            answer = await call(run.job.messages[index][0], timeout=run.job.timeout_s)
        except grpc.aio.AioRpcError as error:
            run.fail(f"{error.code().name}: {error.details()}")
            continue
        run.take(answer, index, began_s)


async def _stream(run: _Run, channel: grpc.aio.Channel) -> None:
    """Every message is in flight once; its answer, which bears its id, sends it again."""
    call = channel.stream_stream(run.job.method)()
    began_s = [0.0] * len(run.job.messages)
    in_flight = 0
    for index, (message, _) in enumerate(run.job.messages):
        began_s[index] = time.perf_counter()
        await call.write(message)
        in_flight += 1
    while in_flight:
        answer = await call.read()
        if not isinstance(answer, bytes):
            run.fail(f"the stream ended with {in_flight} unanswered: {await call.code()} {await call.details()}")
            return
        frame = pb.DenoiseStreamRequest if run.job.answer == "echo" else pb.DenoiseStreamResponse
        index = int(frame.FromString(answer).item_id)
        run.take(answer, index, began_s[index])
        if run.is_over:
            in_flight -= 1
        else:
            began_s[index] = time.perf_counter()
            await call.write(run.job.messages[index][0])
    await call.done_writing()


async def _perform(job: Job) -> Outcome:
    run = _Run(job)
    clock = CpuClock(job.watched_pid)
    channels = [grpc.aio.insecure_channel(job.target, options=OPTIONS) for _ in range(job.client_count)]
    tasks = [
        asyncio.create_task(_stream(run, channel) if job.is_stream else _unary(run, channel, index))
        for index, channel in enumerate(channels)
    ]
    await asyncio.sleep(job.warm_s)
    run.is_open = True
    began_s, began_cpu_s = time.perf_counter(), clock.seconds()
    await asyncio.sleep(job.seconds)
    run.is_open = False
    wall_s, cpu_s = time.perf_counter() - began_s, clock.seconds() - began_cpu_s
    run.is_over = True
    await asyncio.gather(*tasks)
    for channel in channels:
        await channel.close()
    return Outcome(
        message_count=run.message_count,
        wall_s=wall_s,
        cpu_s=cpu_s,
        latencies_s=run.latencies_s,
        failures=dict(run.failures),
        wrong_count=run.wrong_count,
    )


def main() -> None:
    gc.disable()
    while True:
        try:
            job = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        pickle.dump(uvloop.run(_perform(job)), sys.stdout.buffer)
        sys.stdout.buffer.flush()
        gc.collect()


if __name__ == "__main__":
    main()
