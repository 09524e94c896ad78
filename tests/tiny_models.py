"""Model files of networks so simple that a test knows every answer by heart. Needs ``onnx``."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, helper

from denoised.contract import (
    CODE_NAME,
    DECODER_FILE,
    ENCODER_FILE,
    EPSILON_NAME,
    FILE_DIGEST_KEY,
    GENERATIVE_KINDS,
    IMAGE_OUTPUT_NAME,
    INPUT_NAME,
    LOG_VARIANCE_NAME,
    MEAN_NAME,
    SIGMA_OUTPUT_NAME,
    GoldenPair,
    ModelContract,
)
from denoised.seal import UNSEALED, seal

SIGMA: Final = 20.0 / 255.0
_OPSET: Final = 20
_IR_VERSION: Final = 10


def dimmer(contract: ModelContract, *, gain: float) -> bytes:
    """A sealed file of a network that multiplies its input by ``gain``.

    As the contract says: with a sigma map, ``SIGMA`` everywhere, or without; of a code, its mean is the input itself.
    The golden pair is replaced by one that is right.
    """
    image: list[str | int | None] = ["images", contract.channels, "rows", "columns"]
    sigma_map: list[str | int | None] = ["images", 1, "map rows", "map columns"]
    nodes = [helper.make_node("Mul", [INPUT_NAME, "gain"], [IMAGE_OUTPUT_NAME])]
    outputs = [helper.make_tensor_value_info(IMAGE_OUTPUT_NAME, TensorProto.FLOAT, image)]
    constants = [helper.make_tensor("gain", TensorProto.FLOAT, [1], [gain])]
    if contract.sigma_map_scale_px:
        scale_px = contract.sigma_map_scale_px
        nodes += [
            helper.make_node("ReduceMean", [INPUT_NAME, "channels"], ["grey"]),
            helper.make_node("AveragePool", ["grey"], ["blocks"], kernel_shape=[scale_px] * 2, strides=[scale_px] * 2),
            helper.make_node("Mul", ["blocks", "zero"], ["zeros"]),
            helper.make_node("Add", ["zeros", "sigma"], [SIGMA_OUTPUT_NAME]),
        ]
        outputs.append(helper.make_tensor_value_info(SIGMA_OUTPUT_NAME, TensorProto.FLOAT, sigma_map))
        constants += [
            helper.make_tensor("channels", TensorProto.INT64, [1], [1]),
            helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0]),
            helper.make_tensor("sigma", TensorProto.FLOAT, [1], [SIGMA]),
        ]
    if contract.code_length:
        nodes.append(helper.make_node("Flatten", [INPUT_NAME], [MEAN_NAME]))
        outputs.append(helper.make_tensor_value_info(MEAN_NAME, TensorProto.FLOAT, ["images", "code"]))
    inputs = [helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, image)]
    return _sealed(nodes, inputs, outputs, constants, contract, gain)


def dimmer_halves(contract: ModelContract, *, gain: float) -> dict[str, bytes]:
    """Encoder and decoder of :func:`dimmer`, by file name. A code is the image, and its log-variance is -2."""
    side_px, length = contract.fixed_side_px, contract.code_length
    image: list[str | int | None] = ["images", contract.channels, side_px, side_px]
    code: list[str | int | None] = ["images", length]

    def port(name: str, sizes: list[str | int | None]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes)

    inputs, outputs = [port(INPUT_NAME, image)], [port(CODE_NAME, code)]
    nodes = [helper.make_node("Flatten", [INPUT_NAME], [CODE_NAME])]
    constants = []
    if contract.kind in GENERATIVE_KINDS:
        inputs.append(port(EPSILON_NAME, code))
        outputs = [port(MEAN_NAME, code), port(LOG_VARIANCE_NAME, code), port(CODE_NAME, code)]
        nodes = [
            helper.make_node("Flatten", [INPUT_NAME], [MEAN_NAME]),
            helper.make_node("Mul", [MEAN_NAME, "zero"], ["zeros"]),
            helper.make_node("Add", ["zeros", "log variance"], [LOG_VARIANCE_NAME]),
            helper.make_node("Add", [MEAN_NAME, EPSILON_NAME], [CODE_NAME]),
        ]
        constants = [
            helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0]),
            helper.make_tensor("log variance", TensorProto.FLOAT, [1], [-2.0]),
        ]
    encoder = _sealed(nodes, inputs, outputs, constants, contract, gain)
    shape = [-1, contract.channels, side_px, side_px]
    nodes = [
        helper.make_node("Mul", [CODE_NAME, "gain"], ["dimmed"]),
        helper.make_node("Reshape", ["dimmed", "shape"], [IMAGE_OUTPUT_NAME]),
    ]
    constants = [
        helper.make_tensor("gain", TensorProto.FLOAT, [1], [gain]),
        helper.make_tensor("shape", TensorProto.INT64, [len(shape)], shape),
    ]
    decoder = _sealed(nodes, [port(CODE_NAME, code)], [port(IMAGE_OUTPUT_NAME, image)], constants, contract, gain)
    return {ENCODER_FILE: encoder, DECODER_FILE: decoder}


def _sealed(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    constants: Sequence[onnx.TensorProto],
    contract: ModelContract,
    gain: float,
) -> bytes:
    """The file of a graph, with the contract and a golden pair of that gain."""
    side_px = contract.fixed_side_px or contract.size_multiple_px
    shape = (side_px, side_px, contract.channels)
    noisy = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    golden = GoldenPair.of(noisy, np.rint(noisy * np.float32(gain)).astype(np.uint8))
    model = helper.make_model(
        helper.make_graph(nodes, "dimmer", inputs, outputs, constants),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
    )
    onnx.checker.check_model(model)
    metadata = replace(contract, golden=golden).to_metadata() | {FILE_DIGEST_KEY: UNSEALED}
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)
    return seal(model.SerializeToString())
