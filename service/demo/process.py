"""The service as a process of its own: started on free ports, waited for, always stopped again."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

_REPOSITORY: Final = Path(__file__).resolve().parents[2]
_START_LIMIT_S: Final = 300.0
_STOP_LIMIT_S: Final = 60.0
_POLL_S: Final = 0.05
_LOG_LINES_SHOWN: Final = 25


class ServiceFailedError(Exception):
    """The service did not start, died, or did not stop as it should; the message ends with its log."""


@dataclass(frozen=True, slots=True)
class RunningService:
    """Where the service listens."""

    grpc_target: str
    http_url: str


@contextmanager
def running_service() -> Iterator[RunningService]:
    """A service that takes requests; when the block ends it is stopped by SIGTERM and must exit with 0.

    Raises:
        ServiceFailedError: any of this went wrong. The process is gone in that case too.
    """
    with TemporaryDirectory(prefix="denoised-demo-") as folder:
        ports_file, log_file = Path(folder) / "ports.json", Path(folder) / "service.log"
        process = _start(ports_file, log_file)
        try:
            yield _wait_until_ready(process, ports_file, log_file)
        except Exception as error:
            if not isinstance(error, ServiceFailedError) and process.poll() is not None:
                raise _failure(f"the service died with exit code {process.returncode}", log_file) from error
            raise
        finally:
            exit_code = _stop(process)
        if exit_code is None:
            raise _failure(f"the service did not stop within {_STOP_LIMIT_S:.0f} s of SIGTERM", log_file)
        if exit_code != 0:
            raise _failure(f"the service ended with exit code {exit_code} instead of 0", log_file)


def _start(ports_file: Path, log_file: Path) -> subprocess.Popen[bytes]:
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join((str(_REPOSITORY), str(_REPOSITORY / "proto"))),
        "DENOISED_GRPC_HOST": "127.0.0.1",
        "DENOISED_GRPC_PORT": "0",
        "DENOISED_HTTP_HOST": "127.0.0.1",
        "DENOISED_HTTP_PORT": "0",
        "DENOISED_PORTS_FILE": str(ports_file),
        "DENOISED_LOG_FORMAT": "console",
    }
    with log_file.open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "service"],
            cwd=_REPOSITORY,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def _wait_until_ready(process: subprocess.Popen[bytes], ports_file: Path, log_file: Path) -> RunningService:
    limit_s = time.monotonic() + _START_LIMIT_S
    while not ports_file.exists():
        if process.poll() is not None:
            raise _failure(f"the service could not start (exit code {process.returncode})", log_file)
        if time.monotonic() > limit_s:
            raise _failure(f"the service was not ready within {_START_LIMIT_S:.0f} s", log_file)
        time.sleep(_POLL_S)
    ports = json.loads(ports_file.read_text(encoding="utf-8"))
    return RunningService(f"127.0.0.1:{ports['grpc_port']}", f"http://127.0.0.1:{ports['http_port']}")


def _stop(process: subprocess.Popen[bytes]) -> int | None:
    """The exit code; None when it had to be killed."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        return process.wait(_STOP_LIMIT_S)
    except BaseException as error:
        # Also when the demo is interrupted a second time while it waits: nothing may be left running.
        process.kill()
        process.wait()
        if isinstance(error, subprocess.TimeoutExpired):
            return None
        raise


def _failure(what: str, log_file: Path) -> ServiceFailedError:
    lines = log_file.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES_SHOWN:]
    return ServiceFailedError("\n".join([f"{what}; the end of its log:", *(f"  {line}" for line in lines)]))
