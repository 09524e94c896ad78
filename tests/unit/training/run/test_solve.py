"""PCA is solved at once, and its run looks like any other."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from tests.unit.training.run.tiny import PCA, packed, tiny_config
from training.config import RunConfig
from training.data.pack import Pack
from training.errors import DataError, RunError
from training.networks import Network, PrincipalComponents
from training.run.directory import RunDir
from training.run.log import RunLog, read_log
from training.run.loop import TrainResult, train
from training.run.trained import load_trained

pytestmark = pytest.mark.training

CLEAN: dict[str, Any] = {"stages": []}


def solved(config: RunConfig, pack: Pack, path: Path) -> tuple[RunDir, TrainResult, list[int]]:
    told: list[int] = []

    def look(step: int, _network: Network, _log: RunLog) -> None:
        told.append(step)

    run_dir = RunDir(path)
    run_dir.create(config)
    result = train(config, pack, run_dir, resume=False, show_progress=False, on_checkpoint=look)
    return run_dir, result, told


def test_its_run_has_a_checkpoint_a_log_and_a_network_that_reconstructs(pack: Pack, tmp_path: Path) -> None:
    config = tiny_config(network={**PCA, "code_length": 16}, noise=CLEAN)
    run_dir, result, told = solved(config, pack, tmp_path)
    trained = load_trained(run_dir)
    assert isinstance(trained.network, PrincipalComponents)
    assert (trained.step, told) == (1, [1])
    assert trained.levels == pack.manifest.levels
    (record,) = read_log(run_dir.log_path)
    assert record["held_out_psnr_db"] == result.held_out_psnr_db
    assert record["held_out_reconstruction_nats"] < 0
    assert result.held_out_psnr_db is not None
    assert result.held_out_psnr_db > 15


def test_every_square_of_every_training_image_counts_once(tmp_path: Path) -> None:
    pack = Pack(packed(tmp_path, [33] * 20))
    run_dir, _, _ = solved(tiny_config(network=PCA, noise=CLEAN), pack, tmp_path / "run")
    squares = [
        torch.from_numpy(pack.unit(image, slice(top, top + 16), slice(left, left + 16)).reshape(-1).copy())
        for image in pack.training_images()
        for top in (0, 16)
        for left in (0, 16)
    ]
    network = load_trained(run_dir).network
    assert isinstance(network, PrincipalComponents)
    torch.testing.assert_close(network.mean, torch.stack(squares).mean(0), atol=1e-6, rtol=0)


def test_too_few_images_are_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="principal components"):
        solved(tiny_config(network=PCA), Pack(packed(tmp_path, [16] * 3)), tmp_path / "run")


def test_there_is_nothing_to_resume(pack: Pack, tmp_path: Path) -> None:
    run_dir, _, _ = solved(tiny_config(network=PCA), pack, tmp_path)
    with pytest.raises(RunError, match="solved at once"):
        train(run_dir.load_config(), pack, run_dir, resume=True, show_progress=False)
