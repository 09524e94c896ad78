"""Checkpoints: whole on the disk at every moment, one changed byte noticed, the one before always kept."""

import contextlib
import errno
import os
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch

from denoised.contract import SampleLevels
from tests.unit.training.run.tiny import tiny_config
from training.errors import CheckpointError
from training.run.checkpoint import Checkpoint, Checkpoints, read_checkpoint

pytestmark = pytest.mark.training


class Killed(BaseException):
    """Stands in for the process's end: no handler of the code under test may run on it."""


def checkpoint_of(step: int) -> Checkpoint:
    return Checkpoint(
        step=step,
        config=tiny_config().to_json(),
        pack_digest="abc",
        network={"weight": torch.full((64, 64), float(step))},
        average={"weight": torch.full((64, 64), step + 0.5)},
        average_update_count=step,
        optimiser={"state": {0: {"exp_avg": torch.ones(2), "step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1}]},
        progress={"best_step": None, "waited": 2},
        machine={"torch": "2", "threads": 1},
        levels=SampleLevels("u16", 64.0, 4095.0),
    )


def loaded_step(checkpoints: Checkpoints) -> int:
    """The step of the newest usable checkpoint, whose weights must be those of that step."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        loaded = Checkpoints(checkpoints.newest_path.parent).load()
    assert torch.equal(loaded.network["weight"], torch.full((64, 64), float(loaded.step)))
    return loaded.step


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def overwrite(path: Path) -> None:
    path.write_bytes(os.urandom(path.stat().st_size))


def flip_a_bit_of_the_weights(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(torch.full((1,), 2.0).numpy().tobytes() * 16) + 1000] ^= 1
    path.write_bytes(content)


DAMAGES = [truncate, empty, overwrite, flip_a_bit_of_the_weights]


# What is kept


def test_a_checkpoint_comes_back_as_it_was_saved(checkpoints: Checkpoints) -> None:
    saved = checkpoint_of(7)
    checkpoints.save(saved)
    loaded = checkpoints.load()
    assert torch.equal(loaded.average["weight"], saved.average["weight"])
    assert torch.equal(loaded.optimiser["state"][0]["exp_avg"], torch.ones(2))
    loaded, saved = (replace(each, network={}, average={}, optimiser={}) for each in (loaded, saved))
    assert loaded == saved
    assert loaded.run_config() == tiny_config()


def test_the_newest_and_the_one_before_it_are_kept_and_nothing_else(checkpoints: Checkpoints, tmp_path: Path) -> None:
    for step in (1, 2, 3):
        checkpoints.save(checkpoint_of(step))
    assert loaded_step(checkpoints) == 3
    assert read_checkpoint(checkpoints.previous_path).step == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.ckpt", "checkpoint.previous.ckpt"]


def test_the_best_one_stays_while_newer_ones_come(checkpoints: Checkpoints) -> None:
    assert checkpoints.load_best() is None
    checkpoints.save(checkpoint_of(1))
    checkpoints.mark_best()
    for step in (2, 3, 4):
        checkpoints.save(checkpoint_of(step))
    best = checkpoints.load_best()
    assert best is not None
    assert best.step == 1
    # Twice, as by a resumed run.
    for _ in range(2):
        checkpoints.mark_best()
        assert read_checkpoint(checkpoints.best_path).step == 4
    assert not list(checkpoints.best_path.parent.glob("*.partial"))


def test_the_mark_goes_to_the_file_that_was_loaded_where_the_newest_is_missing(checkpoints: Checkpoints) -> None:
    checkpoints.save(checkpoint_of(1))
    checkpoints.save(checkpoint_of(2))
    checkpoints.newest_path.unlink()
    assert checkpoints.load().step == 1
    checkpoints.mark_best()
    assert read_checkpoint(checkpoints.best_path).step == 1


def test_a_damaged_newest_file_never_takes_the_place_of_a_whole_best_one(checkpoints: Checkpoints) -> None:
    checkpoints.save(checkpoint_of(1))
    checkpoints.mark_best()
    checkpoints.save(checkpoint_of(2))
    truncate(checkpoints.newest_path)
    with pytest.warns(RuntimeWarning, match="step 1"):
        checkpoints.load()
    checkpoints.mark_best()
    assert read_checkpoint(checkpoints.best_path).step == 1
    checkpoints.save(checkpoint_of(3))
    checkpoints.mark_best()
    assert read_checkpoint(checkpoints.best_path).step == 3


def test_the_best_one_stays_the_best_where_it_is_all_that_is_left(checkpoints: Checkpoints) -> None:
    checkpoints.save(checkpoint_of(1))
    checkpoints.mark_best()
    checkpoints.newest_path.unlink()
    with pytest.warns(RuntimeWarning, match=r"from best\.ckpt"):
        checkpoints.load()
    checkpoints.mark_best()
    assert read_checkpoint(checkpoints.best_path).step == 1
    assert not list(checkpoints.best_path.parent.glob("*.partial"))


def test_a_disk_without_second_names_gets_a_copy_of_the_best_one(
    checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", no_links)
    checkpoints.save(checkpoint_of(1))
    checkpoints.mark_best()
    assert checkpoints.best_path.stat().st_ino != checkpoints.newest_path.stat().st_ino
    assert read_checkpoint(checkpoints.best_path).step == 1


# Damage


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_checkpoint_falls_back_to_the_previous_one_with_one_warning(
    checkpoints: Checkpoints, damage: Callable[[Path], None]
) -> None:
    checkpoints.save(checkpoint_of(1))
    checkpoints.save(checkpoint_of(2))
    damage(checkpoints.newest_path)
    with pytest.warns(RuntimeWarning, match=r"checkpoint\.ckpt .*from checkpoint\.previous\.ckpt, of step 1") as told:
        assert checkpoints.load().step == 1
    assert len(told) == 1


@pytest.mark.parametrize("place", range(0, 20_000, 997))
def test_one_changed_byte_anywhere_is_noticed(checkpoints: Checkpoints, place: int) -> None:
    checkpoints.save(checkpoint_of(2))
    content = bytearray(checkpoints.newest_path.read_bytes())
    content[place % len(content)] ^= 0x10
    checkpoints.newest_path.write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged|no checkpoint"):
        read_checkpoint(checkpoints.newest_path)


def test_a_newest_checkpoint_that_is_missing_between_two_renames_is_no_damage(checkpoints: Checkpoints) -> None:
    checkpoints.save(checkpoint_of(1))
    checkpoints.save(checkpoint_of(2))
    checkpoints.newest_path.unlink()
    assert checkpoints.load().step == 1


def test_both_damaged_is_an_error_that_names_both(checkpoints: Checkpoints) -> None:
    checkpoints.save(checkpoint_of(1))
    checkpoints.save(checkpoint_of(2))
    truncate(checkpoints.newest_path)
    truncate(checkpoints.previous_path)
    with pytest.raises(CheckpointError, match=r"checkpoint\.ckpt is damaged.*checkpoint\.previous\.ckpt is damaged"):
        checkpoints.load()


def test_the_best_one_is_gone_on_from_when_both_others_are_damaged(checkpoints: Checkpoints) -> None:
    checkpoints.save(checkpoint_of(1))
    checkpoints.mark_best()
    checkpoints.save(checkpoint_of(2))
    checkpoints.save(checkpoint_of(3))
    truncate(checkpoints.newest_path)
    truncate(checkpoints.previous_path)
    with pytest.warns(RuntimeWarning, match=r"checkpoint\.ckpt .*previous\.ckpt .*from best\.ckpt, of step 1"):
        assert checkpoints.load().step == 1
    checkpoints.newest_path.unlink()
    with pytest.warns(RuntimeWarning, match=r"from best\.ckpt"):
        assert checkpoints.load().step == 1


def test_none_at_all_is_an_error_that_says_so(checkpoints: Checkpoints) -> None:
    with pytest.raises(CheckpointError, match=r"checkpoint\.ckpt is missing.*checkpoint\.previous\.ckpt is missing"):
        checkpoints.load()


def test_a_damaged_best_one_is_an_error_with_a_way_out(checkpoints: Checkpoints) -> None:
    checkpoints.save(checkpoint_of(1))
    checkpoints.mark_best()
    truncate(checkpoints.best_path)
    with pytest.raises(CheckpointError, match=r"best\.ckpt is damaged.*from a copy"):
        checkpoints.load_best()


def test_a_checkpoint_can_not_run_code(checkpoints: Checkpoints) -> None:
    checkpoints.save(replace(checkpoint_of(1), machine={"hook": Killed("arbitrary objects are refused")}))
    with pytest.raises(ValueError, match="holds no checkpoint"):
        read_checkpoint(checkpoints.newest_path)


def test_a_checkpoint_of_a_later_version_is_refused_as_such(checkpoints: Checkpoints) -> None:
    checkpoints.save(replace(checkpoint_of(1), config='{"name": "from the future"}'))
    with pytest.raises(CheckpointError, match="another version of this program"):
        checkpoints.load().run_config()


# A kill, or a full disk, while saving


def kill_at(monkeypatch: pytest.MonkeyPatch, operation: str) -> None:
    """Ends the "process" when it syncs, or makes its first or second swap."""

    def never_sync(_descriptor: int) -> None:
        raise Killed

    if operation == "sync":
        monkeypatch.setattr(os, "fsync", never_sync)
        return
    swap, swaps_left = Path.replace, {"first swap": 0, "second swap": 1}[operation]

    def counted(self: Path, target: Path) -> Path:
        nonlocal swaps_left
        if swaps_left == 0:
            raise Killed
        swaps_left -= 1
        return swap(self, target)

    monkeypatch.setattr(Path, "replace", counted)


OPERATIONS = ["sync", "first swap", "second swap"]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_kill_while_saving_loses_at_most_the_checkpoint_being_saved(
    checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    checkpoints.save(checkpoint_of(1))
    checkpoints.save(checkpoint_of(2))
    with monkeypatch.context() as patch:
        kill_at(patch, operation)
        with pytest.raises(Killed):
            checkpoints.save(checkpoint_of(3))
    assert loaded_step(checkpoints) == 2
    Checkpoints(checkpoints.newest_path.parent).save(checkpoint_of(3))
    assert loaded_step(checkpoints) == 3


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_damaged_checkpoint_never_takes_the_place_of_the_whole_one_before_it(
    checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    checkpoints.save(checkpoint_of(1))
    checkpoints.save(checkpoint_of(2))
    truncate(checkpoints.newest_path)
    resumed = Checkpoints(checkpoints.newest_path.parent)
    with pytest.warns(RuntimeWarning, match="step 1"):
        resumed.load()
    with monkeypatch.context() as patch:
        kill_at(patch, operation)
        # Where the damaged one is not swapped away, there is no second swap to be killed at.
        with contextlib.suppress(Killed):
            resumed.save(checkpoint_of(3))
    assert loaded_step(checkpoints) in {1, 3}


def test_after_a_fall_back_the_next_two_saves_leave_two_whole_checkpoints(checkpoints: Checkpoints) -> None:
    checkpoints.save(checkpoint_of(1))
    checkpoints.save(checkpoint_of(2))
    truncate(checkpoints.newest_path)
    with pytest.warns(RuntimeWarning, match="step 1"):
        checkpoints.load()
    checkpoints.save(checkpoint_of(3))
    assert read_checkpoint(checkpoints.previous_path).step == 1
    checkpoints.save(checkpoint_of(4))
    assert [read_checkpoint(p).step for p in (checkpoints.newest_path, checkpoints.previous_path)] == [4, 3]


def test_a_checkpoint_is_on_the_disk_before_it_takes_the_name_and_the_name_is_synced_too(
    checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    sync, swap = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        order.append("sync")
        sync(descriptor)

    def swapped(self: Path, target: Path) -> Path:
        order.append(f"{self.name} -> {target.name}")
        return swap(self, target)

    checkpoints.save(checkpoint_of(1))
    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", swapped)
    checkpoints.save(checkpoint_of(2))
    assert order == [
        "sync",
        "checkpoint.ckpt -> checkpoint.previous.ckpt",
        "checkpoint.partial -> checkpoint.ckpt",
        "sync",
    ]


def test_a_full_disk_is_a_typed_error_and_leaves_the_earlier_checkpoints_alone(
    checkpoints: Checkpoints, tmp_path: Path
) -> None:
    resource = pytest.importorskip("resource", reason="file sizes can be limited on POSIX alone")
    checkpoints.save(checkpoint_of(1))
    checkpoints.save(checkpoint_of(2))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (checkpoints.newest_path.stat().st_size // 2, hard))
    try:
        with pytest.raises(CheckpointError, match=r"step 3 \(.* MB\) cannot be written.*intact.*--resume"):
            checkpoints.save(checkpoint_of(3))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [read_checkpoint(p).step for p in (checkpoints.newest_path, checkpoints.previous_path)] == [2, 1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.ckpt", "checkpoint.previous.ckpt"]
    checkpoints.save(checkpoint_of(3))
    assert loaded_step(checkpoints) == 3
