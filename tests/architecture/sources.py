"""The tests of a file as text, for tests about tests."""

import ast
from functools import cache
from pathlib import Path


@cache
def sources_of(path: Path) -> dict[str, str]:
    """Every test of a file with its source, decorators included."""
    text = path.read_text(encoding="utf-8")
    found = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            found[node.name] = "\n".join(text.splitlines()[first - 1 : node.end_lineno])
    return found
