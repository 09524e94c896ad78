"""A run may begin with another's weights: deeper without losing anything, or not at all."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

pytest.importorskip("torch")

import torch

from denoised.noise import NoiseSpec, keyed_rng
from training.config import ConvDaeConfig, DataConfig, OptimiserConfig, RunConfig
from training.data.pack import Pack
from training.data.prepare import prepare
from training.errors import RunError
from training.evaluation.measure import load_network
from training.networks import build_network
from training.run.directory import RunDir
from training.run.loop import train

pytestmark = pytest.mark.training


def _config(*, middle_blocks: int, width: int = 16, steps: int = 2) -> RunConfig:
    return RunConfig(
        name="tiny",
        network=ConvDaeConfig(
            widths=(width, width),
            encoder_blocks=(0,),
            middle_blocks=middle_blocks,
            decoder_blocks=(0,),
            estimator_width=16,
        ),
        noise=NoiseSpec(kind="gaussian", sigma_min=0, sigma_max=50),
        data=DataConfig(crop_px=32, batch_size=2),
        # A rate of practically nothing: what comes out is what the run began with.
        optimiser=OptimiserConfig(steps=steps, learning_rate=1e-12, warmup_steps=1, precision="fp32"),
    )


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    images, packed = tmp_path_factory.mktemp("images"), tmp_path_factory.mktemp("pack")
    picture = keyed_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    PillowImage.fromarray(picture).save(images / "one.png")
    prepare(images, packed, channels=3, min_side_px=32)
    return Pack(packed)


@pytest.fixture(scope="module")
def parent(pack: Pack, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A run whose weights have moved far enough to tell them from fresh ones."""
    config = _config(middle_blocks=1, steps=6)
    config = config.model_copy(update={"optimiser": config.optimiser.model_copy(update={"learning_rate": 1e-2})})
    run = RunDir(tmp_path_factory.mktemp("runs") / "parent")
    run.create(config)
    train(config, pack, run, resume=False, show_progress=False)
    return run


def test_a_deeper_network_begins_as_the_one_that_it_started_from(pack: Pack, parent: RunDir, tmp_path: Path) -> None:
    config, run = _config(middle_blocks=2), RunDir(tmp_path / "deeper")
    run.create(config)
    train(config, pack, run, resume=False, start_from=parent, show_progress=False)
    noisy = torch.from_numpy(keyed_rng(1).random((1, 3, 64, 64), dtype=np.float32))
    with torch.no_grad():
        before, after = (load_network(which)[1](noisy) for which in (parent, run))
        fresh = build_network(config.network).eval()(noisy)
    torch.testing.assert_close(after.image, before.image, atol=1e-6, rtol=0)
    torch.testing.assert_close(after.sigma_map, before.sigma_map, atol=1e-6, rtol=0)
    assert not torch.allclose(fresh.image, before.image, atol=1e-6)


def test_the_run_keeps_the_config_of_the_one_that_it_started_from(pack: Pack, parent: RunDir, tmp_path: Path) -> None:
    config, run = _config(middle_blocks=1), RunDir(tmp_path / "child")
    run.create(config)
    assert run.load_parent_config() is None
    train(config, pack, run, resume=False, start_from=parent, show_progress=False)
    assert run.load_parent_config() == parent.load_config()


@pytest.mark.parametrize("config", [_config(middle_blocks=0), _config(middle_blocks=1, width=32)])
def test_a_network_that_does_not_fit_is_refused(config: RunConfig, pack: Pack, parent: RunDir, tmp_path: Path) -> None:
    run = RunDir(tmp_path / "misfit")
    run.create(config)
    with pytest.raises(RunError, match="same widths and no more blocks"):
        train(config, pack, run, resume=False, start_from=parent, show_progress=False)
