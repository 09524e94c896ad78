"""One image in chunks over a stream, answer read while it is still being sent. Runs in the clients' process."""

import asyncio
import time

import grpc

from denoised.v1 import denoised_pb2 as pb
from tests.bench.jobs import Chunked, Outcome
from tests.bench.machine import CpuClock

_ITEM_ID = "large"
_TIMEOUT_S = 3600

Call = grpc.aio.StreamStreamCall[bytes, bytes]


async def perform(work: Chunked, channel: grpc.aio.Channel) -> Outcome:
    """The image's way there and back; its chunks are compared as they come."""
    (message,) = work.job.messages
    (expected,) = message.expected
    assert expected is not None
    outcome = Outcome()
    clock = CpuClock(work.job.watched_pid)
    await channel.channel_ready()
    began_cpu_s, began_s = clock.seconds(), time.perf_counter()
    call: Call = channel.stream_stream(work.job.method)()
    sending = asyncio.create_task(_send(work, call))
    received = 0
    while True:
        answer = await call.read()
        if not isinstance(answer, bytes):
            outcome.failures[f"the stream ended early: {await call.code()} {await call.details()}"] = 1
            break
        frame = pb.DenoiseStreamResponse.FromString(answer)
        if frame.WhichOneof("frame") == "chunk":
            data = frame.chunk.data
            outcome.wrong_count |= data != expected[received : received + len(data)]
            received += len(data)
        elif frame.result.status.code:
            outcome.failures[frame.result.status.message] = 1
            break
        else:
            outcome.latencies_s.append(time.perf_counter() - began_s)
            outcome.wrong_count |= received != len(expected)
            break
    outcome.wall_s, outcome.cpu_s = time.perf_counter() - began_s, clock.seconds() - began_cpu_s
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    call.cancel()
    return outcome


async def _send(work: Chunked, call: Call) -> None:
    data = work.job.messages[0].data
    header = pb.DenoiseStreamRequest(item_id=_ITEM_ID)
    header.header.ParseFromString(work.header)
    header.timeout.seconds = _TIMEOUT_S
    await call.write(header.SerializeToString())
    for start in range(0, len(data), work.chunk_bytes):
        stop = start + work.chunk_bytes
        chunk = pb.ImageChunk(data=data[start:stop], last=stop >= len(data))
        await call.write(pb.DenoiseStreamRequest(item_id=_ITEM_ID, chunk=chunk).SerializeToString())
    await call.done_writing()
