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

from service.settings import ENV_PREFIX

_REPOSITORY: Final = Path(__file__).resolve().parents[2]
_START_LIMIT_S: Final = 300.0
_STOP_LIMIT_S: Final = 60.0
_POLL_S: Final = 0.05
_LOG_LINES_SHOWN: Final = 25
_PORTS_FILE: Final = "ports.json"
_LOG_FILE: Final = "service.log"


class ServiceFailedError(Exception):
    """The service did not start, died, or did not stop as it should; the message ends with its log."""


_ON_FREE_PORTS: Final = {"grpc_host": "127.0.0.1", "grpc_port": 0, "http_host": "127.0.0.1", "http_port": 0}


@dataclass(frozen=True, slots=True)
class RunningService:
    """Where the service listens."""

    grpc_target: str
    http_url: str


@contextmanager
def running_service(**settings: object) -> Iterator[RunningService]:
    """A service that takes requests; when the block ends it is stopped by SIGTERM and must exit with 0.

    ``settings`` are as for :func:`launch`.

    Raises:
        ServiceFailedError: any of this went wrong. The process is gone in that case too.
    """
    with TemporaryDirectory(prefix="denoised-demo-") as folder:
        process = launch(Path(folder), log_format="console", **settings)
        try:
            yield _wait_until_ready(process, Path(folder))
        except Exception as error:
            if not isinstance(error, ServiceFailedError) and process.poll() is not None:
                raise _failure(f"the service died with exit code {process.returncode}", Path(folder)) from error
            raise
        finally:
            exit_code = _stop(process)
        if exit_code is None:
            raise _failure(f"the service did not stop within {_STOP_LIMIT_S:.0f} s of SIGTERM", Path(folder))
        if exit_code != 0:
            raise _failure(f"the service ended with exit code {exit_code} instead of 0", Path(folder))


def launch(folder: Path, **settings: object) -> subprocess.Popen[bytes]:
    """``python -m service`` on free ports of this machine, with settings such as ``lane_count=1``.

    What it says lies in ``folder``: see :func:`ports_of` and :func:`log_of`. Whoever launches it stops it.
    """
    chosen = _ON_FREE_PORTS | {"ports_file": folder / _PORTS_FILE} | settings
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join((str(_REPOSITORY), str(_REPOSITORY / "proto"))),
        **{f"{ENV_PREFIX}{name.upper()}": str(value) for name, value in chosen.items()},
    }
    with (folder / _LOG_FILE).open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "service"],
            cwd=_REPOSITORY,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def ports_of(folder: Path) -> tuple[int, int] | None:
    """(gRPC port, HTTP port) of a launched service once it is ready."""
    path = folder / _PORTS_FILE
    if not path.exists():
        return None
    ports = json.loads(path.read_text(encoding="utf-8"))
    return int(ports["grpc_port"]), int(ports["http_port"])


def log_of(folder: Path) -> str:
    """All that a launched service has said so far."""
    return (folder / _LOG_FILE).read_text(encoding="utf-8", errors="replace")


def _wait_until_ready(process: subprocess.Popen[bytes], folder: Path) -> RunningService:
    limit_s = time.monotonic() + _START_LIMIT_S
    while (ports := ports_of(folder)) is None:
        if process.poll() is not None:
            raise _failure(f"the service could not start (exit code {process.returncode})", folder)
        if time.monotonic() > limit_s:
            raise _failure(f"the service was not ready within {_START_LIMIT_S:.0f} s", folder)
        time.sleep(_POLL_S)
    grpc_port, http_port = ports
    return RunningService(f"127.0.0.1:{grpc_port}", f"http://127.0.0.1:{http_port}")


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


def _failure(what: str, folder: Path) -> ServiceFailedError:
    lines = log_of(folder).splitlines()[-_LOG_LINES_SHOWN:]
    return ServiceFailedError("\n".join([f"{what}; the end of its log:", *(f"  {line}" for line in lines)]))
