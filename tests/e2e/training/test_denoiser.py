"""From a folder of images to an answer over gRPC, by the commands that the documentation names, a kill included."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from denoised.noise import keyed_rng
from tests.e2e.training.cli import served, train_until_killed, write_pictures
from tests.integration.oracle import Oracle, to_unit
from tests.integration.training.verbs import done

pytestmark = [pytest.mark.training, pytest.mark.slow]

_CONFIG = """
name = "mine"
summary = "Trained by a test."
checkpoint_every_steps = 25
log_every_steps = 10
[network]
kind = "conv_dae"
widths = [16, 32]
encoder_blocks = [0]
middle_blocks = 1
decoder_blocks = [0]
estimator_width = 16
[noise]
[[noise.stages]]
kind = "gaussian"
sigma_min = 0.0
sigma_max = 50.0
[data]
crop_px = 32
batch_size = 4
[optimiser]
steps = 100
# Hardly moves: the export's checks want no good denoiser, but one that does no harm.
learning_rate = 1e-6
warmup_steps = 2
precision = "fp32"
[loss]
image = { charbonnier = 1.0 }
"""


def test_images_become_a_served_model(tmp_path: Path) -> None:
    images, pack, run, store = (tmp_path / name for name in ("images", "pack", "run", "models"))
    write_pictures(images, count=8, side_px=320)
    (images / "broken.png").write_bytes(b"no picture")
    config = tmp_path / "mine.toml"
    config.write_text(_CONFIG, encoding="utf-8")

    assert "broken.png" in done("prepare", images, "--to", pack)[0]
    train_until_killed(config, data=pack, run=run, after=run / "checkpoint.ckpt")
    done("train", "--resume", "--data", pack, "--run", run)
    assert "25" in done("evaluate", run, "--data", pack, "--sigmas", "25", "--baselines", "fast")[0]
    assert "model.onnx" in done("export", run, "--data", pack, "--to", store, "--calibration-crops", "64")[0]

    noisy = keyed_rng(9).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    with served(store, model="mine") as client:
        (model,) = client.models()
        result = client.clean(noisy)
    oracle = Oracle(store / "mine" / "1" / "model.onnx")
    assert (model.name, model.version, model.is_default) == ("mine", "1", True)
    assert result.model.digest == oracle.digest
    # Another size of unit may sum in another order; a value at a rounding boundary then falls on the other side.
    difference = np.abs(result.image.astype(int) - oracle.denoise(to_unit(noisy)).levels)
    assert difference.max() <= 1
    assert np.count_nonzero(difference) <= 0.001 * difference.size


def test_errors_are_one_line_with_an_exit_code(tmp_path: Path) -> None:
    _, err = done("prepare", tmp_path / "nowhere", "--to", tmp_path, code=1)
    assert err.startswith("prepare failed: ")
    assert "Traceback" not in err
