"""Writes a graph as one self-contained ONNX model and opens it again; what it must fulfil is the gate's to decide."""

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

from denoised.contract import FILE_DIGEST_KEY
from denoised.seal import UNSEALED, seal
from training.errors import ExportError
from training.export.graphs import BATCH, HEIGHT, WIDTH, Graph, Signature
from training.export.pixel_shuffle import replace_pixel_shuffles

Arrays = dict[str, NDArray[np.float32]]

OPSET: Final = 20
OPTIMISATION_LEVELS: Final = (
    ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
)

_LARGEST_BATCH: Final = 1024
_LARGEST_MULTIPLE: Final = 8192


def to_onnx(graph: Graph) -> onnx.ModelProto:
    """The graph as ONNX with named free sizes; no source paths, no external data.

    Raises:
        ExportError: the exporter made a constant of a size that must be free.
    """
    free = {
        BATCH: torch.export.Dim("batch", max=_LARGEST_BATCH),
        HEIGHT: graph.size_multiple_px * torch.export.Dim("rows", max=_LARGEST_MULTIPLE),
        WIDTH: graph.size_multiple_px * torch.export.Dim("columns", max=_LARGEST_MULTIPLE),
    }
    # Two images, so that the exporter can't take the batch for a constant; sides differ, so that it can't equate them.
    example = {BATCH: 2, HEIGHT: 8 * graph.size_multiple_px, WIDTH: 9 * graph.size_multiple_px}
    sizes = [
        [example[size] if isinstance(size, str) else size for size in port.sizes] for port in graph.signature.inputs
    ]
    with _quiet_exporter():
        program = torch.onnx.export(
            graph.module.eval(),
            tuple(torch.zeros(size) for size in sizes),
            dynamo=True,
            external_data=False,
            opset_version=OPSET,
            input_names=[port.name for port in graph.signature.inputs],
            output_names=[port.name for port in graph.signature.outputs],
            dynamic_shapes=tuple(
                {axis: free[size] for axis, size in enumerate(port.sizes) if isinstance(size, str)}
                for port in graph.signature.inputs
            ),
            verbose=False,
        )
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    _strip(model)
    _name_sizes(model, graph.signature)
    replace_pixel_shuffles(model)
    return model


def with_metadata(model_bytes: bytes, metadata: Mapping[str, str]) -> bytes:
    """The sealed file that carries these ``metadata_props`` and no others."""
    model = onnx.load_from_string(model_bytes)
    del model.metadata_props[:]
    for key, value in sorted((*metadata.items(), (FILE_DIGEST_KEY, UNSEALED))):
        model.metadata_props.add(key=key, value=value)
    return seal(model.SerializeToString())


def session(
    model_bytes: bytes, *, level: ort.GraphOptimizationLevel | None = None, thread_count: int = 0
) -> ort.InferenceSession:
    """An ONNX Runtime session on the CPU; 0 threads means as many as it likes."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = thread_count
    options.graph_optimization_level = OPTIMISATION_LEVELS[-1] if level is None else level
    return ort.InferenceSession(model_bytes, options, providers=["CPUExecutionProvider"])


def run(ort_session: ort.InferenceSession, **inputs: NDArray[np.float32]) -> Arrays:
    """Every output by its name."""
    names = [output.name for output in ort_session.get_outputs()]
    return dict(zip(names, ort_session.run(names, inputs), strict=True))


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silences what the exporter says about itself: deprecated calls, missing torchvision, sizes of two inputs."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.filterwarnings("ignore", message=".*it shares the same shape constraints", category=UserWarning)
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


def _name_sizes(model: onnx.ModelProto, signature: Signature) -> None:
    """Plain names for free sizes; the exporter writes expressions such as ``8*rows``."""
    wanted = {port.name: port.sizes for port in (*signature.inputs, *signature.outputs)}
    for value in (*model.graph.input, *model.graph.output):
        for dimension, size in zip(value.type.tensor_type.shape.dim, wanted[value.name], strict=True):
            if isinstance(size, int):
                dimension.dim_value = size
                continue
            if dimension.HasField("dim_value"):
                raise ExportError(
                    f"{signature.file_name}: the exporter made {size} of {value.name} the constant "
                    f"{dimension.dim_value}; something in the network depends on that size"
                )
            dimension.dim_param = size
