"""The clients' process: reads jobs from standard input, pickled, and answers each on standard output.

A process of its own, so that clients' CPU time is not counted as anybody else's. The CPU clock of the measured process
is read here, at the very moment the window opens and closes.
"""

import gc
import pickle
import sys
from typing import Final

import grpc
import uvloop

from tests.bench import chunked, closed_loop, open_loop
from tests.bench.jobs import Chunked, OpenLoop, Outcome, Work

OPTIONS: Final = (
    # Channels of one process would share a connection, and the service would see one client.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
)


async def _perform(work: Work) -> Outcome:
    job = work.job
    channels = [grpc.aio.insecure_channel(job.target, options=OPTIONS) for _ in range(job.client_count)]
    try:
        if isinstance(work, OpenLoop):
            return await open_loop.perform(work, channels)
        if isinstance(work, Chunked):
            return await chunked.perform(work, channels[0])
        return await closed_loop.perform(work, channels)
    finally:
        for channel in channels:
            await channel.close()


def main() -> None:
    gc.disable()
    while True:
        try:
            work = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        pickle.dump(uvloop.run(_perform(work)), sys.stdout.buffer)
        sys.stdout.buffer.flush()
        gc.collect()


if __name__ == "__main__":
    main()
