"""Handmade files and runs without training that the tests of export share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image as PillowImage

from tests.unit.training.run.tiny import packed, tiny_config, waves
from training.config import RunConfig
from training.data.pack import Pack
from training.export.graphs import Port, Signature
from training.networks import PrincipalComponents, build_network
from training.run.checkpoint import Checkpoint
from training.run.directory import RunDir

CONV_AE: dict[str, Any] = {"kind": "conv_ae", "channels": 1, "side_px": 16, "code_length": 4, "widths": [8]}
FC_AE: dict[str, Any] = {"kind": "fc_ae", "channels": 1, "side_px": 16, "code_length": 4, "hidden": [16]}

IMAGE: tuple[str | int, ...] = ("batch", 1, "height", "width")
SIGNATURE = Signature(
    "model.onnx",
    (Port("noisy", IMAGE),),
    (Port("denoised", IMAGE),),
    frozenset({"Conv", "Add", "Mul", "Identity", "Sub"}),
)


def image_model(
    nodes: Sequence[onnx.NodeProto],
    *,
    weights: dict[str, NDArray[np.float32]] | None = None,
    opset: int = 20,
    ir_version: int = 10,
    channels: int = 1,
    free: Sequence[str] = ("batch", "height", "width"),
) -> onnx.ModelProto:
    """A graph from ``noisy`` to ``denoised``; sizes that are not free are 2."""
    batch, height, width = (name if name in free else 2 for name in ("batch", "height", "width"))
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, channels, height, width])
        for name in ("noisy", "denoised")
    ]
    tensors = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    graph = helper.make_graph(nodes, "test", values[:1], values[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


def identity() -> onnx.ModelProto:
    return image_model([helper.make_node("Identity", ["noisy"], ["denoised"])])


def box(size_px: int) -> onnx.ModelProto:
    """The mean over a square."""
    kernel = np.full((1, 1, size_px, size_px), 1 / size_px**2, dtype=np.float32)
    node = helper.make_node("Conv", ["noisy", "kernel"], ["denoised"], pads=[size_px // 2] * 4)
    return image_model([node], weights={"kernel": kernel})


def affine(scale: Sequence[float], offset: Sequence[float]) -> onnx.ModelProto:
    """Each channel times a scale plus an offset."""
    shape = (1, len(scale), 1, 1)
    weights = {
        "scale": np.array(scale, np.float32).reshape(shape),
        "offset": np.array(offset, np.float32).reshape(shape),
    }
    nodes = [
        helper.make_node("Mul", ["noisy", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "offset"], ["denoised"]),
    ]
    return image_model(nodes, weights=weights, channels=len(scale))


def run_of(path: Path, pack: Pack, *, network: dict[str, Any], spread: float = 0.02, **changes: Any) -> RunDir:
    """A run whose checkpoint holds random weights, small enough that a denoiser is close to the identity."""
    config: RunConfig = tiny_config(network=network, **changes)
    run = RunDir(path)
    run.create(config)
    torch.manual_seed(3)
    built = build_network(config.network)
    if isinstance(built, PrincipalComponents):
        built.fit([torch.rand(40, built.channels, built.fixed_side_px, built.fixed_side_px)])
    else:
        with torch.no_grad():
            for parameter in built.parameters():
                parameter.add_(spread * torch.randn_like(parameter))
    weights = built.state_dict()
    run.checkpoints.save(
        Checkpoint(
            step=1,
            config=config.to_json(),
            pack_digest=pack.manifest.digest,
            network=weights,
            average=weights,
            average_update_count=1,
            optimiser={},
            progress={},
            machine={},
            levels=pack.manifest.levels,
        )
    )
    return run


def packed_pairs(path: Path, count: int, *, sigma: float) -> Pack:
    """Grey pictures of 80 pixels, each with a noisy partner."""
    (path / "noisy").mkdir()
    rng = np.random.default_rng(5)
    for index in range(count):
        noisy = waves(index, 80) + rng.normal(0, sigma, (80, 80))
        PillowImage.fromarray(np.rint(noisy).clip(0, 255).astype(np.uint8)).save(path / "noisy" / f"{index:03}.png")
    return Pack(packed(path, [80] * count, noisy_folder=path / "noisy"))
