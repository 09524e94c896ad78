"""Reads JSON values into dataclasses without bending any: a wrong type, an unknown or a missing key is an error."""

import sys
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

D = TypeVar("D")


def read_dataclass(kind: type[D], tree: object, *, where: str, prefix: str = "") -> D:
    """An instance of ``kind`` from a JSON object.

    Args:
        kind: a dataclass of str, int, float, bool, Literal of str, tuple[X, ...], Mapping[str, X], dataclasses, and
            unions of dataclasses that tell each other apart by the one value that each allows in its field ``kind``.
        tree: what ``json.loads`` gave.
        where: what to call the object in an error.
        prefix: what to put before the names of its keys there.

    Raises:
        ValueError: keys are unknown or missing, or a value has another type; or what the class itself raises.
    """
    if not isinstance(tree, Mapping):
        raise ValueError(f"{where} is a JSON object, not {type(tree).__name__}")  # noqa: TRY004 -- one type of error for bad text
    assert is_dataclass(kind)
    hints = get_type_hints(kind)
    own = {field.name: field for field in fields(kind)}
    unknown = sorted(set(tree) - set(own))
    required = {name for name, f in own.items() if f.default is MISSING and f.default_factory is MISSING}
    missing = sorted(required - set(tree))
    problems = []
    if unknown:
        problems.append(f"{where} has unknown keys: {', '.join(unknown)}")
    if missing:
        problems.append(f"{where} lacks: {', '.join(missing)}")
    values = {}
    for name in own.keys() & tree.keys():
        try:
            values[name] = _read(tree[name], hints[name], prefix + name)
        except ValueError as error:
            problems.append(str(error))
    made = None
    if len(values) == len(own.keys() & tree.keys()) and not missing:
        try:
            made = kind(**values)
        except ValueError as error:
            if not prefix and not problems:
                raise
            problems.append(f"{where}: {error}")
    if problems:
        raise ValueError("; ".join(sorted(problems)))
    assert made is not None
    return made


def _read(value: object, hint: Any, where: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if is_dataclass(hint):
        assert isinstance(hint, type)
        return read_dataclass(hint, value, where=where, prefix=f"{where}.")
    if origin is UnionType:
        return _read_variant(arguments, value, where)
    if origin is tuple and isinstance(value, list):
        return tuple(_read(item, arguments[0], f"{where}[{index}]") for index, item in enumerate(value))
    if origin is Mapping and isinstance(value, dict):
        return {key: _read(item, arguments[1], f"{where}.{key}") for key, item in value.items()}
    if hint is float and type(value) in (int, float):
        return _read_float(value, where)  # type: ignore[arg-type]  # just checked
    if origin is Literal:
        is_right, wanted = isinstance(value, str) and value in arguments, f"one of: {', '.join(arguments)}"
    else:
        is_right, wanted = type(value) is hint, f"it must be of type {getattr(origin or hint, '__name__', hint)}"
    if not is_right:
        raise ValueError(f"{where} is {value!r}; {wanted}")
    return value


def _read_float(value: float, where: str) -> float:
    try:
        return float(value)
    except OverflowError:
        bit_count = int(value).bit_length()
        raise ValueError(
            f"{where} is a whole number of {bit_count} bits; at most {sys.float_info.max:.2g} can be held"
        ) from None


def _read_variant(variants: tuple[Any, ...], value: object, where: str) -> Any:
    by_kind = {get_args(get_type_hints(variant)["kind"])[0]: variant for variant in variants}
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} is {value!r}; it must be an object")  # noqa: TRY004 -- one type of error for bad text
    kind = value.get("kind")
    if not isinstance(kind, str) or kind not in by_kind:
        raise ValueError(f"{where}.kind is {kind!r}; one of: {', '.join(sorted(by_kind))}")
    return read_dataclass(by_kind[kind], value, where=where, prefix=f"{where}.")
