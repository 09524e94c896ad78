"""Which images an evaluation takes: only what fits the run, under the name that was asked for."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

pytest.importorskip("torch")

from denoised.contract import SampleLevels
from denoised.noise import NoiseSpec
from training.config import ConvDaeConfig, DataConfig, OptimiserConfig, RunConfig
from training.data.pack import Pack
from training.data.prepare import prepare
from training.errors import ConfigError, DataError
from training.evaluation.choices import chosen_images
from training.networks import build_network
from training.run.trained import Trained

pytestmark = pytest.mark.training

TWELVE_BIT = SampleLevels("u16", 0.0, 4095.0)


def pack_of(tmp_path: Path, name: str = "pack", *, white: float | None = None) -> Pack:
    folder = tmp_path / f"{name}-images"
    folder.mkdir()
    for number in range(12):
        samples = np.random.default_rng([len(name), number]).integers(0, 256, (16, 16), dtype=np.uint8)
        PillowImage.fromarray(samples).save(folder / f"{number:02}.png")
    prepare(folder, tmp_path / name, channels=1, white=white)
    return Pack(tmp_path / name)


def trained_on(digest: str, levels: SampleLevels | None = None) -> Trained:
    config = RunConfig(
        name="tiny",
        network=ConvDaeConfig(
            channels=1, widths=(16, 16), encoder_blocks=(0,), middle_blocks=0, decoder_blocks=(0,), estimator_width=16
        ),
        noise=NoiseSpec.gaussian(0, 55),
        data=DataConfig(crop_px=16, batch_size=2),
        optimiser=OptimiserConfig(steps=10, learning_rate=1e-3),
    )
    network = build_network(config.network).eval()
    return Trained(
        config=config,
        network=network,
        step=10,
        weights="last",
        pack_digest=digest,
        levels=levels or SampleLevels(),
    )


def test_black_and_white_are_those_of_the_run(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    samples = np.random.default_rng(0).integers(0, 4096, (16, 16), dtype=np.uint16)
    (tmp_path / "frames").mkdir()
    tifffile.imwrite(tmp_path / "frames" / "0.tif", samples)
    (subject,) = chosen_images(trained_on("d" * 64, TWELVE_BIT), pack=None, folder=tmp_path / "frames")
    np.testing.assert_allclose(subject.clean[:, :, 0], samples / 4095, atol=1e-6)


def test_a_pack_with_other_levels_than_the_runs_is_refused(tmp_path: Path) -> None:
    pack = pack_of(tmp_path, white=200.0)
    with pytest.raises(DataError, match=r"200.*4095"):
        chosen_images(trained_on(pack.manifest.digest, TWELVE_BIT), pack=pack, folder=tmp_path / "pack-images")


def test_held_out_images_are_of_the_pack_that_the_run_was_trained_on(tmp_path: Path) -> None:
    own, other = pack_of(tmp_path), pack_of(tmp_path, "other")
    assert len(chosen_images(trained_on(own.manifest.digest), pack=own, folder=None)) > 0
    with pytest.raises(DataError, match="not the one that the run was trained on"):
        chosen_images(trained_on(own.manifest.digest), pack=other, folder=None)


def test_a_set_has_the_name_that_was_asked_for(tmp_path: Path) -> None:
    pack = pack_of(tmp_path)
    trained = trained_on(pack.manifest.digest)
    assert chosen_images(trained, pack=pack, folder=None).name == "held-out"
    for folder in (None, tmp_path / "pack-images"):
        assert chosen_images(trained, pack=pack, folder=folder, name="mine").name == "mine"


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "a\\b"])
def test_a_name_that_is_no_name_of_a_file_is_refused(tmp_path: Path, name: str) -> None:
    pack = pack_of(tmp_path)
    with pytest.raises(ConfigError, match="--name"):
        chosen_images(trained_on(pack.manifest.digest), pack=pack, folder=None, name=name)
