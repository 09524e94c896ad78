"""Two untrained networks for measurements, as ONNX bytes: a tiny grey one and a colour U-Net. Needs ``onnx``."""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from denoised.contract import IMAGE_OUTPUT_NAME, INPUT_NAME

_OPSET = 20
_IR_VERSION = 10


class _Graph:
    """Grows by one node at a time; every method returns the name of what it computes."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._random = np.random.default_rng(0)

    def node(self, operator: str, inputs: list[str], **attributes: Any) -> str:
        output = f"value {len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def constant(self, value: np.ndarray) -> str:
        name = f"constant {len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(value, name))
        return name

    def convolution(self, source: str, inputs: int, outputs: int, *, stride: int = 1) -> str:
        """3 x 3 with a bias; weights as He would draw them, so that no value fades to a denormal."""
        shape = (outputs, inputs, 3, 3)
        weights = self._random.standard_normal(shape) * np.sqrt(2 / (9 * inputs))
        operands = [source, self.constant(weights.astype(np.float32)), self.constant(np.zeros(outputs, np.float32))]
        return self.node("Conv", operands, kernel_shape=[3, 3], pads=[1] * 4, strides=[stride] * 2)

    def layer(self, source: str, inputs: int, outputs: int, *, stride: int = 1) -> str:
        return self.node("Relu", [self.convolution(source, inputs, outputs, stride=stride)])

    def pair(self, source: str, inputs: int, outputs: int) -> str:
        return self.layer(self.layer(source, inputs, outputs), outputs, outputs)

    def half(self, source: str) -> str:
        return self.node("MaxPool", [source], kernel_shape=[2, 2], strides=[2, 2])

    def double(self, source: str) -> str:
        scales = self.constant(np.array([1, 1, 2, 2], np.float32))
        return self.node(
            "Resize",
            [source, "", scales],
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )

    def model(self, output: str, channels: int) -> bytes:
        self.nodes.append(helper.make_node("Identity", [output], [IMAGE_OUTPUT_NAME]))
        shape: list[str | int | None] = ["images", channels, "rows", "columns"]
        ends = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in (INPUT_NAME, IMAGE_OUTPUT_NAME)
        ]
        graph = helper.make_graph(self.nodes, "bench", ends[:1], ends[1:], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString())


def small() -> bytes:
    """Grey, 37.6 k parameters: two strides down to 64 channels, and back; 9.6 MFLOP at 28 x 28."""
    graph = _Graph()
    deep = graph.layer(graph.layer(INPUT_NAME, 1, 32, stride=2), 32, 64, stride=2)
    shallow = graph.layer(graph.double(deep), 64, 32)
    return graph.model(graph.convolution(graph.double(shallow), 32, 1), 1)


def unet() -> bytes:
    """Colour, 472 k parameters: three levels of 32, 64 and 128 channels; 14.7 GFLOP at 256 x 256."""
    graph = _Graph()
    first = graph.pair(INPUT_NAME, 3, 32)
    second = graph.pair(graph.half(first), 32, 64)
    third = graph.pair(graph.half(second), 64, 128)
    joined = graph.pair(graph.node("Concat", [graph.double(third), second], axis=1), 192, 64)
    joined = graph.pair(graph.node("Concat", [graph.double(joined), first], axis=1), 96, 32)
    return graph.model(graph.convolution(joined, 32, 3), 3)
