"""What a model file may hold, checked before ONNX Runtime sees it: known operators, and nothing outside the file.

ONNX Runtime loads whatever a graph names: weights from any path, operators of any domain, functions and loops. No
network that denoises needs these. Read with protobuf itself, by the few fields of onnx.proto3 that matter; the package
``onnx`` is for those who make networks.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message

from denoised.contract import ContractError

# Pure arithmetic on tensors, of ONNX's own domain; no control flow, no sequences, nothing random, nothing of vendors.
ALLOWED_OPS: Final = frozenset(
    """
    Abs Add AveragePool BatchNormalization Cast Ceil Clip Concat Constant ConstantOfShape Conv ConvTranspose
    DepthToSpace DequantizeLinear Div Elu Erf Exp Expand Flatten Floor Gather Gelu Gemm GlobalAveragePool
    GroupNormalization HardSigmoid HardSwish Identity InstanceNormalization LayerNormalization LeakyRelu Log
    MatMul Max MaxPool Min Mul Neg PRelu Pad Pow QuantizeLinear Reciprocal ReduceMax ReduceMean ReduceMin
    ReduceSum Relu Reshape Resize Round Shape Sigmoid Sign Slice Softmax Softplus SpaceToDepth Split Sqrt
    Squeeze Sub Tanh Transpose Unsqueeze Where
    """.split()  # noqa: SIM905 -- a list of them is two screens long
)
_DOMAINS: Final = frozenset({"", "ai.onnx"})
_EXTERNAL: Final = 1
_SHOWN_COUNT: Final = 8

_Field = descriptor_pb2.FieldDescriptorProto
# By message: field, number, and type, where a name in quotes is one of these messages; * is repeated.
_SCHEMA: Final[Mapping[str, Mapping[str, tuple[int, Any]]]] = {
    "Tensor": {"external_data": (13, "*Entry"), "data_location": (14, _Field.TYPE_INT32)},
    "Entry": {"key": (1, _Field.TYPE_STRING)},
    "Sparse": {"values": (1, "Tensor"), "indices": (2, "Tensor")},
    "Attribute": {
        "t": (5, "Tensor"),
        "g": (6, "Graph"),
        "tensors": (10, "*Tensor"),
        "graphs": (11, "*Graph"),
        "sparse_tensor": (22, "Sparse"),
        "sparse_tensors": (23, "*Sparse"),
    },
    "Node": {
        "op_type": (4, _Field.TYPE_STRING),
        "attribute": (5, "*Attribute"),
        "domain": (7, _Field.TYPE_STRING),
    },
    "Graph": {"node": (1, "*Node"), "initializer": (5, "*Tensor"), "sparse_initializer": (15, "*Sparse")},
    "Function": {"node": (7, "*Node")},
    "Training": {"initialization": (1, "Graph")},
    "Model": {"graph": (7, "Graph"), "training_info": (20, "*Training"), "functions": (25, "*Function")},
}


def check_graph(model_bytes: bytes) -> None:
    """Looks at the file, and runs nothing of it.

    Raises:
        ContractError: it is no model, or holds what no network of ours does; all of it is named.
    """
    model = _MODEL()
    try:
        model.ParseFromString(model_bytes)
    except DecodeError as error:
        raise ContractError("the file is no ONNX model; copy it again from where it came") from error
    problems = sorted(set(_problems(model)))
    if problems:
        more = f" and {len(problems) - _SHOWN_COUNT} more" if len(problems) > _SHOWN_COUNT else ""
        raise ContractError(
            f"the file holds {', '.join(problems[:_SHOWN_COUNT])}{more}, which is not served; "
            "export the network with: python -m training export"
        )


def _problems(model: Any) -> Iterator[str]:
    if model.functions:
        yield "functions of its own"
    if model.training_info:
        yield "training steps"
    for node in model.graph.node:
        yield from _problems_of(node)
    for tensor in model.graph.initializer:
        yield from _outside(tensor)
    for sparse in model.graph.sparse_initializer:
        yield from _outside(sparse.values)
        yield from _outside(sparse.indices)


def _problems_of(node: Any) -> Iterator[str]:
    if node.domain not in _DOMAINS:
        yield f"the operator {node.op_type[:40]!r} of {node.domain[:60]!r}"
    elif node.op_type not in ALLOWED_OPS:
        yield f"the operator {node.op_type[:40]!r}"
    for attribute in node.attribute:
        if attribute.HasField("g") or attribute.graphs:
            yield f"a graph inside {node.op_type[:40]!r}"
        if attribute.HasField("t"):
            yield from _outside(attribute.t)
        for tensor in attribute.tensors:
            yield from _outside(tensor)
        if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
            yield f"sparse values inside {node.op_type[:40]!r}"


def _outside(tensor: Any) -> Iterator[str]:
    if tensor.data_location == _EXTERNAL or tensor.external_data:
        yield "weights outside the file"


def _model_class() -> type[Message]:
    file = descriptor_pb2.FileDescriptorProto(
        name="denoised/onnx_subset.proto", package="denoised.onnx_subset", syntax="proto2"
    )
    for name, fields in _SCHEMA.items():
        message = file.message_type.add(name=name)
        for field_name, (number, kind) in fields.items():
            field = message.field.add(name=field_name, number=number, label=_Field.LABEL_OPTIONAL)
            if isinstance(kind, str):
                field.type = _Field.TYPE_MESSAGE
                field.type_name = f".{file.package}.{kind.lstrip('*')}"
                field.label = _Field.LABEL_REPEATED if kind.startswith("*") else _Field.LABEL_OPTIONAL
            else:
                field.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{file.package}.Model"))


_MODEL: Final = _model_class()
