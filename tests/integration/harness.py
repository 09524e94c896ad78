"""The service as a process of its own: started with the settings that a test needs, watched from outside.

Knows how to start, await, watch and stop it and how to connect to it; knows nothing about images.
"""

import http.client
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
from prometheus_client.parser import text_string_to_metric_families

from denoised.v1.denoised_pb2_grpc import DenoiseServiceStub
from service.demo.process import launch, log_of, ports_of

# How long things may take on the slowest machine; nothing waits for so long unless something is broken.
LIMIT_S: Final = 60.0
_START_LIMIT_S: Final = 600.0
CHANNEL_OPTIONS: Final = (
    # Channels of one process would share a connection, and the service would see one client.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
)
HAS_PEAK: Final = Path("/proc/self/clear_refs").exists()
_POLL_S: Final = 0.002
_GAUGES_AT_REST: Final = (
    "denoised_admitted_images",
    "denoised_reserved_bytes",
    "denoised_queued_units",
    "denoised_queued_pixels",
    "denoised_busy_lanes",
)


@dataclass(frozen=True, slots=True)
class RunningService:
    """A service that has said that it is ready."""

    process: subprocess.Popen[bytes]
    folder: Path
    grpc_target: str
    http_port: int

    def log(self) -> str:
        return log_of(self.folder)

    def http(self, path: str) -> tuple[int, str]:
        """Status and text of a page."""
        return http_get(self.http_port, path)

    def metrics(self) -> "Metrics":
        """All metrics at one moment."""
        _, text = self.http("/metrics")
        return Metrics(
            {
                (sample.name, frozenset(sample.labels.items())): sample.value
                for family in text_string_to_metric_families(text)
                for sample in family.samples
            }
        )

    def metric(self, name: str, **labels: str) -> float:
        """The present value of one metric."""
        return self.metrics().value(name, **labels)

    def forget_peak(self) -> None:
        """:meth:`peak_bytes` starts anew from here."""
        (Path("/proc") / str(self.process.pid) / "clear_refs").write_text("5", encoding="ascii")

    def peak_bytes(self) -> int:
        """The most memory that the process held at a time."""
        lines = (Path("/proc") / str(self.process.pid) / "status").read_text(encoding="ascii").splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))

    def not_at_rest(self) -> dict[str, float]:
        """The gauges of work in progress that are not 0."""
        metrics = self.metrics()
        return {name: value for name in _GAUGES_AT_REST if (value := metrics.value(name))}


@dataclass(frozen=True, slots=True)
class Metrics:
    """What one scrape gave: values by name and labels."""

    samples: Mapping[tuple[str, frozenset[tuple[str, str]]], float]

    def value(self, name: str, **labels: str) -> float:
        """One sample; 0 when it was never touched."""
        return self.samples.get((name, frozenset(labels.items())), 0.0)


def until(condition: Callable[[], object], what: str, *, limit_s: float = LIMIT_S) -> None:
    """Returns once the condition holds; fails, saying what it waited for, when the time is up."""
    limit = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < limit, f"waited {limit_s} s in vain until {what}"
        time.sleep(_POLL_S)


def http_get(port: int, path: str) -> tuple[int, str]:
    """Status and text of a page on this machine, past any proxy."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def stub_of(channel: grpc.Channel | grpc.aio.Channel) -> DenoiseServiceStub:
    return DenoiseServiceStub(channel)  # type: ignore[no-untyped-call]  # generated without annotations


@contextmanager
def connected(target: str) -> Iterator[DenoiseServiceStub]:
    """The raw stub on a connection of its own."""
    with grpc.insecure_channel(target, CHANNEL_OPTIONS) as channel:
        yield stub_of(channel)


@contextmanager
def launched(folder: Path, **settings: object) -> Iterator[subprocess.Popen[bytes]]:
    """``python -m service`` with settings such as ``lane_count=1``; killed if it outlives the block."""
    process = launch(folder, **settings)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def ready(process: subprocess.Popen[bytes], folder: Path) -> RunningService:
    """Waits until a launched service says where it listens."""

    def has_spoken() -> bool:
        assert process.poll() is None, f"the service ended with {process.returncode}:\n{log_of(folder)}"
        return ports_of(folder) is not None

    until(has_spoken, "the service was ready", limit_s=_START_LIMIT_S)
    ports = ports_of(folder)
    assert ports is not None
    return RunningService(process, folder, f"127.0.0.1:{ports[0]}", ports[1])


@contextmanager
def running(folder: Path, **settings: object) -> Iterator[RunningService]:
    """A ready service, stopped at the end of the block; see :func:`stopped`."""
    with launched(folder, **settings) as process:
        service = ready(process, folder)
        yield service
        stopped(service)


def stopped(service: RunningService) -> None:
    """Stops a service, unless it has ended: it must exit with 0 and must not have logged an error."""
    if service.process.poll() is None:
        service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(LIMIT_S) == 0, service.log()
    check_log(service)


def check_log(service: RunningService) -> None:
    """What clients do is no error of the service's."""
    assert not [line for line in service.log().splitlines() if '"level": "error"' in line or "Traceback" in line]
