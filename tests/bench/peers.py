"""Processes beside the measured one: clients, and the echo. Started on chosen cores, asked, always stopped again."""

import os
import pickle
import select
import signal
import subprocess
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from tests.bench.figures import MeasurementFailed
from tests.bench.jobs import Outcome, Work

_REPOSITORY: Final = Path(__file__).resolve().parents[2]
_STOP_LIMIT_S: Final = 30.0


class Clients:
    """The clients' process; one job at a time."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def run(self, work: Work) -> Outcome:
        """Like :meth:`start` and :meth:`result`."""
        self.start(work)
        return self.result()

    def start(self, work: Work) -> None:
        """Begins a job; ask for its :meth:`result` before the next."""
        pickle.dump(work, _pipe(self._process.stdin))
        _pipe(self._process.stdin).flush()

    def is_done(self, *, within_s: float) -> bool:
        """Whether a result is there, or comes within so many seconds."""
        ready, _, _ = select.select([_pipe(self._process.stdout)], [], [], within_s)
        return bool(ready)

    def interrupt(self) -> None:
        """Closes the window of the job that was started, now."""
        self._process.send_signal(signal.SIGUSR1)

    def result(self, *, may_be_empty: bool = False) -> Outcome:
        """Of the job that was started; blocks until it is done. ``may_be_empty``: it may have been too short for any.

        Raises:
            MeasurementFailed: the process died, or nothing was answered within the window.
        """
        try:
            outcome = pickle.load(_pipe(self._process.stdout))
        except EOFError as error:
            raise MeasurementFailed(f"the clients' process ended with {self._process.wait()}; see above") from error
        assert isinstance(outcome, Outcome)
        if not (outcome.message_count or may_be_empty):
            raise MeasurementFailed("; ".join(["no answer within the window", *outcome.problems()]))
        return outcome


@dataclass(frozen=True, slots=True)
class Peer:
    """Something that is called."""

    target: str
    pid: int


@contextmanager
def clients() -> Iterator[Clients]:
    """Clients of this machine, in a process of their own."""
    with _python_module("tests.bench.client_process") as process:
        yield Clients(process)


@contextmanager
def echo() -> Iterator[Peer]:
    """The echo, in a process of its own."""
    with _python_module("tests.bench.echo") as process:
        port = _pipe(process.stdout).readline()
        yield Peer(f"127.0.0.1:{int(port)}", process.pid)


@contextmanager
def on_cores(cores: Collection[int]) -> Iterator[None]:
    """What is started inside the block, threads and processes, runs on these cores and sees no others."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def _python_module(name: str) -> Iterator[subprocess.Popen[bytes]]:
    """``python -m`` with pipes; it ends when its input does."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(_REPOSITORY), str(_REPOSITORY / "proto")))}
    with subprocess.Popen(
        [sys.executable, "-m", name],
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
