"""What Health.Watch tells, as it comes."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.integration.harness import CHANNEL_OPTIONS

_RECONNECT_MS = 50


def health_of(channel: grpc.Channel) -> Any:
    """The health service's stub, whose type information is incomplete."""
    return health_pb2_grpc.HealthStub(channel)


@contextmanager
def watched(target: str, service: str) -> Iterator["SimpleQueue[int]"]:
    """The states of a service; the watch may begin before there is anybody to ask."""
    states: SimpleQueue[int] = SimpleQueue()
    impatient = tuple((f"grpc.{which}_reconnect_backoff_ms", _RECONNECT_MS) for which in ("initial", "min", "max"))
    with grpc.insecure_channel(target, CHANNEL_OPTIONS + impatient) as channel, ThreadPoolExecutor(1) as pool:
        request = health_pb2.HealthCheckRequest(service=service)
        watch = health_of(channel).Watch(request, wait_for_ready=True)

        def read() -> None:
            try:
                for answer in watch:
                    states.put(answer.status)
            except grpc.RpcError:
                return  # the service ended, or the test did

        reading = pool.submit(read)
        try:
            yield states
        finally:
            watch.cancel()
            reading.result()
