"""The smallest packs, configs and comparisons that the tests of runs share."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as PillowImage

from training.config import RunConfig
from training.data.prepare import prepare
from training.run.directory import RunDir

STEPS = 12
CHECKPOINT_EVERY = 5

CONV_DAE: dict[str, Any] = {
    "kind": "conv_dae",
    "channels": 1,
    "widths": [16, 16],
    "encoder_blocks": [1],
    "middle_blocks": 1,
    "decoder_blocks": [0],
    "estimator_width": 16,
}
VAE: dict[str, Any] = {"kind": "vae", "channels": 1, "side_px": 16, "code_length": 4, "widths": [8]}
# What a variational autoencoder minimises.
ENERGY: dict[str, Any] = {"objective": "energy", "image": {"mse": 1.0}}
PCA: dict[str, Any] = {"kind": "pca", "channels": 1, "side_px": 16, "code_length": 4}

_TREE: dict[str, Any] = {
    "name": "tiny",
    "seed": 11,
    "network": CONV_DAE,
    "noise": {"stages": [{"kind": "gaussian", "sigma_min": 5, "sigma_max": 50}], "clean_share": 0.1},
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


def tiny_config(**changes: Any) -> RunConfig:
    """A config of 12 steps; a section given is merged into it, a network replaces it."""
    tree = dict(_TREE)
    for section, values in changes.items():
        is_merged = isinstance(values, dict) and section != "network"
        tree[section] = {**tree.get(section, {}), **values} if is_merged else values
    return RunConfig.model_validate(tree)


def waves(seed: int, side_px: int) -> NDArray[np.uint8]:
    """A smooth grey picture, unlike noise."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:side_px, 0:side_px]
    wave = np.sin(rng.uniform(0.05, 0.3) * rows + rng.uniform(0.05, 0.3) * columns + rng.uniform(0, 6))
    picture: NDArray[np.uint8] = np.rint(127.5 + 100 * wave).astype(np.uint8)
    return picture


def packed(path: Path, sides_px: list[int], **options: Any) -> Path:
    """The folder of a pack of square grey pictures."""
    (path / "images").mkdir(parents=True)
    for index, side_px in enumerate(sides_px):
        PillowImage.fromarray(waves(index, side_px)).save(path / "images" / f"{index:03}.png")
    prepare(path / "images", path / "pack", channels=1, **options)
    return path / "pack"


def final_state(path: Path) -> dict[str, Any]:
    """All that the newest checkpoint of a run holds."""
    checkpoint = RunDir(path).checkpoints.load()
    return {name: getattr(checkpoint, name) for name in checkpoint.__slots__}


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
