"""Writes a network as one self-contained ONNX file, and checks what was written. Knows nothing about runs or stores."""

import itertools
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import nn

from denoised.contract import IMAGE_OUTPUT_NAME, INPUT_NAME, SIGMA_OUTPUT_NAME, Parity
from training.errors import ExportError

OPSET: Final = 20
_HIGHEST_IR_VERSION: Final = 10
_LARGEST_FILE_BYTES: Final = 64 * 1024 * 1024
# Everything a convolutional autoencoder needs; nothing global, random, conditional or custom.
_ALLOWED_OPS: Final = frozenset(
    {"Conv", "Relu", "Clip", "Add", "Div", "Sub", "Mul", "Resize", "DepthToSpace", "Constant", "Identity"}
)
_LARGEST_DIFFERENCE: Final = 1e-4
_LEAST_PARITY_DB: Final = 80.0
_OPTIMISATION_LEVELS: Final = (
    ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
)


def to_onnx(network: nn.Module, *, channels: int, size_multiple_px: int) -> onnx.ModelProto:
    """The network as ONNX with free batch, height and width; no source paths, no external data."""
    side_px = 8 * size_multiple_px
    # Two images, so that the exporter can't take the batch for a constant.
    example = torch.zeros(2, channels, side_px, side_px + size_multiple_px)
    with _quiet_exporter():
        program = torch.onnx.export(
            network,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT_NAME],
            output_names=[IMAGE_OUTPUT_NAME, SIGMA_OUTPUT_NAME],
            dynamic_shapes=(
                {
                    0: torch.export.Dim("batch", max=1024),
                    2: size_multiple_px * torch.export.Dim("rows", max=8192),
                    3: size_multiple_px * torch.export.Dim("columns", max=8192),
                },
            ),
            verbose=False,
        )
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    _strip(model)
    _name_dimensions(model, channels)
    return model


def with_metadata(model: onnx.ModelProto, metadata: Mapping[str, str]) -> onnx.ModelProto:
    """A copy that carries these ``metadata_props`` and no others."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.metadata_props[:]
    for key, value in sorted(metadata.items()):
        copy.metadata_props.add(key=key, value=value)
    return copy


def check_structure(model: onnx.ModelProto) -> None:
    """Raises ExportError when the written graph is not what the service may rely on."""
    onnx.checker.check_model(model, full_check=True)
    problems = []
    if [(o.domain, o.version) for o in model.opset_import if o.domain in ("", "ai.onnx")] != [("", OPSET)]:
        problems.append(f"opset is {[(o.domain, o.version) for o in model.opset_import]}, not {OPSET}")
    if model.ir_version > _HIGHEST_IR_VERSION:
        problems.append(f"IR version is {model.ir_version}; at most {_HIGHEST_IR_VERSION} is read by older runtimes")
    if model.ByteSize() > _LARGEST_FILE_BYTES:
        problems.append(f"the file has {model.ByteSize()} bytes; at most {_LARGEST_FILE_BYTES} are served")
    unknown = sorted({node.op_type for node in model.graph.node} - _ALLOWED_OPS)
    if unknown or any(node.domain for node in model.graph.node):
        problems.append(f"ops {unknown} are not allowed in a servable file")
    dimensions = [d.dim_param or d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    if len(model.graph.input) != 1 or not all(isinstance(dimensions[axis], str) for axis in (0, 2, 3)):
        problems.append(f"inputs have dimensions {dimensions}; batch, height and width must be free")
    if any(i.HasField("data_location") and i.data_location for i in model.graph.initializer):
        problems.append("weights lie outside the file")
    if problems:
        raise ExportError("the exported file is not servable: " + "; ".join(problems))


def session(model_bytes: bytes, *, level: ort.GraphOptimizationLevel | None = None) -> ort.InferenceSession:
    """An ONNX Runtime session on the CPU."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = _OPTIMISATION_LEVELS[-1] if level is None else level
    return ort.InferenceSession(model_bytes, options, providers=["CPUExecutionProvider"])


def run(
    ort_session: ort.InferenceSession, noisy: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(denoised, sigma map) of (N, C, H, W) float32."""
    image, sigma_map = ort_session.run([IMAGE_OUTPUT_NAME, SIGMA_OUTPUT_NAME], {INPUT_NAME: noisy})
    return image, sigma_map


def check_parity(network: nn.Module, model_bytes: bytes, *, channels: int, size_multiple_px: int) -> Parity:
    """Compares ONNX Runtime with torch at every optimisation level, over batch sizes and shapes.

    Raises:
        ExportError: they differ by more than float32 sums in another order can explain.
    """
    rng = np.random.default_rng(0)
    sides = [size_multiple_px * count for count in (1, 2, 5, 40)]
    shapes = [
        (batch, channels, height_px, width_px)
        for batch, (height_px, width_px) in itertools.product((1, 2, 5), itertools.product(sides, repeat=2))
        if batch * height_px * width_px <= 512 * 512
    ]
    inputs = [rng.random(shape, dtype=np.float32) for shape in shapes]
    with torch.no_grad():
        expected = [[output.numpy() for output in network(torch.from_numpy(noisy))] for noisy in inputs]
    largest = 0.0
    square_sum, count = 0.0, 0
    for level in _OPTIMISATION_LEVELS:
        ort_session = session(model_bytes, level=level)
        for noisy, (image, sigma_map) in zip(inputs, expected, strict=True):
            got_image, got_map = run(ort_session, noisy)
            largest = max(largest, float(np.abs(got_image - image).max()), float(np.abs(got_map - sigma_map).max()))
            square_sum += float(np.square(got_image - image, dtype=np.float64).sum())
            count += image.size
    parity_db = float("inf") if square_sum == 0 else -10 * float(np.log10(square_sum / count))
    if not (largest <= _LARGEST_DIFFERENCE and parity_db >= _LEAST_PARITY_DB):
        raise ExportError(
            f"ONNX Runtime differs from torch by up to {largest:.2e} ({parity_db:.1f} dB); "
            f"allowed are {_LARGEST_DIFFERENCE:.0e} and {_LEAST_PARITY_DB:.0f} dB"
        )
    return Parity(max_abs_difference=largest, psnr_db=round(min(parity_db, 200.0), 1))


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silences what the exporter says about itself: deprecated calls in torch's own code, and missing torchvision."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        logger.setLevel(level)


def _strip(model: onnx.ModelProto) -> None:
    """Removes what the exporter notes about the source: stack traces with paths, module names, doc strings."""
    model.doc_string = ""
    model.graph.doc_string = ""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    for repeated in (model.graph.node, model.graph.input, model.graph.output, model.graph.initializer):
        for item in repeated:
            item.doc_string = ""
            del item.metadata_props[:]
    # Shapes of values in between are the exporter's inferences for its own symbols; the checker infers them anew.
    del model.graph.value_info[:]


def _name_dimensions(model: onnx.ModelProto, channels: int) -> None:
    """Plain names for free dimensions; the exporter writes expressions such as ``8*rows``."""
    names: dict[str, tuple[str | int, ...]] = {
        INPUT_NAME: ("batch", channels, "height", "width"),
        IMAGE_OUTPUT_NAME: ("batch", channels, "height", "width"),
        SIGMA_OUTPUT_NAME: ("batch", 1, "map_height", "map_width"),
    }
    for value in (*model.graph.input, *model.graph.output):
        for dimension, name in zip(value.type.tensor_type.shape.dim, names[value.name], strict=True):
            dimension.Clear()
            if isinstance(name, int):
                dimension.dim_value = name
            else:
                dimension.dim_param = name
