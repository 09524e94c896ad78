"""Training: a killed and resumed run is the uninterrupted one bit for bit; the log, the average and the loss."""

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from PIL import Image as PillowImage

import denoised
import training
from training import train as train_module
from training.config import OptimiserConfig, RunConfig
from training.data.pack import Pack
from training.data.prepare import prepare
from training.errors import TrainingError
from training.networks import build_network
from training.run.directory import RunDir
from training.run.loop import TrainResult, WeightAverage, learning_rate, train

pytestmark = pytest.mark.training

STEPS = 12
CHECKPOINT_EVERY = 5


class Killed(BaseException):
    """Stands in for the process's end: no handler of the code under test may run on it."""


@pytest.fixture(scope="module", autouse=True)
def _one_thread_of_the_processor() -> Iterator[None]:
    """Sums come out bit for bit the same only in one order."""
    thread_count = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        yield
    torch.set_num_threads(thread_count)


def tiny_config(**changes: Any) -> RunConfig:
    tree: dict[str, Any] = {
        "name": "tiny",
        "seed": 11,
        "network": {
            "widths": [16, 16],
            "encoder_blocks": [1],
            "middle_blocks": 1,
            "decoder_blocks": [0],
            "estimator_width": 16,
        },
        "noise": {"kind": "gaussian", "sigma_min": 5, "sigma_max": 50, "grey_share": 0.2, "clean_share": 0.1},
        # Five samples an epoch and two a step: checkpoints fall within epochs and within schedules.
        "data": {"crop_px": 16, "batch_size": 2, "samples_per_epoch": 5, "synthetic_share": 0.2},
        "optimiser": {
            "steps": STEPS,
            "learning_rate": 3e-3,
            "warmup_steps": 3,
            "weight_decay": 0.01,
            "precision": "fp32",
        },
        "log_every_steps": 2,
        "checkpoint_every_steps": CHECKPOINT_EVERY,
    }
    for section, values in changes.items():
        tree[section] = {**tree.get(section, {}), **values} if isinstance(values, dict) else values
    return RunConfig.model_validate(tree)


def waves(seed: int, side_px: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A smooth colour picture, unlike noise."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:side_px, 0:side_px]
    channels = [
        np.sin(rng.uniform(0.05, 0.3) * rows + rng.uniform(0.05, 0.3) * columns + rng.uniform(0, 6)) for _ in range(3)
    ]
    return np.rint(127.5 + 100 * np.stack(channels, axis=2)).astype(np.uint8)


def packed(path: Path, sides_px: list[int]) -> Path:
    """The folder of a pack of square pictures."""
    (path / "images").mkdir()
    for index, side_px in enumerate(sides_px):
        PillowImage.fromarray(waves(index, side_px)).save(path / "images" / f"{index:03}.png")
    prepare(path / "images", path / "pack", channels=3, min_side_px=1)
    return path / "pack"


@pytest.fixture(scope="module")
def pack_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty pictures, the last of which is held out."""
    return packed(tmp_path_factory.mktemp("packed"), [24] * 20)


@pytest.fixture(scope="module")
def pack(pack_path: Path) -> Pack:
    return Pack(pack_path)


def run(config: RunConfig, pack: Pack, path: Path) -> TrainResult:
    """A new run from its first step."""
    run_dir = RunDir(path)
    run_dir.create(config)
    return train(config, pack, run_dir, resume=False, show_progress=False)


def resume(pack: Pack, path: Path) -> TrainResult:
    """Continues with nothing but what lies in the run directory, and in a process in another state."""
    torch.manual_seed(999)
    np.random.seed(999)  # noqa: NPY002 -- the global state is what is to be disturbed
    torch.randn(100)
    run_dir = RunDir(path)
    return train(run_dir.load_config(), pack, run_dir, resume=True, show_progress=False)


def kill_after_step(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """The process ends when it has made that many optimisation steps."""
    whole_step = train_module._step
    done = 0

    def counted(*args: Any) -> float:
        nonlocal done
        if done == step:
            raise Killed
        done += 1
        return whole_step(*args)

    monkeypatch.setattr(train_module, "_step", counted)


def log_records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in RunDir(path).log_path.read_text(encoding="utf-8").splitlines()]


def final_state(path: Path) -> dict[str, Any]:
    return RunDir(path).load_checkpoint()


def assert_same_bits(one: object, other: object, where: str = "state") -> None:
    """Equal types, structure and bits, all the way down."""
    assert type(one) is type(other), where
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        assert one.dtype == other.dtype, where
        assert torch.equal(one, other), where
    elif isinstance(one, dict) and isinstance(other, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_same_bits(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple):
        assert len(one) == len(other), where
        for index, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same_bits(a, b, f"{where}.{index}")
    else:
        assert one == other, where


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
    with monkeypatch.context() as patch:
        kill_after_step(patch, killed_after)
        with pytest.raises(Killed):
            run(tiny_config(), pack, tmp_path)
    assert final_state(tmp_path)["step"] == killed_after // CHECKPOINT_EVERY * CHECKPOINT_EVERY
    assert resume(pack, tmp_path).step == STEPS
    assert_same_bits(final_state(tmp_path), final_state(uninterrupted))


def test_a_run_killed_twice_equals_the_uninterrupted_one(
    pack: Pack, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        kill_after_step(patch, 7)
        with pytest.raises(Killed):
            run(tiny_config(), pack, tmp_path)
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
    with monkeypatch.context() as patch:
        kill_after_step(patch, 11)
        with pytest.raises(Killed):
            run(tiny_config(), pack, tmp_path)
    newest = RunDir(tmp_path).checkpoint_path
    newest.write_bytes(newest.read_bytes()[: newest.stat().st_size // 2])
    assert final_state(tmp_path)["step"] == 5
    resume(pack, tmp_path)
    assert_same_bits(final_state(tmp_path), final_state(uninterrupted))


CHILD = """
import os, signal, sys
from pathlib import Path
import torch
from training import train as train_module
from training.config import RunConfig
from training.data.pack import Pack
from training.run.directory import RunDir

torch.set_num_threads(1)
whole_step, done = train_module._step, 0

def step_or_die(*args):
    global done
    if done == 8:
        os.kill(os.getpid(), signal.SIGKILL)
    done += 1
    return whole_step(*args)

train_module._step = step_or_die
run_dir = RunDir(Path(sys.argv[1]))
config = run_dir.load_config()
train_module.train(config, Pack(Path(sys.argv[2])), run_dir, resume=False, show_progress=False)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the system has no SIGKILL")
def test_a_run_whose_process_was_killed_is_resumed_exactly_in_another_process(
    pack_path: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    RunDir(tmp_path).create(tiny_config())
    roots = [Path(next(iter(package.__path__))).parent for package in (training, denoised)]
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path), str(pack_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, roots)), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert final_state(tmp_path)["step"] == CHECKPOINT_EVERY
    resume(Pack(pack_path), tmp_path)
    assert_same_bits(final_state(tmp_path), final_state(uninterrupted))


def test_the_same_config_trains_to_the_same_bits(pack: Pack, uninterrupted: Path, tmp_path: Path) -> None:
    run(tiny_config(), pack, tmp_path)
    assert_same_bits(final_state(tmp_path), final_state(uninterrupted))


def test_another_seed_trains_to_other_weights(pack: Pack, uninterrupted: Path, tmp_path: Path) -> None:
    run(tiny_config(seed=12), pack, tmp_path)
    weights = [final_state(path)["network"]["head.weight"] for path in (tmp_path, uninterrupted)]
    assert not torch.equal(*weights)


def test_what_is_logged_and_how_often_checkpoints_are_made_does_not_change_the_weights(
    pack: Pack, uninterrupted: Path, tmp_path: Path
) -> None:
    run(tiny_config(log_every_steps=1, checkpoint_every_steps=4), pack, tmp_path)
    assert_same_bits(final_state(tmp_path), final_state(uninterrupted))


def test_resuming_without_a_checkpoint_is_refused(pack: Pack, tmp_path: Path) -> None:
    RunDir(tmp_path).create(tiny_config())
    with pytest.raises(TrainingError, match="no usable checkpoint"):
        resume(pack, tmp_path)


def test_resuming_a_finished_run_changes_nothing_and_reports_its_quality(
    pack: Pack, uninterrupted: Path, tmp_path: Path
) -> None:
    before = run(tiny_config(), pack, tmp_path)
    assert resume(pack, tmp_path) == before
    assert_same_bits(final_state(tmp_path), final_state(uninterrupted))


def test_a_pack_of_other_channels_is_refused_before_the_first_step(pack: Pack, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="channel"):
        run(tiny_config(network={"channels": 1}), pack, tmp_path)


def test_held_out_images_smaller_than_the_network_can_take_do_not_end_the_run(tmp_path: Path) -> None:
    tiny_held_out = Pack(packed(tmp_path, [24] * 19 + [7]))
    result = run(tiny_config(optimiser={"steps": 1}), tiny_held_out, tmp_path / "run")
    assert result == TrainResult(1, None)


# What a run leaves behind


def test_every_line_of_the_log_is_a_record_with_the_documented_keys(uninterrupted: Path) -> None:
    records = log_records(uninterrupted)
    assert [record["step"] for record in records] == [2, 4, 5, 6, 8, 10, 12]
    for record in records:
        expected = {"step", "loss", "learning_rate", "elapsed_s"}
        if record["step"] in {5, 10, 12}:
            expected.add("held_out_psnr_db")
        assert record.keys() == expected
        assert all(math.isfinite(value) for value in record.values())
        assert record["learning_rate"] == learning_rate(record["step"] - 1, tiny_config().optimiser)
    assert [record["elapsed_s"] for record in records] == sorted(record["elapsed_s"] for record in records)


def test_a_logged_loss_is_the_mean_since_the_line_before(pack: Pack, uninterrupted: Path, tmp_path: Path) -> None:
    run(tiny_config(log_every_steps=1), pack, tmp_path)
    single = {record["step"]: record["loss"] for record in log_records(tmp_path)}
    previous = 0
    for record in log_records(uninterrupted):
        mean = np.mean([single[step] for step in range(previous + 1, record["step"] + 1)])
        assert record["loss"] == pytest.approx(mean, rel=1e-12)
        previous = record["step"]


def test_each_step_is_logged_once_although_the_run_was_killed(
    pack: Pack, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Steps 6 to 8 are made twice, because the checkpoint is of step 5.
    with monkeypatch.context() as patch:
        kill_after_step(patch, 9)
        with pytest.raises(Killed):
            run(tiny_config(), pack, tmp_path)
    resume(pack, tmp_path)
    figures = [[(r["step"], r["loss"]) for r in log_records(path)] for path in (tmp_path, uninterrupted)]
    assert figures[0] == figures[1]


def test_the_checkpoint_holds_raw_and_averaged_weights_and_they_differ(uninterrupted: Path) -> None:
    state = final_state(uninterrupted)
    assert state["step"] == state["average_update_count"] == STEPS
    assert state["network"].keys() == state["average"].keys()
    same = [name for name, weights in state["network"].items() if torch.equal(weights, state["average"][name])]
    assert same == []


def test_the_result_is_that_of_the_averaged_weights_on_the_held_out_image(
    pack: Pack, uninterrupted: Path, tmp_path: Path
) -> None:
    result = run(tiny_config(), pack, tmp_path)
    assert result.step == STEPS
    assert result.held_out_psnr_db is not None
    assert log_records(uninterrupted)[-1]["held_out_psnr_db"] == round(result.held_out_psnr_db, 3)
    network = build_network(tiny_config().network)
    state = final_state(tmp_path)
    network.load_state_dict(state["average"])
    averaged_db = train_module._held_out_psnr_db(network, pack, tiny_config())
    network.load_state_dict(state["network"])
    raw_db = train_module._held_out_psnr_db(network, pack, tiny_config())
    assert result.held_out_psnr_db == pytest.approx(averaged_db, abs=1e-6)
    assert result.held_out_psnr_db != pytest.approx(raw_db, abs=1e-6)


def test_a_fresh_network_scores_the_noise_itself(pack: Pack) -> None:
    fresh_db = train_module._held_out_psnr_db(build_network(tiny_config().network), pack, tiny_config())
    # Noise of 25 levels on a picture that is hardly clipped.
    assert fresh_db == pytest.approx(20 * math.log10(255 / 25), abs=0.5)


def test_without_held_out_images_there_is_no_figure(tmp_path: Path) -> None:
    result = run(tiny_config(optimiser={"steps": 1}), Pack(packed(tmp_path, [24])), tmp_path / "run")
    assert result == TrainResult(1, None)
    assert "held_out_psnr_db" not in log_records(tmp_path / "run")[-1]


# Learning


def test_the_loss_falls_and_the_held_out_image_gains_on_a_tiny_problem(pack: Pack, tmp_path: Path) -> None:
    config = tiny_config(
        optimiser={"steps": 300, "learning_rate": 8e-3, "warmup_steps": 10, "ema_decay": 0.9},
        data={"batch_size": 8, "samples_per_epoch": 1000, "synthetic_share": 0},
        noise={"sigma_min": 25, "sigma_max": 25, "clean_share": 0},
        log_every_steps=20,
        checkpoint_every_steps=300,
    )
    result = run(config, pack, tmp_path)
    losses = [record["loss"] for record in log_records(tmp_path)]
    assert losses[-1] < 0.7 * losses[0]
    fresh_db = train_module._held_out_psnr_db(build_network(config.network), pack, config)
    assert fresh_db is not None
    assert result.held_out_psnr_db is not None
    assert result.held_out_psnr_db > fresh_db + 2


def test_half_precision_trains_full_precision_weights(pack: Pack, tmp_path: Path) -> None:
    run(tiny_config(optimiser={"precision": "bf16", "steps": 2}), pack, tmp_path)
    assert {weights.dtype for weights in final_state(tmp_path)["network"].values()} == {torch.float32}


@pytest.mark.parametrize("loss", ["mse", "log_mse", "charbonnier"])
def test_every_image_loss_can_be_trained(pack: Pack, tmp_path: Path, loss: str) -> None:
    result = run(tiny_config(loss={"image": loss}, optimiser={"steps": 2}), pack, tmp_path)
    assert result.step == 2
    assert all(torch.isfinite(weights).all() for weights in final_state(tmp_path)["network"].values())


# Schedule and average


def test_the_rate_warms_up_in_equal_steps_and_then_falls_along_half_a_cosine() -> None:
    config = OptimiserConfig(steps=110, learning_rate=0.8, warmup_steps=10)
    rates = [learning_rate(step, config) for step in range(111)]
    assert rates[:10] == pytest.approx([0.08 * (step + 1) for step in range(10)])
    assert rates[10] == max(rates) == 0.8
    assert rates[60] == pytest.approx(0.4)
    assert rates[110] == pytest.approx(0.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)


@pytest.mark.parametrize(("steps", "warmup_steps"), [(1, 0), (5, 0), (5, 5), (5, 200)])
def test_the_rate_is_positive_and_within_its_limit_on_every_step(steps: int, warmup_steps: int) -> None:
    config = OptimiserConfig(steps=steps, learning_rate=0.8, warmup_steps=warmup_steps)
    assert all(0 < learning_rate(step, config) <= 0.8 for step in range(steps))


def test_the_average_follows_quickly_at_first_and_then_by_its_decay() -> None:
    network = torch.nn.Conv2d(1, 1, 1)
    torch.nn.init.zeros_(network.weight)
    average = WeightAverage(network, decay=0.25)
    torch.nn.init.ones_(network.weight)
    expected = 0.0
    for decay in (2 / 11, 3 / 12, 0.25, 0.25):
        average.update(network)
        expected = decay * expected + (1 - decay)
        assert average.weights["weight"].item() == pytest.approx(expected, rel=1e-6)
    assert average.update_count == 4


def test_the_network_gets_its_own_weights_back_even_after_an_error() -> None:
    network = torch.nn.Conv2d(1, 1, 1)
    torch.nn.init.zeros_(network.weight)
    average = WeightAverage(network, decay=0.5)
    torch.nn.init.ones_(network.weight)
    seen: list[float] = []

    def work() -> None:
        with average.swapped_in(network):
            seen.append(network.weight.item())
            raise Killed

    with pytest.raises(Killed):
        work()
    assert seen == [0.0]
    assert network.weight.item() == 1
    assert average.weights["weight"].item() == 0
