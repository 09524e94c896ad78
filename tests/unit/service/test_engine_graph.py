"""What a model file may hold: whatever reaches outside or is no plain arithmetic is refused before it is loaded."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from denoised.contract import ContractError, ModelContract
from denoised.seal import seal
from service.engine import EngineOptions, ModelRefused, OnnxEngine
from service.engine.graph import ALLOWED_OPS, check_graph
from service.settings import SHIPPED_MODELS_DIR

pytest.importorskip("onnx", reason="model files are made with onnx, which the extra 'training' brings")

import onnx

from tests.tiny_models import dimmer

_FILES = sorted([*SHIPPED_MODELS_DIR.glob("*/*/*.onnx"), *Path("tests/models").glob("*/*/*.onnx")])
_ONE_LANE = EngineOptions(lane_count=1)


def _node(model: onnx.ModelProto) -> onnx.NodeProto:
    return model.graph.node[0]


def _external(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("float_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def _external_in_constant(model: onnx.ModelProto) -> None:
    tensor = onnx.helper.make_tensor("value", onnx.TensorProto.FLOAT, [1], [1.0])
    tensor.external_data.add(key="location", value="../weights")
    model.graph.node.add(op_type="Constant", output=["x"]).attribute.add(name="value").t.CopyFrom(tensor)


def _function(model: onnx.ModelProto) -> None:
    model.functions.add(name="F", domain="mine")


def _loop(model: onnx.ModelProto) -> None:
    model.graph.node.add(op_type="Loop").attribute.add(name="body").g.name = "body"


def _hidden_graph(model: onnx.ModelProto) -> None:
    _node(model).attribute.add(name="then").g.name = "hidden"


def _custom(model: onnx.ModelProto) -> None:
    _node(model).domain = "evil.example"


def _random(model: onnx.ModelProto) -> None:
    _node(model).op_type = "RandomNormalLike"


def _sparse(model: onnx.ModelProto) -> None:
    model.graph.sparse_initializer.add().values.data_location = onnx.TensorProto.EXTERNAL


def _training(model: onnx.ModelProto) -> None:
    model.training_info.add().initialization.name = "init"


@pytest.mark.parametrize("path", _FILES, ids=str)
def test_what_is_shipped_and_tested_passes(path: Path) -> None:
    check_graph(path.read_bytes())


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_external, "weights outside the file"),
        (_external_in_constant, "weights outside the file"),
        (_sparse, "weights outside the file"),
        (_function, "functions of its own"),
        (_loop, "the operator 'Loop'"),
        (_hidden_graph, "a graph inside 'Mul'"),
        (_custom, "the operator 'Mul' of 'evil.example'"),
        (_random, "the operator 'RandomNormalLike'"),
        (_training, "training steps"),
    ],
)
def test_a_sealed_file_that_holds_more_is_refused_and_nothing_of_it_is_loaded(
    spoil: Callable[[onnx.ModelProto], None], says: str, tmp_path: Path, contract: ModelContract
) -> None:
    model = onnx.load_model_from_string(dimmer(contract, gain=0.5))
    spoil(model)
    path = tmp_path / "model.onnx"
    path.write_bytes(seal(model.SerializeToString()))
    with pytest.raises(ModelRefused) as caught:
        OnnxEngine(path, _ONE_LANE)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_file_larger_than_allowed_is_refused(tmp_path: Path, contract: ModelContract) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(dimmer(contract, gain=0.5))
    size_bytes = path.stat().st_size
    OnnxEngine(path, EngineOptions(lane_count=1, largest_file_bytes=size_bytes))
    with pytest.raises(ModelRefused, match="DENOISED_MODEL_FILE_BYTES"):
        OnnxEngine(path, EngineOptions(lane_count=1, largest_file_bytes=size_bytes - 1))


def test_no_allowed_operator_holds_a_graph_or_is_random() -> None:
    allowed = [schema for schema in onnx.defs.get_all_schemas() if schema.name in ALLOWED_OPS and not schema.domain]
    assert {schema.name for schema in allowed} == ALLOWED_OPS
    graph_types = (onnx.defs.OpSchema.AttrType.GRAPH, onnx.defs.OpSchema.AttrType.GRAPHS)
    assert not [s.name for s in allowed if any(a.type in graph_types for a in s.attributes.values())]
    assert not [s.name for s in allowed if "seed" in s.attributes]


@given(st.binary(max_size=200))
def test_bytes_of_any_kind_are_refused_or_pass_and_raise_nothing_else(model_bytes: bytes) -> None:
    try:
        check_graph(model_bytes)
    except ContractError:
        return


def test_a_file_cut_off_anywhere_is_refused_or_passes_and_raises_nothing_else(contract: ModelContract) -> None:
    model_bytes = dimmer(contract, gain=0.5)
    for length in np.linspace(0, len(model_bytes) - 1, 50, dtype=int):
        try:
            check_graph(model_bytes[:length])
        except ContractError:
            continue
