"""Starts the service and runs one load profile against it, each pinned to a core of its own where there are two.

Without its own core the generator would take from the service exactly what it measures. Everything after the profile's
name goes to ``denoised load``. Writes build/load.html and build/load.json; the exit code is that of ``denoised load``.
"""

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path

from service.demo.process import running_service

_HERE = Path(__file__).resolve().parent
_REPOSITORY = _HERE.parents[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    profiles = sorted(path.stem for path in _HERE.glob("*.toml"))
    parser.add_argument("profile", nargs="?", default="overload", choices=profiles, help="one of %(choices)s")
    parser.add_argument("--to", type=Path, default=_REPOSITORY / "build", help="folder for load.html and load.json")
    arguments, others = parser.parse_known_args()
    cores = _pinnable_cores()
    _pin(cores[:1])  # the service inherits it, and takes as many lanes as it sees cores
    # Inherited, too: Ctrl-C goes to all processes of a terminal, but must end the load and not the service under it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    with running_service() as service:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        _pin(cores[1:2])
        command = [
            *(sys.executable, "-m", "denoised.cli", "load", "--profile", str(_HERE / f"{arguments.profile}.toml")),
            *("--server", service.grpc_target, "--metrics", f"{service.http_url}/metrics"),
            *("--html", str(arguments.to / "load.html"), "--json", str(arguments.to / "load.json")),
            *others,
        ]
        generator = subprocess.Popen(command)
        while True:
            try:
                return generator.wait()
            except KeyboardInterrupt:
                continue  # it heard it too, and ends with what it found so far


def _pinnable_cores() -> list[int]:
    """Two cores or none."""
    if not hasattr(os, "sched_getaffinity"):
        return []
    cores = sorted(os.sched_getaffinity(0))
    return cores[:2] if len(cores) > 1 else []


def _pin(cores: list[int]) -> None:
    """Keeps this process, and those that it starts from now on, on these cores; on all when none is named."""
    if cores:
        os.sched_setaffinity(0, cores)


if __name__ == "__main__":
    sys.exit(main())
