"""How many cores this process may use: the affinity mask and the containers' CPU quotas, not the host's cores.

A quota may be set on the process's own control group or on any group above it, and groups are of version 1, 2 or
both; the smallest counts. What a process sees of them depends on its namespaces: a path that isn't mounted here is
passed over, because then the mount itself is the container's group.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

_CGROUP_ROOT: Final = Path("/sys/fs/cgroup")
_MEMBERSHIP: Final = Path("/proc/self/cgroup")


def usable_core_count(cgroup_root: Path = _CGROUP_ROOT, membership: Path = _MEMBERSHIP) -> int:
    """Whole cores, at least 1. ``nproc`` and the affinity mask do not see a container's quota; this does.

    Args:
        cgroup_root: where control groups are mounted.
        membership: the list of groups that this process is in, as in ``/proc/self/cgroup``.
    """
    cores = len(os.sched_getaffinity(0))
    quotas = [quota for folder in _group_folders(cgroup_root, membership) if (quota := _quota_cores(folder))]
    return max(1, min(cores, math.floor(min(quotas, default=cores))))


def _group_folders(root: Path, membership: Path) -> Iterator[Path]:
    """The folders of this process's groups and of all groups above them, mount points included."""
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    mounts = [(root, "/"), (root / "unified", "/"), (root / "cpu", "/")]
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            mounts += [(root, path), (root / "unified", path)]
        elif "cpu" in controllers.split(","):
            mounts += [(root / controllers, path), (root / "cpu", path)]
    for mount, path in mounts:
        # A group outside of the namespace's own root is told as /../..: nothing of it is mounted.
        below = [] if ".." in path.split("/") else PurePosixPath(path).relative_to("/").parts
        for depth in range(len(below) + 1):
            yield mount.joinpath(*below[:depth])


def _quota_cores(folder: Path) -> float | None:
    """The CPU quota of one group in cores, or None when it has none; version 2's file first, then version 1's."""
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            words = " ".join((folder / name).read_text(encoding="ascii") for name in names).split()
        except OSError:
            continue
        if len(words) == 2 and all(word.isdecimal() and int(word) > 0 for word in words):
            return int(words[0]) / int(words[1])
    return None
