"""What the operating system knows about a process and about this machine: CPU time, memory, processor, versions."""

import ctypes
import os
import platform
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

from service.cpu import usable_core_count

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
# What decides how fast ONNX Runtime's kernels are on x86-64.
_TELLING_FLAGS: Final = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile")
_TELLING_PACKAGES: Final = ("onnxruntime", "grpcio", "uvloop", "numpy", "imagecodecs", "simplejpeg")


class CpuClock:
    """CPU time of another process of this machine, all its threads, those that have ended too, in nanoseconds' steps.

    The scheduler's own account; the ticks of /proc/PID/stat are 10 ms, which is too coarse for a second's measurement.
    """

    def __init__(self, pid: int) -> None:
        """Raises OSError when there is no such process."""
        clock = ctypes.c_int()
        error = _LIBC.clock_getcpuclockid(pid, ctypes.byref(clock))
        if error:
            raise OSError(error, f"no CPU clock of process {pid}: {os.strerror(error)}")
        self._clock = clock.value

    def seconds(self) -> float:
        """CPU seconds since the process began."""
        return time.clock_gettime(self._clock)


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory of a process: now, and the most that it ever was or has been since the last reset."""

    rss_bytes: int
    peak_bytes: int


def memory_of(pid: int) -> Memory:
    """From /proc/PID/status."""
    values = {}
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines():
        name, _, rest = line.partition(":")
        if name in ("VmRSS", "VmHWM"):
            values[name] = int(rest.split()[0]) * 1024
    return Memory(values["VmRSS"], values["VmHWM"])


def reset_peak_memory(pid: int) -> None:
    """Lets the peak of :func:`memory_of` begin anew at what is resident now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")


def describe_machine() -> dict[str, object]:
    """What figures must be read with: cores, processor, versions."""
    lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines) if value}
    flags = facts.get("flags", "").split()
    return {
        "cores": usable_core_count(),
        "processor": facts.get("model name", platform.machine()),
        "flags": [flag for flag in _TELLING_FLAGS if flag in flags],
        "python": platform.python_version(),
        "kernel": platform.release(),
        "packages": {name: version(name) for name in _TELLING_PACKAGES},
    }
