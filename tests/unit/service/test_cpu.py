"""Usable cores from a made-up control group: the quota counts, not the host."""

import os
from pathlib import Path

import pytest

from service.cpu import usable_core_count


@pytest.fixture(autouse=True)
def _eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))


def version_2(root: Path, text: str) -> Path:
    (root / "cpu.max").write_text(text)
    return root


def version_1(root: Path, quota: str, period: str = "100000\n") -> Path:
    (root / "cpu").mkdir()
    (root / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (root / "cpu" / "cpu.cfs_period_us").write_text(period)
    return root


def cores_of(root: Path, membership: str = "") -> int:
    """With ``/proc/self/cgroup`` as told."""
    (root / "membership").write_text(membership)
    return usable_core_count(root, root / "membership")


def group(root: Path, path: str) -> Path:
    folder = root / path
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.mark.parametrize(
    ("text", "cores"),
    [
        ("max 100000\n", 8),
        ("200000 100000\n", 2),
        ("250000 100000\n", 2),
        ("50000 100000\n", 1),
        ("1000 100000\n", 1),
        ("100000 50000\n", 2),
        ("1600000 100000\n", 8),
    ],
)
def test_version_2_quotas(text: str, cores: int, tmp_path: Path) -> None:
    assert cores_of(version_2(tmp_path, text)) == cores


@pytest.mark.parametrize(
    ("quota", "cores"), [("-1\n", 8), ("300000\n", 3), ("399999\n", 3), ("20000\n", 1), ("9900000\n", 8)]
)
def test_version_1_quotas(quota: str, cores: int, tmp_path: Path) -> None:
    assert cores_of(version_1(tmp_path, quota)) == cores


def test_of_both_versions_the_smaller_quota_counts(tmp_path: Path) -> None:
    assert cores_of(version_1(version_2(tmp_path, "500000 100000\n"), "300000\n")) == 3
    assert cores_of(version_2(tmp_path, "200000 100000\n")) == 2


def test_a_file_that_is_not_version_2s_is_passed_over(tmp_path: Path) -> None:
    assert cores_of(version_1(version_2(tmp_path, "\n"), "400000\n")) == 4


def test_without_a_control_group_the_affinity_mask_counts(tmp_path: Path) -> None:
    assert usable_core_count(tmp_path / "absent", tmp_path / "absent") == 8


def test_half_a_version_1_group_is_none(tmp_path: Path) -> None:
    (version_1(tmp_path, "100000\n") / "cpu" / "cpu.cfs_period_us").unlink()
    assert cores_of(tmp_path) == 8


def test_the_affinity_mask_counts_when_it_is_narrower_than_the_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5})
    assert cores_of(version_2(tmp_path, "600000 100000\n")) == 2


@pytest.mark.parametrize(
    ("outer", "middle", "inner", "cores"),
    [
        ("max 100000", "max 100000", "300000 100000", 3),
        ("max 100000", "400000 100000", "600000 100000", 4),
        ("200000 100000", "400000 100000", "max 100000", 2),
        ("max 100000", "max 100000", "max 100000", 8),
    ],
)
def test_a_version_2_group_is_bound_by_those_above_it(
    outer: str, middle: str, inner: str, cores: int, tmp_path: Path
) -> None:
    for path, text in (("slice", outer), ("slice/pod", middle), ("slice/pod/box", inner)):
        version_2(group(tmp_path, path), text)
    version_2(group(tmp_path, "slice/pod/other box"), "100000 100000")
    assert cores_of(tmp_path, "0::/slice/pod/box\n") == cores


@pytest.mark.parametrize("mount", ["cpu", "cpu,cpuacct"])
def test_a_version_1_group_is_bound_by_those_above_it(mount: str, tmp_path: Path) -> None:
    for path, quota in (("pod", "300000\n"), ("pod/box", "-1\n")):
        folder = group(tmp_path, f"{mount}/{path}")
        (folder / "cpu.cfs_quota_us").write_text(quota)
        (folder / "cpu.cfs_period_us").write_text("100000\n")
    assert cores_of(tmp_path, f"4:memory:/elsewhere\n3:{mount}:/pod/box\n1:name=systemd:/\n0::/\n") == 3


def test_a_version_2_tree_beside_version_1_is_found(tmp_path: Path) -> None:
    version_2(group(tmp_path, "unified/pod"), "500000 100000")
    assert cores_of(tmp_path, "2:cpu:/\n0::/pod\n") == 5


@pytest.mark.parametrize("path", ["/docker/f00d", "/../../kubepods/pod", "/"])
def test_a_path_that_is_not_mounted_here_leaves_the_mount_itself(path: str, tmp_path: Path) -> None:
    """Containers with and without a namespace of their own tell different paths of the same quota."""
    assert cores_of(version_2(tmp_path, "200000 100000\n"), f"0::{path}\n") == 2
    assert cores_of(version_1(tmp_path, "100000\n"), f"3:cpu,cpuacct:{path}\n") == 1


def test_this_machine_has_at_least_one_core() -> None:
    assert usable_core_count() >= 1
