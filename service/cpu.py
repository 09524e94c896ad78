"""How many cores this process may use: the affinity mask and the container's CPU quota, not the host's cores."""

import math
import os
from pathlib import Path

_CGROUP_ROOT = Path("/sys/fs/cgroup")


def usable_core_count(cgroup_root: Path = _CGROUP_ROOT) -> int:
    """Whole cores, at least 1. ``nproc`` and the affinity mask do not see a container's quota; this does."""
    cores = len(os.sched_getaffinity(0))
    quota = _quota_cores(cgroup_root)
    return cores if quota is None else max(1, min(cores, math.floor(quota)))


def _quota_cores(root: Path) -> float | None:
    """The CPU quota in cores from cgroup v2 or v1, or None when there is none."""
    try:
        quota, period = (root / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (root / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (root / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if quota in ("max", "-1"):
        return None
    return int(quota) / int(period)
