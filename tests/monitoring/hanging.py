"""A network that hangs on white images, for real: ONNX Runtime is in a loop that would end in hours. Needs ``onnx``."""

from dataclasses import replace
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, helper

from denoised.contract import FILE_DIGEST_KEY, IMAGE_OUTPUT_NAME, INPUT_NAME, GoldenPair, ModelContract
from denoised.seal import UNSEALED, seal

_FOR_EVER: Final = 10**12
_OPSET: Final = 20
_IR_VERSION: Final = 10


def hanging_network(contract: ModelContract) -> bytes:
    """A sealed file of a network that returns its input, except that all-white input makes it hang.

    ``contract`` has no sigma map and no code; its golden pair is replaced by one that is right.
    """
    shape = (contract.size_multiple_px, contract.size_multiple_px, contract.channels)
    noisy = np.random.default_rng(1).integers(0, 200, shape, dtype=np.uint8)
    images: list[str | int | None] = ["images", contract.channels, "rows", "columns"]
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["goes_on"]),
            helper.make_node("Sin", ["value"], ["next"]),
        ],
        "turn",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value", TensorProto.FLOAT, [1]),
        ],
        [
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, [1]),
        ],
    )
    nodes = [
        helper.make_node("ReduceMin", [INPUT_NAME], ["darkest"], keepdims=0),
        helper.make_node("GreaterOrEqual", ["darkest", "white"], ["is_white"]),
        helper.make_node("Cast", ["is_white"], ["is_white_number"], to=TensorProto.INT64),
        helper.make_node("Mul", ["is_white_number", "for_ever"], ["turns"]),
        helper.make_node("Loop", ["turns", "yes", "zero"], ["spun"], body=body),
        helper.make_node("Mul", ["spun", "zero"], ["nothing"]),
        helper.make_node("Add", [INPUT_NAME, "nothing"], [IMAGE_OUTPUT_NAME]),
    ]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "hanging",
            [helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, images)],
            [helper.make_tensor_value_info(IMAGE_OUTPUT_NAME, TensorProto.FLOAT, images)],
            [
                helper.make_tensor("white", TensorProto.FLOAT, [], [0.999]),
                helper.make_tensor("for_ever", TensorProto.INT64, [], [_FOR_EVER]),
                helper.make_tensor("yes", TensorProto.BOOL, [], [True]),
                helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0]),
            ],
        ),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
    )
    onnx.checker.check_model(model)
    metadata = replace(contract, golden=GoldenPair.of(noisy, noisy)).to_metadata() | {FILE_DIGEST_KEY: UNSEALED}
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)
    return seal(model.SerializeToString())
