"""Run directories: one run each, and checkpoints that outlive a kill and a damaged disk."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest

pytest.importorskip("torch")

import torch

from training.config import RunConfig
from training.errors import RunError
from training.evaluation.scores import Evaluation, ImageScore
from training.run.directory import RunDir

pytestmark = pytest.mark.training

CONFIG = RunConfig.model_validate(
    {
        "name": "tiny",
        "network": {"widths": [16, 16], "encoder_blocks": [0], "middle_blocks": 0, "decoder_blocks": [0]},
        "noise": {"kind": "gaussian", "sigma_min": 0, "sigma_max": 50},
        "data": {"crop_px": 16, "batch_size": 1},
        "optimiser": {"steps": 1, "learning_rate": 1e-3},
    }
)


class Killed(BaseException):
    """Stands in for the process's end: no handler of the code under test may run on it."""


def state(step: int) -> dict[str, Any]:
    return {"step": step, "network": {"weight": torch.full((64, 64), float(step))}}


def loaded_step(run_dir: RunDir) -> int:
    """The step of the newest usable checkpoint, whose weights must be those of that step."""
    loaded = RunDir(run_dir.path).load_checkpoint()
    assert torch.equal(loaded["network"]["weight"], torch.full((64, 64), float(loaded["step"])))
    return int(loaded["step"])


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    run_dir = RunDir(tmp_path / "runs" / "tiny")
    run_dir.create(CONFIG)
    return run_dir


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


def remove(path: Path) -> None:
    path.unlink()


DAMAGES = [truncate, empty, overwrite, remove, flip_a_bit_of_the_weights]


# The directory


def test_a_new_run_keeps_its_config(run_dir: RunDir) -> None:
    assert RunDir(run_dir.path).load_config() == CONFIG


def test_creating_over_an_existing_run_is_refused_and_changes_nothing(run_dir: RunDir) -> None:
    before = run_dir.config_path.read_bytes()
    with pytest.raises(RunError, match=r"already holds a run.*--resume"):
        RunDir(run_dir.path).create(CONFIG.model_copy(update={"seed": 5}))
    assert run_dir.config_path.read_bytes() == before


def test_a_run_may_be_created_in_an_empty_directory(tmp_path: Path) -> None:
    RunDir(tmp_path).create(CONFIG)
    assert RunDir(tmp_path).load_config() == CONFIG


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"name": "tiny"}'])
def test_a_directory_without_a_readable_config_holds_no_run(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(RunError, match="holds no run"):
        RunDir(tmp_path).load_config()


def test_evaluations_come_back_by_name_and_a_later_one_takes_the_place_of_the_earlier(run_dir: RunDir) -> None:
    def evaluation(image_set: str, level_db: float) -> Evaluation:
        score = ImageScore("a.png", 25.0, 24.5, 20.2, level_db, 0.4, 0.9)
        return Evaluation(image_set, "PSNR in dB", (score,))

    assert run_dir.load_evaluations() == []
    for image_set, level_db in (("val", 30.0), ("kodak", 31.0), ("val", 32.0)):
        run_dir.save_evaluation(evaluation(image_set, level_db))
    assert RunDir(run_dir.path).load_evaluations() == [evaluation("kodak", 31.0), evaluation("val", 32.0)]


# Checkpoints


def test_a_checkpoint_comes_back_as_it_was_saved(run_dir: RunDir) -> None:
    saved = {"step": 7, "network": {"w": torch.randn(3, 4)}, "nested": [{"exp_avg": torch.ones(2), "lr": 0.5}]}
    run_dir.save_checkpoint(saved)
    loaded = run_dir.load_checkpoint()
    assert loaded.keys() == saved.keys()
    assert loaded["step"] == 7
    assert torch.equal(loaded["network"]["w"], saved["network"]["w"])  # type: ignore[index]
    assert loaded["nested"][0]["lr"] == 0.5


def test_the_newest_checkpoint_is_loaded_and_one_before_it_is_kept(run_dir: RunDir) -> None:
    for step in (1, 2, 3):
        run_dir.save_checkpoint(state(step))
    assert loaded_step(run_dir) == 3
    assert torch.load(run_dir.previous_checkpoint_path, weights_only=True)["step"] == 2
    assert sorted(path.name for path in run_dir.path.iterdir()) == [
        "checkpoint.previous.pt",
        "checkpoint.pt",
        "config.json",
    ]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_checkpoint_falls_back_to_the_previous_one(
    run_dir: RunDir, damage: Callable[[Path], None]
) -> None:
    run_dir.save_checkpoint(state(1))
    run_dir.save_checkpoint(state(2))
    damage(run_dir.checkpoint_path)
    assert loaded_step(run_dir) == 1


def test_both_checkpoints_damaged_is_an_error_that_names_both(run_dir: RunDir) -> None:
    run_dir.save_checkpoint(state(1))
    run_dir.save_checkpoint(state(2))
    truncate(run_dir.checkpoint_path)
    truncate(run_dir.previous_checkpoint_path)
    with pytest.raises(RunError, match=r"checkpoint\.pt is damaged.*checkpoint\.previous\.pt is damaged"):
        run_dir.load_checkpoint()


def test_no_checkpoint_at_all_is_an_error_that_says_so(run_dir: RunDir) -> None:
    with pytest.raises(RunError, match=r"checkpoint\.pt is missing.*checkpoint\.previous\.pt is missing"):
        run_dir.load_checkpoint()


def test_a_checkpoint_can_not_run_code(run_dir: RunDir) -> None:
    run_dir.save_checkpoint({"step": 1, "hook": Killed("arbitrary objects are refused")})
    with pytest.raises(RunError, match=r"checkpoint\.pt is damaged"):
        run_dir.load_checkpoint()


def kill_at(monkeypatch: pytest.MonkeyPatch, operation: str) -> None:
    """Ends the "process" when it writes, syncs, or makes its first or second swap."""

    def write_half(_saved: object, file: IO[bytes]) -> None:
        file.write(b"half a checkpoint")
        raise Killed

    def never_sync(_descriptor: int) -> None:
        raise Killed

    if operation == "write":
        monkeypatch.setattr(torch, "save", write_half)
    elif operation == "sync":
        monkeypatch.setattr(os, "fsync", never_sync)
    else:
        swap = Path.replace
        swaps_left = {"first swap": 0, "second swap": 1}[operation]

        def counted(self: Path, target: Path) -> Path:
            nonlocal swaps_left
            if swaps_left == 0:
                raise Killed
            swaps_left -= 1
            return swap(self, target)

        monkeypatch.setattr(Path, "replace", counted)


OPERATIONS = ["write", "sync", "first swap", "second swap"]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_kill_while_saving_loses_at_most_the_checkpoint_being_saved(
    run_dir: RunDir, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    run_dir.save_checkpoint(state(1))
    run_dir.save_checkpoint(state(2))
    with monkeypatch.context() as patch:
        kill_at(patch, operation)
        with pytest.raises(Killed):
            run_dir.save_checkpoint(state(3))
    assert loaded_step(run_dir) == 2
    RunDir(run_dir.path).save_checkpoint(state(3))
    assert loaded_step(run_dir) == 3


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_damaged_checkpoint_never_takes_the_place_of_the_whole_one_before_it(
    run_dir: RunDir, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    run_dir.save_checkpoint(state(1))
    run_dir.save_checkpoint(state(2))
    truncate(run_dir.checkpoint_path)
    resumed = RunDir(run_dir.path)
    assert loaded_step(resumed) == 1
    with monkeypatch.context() as patch:
        kill_at(patch, operation)
        # Where nothing damaged is left to be swapped away, there is no second swap to be killed at.
        with contextlib.suppress(Killed):
            resumed.save_checkpoint(state(3))
    assert loaded_step(run_dir) in {1, 3}


def test_after_a_fall_back_the_next_save_leaves_two_whole_checkpoints(run_dir: RunDir) -> None:
    run_dir.save_checkpoint(state(1))
    run_dir.save_checkpoint(state(2))
    truncate(run_dir.checkpoint_path)
    assert loaded_step(run_dir) == 1
    run_dir.save_checkpoint(state(3))
    truncate(run_dir.checkpoint_path)
    assert loaded_step(run_dir) == 1


def test_a_checkpoint_is_on_the_disk_before_it_takes_the_name(run_dir: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    sync, swap = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        order.append("sync")
        sync(descriptor)

    def swapped(self: Path, target: Path) -> Path:
        order.append(f"{self.name} -> {target.name}")
        return swap(self, target)

    run_dir.save_checkpoint(state(1))
    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", swapped)
    run_dir.save_checkpoint(state(2))
    assert order[:3] == [
        "sync",
        "checkpoint.pt -> checkpoint.previous.pt",
        "checkpoint.partial -> checkpoint.pt",
    ]
