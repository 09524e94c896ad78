"""A run may begin with another's weights: deeper without losing anything, or not at all."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from denoised.noise import keyed_rng
from tests.unit.training.run.tiny import CONV_DAE, PCA, tiny_config
from training.config import RunConfig
from training.data.pack import Pack
from training.errors import RunError
from training.networks import build_network
from training.run.directory import RunDir
from training.run.loop import train
from training.run.trained import load_trained

pytestmark = pytest.mark.training


def _config(*, steps: int = 2, rate: float = 1e-12, **network: Any) -> RunConfig:
    # A rate of practically nothing: what comes out is what the run began with.
    return tiny_config(
        network={**CONV_DAE, **network},
        optimiser={"steps": steps, "learning_rate": rate, "warmup_steps": 1, "weight_decay": 0.0},
    )


@pytest.fixture(scope="module")
def parent(pack: Pack, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A run whose weights have moved far enough to tell them from fresh ones."""
    run = RunDir(tmp_path_factory.mktemp("runs") / "parent")
    config = _config(steps=6, rate=1e-2)
    run.create(config)
    train(config, pack, run, resume=False, workers=0, show_progress=False)
    return run


def child_of(parent: RunDir, config: RunConfig, pack: Pack, path: Path) -> RunDir:
    run = RunDir(path)
    run.create(config)
    train(config, pack, run, resume=False, start_from=parent, workers=0, show_progress=False)
    return run


def test_a_deeper_network_begins_as_the_one_that_it_started_from(pack: Pack, parent: RunDir, tmp_path: Path) -> None:
    config = _config(middle_blocks=2)
    run = child_of(parent, config, pack, tmp_path / "deeper")
    noisy = torch.from_numpy(keyed_rng(1).random((1, 1, 64, 64), dtype=np.float32))
    with torch.no_grad():
        before, after = (load_trained(which).network(noisy) for which in (parent, run))
        fresh = build_network(config.network).eval()(noisy)
    torch.testing.assert_close(after.image, before.image, atol=1e-6, rtol=0)
    torch.testing.assert_close(after.sigma_map, before.sigma_map, atol=1e-6, rtol=0)
    assert not torch.allclose(fresh.image, before.image, atol=1e-6)


def test_the_run_keeps_the_config_of_the_one_that_it_started_from(pack: Pack, parent: RunDir, tmp_path: Path) -> None:
    assert parent.load_parent_config() is None
    run = child_of(parent, _config(), pack, tmp_path / "child")
    assert run.load_parent_config() == parent.load_config()


@pytest.mark.parametrize("network", [{"middle_blocks": 0}, {"widths": [32, 32]}])
def test_a_network_that_does_not_fit_is_refused(
    network: dict[str, Any], pack: Pack, parent: RunDir, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match="same widths and no more blocks"):
        child_of(parent, _config(**network), pack, tmp_path / "misfit")


def test_a_run_of_another_kind_is_refused_and_both_kinds_are_named(pack: Pack, tmp_path: Path) -> None:
    other = RunDir(tmp_path / "pca")
    config = tiny_config(network=PCA)
    other.create(config)
    train(config, pack, other, resume=False, show_progress=False)
    with pytest.raises(RunError, match=r"\(pca\).*\(conv_dae\)"):
        child_of(other, _config(), pack, tmp_path / "misfit")
