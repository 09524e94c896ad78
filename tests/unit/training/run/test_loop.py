"""Training: a killed and resumed run is the uninterrupted one bit for bit; log, selection, early end, divergence."""

import json
import math
import os
import shutil
import signal
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

pytest.importorskip("torch")

import torch

from denoised.contract import SampleLevels
from tests.unit.training.run.tiny import (
    CHECKPOINT_EVERY,
    CONV_DAE,
    ENERGY,
    PCA,
    STEPS,
    VAE,
    assert_same_bits,
    final_state,
    packed,
    tiny_config,
    waves,
)
from training.config import RunConfig
from training.data.pack import Pack
from training.errors import CheckpointError, DataError, DivergedError, RunError
from training.run.checkpoint import read_checkpoint
from training.run.directory import RunDir
from training.run.log import RunLog, read_log
from training.run.loop import TrainResult, train
from training.run.schedule import learning_rate
from training.run.step import Stepper
from training.run.trained import load_trained
from training.run.validation import HeldOut, Validator

pytestmark = pytest.mark.training


class Killed(BaseException):
    """Stands in for the process's end: no handler of the code under test may run on it."""


def run(config: RunConfig, pack: Pack, path: Path, *, workers: int = 0, **options: Any) -> TrainResult:
    """A new run from its first step."""
    run_dir = RunDir(path)
    run_dir.create(config)
    return train(config, pack, run_dir, resume=False, workers=workers, show_progress=False, **options)


def resume(pack: Pack, path: Path, *, workers: int = 0) -> TrainResult:
    """Continues with nothing but what lies in the run directory, and in a process in another state."""
    torch.manual_seed(999)
    np.random.seed(999)  # noqa: NPY002 -- the global state is what is to be disturbed
    torch.randn(100)
    run_dir = RunDir(path)
    return train(run_dir.load_config(), pack, run_dir, resume=True, workers=workers, show_progress=False)


def kill_after_step(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """The process ends when it has made that many optimisation steps."""
    whole_step, done = Stepper.step, 0

    def counted(self: Stepper, *args: Any) -> torch.Tensor:
        nonlocal done
        if done == step:
            raise Killed
        done += 1
        return whole_step(self, *args)

    monkeypatch.setattr(Stepper, "step", counted)


def killed_run(
    config: RunConfig, pack: Pack, path: Path, monkeypatch: pytest.MonkeyPatch, *, after: int, workers: int = 0
) -> None:
    with monkeypatch.context() as patch:
        kill_after_step(patch, after)
        with pytest.raises(Killed):
            run(config, pack, path, workers=workers)


def log_records(path: Path) -> list[dict[str, Any]]:
    return read_log(RunDir(path).log_path)


@pytest.fixture(scope="module")
def uninterrupted(pack: Pack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("uninterrupted")
    run(tiny_config(), pack, path)
    return path


# Exact resume


@pytest.mark.parametrize("killed_after", [5, 6, 9, 10, 11])
def test_a_killed_and_resumed_run_equals_the_uninterrupted_one_bit_for_bit(
    pack: Pack, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_after: int
) -> None:
    killed_run(tiny_config(), pack, tmp_path, monkeypatch, after=killed_after)
    assert final_state(tmp_path)["step"] == killed_after // CHECKPOINT_EVERY * CHECKPOINT_EVERY
    assert resume(pack, tmp_path).step == STEPS
    assert_same_bits(final_state(tmp_path), final_state(uninterrupted))


@pytest.mark.parametrize(
    "changes",
    [
        {"optimiser": {"precision": "bf16"}},
        {"optimiser": {"accumulation": 2}},
        {"network": VAE, "loss": ENERGY},
        {"selection": {"patience": 50}},
    ],
    ids=["bf16", "accumulation", "vae", "patience"],
)
def test_it_is_so_in_every_mode_of_training(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    config = tiny_config(**changes)
    run(config, pack, tmp_path / "whole")
    killed_run(config, pack, tmp_path / "killed", monkeypatch, after=8)
    resume(pack, tmp_path / "killed")
    assert_same_bits(final_state(tmp_path / "killed"), final_state(tmp_path / "whole"))


def test_a_run_killed_twice_equals_the_uninterrupted_one(
    pack: Pack, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_run(tiny_config(), pack, tmp_path, monkeypatch, after=7)
    with monkeypatch.context() as patch:
        kill_after_step(patch, 6)
        with pytest.raises(Killed):
            resume(pack, tmp_path)
    assert final_state(tmp_path)["step"] == 10
    resume(pack, tmp_path)
    assert_same_bits(final_state(tmp_path), final_state(uninterrupted))


def test_a_truncated_newest_checkpoint_costs_time_but_no_bit(
    pack: Pack, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_run(tiny_config(), pack, tmp_path, monkeypatch, after=11)
    newest = RunDir(tmp_path).checkpoints.newest_path
    newest.write_bytes(newest.read_bytes()[: newest.stat().st_size // 2])
    with pytest.warns(RuntimeWarning, match="step 5"):
        resume(pack, tmp_path)
    assert_same_bits(final_state(tmp_path), final_state(uninterrupted))


def test_any_number_of_workers_trains_the_same_bits(pack: Pack, uninterrupted: Path, tmp_path: Path) -> None:
    run(tiny_config(), pack, tmp_path, workers=3)
    assert_same_bits(final_state(tmp_path), final_state(uninterrupted))


def test_a_run_may_be_resumed_with_another_number_of_workers(
    pack: Pack, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_run(tiny_config(), pack, tmp_path, monkeypatch, after=8, workers=1)
    resume(pack, tmp_path, workers=2)
    assert_same_bits(final_state(tmp_path), final_state(uninterrupted))


def test_another_seed_trains_to_other_weights(pack: Pack, uninterrupted: Path, tmp_path: Path) -> None:
    run(tiny_config(seed=12), pack, tmp_path)
    weights = [final_state(path)["network"]["head.weight"] for path in (tmp_path, uninterrupted)]
    assert not torch.equal(*weights)


def test_what_is_logged_and_how_often_checkpoints_are_made_does_not_change_the_weights(
    pack: Pack, uninterrupted: Path, tmp_path: Path
) -> None:
    run(tiny_config(log_every_steps=1, checkpoint_every_steps=4), pack, tmp_path)
    for part in ("network", "average", "optimiser"):
        assert_same_bits(final_state(tmp_path)[part], final_state(uninterrupted)[part])


def test_resuming_without_a_checkpoint_is_refused(pack: Pack, tmp_path: Path) -> None:
    RunDir(tmp_path).create(tiny_config())
    with pytest.raises(CheckpointError, match="no usable checkpoint"):
        resume(pack, tmp_path)


def test_resuming_a_finished_run_changes_nothing_and_reports_its_quality(
    pack: Pack, uninterrupted: Path, tmp_path: Path
) -> None:
    before = run(tiny_config(), pack, tmp_path)
    assert resume(pack, tmp_path) == before
    assert_same_bits(final_state(tmp_path), final_state(uninterrupted))


# What does not belong together


def test_a_checkpoint_of_another_network_is_refused_and_both_are_named(pack: Pack, tmp_path: Path) -> None:
    for name, network in (("small", CONV_DAE), ("other", {**CONV_DAE, "middle_blocks": 3})):
        run(tiny_config(network=network, optimiser={"steps": 1}), pack, tmp_path / name)
    source, target = (RunDir(tmp_path / name).checkpoints.newest_path for name in ("other", "small"))
    target.write_bytes(source.read_bytes())
    with pytest.raises(CheckpointError, match=r"(?s)another network.*middle_blocks=3.*middle_blocks=1"):
        resume(pack, tmp_path / "small")
    RunDir(tmp_path / "small").checkpoints.best_path.unlink()
    with pytest.raises(CheckpointError, match="another network"):
        load_trained(RunDir(tmp_path / "small"))


def test_resuming_on_other_images_is_refused(pack: Pack, tmp_path: Path) -> None:
    run(tiny_config(), pack, tmp_path / "run")
    with pytest.raises(RunError, match=r"was trained on the pack.*--start-from"):
        resume(Pack(packed(tmp_path, [32] * 3)), tmp_path / "run")


def test_a_pack_of_other_channels_is_refused_before_the_first_step(pack: Pack, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="1 channels, the network takes 3"):
        run(tiny_config(network={**CONV_DAE, "channels": 3}), pack, tmp_path)


@pytest.mark.parametrize(
    ("network", "supervision", "made", "remedy"),
    [
        (CONV_DAE, "clean", "noisy", "neither --noisy-only"),
        (PCA, "clean", "noisy", "neither --noisy-only"),
        (CONV_DAE, "pairs", "clean", "--noisy-folder"),
        (CONV_DAE, "noisy", "clean", "--noisy-only"),
        (CONV_DAE, "clean", "pairs", "neither --noisy-only"),
        (PCA, "clean", "pairs", "neither --noisy-only"),
    ],
)
def test_a_pack_of_another_supervision_is_refused_for_every_kind_with_both_ways_out(
    tmp_path: Path, network: dict[str, Any], supervision: str, made: str, remedy: str
) -> None:
    options: dict[str, Any] = {"noisy_only": made == "noisy"}
    if made == "pairs":
        (tmp_path / "noisy").mkdir()
        for index in range(3):
            picture = PillowImage.fromarray(waves(index, 24) ^ 1)
            picture.save(tmp_path / "noisy" / f"{index:03}.png")
        options = {"noisy_folder": tmp_path / "noisy"}
    pack = Pack(packed(tmp_path, [24] * 3, **options))
    config = tiny_config(network=network, data={"supervision": supervision, "synthetic_share": 0.0})
    with pytest.raises(DataError, match=f"supervision is '{supervision}'.*data.supervision = '{made}'.*{remedy}"):
        run(config, pack, tmp_path / "run")


def test_a_longer_run_may_be_made_of_a_finished_one_and_says_that_the_config_changed(
    pack: Pack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tiny_config(optimiser={"steps": 3}), pack, tmp_path)
    run_dir = RunDir(tmp_path)
    longer = tiny_config(optimiser={"steps": 5})
    run_dir.config_path.write_text(longer.to_json())
    assert train(longer, pack, run_dir, resume=True, workers=0).step == 5
    assert "optimiser.steps 3 -> 5" in capsys.readouterr().err


# What a run leaves behind


def test_every_line_of_the_log_is_a_record_with_the_documented_keys(uninterrupted: Path) -> None:
    records = log_records(uninterrupted)
    assert [record["step"] for record in records] == [2, 4, 5, 6, 8, 10, 12]
    always = {"step", "epoch", "loss", "image_loss", "sigma_loss", "gradient_norm", "learning_rate"}
    for record in records:
        expected = always | {"samples_per_s", "data_wait_share", "elapsed_s"}
        if record["step"] in {5, 10, 12}:
            expected |= {"held_out_loss", "held_out_psnr_db"}
        assert record.keys() == expected
        assert all(math.isfinite(value) for value in record.values())
        assert record["learning_rate"] == learning_rate(record["step"] - 1, tiny_config().optimiser)
        assert record["epoch"] == pytest.approx(record["step"] * 2 / 5)
        assert 0 <= record["data_wait_share"] <= 1
    assert [record["elapsed_s"] for record in records] == sorted(record["elapsed_s"] for record in records)


def test_a_logged_loss_is_the_mean_since_the_line_before(pack: Pack, uninterrupted: Path, tmp_path: Path) -> None:
    run(tiny_config(log_every_steps=1), pack, tmp_path)
    single = {record["step"]: record["loss"] for record in log_records(tmp_path)}
    previous = 0
    for record in log_records(uninterrupted):
        mean = np.mean([single[step] for step in range(previous + 1, record["step"] + 1)])
        assert record["loss"] == pytest.approx(mean, rel=1e-6)
        previous = record["step"]


def test_each_step_is_logged_once_although_the_run_was_killed(
    pack: Pack, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Steps 6 to 8 are made twice, because the checkpoint is of step 5.
    killed_run(tiny_config(), pack, tmp_path, monkeypatch, after=9)
    resume(pack, tmp_path)
    figures = [[(r["step"], r["loss"]) for r in log_records(path)] for path in (tmp_path, uninterrupted)]
    assert figures[0] == figures[1]


def test_the_checkpoint_holds_raw_and_averaged_weights_and_they_differ(uninterrupted: Path) -> None:
    state = final_state(uninterrupted)
    assert state["step"] == state["average_update_count"] == STEPS
    assert state["network"].keys() == state["average"].keys()
    same = [name for name, weights in state["network"].items() if torch.equal(weights, state["average"][name])]
    assert same == []


def test_the_result_is_that_of_the_averaged_weights_on_the_held_out_images(pack: Pack, uninterrupted: Path) -> None:
    logged = log_records(uninterrupted)[-1]["held_out_psnr_db"]
    trained = load_trained(RunDir(uninterrupted), "last")
    validator = Validator(trained.config, pack)
    averaged = validator.measure(trained.network, torch.device("cpu"))
    trained.network.load_state_dict(final_state(uninterrupted)["network"])
    raw = validator.measure(trained.network, torch.device("cpu"))
    assert averaged is not None
    assert raw is not None
    assert logged == pytest.approx(averaged.psnr_db, abs=1e-6)
    assert logged != pytest.approx(raw.psnr_db, abs=1e-6)


def test_energies_are_logged_every_epoch_in_nats_and_bits(pack: Pack, tmp_path: Path) -> None:
    run(tiny_config(network=VAE, loss=ENERGY), pack, tmp_path)
    records = [record for record in log_records(tmp_path) if "held_out_energy_bits_per_pixel" in record]
    # Epochs of five samples end within steps 3, 5, 8 and 10; checkpoints are of steps 5, 10 and 12.
    assert [record["step"] for record in records] == [3, 5, 8, 10, 12]
    for record in records:
        nats = record["held_out_reconstruction_nats"] + record["held_out_compression_nats"]
        assert record["held_out_energy_bits_per_pixel"] == pytest.approx(nats / (256 * math.log(2)))
        assert 0 <= record["held_out_active_units"] <= 4
        assert record["kl_nats"] >= 0


def test_without_held_out_images_there_is_no_figure_and_the_last_checkpoint_is_the_networks(tmp_path: Path) -> None:
    lonely = Pack(packed(tmp_path, [24]))
    assert run(tiny_config(), lonely, tmp_path / "run") == TrainResult(STEPS, None)
    assert not any(key.startswith("held_out") for record in log_records(tmp_path / "run") for key in record)
    trained = load_trained(RunDir(tmp_path / "run"))
    assert (trained.weights, trained.step) == ("last", STEPS)
    with pytest.raises(CheckpointError, match="no best checkpoint"):
        load_trained(RunDir(tmp_path / "run"), "best")


def test_lines_take_the_place_of_the_bar_without_a_terminal_and_never_say_nan(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lonely, run_dir = Pack(packed(tmp_path, [24])), RunDir(tmp_path / "run")
    run_dir.create(tiny_config())
    train(tiny_config(), lonely, run_dir, resume=False, workers=0)
    told = capsys.readouterr()
    assert len([line for line in told.out.splitlines() if line.startswith("step ")]) == 7
    assert "nan" not in told.out
    assert "no image is held out" in told.err


def test_every_checkpoint_is_told_with_the_averaged_weights(pack: Pack, tmp_path: Path) -> None:
    seen: dict[int, torch.Tensor] = {}

    def look(step: int, network: torch.nn.Module, _log: RunLog) -> None:
        seen[step] = network.state_dict()["head.weight"].clone()

    run(tiny_config(), pack, tmp_path, on_checkpoint=look)
    assert list(seen) == [5, 10, 12]
    assert torch.equal(seen[12], final_state(tmp_path)["average"]["head.weight"])


# Selection and early end


def measured_by(monkeypatch: pytest.MonkeyPatch, levels_db: list[float]) -> None:
    """The held-out PSNR of one checkpoint after the other."""
    measure, left = Validator.measure, iter(levels_db)

    def measured(self: Validator, *args: Any) -> Any:
        from dataclasses import replace

        found = measure(self, *args)
        assert found is not None
        return replace(found, psnr_db=next(left))

    monkeypatch.setattr(Validator, "measure", measured)


def test_the_best_checkpoint_is_kept_and_is_what_gets_loaded(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured_by(monkeypatch, [20.0, 25.0, 24.0])
    assert run(tiny_config(), pack, tmp_path).best_step == 10
    run_dir = RunDir(tmp_path)
    assert read_checkpoint(run_dir.checkpoints.best_path).step == 10
    assert (load_trained(run_dir).step, load_trained(run_dir).weights) == (10, "best")
    assert load_trained(run_dir, "last").step == 12


def test_a_damaged_best_checkpoint_gives_way_to_the_last_one_unless_it_is_asked_for(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured_by(monkeypatch, [20.0, 25.0, 24.0])
    run(tiny_config(), pack, tmp_path)
    run_dir = RunDir(tmp_path)
    best = run_dir.checkpoints.best_path
    content = best.read_bytes()
    best.unlink()
    best.write_bytes(content[:-1])
    with pytest.warns(RuntimeWarning, match=r"best\.ckpt is damaged.*the last checkpoint is taken"):
        trained = load_trained(run_dir)
    assert (trained.step, trained.weights) == (12, "last")
    with pytest.raises(CheckpointError, match=r"best\.ckpt is damaged.*or take the last checkpoint"):
        load_trained(run_dir, "best")


def test_what_a_network_was_trained_for_is_what_its_checkpoint_says(
    pack: Pack, uninterrupted: Path, tmp_path: Path
) -> None:
    path = shutil.copytree(uninterrupted, tmp_path / "run")
    run_dir = RunDir(path)
    run_dir.config_path.write_text(tiny_config(noise={"clean_share": 0.4}).to_json())
    with pytest.warns(RuntimeWarning, match=r"noise\.clean_share 0\.1 -> 0\.4.*what the checkpoint says is taken"):
        trained = load_trained(run_dir)
    assert trained.config == tiny_config()
    assert trained.pack_digest == pack.manifest.digest


def test_black_and_white_are_those_of_the_pack(tmp_path: Path) -> None:
    levels = Pack(packed(tmp_path, [24] * 3, black=10.0, white=240.0)).manifest.levels
    run(tiny_config(optimiser={"steps": 1}), Pack(tmp_path / "pack"), tmp_path / "run")
    assert load_trained(RunDir(tmp_path / "run")).levels == levels == SampleLevels("u8", 10.0, 240.0)


def test_a_run_stops_early_when_its_patience_runs_out_and_stays_stopped(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(optimiser={"steps": 100}, checkpoint_every_steps=2, selection={"patience": 2})
    measured_by(monkeypatch, [20.0, 25.0, 24.0, 24.5, 24.5])
    result = run(config, pack, tmp_path)
    assert (result.step, result.end, result.best_step) == (8, "early", 4)
    assert resume(pack, tmp_path) == result


def test_a_resumed_run_waits_no_longer_than_an_uninterrupted_one(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(optimiser={"steps": 100}, checkpoint_every_steps=2, selection={"patience": 2})
    measured_by(monkeypatch, [20.0, 25.0, 24.0, 24.5])
    killed_run(config, pack, tmp_path, monkeypatch, after=7)
    result = resume(pack, tmp_path)
    assert (result.step, result.end, result.best_step) == (8, "early", 4)


def test_the_selection_may_follow_the_loss(pack: Pack, tmp_path: Path) -> None:
    result = run(tiny_config(selection={"metric": "loss"}), pack, tmp_path)
    losses = {r["step"]: r["held_out_loss"] for r in log_records(tmp_path) if "held_out_loss" in r}
    assert result.best_step == min(losses, key=lambda step: losses[step])


def test_patience_without_held_out_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"patience is 2.*held-out"):
        run(tiny_config(selection={"patience": 2}), Pack(packed(tmp_path, [24])), tmp_path / "run")


def test_a_run_killed_between_a_best_checkpoint_and_its_mark_gets_the_mark_on_resuming(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured_by(monkeypatch, [20.0, 25.0, 24.0])
    killed_run(tiny_config(), pack, tmp_path, monkeypatch, after=10)
    RunDir(tmp_path).checkpoints.best_path.unlink()
    resume(pack, tmp_path)
    assert read_checkpoint(RunDir(tmp_path).checkpoints.best_path).step == 10


@pytest.mark.parametrize("newest", ["missing", "damaged"])
def test_a_run_goes_on_from_a_previous_checkpoint_that_is_the_best_one(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, newest: str
) -> None:
    with monkeypatch.context() as patch:
        measured_by(patch, [20.0, 19.0])
        killed_run(tiny_config(), pack, tmp_path, patch, after=11)
    files = RunDir(tmp_path).checkpoints
    assert [read_checkpoint(path).step for path in (files.newest_path, files.best_path)] == [10, 5]
    if newest == "missing":
        files.newest_path.unlink()
    else:
        files.newest_path.write_bytes(files.newest_path.read_bytes()[:-1])
    with monkeypatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        # Killed before its first step: what is on the disk is what restoring made of it.
        kill_after_step(patch, 0)
        with pytest.raises(Killed):
            resume(pack, tmp_path)
    assert read_checkpoint(files.best_path).step == 5


# Divergence and interruption


def poison_after_step(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """A weight is no number any more when step ``step`` (counted from 1) begins."""
    whole_step = Stepper.step

    def poisoned(self: Stepper, number: int, *args: Any) -> torch.Tensor:
        if number == step - 1:
            next(self.network.parameters()).data.view(-1)[0] = math.nan
        return whole_step(self, number, *args)

    monkeypatch.setattr(Stepper, "step", poisoned)


@pytest.mark.parametrize("step", [1, 6, 9, 10])
def test_a_loss_that_is_no_number_stops_the_run_names_the_step_and_keeps_the_last_good_checkpoint(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    poison_after_step(monkeypatch, step)
    with pytest.raises(DivergedError, match=rf"loss is nan.*at step {step};.*--start-from"):
        run(tiny_config(log_every_steps=100), pack, tmp_path)
    checkpoints = RunDir(tmp_path).checkpoints
    if step < CHECKPOINT_EVERY:
        assert not checkpoints.newest_path.exists()
        return
    state = final_state(tmp_path)
    assert state["step"] == CHECKPOINT_EVERY
    assert all(weights.isfinite().all() for part in ("network", "average") for weights in state[part].values())


def test_a_held_out_figure_that_is_no_finite_number_stops_the_run_before_it_is_kept(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = iter([HeldOut(1.0, 30.0), HeldOut(math.inf, 20.0)])
    monkeypatch.setattr(Validator, "measure", lambda *_: next(figures))
    with pytest.raises(DivergedError, match=r"held_out_loss is inf at step 10;.*--start-from"):
        run(tiny_config(), pack, tmp_path)
    assert final_state(tmp_path)["step"] == CHECKPOINT_EVERY
    assert all(math.isfinite(value) for record in log_records(tmp_path) for value in record.values())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_after_its_step_with_a_checkpoint_and_no_bit_is_lost(
    pack: Pack, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    whole_step = Stepper.step

    def signalled(self: Stepper, step: int, *args: Any) -> torch.Tensor:
        if step == 6:
            os.kill(os.getpid(), number)
        return whole_step(self, step, *args)

    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        patch.setattr(Stepper, "step", signalled)
        result = run(tiny_config(), pack, tmp_path)
    assert (result.end, result.step, result.signal_number) == ("interrupted", 7, number)
    assert final_state(tmp_path)["step"] == 7
    assert signal.getsignal(number) is before
    assert resume(pack, tmp_path).end == "done"
    assert_same_bits(final_state(tmp_path), final_state(uninterrupted))


# Learning


def test_the_loss_falls_and_the_held_out_images_gain_on_a_tiny_problem(pack: Pack, tmp_path: Path) -> None:
    config = tiny_config(
        optimiser={"steps": 250, "learning_rate": 8e-3, "warmup_steps": 10, "ema_decay": 0.9},
        data={"batch_size": 8, "samples_per_epoch": 1000, "synthetic_share": 0},
        noise={"stages": [{"kind": "gaussian", "sigma_min": 25, "sigma_max": 25}], "clean_share": 0},
        log_every_steps=25,
        checkpoint_every_steps=250,
    )
    result = run(config, pack, tmp_path)
    losses = [record["loss"] for record in log_records(tmp_path)]
    assert losses[-1] < 0.8 * losses[0]
    fresh = Validator(config, pack).measure(Stepper(config, _one_rank()).network.eval(), torch.device("cpu"))
    assert fresh is not None
    assert fresh.psnr_db is not None
    assert result.held_out_psnr_db is not None
    assert result.held_out_psnr_db > fresh.psnr_db + 2


def _one_rank() -> Any:
    from training.run.distributed import Ranks

    return Ranks(0, 1, torch.device("cpu"))


def test_half_precision_trains_full_precision_weights(pack: Pack, tmp_path: Path) -> None:
    run(tiny_config(optimiser={"precision": "bf16", "steps": 2}), pack, tmp_path)
    assert {weights.dtype for weights in final_state(tmp_path)["network"].values()} == {torch.float32}


def test_accumulated_batches_train_like_one_large_batch(pack: Pack, tmp_path: Path) -> None:
    data = {"samples_per_epoch": 1000}
    for name, batch_size, accumulation in (("large", 4, 1), ("accumulated", 2, 2)):
        config = tiny_config(data={**data, "batch_size": batch_size}, optimiser={"accumulation": accumulation})
        run(config, pack, tmp_path / name)
    losses = [[record["loss"] for record in log_records(tmp_path / name)] for name in ("large", "accumulated")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_the_determinism_switch_is_set_and_reset(pack: Pack, tmp_path: Path, uninterrupted: Path) -> None:
    run(tiny_config(optimiser={"deterministic": True}), pack, tmp_path / "strict")
    assert torch.are_deterministic_algorithms_enabled()
    assert_same_bits(final_state(tmp_path / "strict")["network"], final_state(uninterrupted)["network"])
    run(tiny_config(), pack, tmp_path / "free")
    assert not torch.are_deterministic_algorithms_enabled()


def test_noisy_images_alone_train_select_by_the_loss_and_resume_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noisy_pack = Pack(packed(tmp_path, [40] * 20, noisy_only=True))
    config = tiny_config(data={"supervision": "noisy", "crop_px": 32, "synthetic_share": 0.0})
    result = run(config, noisy_pack, tmp_path / "whole")
    assert result.held_out_psnr_db is None
    assert result.best_step is not None
    killed_run(config, noisy_pack, tmp_path / "killed", monkeypatch, after=8)
    resume(noisy_pack, tmp_path / "killed")
    assert_same_bits(final_state(tmp_path / "killed"), final_state(tmp_path / "whole"))


def test_the_log_is_json_all_the_way(uninterrupted: Path) -> None:
    for line in RunDir(uninterrupted).log_path.read_text().splitlines():
        assert isinstance(json.loads(line), dict)
    assert list(RunDir(uninterrupted).tensorboard_path.glob("events*"))
