"""Microscope frames, 12 bits in 16-bit TIFF, noisy only: from the folder to a served network that makes them better."""

import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch")
pytest.importorskip("tifffile")
pytest.importorskip("skimage")

from denoised.noise import keyed_rng
from denoised.quality import psnr_db
from tests.e2e.training.cli import served
from tests.integration.training.verbs import REPOSITORY, called

pytestmark = [pytest.mark.training, pytest.mark.slow]

_WHITE = 4095
# Of the 0..1 range: variance = gain * signal + read noise squared.
_GAIN, _READ = 0.01, 0.03


def _noisy_12_bit(clean: NDArray[np.float64], *, key: int) -> NDArray[np.uint16]:
    rng = keyed_rng(key)
    photons = rng.poisson(clean / _GAIN) * _GAIN
    noisy = photons + rng.normal(0.0, _READ, clean.shape)
    return np.rint(np.clip(noisy, 0, 1) * _WHITE).astype(np.uint16)


def test_noisy_frames_become_a_network_that_cleans_them(tmp_path: Path) -> None:
    import skimage.data
    import tifffile

    frames, pack, run, store = (tmp_path / name for name in ("frames", "pack", "run", "models"))
    frames.mkdir()
    scene = np.asarray(getattr(skimage.data, "camera")(), np.float64) / 255  # noqa: B009 -- it declares no types
    for index in range(6):
        stack = np.stack([_noisy_12_bit(np.rot90(scene, index), key=10 * index + page) for page in range(2)])
        tifffile.imwrite(frames / f"specimen{index}.ome.tif", stack, metadata={"axes": "TYX"})

    out, _ = called("prepare", frames, "--noisy-only", "--channels", "1", "--to", pack)
    assert re.search(r"0\b.*\b4095", out)
    called("fit-noise", pack, "--json", tmp_path / "noise.json")
    settings = ("--noise", tmp_path / "noise.json", "--set", "optimiser.steps=400", "--set", "name=scope")
    called("train", REPOSITORY / "training/configs/frames.toml", *settings, "--data", pack, "--run", run)
    called("evaluate", run, "--images", frames, "--without-clean", "--data", pack)
    called("export", run, "--data", pack, "--to", store, "--calibration-crops", "64")

    clean = np.flipud(scene)[64:448, 64:448]
    noisy = _noisy_12_bit(clean, key=1000)
    with served(store, model="scope") as client:
        answer = client.clean(noisy).image
    assert answer.dtype == np.uint16
    input_db, output_db = (psnr_db(image, clean * _WHITE, value_range=_WHITE) for image in (noisy, answer))
    assert output_db >= input_db + 3.0
