"""A float graph's convolutions in 8 bit: which may be, where the quantise and dequantise pairs stand, which fuse.

Activations are unsigned and asymmetric, weights signed and symmetric for each output channel (U8S8): what x86 with
VNNI multiplies at full speed. Asymmetric, because symmetric ranges waste most of the codes behind a ReLU.

Only convolutions are in 8 bit. What is added up along the network (residuals, skips) stays in floats: a pair stands
in front of a convolution and behind it, and every other reader of the tensor gets the tensor itself. That is half the
loss of rounding the sums too, and it leaves no quantised tensor with two readers, which ONNX Runtime would not fuse.
"""

import contextlib
import io
import logging
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from denoised.contract import INPUT_NAME, SIGMA_OUTPUT_NAME

# Below that ONNX Runtime's blocked convolutions have nothing to gain.
_FEWEST_CHANNELS: Final = 16
# Of 99.9, 99.99, 99.999 and the plain range, this lost least on the first shipped network: 0.22 dB at sigma 5 with all
# blocks in 8 bit, against 0.78, 0.28 and 0.41.
_PERCENTILE: Final = 99.99
# Histograms are taken of so many crops at a time; all their tensors lie in memory.
_STRIDE: Final = 10


class Fusion(NamedTuple):
    """What ONNX Runtime makes of an 8-bit graph.

    Attributes:
        quantised_count: convolutions between pairs.
        fused_count: those that run as integer convolutions; the others would be slower than in floats.
        total_count: all convolutions.
    """

    quantised_count: int
    fused_count: int
    total_count: int


class Quantiser:
    """Makes 8-bit variants of one file; its tensors' ranges are measured once.

    Attributes:
        candidates: names of the convolutions that may be in 8 bit.
    """

    def __init__(self, model_bytes: bytes, crops: Sequence[NDArray[np.float32]], folder: Path) -> None:
        """Prepares the graph.

        Args:
            model_bytes: the float file.
            crops: (1, C, h, w) noisy pictures that ranges are measured on; as many as a multiple of 10.
            folder: for temporary files.
        """
        self._crops = crops[: len(crops) // _STRIDE * _STRIDE]
        self._prepared = folder / "prepared.onnx"
        self._ranges = folder / "ranges.json"
        self._made = folder / "int8.onnx"
        source = folder / "float.onnx"
        source.write_bytes(model_bytes)
        with _quiet():
            quant_pre_process(source, self._prepared, skip_symbolic_shape=True)
        self._model = onnx.load(self._prepared)
        self.candidates = tuple(_candidates(self._model))

    def quantised(self, names: Collection[str]) -> bytes:
        """The file with these convolutions in 8 bit."""
        convolutions = [node.name for node in self._model.graph.node if node.op_type == "Conv"]
        with _quiet():
            quantize_static(
                self._prepared,
                self._made,
                _Crops(self._crops),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv"],
                per_channel=True,
                reduce_range=False,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=[name for name in convolutions if name not in names],
                calibrate_method=CalibrationMethod.Percentile,
                extra_options={"CalibPercentile": _PERCENTILE, "CalibStridedMinMax": _STRIDE},
                calibration_cache_path=self._ranges,
            )
        model = onnx.load(self._made)
        _spare_other_readers(model, names)
        _tidy(model, self._model)
        return model.SerializeToString()


def fusion_of(model_bytes: bytes, folder: Path) -> Fusion:
    """Counts convolutions in the graph as ONNX Runtime will run it."""
    optimised = folder / "optimised.onnx"
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(optimised)
    ort.InferenceSession(model_bytes, options, providers=["CPUExecutionProvider"])
    counts = Counter(node.op_type for node in onnx.load(optimised).graph.node)
    graph = onnx.load_from_string(model_bytes).graph
    dequantised = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    return Fusion(
        quantised_count=sum(node.input[0] in dequantised for node in convolutions),
        fused_count=counts["QLinearConv"],
        total_count=len(convolutions),
    )


class _Crops(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime.quantization has no types
    """The crops one at a time; a part of them after ``set_range``."""

    def __init__(self, crops: Sequence[NDArray[np.float32]]) -> None:
        self._crops = crops
        self._left = iter(crops)

    def __len__(self) -> int:
        return len(self._crops)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._left = iter(self._crops[start_index:end_index])

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        crop = next(self._left, None)
        return None if crop is None else {INPUT_NAME: crop}


def _candidates(model: onnx.ModelProto) -> Iterator[str]:
    """All but the first and the last convolutions, narrow ones, and those that the reported noise level comes from."""
    graph = model.graph
    made_by = {output: node for node in graph.node for output in node.output}
    dims = {tensor.name: tensor.dims for tensor in graph.initializer}
    reported = _ancestors([SIGMA_OUTPUT_NAME], made_by, through_convolutions=True)
    last = _ancestors([value.name for value in graph.output], made_by, through_convolutions=False)
    for node in graph.node:
        if (
            node.op_type == "Conv"
            and node.input[0] != INPUT_NAME
            and node.name not in reported | last
            and min(dims[node.input[1]][:2]) >= _FEWEST_CHANNELS
        ):
            yield node.name


def _ancestors(tensors: Sequence[str], made_by: dict[str, Any], *, through_convolutions: bool) -> set[str]:
    """Names of the nodes that tensors come from; without going on beyond a convolution unless told to."""
    found: set[str] = set()
    waiting = list(tensors)
    while waiting:
        node = made_by.get(waiting.pop())
        if node is None or node.name in found:
            continue
        found.add(node.name)
        if through_convolutions or node.op_type != "Conv":
            waiting += node.input
    return found


def _spare_other_readers(model: onnx.ModelProto, names: Collection[str]) -> None:
    """Gives every reader but the 8-bit convolutions the tensor before its pair, where that exists in floats."""
    made_by = {output: node for node in model.graph.node for output in node.output}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" or node.name in names:
            continue
        for place, tensor in enumerate(node.input):
            dequantise = made_by.get(tensor)
            quantise = dequantise and dequantise.op_type == "DequantizeLinear" and made_by.get(dequantise.input[0])
            if quantise and not _is_from_8_bit(quantise.input[0], made_by, names):
                node.input[place] = quantise.input[0]


def _is_from_8_bit(tensor: str, made_by: dict[str, Any], names: Collection[str]) -> bool:
    """Whether an 8-bit convolution makes the tensor: such a one has no answer in floats."""
    node = made_by.get(tensor)
    while node is not None and node.op_type == "Relu":
        node = made_by.get(node.input[0])
    return node is not None and node.op_type == "Conv" and node.name in names


def _tidy(model: onnx.ModelProto, like: onnx.ModelProto) -> None:
    """Drops what the quantiser adds for itself: unused operator sets, notes, inferred shapes."""
    del model.opset_import[:]
    model.opset_import.extend(opset for opset in like.opset_import if opset.domain == "")
    model.ir_version = like.ir_version
    del model.metadata_props[:]
    del model.graph.value_info[:]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser prints its progress, and advises steps that were made."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(previous)
