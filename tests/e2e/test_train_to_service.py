"""From a folder of images to an answer over gRPC, by the commands that the documentation names."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

pytest.importorskip("torch")

from denoised import Client
from denoised.noise import keyed_rng
from service.demo.process import running_service
from training.data.synthetic import draw_picture

pytestmark = [pytest.mark.training, pytest.mark.slow]

_REPOSITORY = Path(__file__).resolve().parents[2]
_CONFIG = """
name = "mine"
summary = "Trained by a test."
checkpoint_every_steps = 4
[network]
widths = [16, 16]
encoder_blocks = [0]
middle_blocks = 1
decoder_blocks = [0]
estimator_width = 16
[noise]
kind = "gaussian"
sigma_min = 0.0
sigma_max = 50.0
[data]
crop_px = 32
batch_size = 2
[optimiser]
steps = 8
learning_rate = 1e-5
warmup_steps = 2
precision = "fp32"
"""


def _training(*arguments: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "training", *map(str, arguments)],
        cwd=_REPOSITORY,
        env=os.environ | {"PYTHONPATH": f"{_REPOSITORY}:{_REPOSITORY / 'proto'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_images_become_a_served_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, pack, run, store = (tmp_path / name for name in ("images", "pack", "run", "models"))
    images.mkdir()
    for index in range(3):
        picture = draw_picture(keyed_rng(index), side_px=320, channels=3)
        PillowImage.fromarray((picture * 255).astype(np.uint8)).save(images / f"{index}.png")
    (images / "broken.png").write_bytes(b"no picture")
    config = tmp_path / "mine.toml"
    config.write_text(_CONFIG, encoding="utf-8")

    assert "left out: broken.png" in _training("prepare", images, "--to", pack)
    (images / "broken.png").unlink()
    _training("train", config, "--data", pack, "--run", run)
    assert "| 25 |" in _training("evaluate", run, "--images", images, "--sigmas", "25")
    assert "model.onnx" in _training("export", run, "--data", pack, "--to", store)

    monkeypatch.setenv("DENOISED_MODELS_DIR", str(store))
    monkeypatch.setenv("DENOISED_DEFAULT_MODEL", "mine")
    noisy = keyed_rng(9).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    with running_service() as service, Client(service.grpc_target) as client:
        (model,) = client.models()
        result = client.clean(noisy)
    assert (model.name, model.version, model.is_default) == ("mine", "1", True)
    assert result.image.shape == noisy.shape
    assert result.model.digest == model.digest


def test_errors_are_one_line_with_an_exit_code(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "training", "prepare", str(tmp_path / "nowhere"), "--to", str(tmp_path)],
        cwd=_REPOSITORY,
        env=os.environ | {"PYTHONPATH": f"{_REPOSITORY}:{_REPOSITORY / 'proto'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("prepare failed: ")
    assert "Traceback" not in done.stderr
