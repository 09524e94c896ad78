"""Processes beside the measured one: clients in a closed loop, and the echo. Started, asked, always stopped again."""

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Literal

_REPOSITORY: Final = Path(__file__).resolve().parents[2]
_STOP_LIMIT_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Job:
    """A closed loop to run for a while.

    Attributes:
        target: host and port.
        method: full name.
        answer: what the answers are, so that they can be checked; ``echo`` is the message itself.
        is_stream: each client has one stream with every message in flight; else one call at a time.
        messages: each message, and what must come back for each of its images.
        client_count: connections, each with its own loop.
        warm_s, seconds: before and while answers count.
        watched_pid: whose CPU time is read when the window opens and closes.
        timeout_s: of one unary call.
    """

    target: str
    method: str
    answer: Literal["echo", "unary", "batch", "stream"]
    is_stream: bool
    messages: list[tuple[bytes, list[bytes]]]
    client_count: int
    warm_s: float
    seconds: float
    watched_pid: int
    timeout_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a job.

    Attributes:
        message_count: answered within the window.
        wall_s: how long the window was open.
        cpu_s: CPU time of the watched process meanwhile.
        latencies_s: of each answer.
        failures: images without an answer, by what was said.
        wrong_count: images with an answer other than expected.
    """

    message_count: int
    wall_s: float
    cpu_s: float
    latencies_s: list[float]
    failures: dict[str, int]
    wrong_count: int

    def problems(self) -> list[str]:
        """What must not happen, in words."""
        found = [f"{count} x {what}" for what, count in self.failures.items()]
        if self.wrong_count:
            found.append(f"{self.wrong_count} wrong answers")
        if not self.message_count:
            found.append("no answer at all within the window")
        return found


class ClosedLoop:
    """The clients' process."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def run(self, job: Job) -> Outcome:
        """Blocks until the job is done."""
        pickle.dump(job, _pipe(self._process.stdin))
        _pipe(self._process.stdin).flush()
        try:
            outcome = pickle.load(_pipe(self._process.stdout))
        except EOFError as error:
            raise RuntimeError(f"the clients' process ended with {self._process.wait()}; see above") from error
        assert isinstance(outcome, Outcome)
        return outcome


@dataclass(frozen=True, slots=True)
class Peer:
    """Something that is called."""

    target: str
    pid: int


@contextmanager
def closed_loop() -> Iterator[ClosedLoop]:
    """Clients of this machine, in a process of their own."""
    with python_module("tests.bench.closed_loop") as process:
        yield ClosedLoop(process)


@contextmanager
def echo() -> Iterator[Peer]:
    """The echo, in a process of its own."""
    with python_module("tests.bench.echo") as process:
        port = _pipe(process.stdout).readline()
        yield Peer(f"127.0.0.1:{int(port)}", process.pid)


@contextmanager
def python_module(name: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """``python -m`` with pipes; ends when its input does."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(_REPOSITORY), str(_REPOSITORY / "proto")))}
    with subprocess.Popen(
        [sys.executable, "-m", name, *arguments],
        cwd=_REPOSITORY,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            yield process
        finally:
            _pipe(process.stdin).close()
            try:
                process.wait(_STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream
