"""A pixel shuffle that is written as a transposed convolution has the bits of the one that it replaces."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

pytest.importorskip("torch")

import torch

from tests.unit.training.run.tiny import CONV_DAE
from training.config import ConvDaeConfig
from training.export import onnx_file
from training.export.graphs import graphs_of
from training.export.pixel_shuffle import replace_pixel_shuffles
from training.networks import build_network

pytestmark = pytest.mark.training


def shuffler(channels: int, block_px: int) -> onnx.ModelProto:
    """A graph that doubles its input and shuffles that."""
    nodes = [
        helper.make_node("Add", ["noisy", "noisy"], ["deep"]),
        helper.make_node("DepthToSpace", ["deep"], ["denoised"], blocksize=block_px, mode="CRD"),
    ]
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", depth, None, None])
        for name, depth in (("noisy", channels * block_px**2), ("denoised", channels))
    ]
    graph = helper.make_graph(nodes, "shuffler", ports[:1], ports[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", onnx_file.OPSET)], ir_version=10)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("block_px", [2, 3])
def test_every_value_goes_where_it_went(channels: int, block_px: int) -> None:
    model = shuffler(channels, block_px)
    deep = np.random.default_rng(1).standard_normal((2, channels * block_px**2, 5, 7), dtype=np.float32)
    expected = torch.nn.functional.pixel_shuffle(torch.from_numpy(2 * deep), block_px).numpy()
    before = onnx_file.run(onnx_file.session(model.SerializeToString()), noisy=deep)["denoised"]
    replace_pixel_shuffles(model)
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["Add", "ConvTranspose"]
    for level in onnx_file.OPTIMISATION_LEVELS:
        after = onnx_file.run(onnx_file.session(model.SerializeToString(), level=level), noisy=deep)["denoised"]
        np.testing.assert_array_equal(after, expected)
    np.testing.assert_array_equal(before, expected)


def test_an_exported_denoiser_has_none_left() -> None:
    network = build_network(ConvDaeConfig.model_validate(CONV_DAE | {"channels": 3}))
    (graph,) = graphs_of(network, "conv_dae")
    operators = {node.op_type for node in onnx_file.to_onnx(graph).graph.node}
    assert "ConvTranspose" in operators
    assert "DepthToSpace" not in operators
