"""Model files of networks so simple that a test knows every answer by heart. Needs ``onnx``."""

from dataclasses import replace
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, helper

from denoised.contract import (
    FILE_DIGEST_KEY,
    IMAGE_OUTPUT_NAME,
    INPUT_NAME,
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
    side_px = contract.fixed_side_px or contract.size_multiple_px
    shape = (side_px, side_px, contract.channels)
    noisy = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    golden = GoldenPair.of(noisy, np.rint(noisy * np.float32(gain)).astype(np.uint8))
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
