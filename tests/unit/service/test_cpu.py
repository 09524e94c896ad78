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
    assert usable_core_count(version_2(tmp_path, text)) == cores


@pytest.mark.parametrize(
    ("quota", "cores"), [("-1\n", 8), ("300000\n", 3), ("399999\n", 3), ("20000\n", 1), ("9900000\n", 8)]
)
def test_version_1_quotas(quota: str, cores: int, tmp_path: Path) -> None:
    assert usable_core_count(version_1(tmp_path, quota)) == cores


def test_version_2_is_asked_first(tmp_path: Path) -> None:
    assert usable_core_count(version_1(version_2(tmp_path, "200000 100000\n"), "400000\n")) == 2


def test_a_file_that_is_not_version_2s_is_passed_over(tmp_path: Path) -> None:
    assert usable_core_count(version_1(version_2(tmp_path, "\n"), "400000\n")) == 4


def test_without_a_control_group_the_affinity_mask_counts(tmp_path: Path) -> None:
    assert usable_core_count(tmp_path / "absent") == 8


def test_half_a_version_1_group_is_none(tmp_path: Path) -> None:
    (version_1(tmp_path, "100000\n") / "cpu" / "cpu.cfs_period_us").unlink()
    assert usable_core_count(tmp_path) == 8


def test_the_affinity_mask_counts_when_it_is_narrower_than_the_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5})
    assert usable_core_count(version_2(tmp_path, "600000 100000\n")) == 2


def test_this_machine_has_at_least_one_core() -> None:
    assert usable_core_count() >= 1
