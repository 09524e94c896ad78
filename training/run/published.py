"""A network read back from its published model file: shape and weights, as they were trained.

An export writes the weights under their names in the network, untouched, and the gate of the export reads them back
with this module. So a file is all that is needed to train on from it. That holds for ``conv_dae``, the kind whose
networks are shipped; the others are small enough to be trained anew.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from denoised.contract import INPUT_NAME, MODEL_FILE, ContractError, ModelContract
from denoised.seal import check_seal
from training.config import ConvDaeConfig
from training.errors import RunError
from training.networks import build_network

# What the exported module calls the network inside it.
_PREFIX: Final = "network."


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """A published file of any kind and precision.

    Attributes:
        path: of the file.
        model_bytes: its content.
        contract: what it says about itself.
        digest: SHA-256 of the file, as a service tells it.
    """

    path: Path
    model_bytes: bytes
    contract: ModelContract
    digest: str


@dataclass(frozen=True, slots=True)
class PublishedNetwork:
    """What is in a published file.

    Attributes:
        config: the network's shape.
        weights: by their names in it, float32; all that :func:`build_network` makes for ``config``.
        contract: the file's own.
        digest: SHA-256 of the file, as a service tells it.
    """

    config: ConvDaeConfig
    weights: dict[str, Tensor]
    contract: ModelContract
    digest: str


def model_path_of(source: Path) -> Path:
    """The model's file, where its version's directory or the file itself was named."""
    return source / MODEL_FILE if source.is_dir() else source


def is_published(source: Path) -> bool:
    """Whether a file, or a directory with a model file in it, was named; a run's directory holds none."""
    return model_path_of(source).is_file()


def open_published(source: Path) -> PublishedFile:
    """The file of a published version, checked against its seal.

    Args:
        source: its directory, such as ``models/gaussian-base/1``, or the file itself.

    Raises:
        RunError: the file is missing or damaged.
    """
    path = model_path_of(source)
    try:
        model_bytes = path.read_bytes()
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from error
    try:
        check_seal(model_bytes)
        metadata = {item.key: item.value for item in onnx.load_from_string(model_bytes).metadata_props}
        contract = ModelContract.from_metadata(metadata)
    except ContractError as error:
        raise RunError(f"{path}: {error}") from error
    return PublishedFile(path, model_bytes, contract, hashlib.sha256(model_bytes).hexdigest())


def read_published(source: Path) -> PublishedNetwork:
    """The network of a published version.

    Args:
        source: as for :func:`open_published`.

    Raises:
        RunError: the file is missing, damaged, of another kind or precision, or not of this release's making.
    """
    published = open_published(source)
    path, contract = published.path, published.contract
    if contract.kind != "conv_dae":
        raise RunError(
            f"{path} is a {contract.kind}; weights are read back from files of conv_dae alone: name the directory of "
            "the run that it was exported from"
        )
    if contract.precision != "fp32":
        raise RunError(
            f"{path} is in {contract.precision}, and its weights were rounded to that; name the fp32 file that it was "
            "made from"
        )
    try:
        config, weights = network_in(onnx.load_from_string(published.model_bytes))
    except ValueError as error:
        raise RunError(f"{path} holds no conv_dae as this release writes it: {error}") from error
    return PublishedNetwork(config, weights, contract, published.digest)


def network_in(model: onnx.ModelProto) -> tuple[ConvDaeConfig, dict[str, Tensor]]:
    """Shape and weights of the ``conv_dae`` that a graph is.

    Raises:
        ValueError: a weight is missing, or one too many, or of a shape that doesn't fit the others.
    """
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    weights = {
        name.removeprefix(_PREFIX): torch.from_numpy(numpy_helper.to_array(tensor).copy())
        for name, tensor in tensors.items()
        if name.startswith(_PREFIX)
    }
    try:
        config = _shape_of(weights, input_centre=_input_centre(model, tensors), relu_between=_has_relu_between(model))
    except KeyError as error:
        raise ValueError(f"it has no weight {error.args[0]!r}") from error
    own = build_network(config).state_dict()
    # The exporter leaves out a bias whose values are all zero, as those of a new block are.
    found = {name: torch.zeros_like(value) for name, value in own.items() if name.endswith(".bias")} | weights
    wrong = sorted(
        name for name in own.keys() | found.keys() if name not in own or name not in found or _differ(own, found, name)
    )
    if wrong:
        raise ValueError(f"{len(wrong)} weights are missing, unknown or of another shape, such as {wrong[0]!r}")
    return config, found


def _differ(own: Mapping[str, Tensor], found: Mapping[str, Tensor], name: str) -> bool:
    return own[name].shape != found[name].shape or own[name].dtype != found[name].dtype


def _shape_of(weights: Mapping[str, Tensor], *, input_centre: float, relu_between: bool) -> ConvDaeConfig:
    """Every width is that of a convolution, every block has a first convolution. Raises KeyError without these."""
    head = weights["head.weight"]
    level_count = sum(name.startswith("down.") and name.endswith(".weight") for name in weights)

    def block_count(place: str) -> int:
        return sum(name.startswith(f"{place}.") and name.endswith(".first.weight") for name in weights)

    return ConvDaeConfig.model_validate(
        {
            "channels": head.shape[1],
            "widths": [len(head), *(len(weights[f"down.{level}.weight"]) for level in range(level_count))],
            "encoder_blocks": [block_count(f"encoder.{level}") for level in range(level_count)],
            "middle_blocks": block_count("middle"),
            "decoder_blocks": [block_count(f"decoder.{level}") for level in range(level_count)],
            "estimator_width": len(weights["estimator.layers.2.weight"]),
            "input_centre": input_centre,
            "head_px": head.shape[2],
            "relu_between": relu_between,
        }
    )


def _input_centre(model: onnx.ModelProto, tensors: Mapping[str, Any]) -> float:
    """What is subtracted from the input: a constant of the graph, where there is any."""
    for node in model.graph.node:
        if node.op_type == "Sub" and node.input[0] == INPUT_NAME and node.input[1] in tensors:
            # The shortest text of a float32 is the number that the config gave.
            return float(str(numpy_helper.to_array(tensors[node.input[1]])[()]))
    return 0.0


def _has_relu_between(model: onnx.ModelProto) -> bool:
    """Whether what the first convolution down takes comes out of a ReLU."""
    inputs = {node.input[1]: node.input[0] for node in model.graph.node if node.op_type == "Conv"}
    tensor = inputs.get(f"{_PREFIX}down.0.weight")
    return any(node.op_type == "Relu" and tensor in node.output for node in model.graph.node)
