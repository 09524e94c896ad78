"""What a process may use: quotas of both versions of cgroups, devices, threads."""

import os
from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch

from training.errors import ConfigError
from training.run import machine
from training.run.distributed import Ranks, joined

pytestmark = pytest.mark.training


def written(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu_DOT_max": "150000 100000\n"}, 1.5),
        ({"cpu_DOT_max": "max 100000\n"}, None),
        ({"cpu__cpu_DOT_cfs_quota_us": "50000\n", "cpu__cpu_DOT_cfs_period_us": "100000\n"}, 0.5),
        ({"cpu__cpu_DOT_cfs_quota_us": "-1\n", "cpu__cpu_DOT_cfs_period_us": "100000\n"}, None),
        ({}, None),
    ],
)
def test_the_quota_is_read_from_either_version_of_cgroups(
    tmp_path: Path, files: dict[str, str], cores: float | None
) -> None:
    root = written(tmp_path, **files)
    assert machine.core_quota(root) == cores
    affinity = len(os.sched_getaffinity(0))
    assert machine.core_count(root) == (affinity if cores is None else min(affinity, cores))


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"memory_DOT_max": "1000000\n"}, 1_000_000),
        ({"memory__memory_DOT_limit_in_bytes": "2000000\n"}, 2_000_000),
    ],
)
def test_the_memory_limit_is_the_smaller_of_the_machines_and_the_groups(
    tmp_path: Path, files: dict[str, str], limit: int
) -> None:
    assert machine.memory_limit_bytes(written(tmp_path, **files)) == limit


@pytest.mark.parametrize("files", [{"memory_DOT_max": "max\n"}, {}])
def test_without_a_limit_the_machines_memory_counts(tmp_path: Path, files: dict[str, str]) -> None:
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert machine.memory_limit_bytes(written(tmp_path, **files)) == total


def test_asking_for_a_gpu_that_is_not_there_is_a_typed_error() -> None:
    with pytest.raises(ConfigError, match=r"--device is cuda.*--device cpu"):
        machine.pick_device("cuda", 0)
    assert machine.pick_device("auto", 0) == torch.device("cpu")


def test_threads_are_shared_among_the_processes_of_a_machine() -> None:
    before = torch.get_num_threads()
    try:
        machine.limit_threads(3)
        assert torch.get_num_threads() == 3
        machine.limit_threads(None, processes=1000)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_the_peak_of_memory_is_that_of_a_process_with_torch_in_it() -> None:
    peak = machine.peak_memory_bytes(torch.device("cpu"))
    assert peak is not None
    assert 50e6 < peak < 100e9


def test_the_shares_of_all_ranks_make_the_whole() -> None:
    shares = [Ranks(rank, 4, torch.device("cpu")).share(40, 8) for rank in range(4)]
    assert shares == [(40, 2), (42, 2), (44, 2), (46, 2)]
    assert Ranks(0, 1, torch.device("cpu")).share(40, 8) == (40, 8)


def test_a_batch_that_ranks_cannot_share_equally_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"TORCHELASTIC_RUN_ID": "none", "RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=r"data\.batch_size is 3 and there are 2 ranks"), joined("cpu", 3):
        pass


@pytest.mark.parametrize("deterministic", [True, False])
def test_convolutions_keep_all_bits_of_float32(monkeypatch: pytest.MonkeyPatch, *, deterministic: bool) -> None:
    for name in ("allow_tf32", "deterministic", "benchmark"):
        # Put back afterwards.
        monkeypatch.setattr(torch.backends.cudnn, name, True)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    was_deterministic = torch.are_deterministic_algorithms_enabled()
    try:
        machine.set_determinism(deterministic=deterministic)
    finally:
        torch.use_deterministic_algorithms(was_deterministic)
    assert not torch.backends.cudnn.allow_tf32
