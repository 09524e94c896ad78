"""Every kind of network with a code goes a denoiser's way: trained, killed, resumed, evaluated, exported, served."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from PIL import Image as PillowImage

pytest.importorskip("torch")
pytest.importorskip("sklearn")

from denoised import Client
from denoised.contract import CODE_NAME, EPSILON_NAME, IMAGE_OUTPUT_NAME, INPUT_NAME
from tests.e2e.training.cli import served, train_until_killed
from tests.integration.training.verbs import called

pytestmark = [pytest.mark.training, pytest.mark.slow]

_NETWORKS = {
    "fc_ae": 'kind = "fc_ae"\nhidden = [64]',
    "conv_ae": 'kind = "conv_ae"\nwidths = [16, 16]',
    "vae": 'kind = "vae"\nwidths = [16, 16]',
    "pca": 'kind = "pca"',
}
_CODE_LENGTH = 6
_SIDE_PX = 8


def _name(kind: str) -> str:
    """What its model is called."""
    return f"digits-{kind.replace('_', '-')}"


def _config(kind: str) -> str:
    return f"""
name = "{_name(kind)}"
checkpoint_every_steps = 30
[network]
{_NETWORKS[kind]}
channels = 1
side_px = {_SIDE_PX}
code_length = {_CODE_LENGTH}
[noise]
[[noise.stages]]
kind = "gaussian"
sigma_min = 0.0
sigma_max = 50.0
[data]
crop_px = {_SIDE_PX}
batch_size = 32
augment = false
[optimiser]
steps = 600
learning_rate = 1e-3
warmup_steps = 5
precision = "fp32"
[loss]
image = {{ mse = 1.0 }}
{'objective = "energy"' if kind == "vae" else ""}
"""


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``digits/train``, ``digits/test`` and the packed ``pack``."""
    folder = tmp_path_factory.mktemp("digits")
    called("digits", "--from", "sklearn", "--to", folder / "digits")
    options = ("--channels", "1", "--min-side-px", "8", "--group-by", "[^#]+")
    called("prepare", folder / "digits" / "train", *options, "--to", folder / "pack")
    return folder


@pytest.fixture(scope="module")
def store(digits: Path) -> Path:
    """One model of each kind, named as the kind."""
    pack, store, images = digits / "pack", digits / "models", digits / "digits" / "test"
    for kind in _NETWORKS:
        config, run = digits / f"{kind}.toml", digits / "runs" / kind
        config.write_text(_config(kind), encoding="utf-8")
        if kind == "pca":
            # Solved at once: there is nothing to resume.
            called("train", config, "--data", pack, "--run", run)
        else:
            train_until_killed(config, data=pack, run=run, after=run / "checkpoint.ckpt")
            called("train", "--resume", "--data", pack, "--run", run)
        called("evaluate", run, "--images", images, "--data", pack, "--sigmas", "0", "50", "--baselines", "fast")
        called("export", run, "--data", pack, "--to", store, "--calibration-crops", "100")
    return store


@pytest.fixture(scope="module")
def client(store: Path) -> Iterator[Client]:
    with served(store, model=_name("pca")) as client:
        yield client


def test_every_kind_is_listed_with_its_code(client: Client) -> None:
    seen = {model.name: (model.fixed_side_px, model.code_length) for model in client.models()}
    assert seen == {_name(kind): (_SIDE_PX, _CODE_LENGTH) for kind in _NETWORKS}


@pytest.mark.parametrize("kind", sorted(_NETWORKS))
def test_a_served_digit_is_what_the_decoder_makes_of_the_encoders_code(
    kind: str, digits: Path, store: Path, client: Client
) -> None:
    path = min((digits / "digits" / "test").rglob("*.png"))
    digit = np.asarray(PillowImage.open(path))
    answer = client.clean(digit, model=_name(kind)).image

    version = store / _name(kind) / "1"
    encoder, decoder = (ort.InferenceSession(str(version / f"{part}.onnx")) for part in ("encoder", "decoder"))
    feed = {INPUT_NAME: (digit.astype(np.float32) / np.float32(255))[np.newaxis, np.newaxis]}
    if kind == "vae":
        feed[EPSILON_NAME] = np.zeros((1, _CODE_LENGTH), np.float32)
    (code,) = encoder.run([CODE_NAME], feed)
    (decoded,) = decoder.run([IMAGE_OUTPUT_NAME], {CODE_NAME: code})
    levels = np.rint(np.clip(decoded[0, 0], 0, 1) * np.float32(255))
    assert np.abs(answer.astype(int) - levels).max() <= 1
