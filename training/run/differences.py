"""What tells two configurations apart, key by key. What follows from that is for its callers to decide."""

import json
from collections.abc import Iterator

from training.config import RunConfig


def differences(before: RunConfig, now: RunConfig) -> list[tuple[str, object, object]]:
    """(key, before, now) of every value that differs, keys dotted as ``--set`` takes them; None where a key is not."""
    one, other = (dict(_flat(json.loads(config.to_json()))) for config in (before, now))
    found = [(key, one.get(key), other.get(key)) for key in sorted(one.keys() | other.keys())]
    return [(key, first, second) for key, first, second in found if first != second]


def differences_in_words(before: RunConfig, now: RunConfig) -> str:
    """One line, empty where nothing differs."""
    return ", ".join(f"{key} {first!r} -> {second!r}" for key, first, second in differences(before, now))


def _flat(tree: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from _flat(value, f"{prefix}.{key}" if prefix else key)
    else:
        yield prefix, tree
