"""What this process may use of the machine: cores by affinity and cgroup quota, memory, the device."""

import os
import platform
from pathlib import Path
from typing import Any, Final

import torch

from training.errors import ConfigError

_CGROUP: Final = Path("/sys/fs/cgroup")
# cgroup v1 writes "no limit" as a number near 2**63.
_UNLIMITED_BYTES: Final = 1 << 60


def core_count(root: Path = _CGROUP) -> float:
    """Cores that this process may keep busy: the smaller of its affinity and its cgroup's quota."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = core_quota(root)
    return affinity if quota is None else min(float(affinity), quota)


def core_quota(root: Path = _CGROUP) -> float | None:
    """Cores by the cgroup's CPU quota, version 2 or 1; None without a quota."""
    unified = _words(root / "cpu.max")
    if len(unified) == 2 and unified[0] != "max":
        return int(unified[0]) / int(unified[1])
    quota, period = _words(root / "cpu" / "cpu.cfs_quota_us"), _words(root / "cpu" / "cpu.cfs_period_us")
    if quota and period and int(quota[0]) > 0:
        return int(quota[0]) / int(period[0])
    return None


def memory_limit_bytes(root: Path = _CGROUP) -> int | None:
    """The smaller of the machine's memory and the cgroup's limit; None where the system tells neither."""
    files = (root / "memory.max", root / "memory" / "memory.limit_in_bytes")
    words = [word for path in files for word in _words(path) if word.isdigit()]
    limits = [int(word) for word in words if int(word) < _UNLIMITED_BYTES]
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(limits, default=None)


def peak_memory_bytes(device: torch.device) -> int | None:
    """The most that was in use so far, on the device; None where the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    try:
        import resource
    except ImportError:
        return None
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if platform.system() == "Darwin" else used * 1024


def pick_device(name: str, local_rank: int) -> torch.device:
    """``auto`` (CUDA where there is any), ``cpu`` or ``cuda``; each rank of a machine takes its own GPU.

    Raises:
        ConfigError: CUDA is asked for and torch finds none, or fewer GPUs than ranks.
    """
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if not torch.cuda.is_available() or local_rank >= count:
        raise ConfigError(
            f"--device is {name}; torch {torch.__version__} finds {count} CUDA devices and rank {local_rank} of this "
            "machine needs one of its own. Start fewer ranks, or say --device cpu"
        )
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)
    return device


def set_determinism(*, deterministic: bool) -> None:
    """Algorithms that give the same bits in every run, or the fastest ones.

    On the CPU the network kinds here are the same bits either way, at one count of threads.
    """
    if deterministic:
        # Read by cuBLAS when it is first used; without it, it refuses to work deterministically.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = not deterministic
    # TF32 keeps 10 of a float32's 23 bits: SSIM's windows, and so which checkpoint is best, would depend on the GPU.
    torch.backends.cudnn.allow_tf32 = False


def limit_threads(count: int | None, *, processes: int = 1) -> None:
    """Threads of torch: as many as asked for, or this process's share of the cores that it may use.

    Torch counts the machine's cores and knows nothing of a container's quota; threads beyond it wait for each other.
    """
    torch.set_num_threads(count or max(1, int(core_count()) // processes))


def description(device: torch.device, world_size: int) -> dict[str, Any]:
    """What the bits of a run depend on beside its config and its images."""
    return {
        # A plain string: checkpoints hold nothing that a loader would have to trust.
        "torch": str(torch.__version__),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "ranks": world_size,
    }


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").split()
    except OSError:
        return []
