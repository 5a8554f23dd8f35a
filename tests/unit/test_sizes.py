"""A module has at most 300 lines and a function 45: what is longer is split before it grows further."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from devtools.paths import ROOT

MAX_MODULE, MAX_FUNCTION = 300, 45
PRODUCT = sorted((ROOT / "chatbot").rglob("*.py"))


def lengths(path: Path) -> Iterator[tuple[str, int, int]]:
    """Of a module and each of its functions: the name, the lines, the lines that it may have."""
    text = path.read_text("utf-8")
    name = str(path.relative_to(ROOT))
    yield name, len(text.splitlines()), MAX_MODULE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{name}: {node.name}", (node.end_lineno or 0) - node.lineno + 1, MAX_FUNCTION


def test_no_module_and_no_function_of_the_product_is_too_long() -> None:
    found = [entry for path in PRODUCT for entry in lengths(path)]
    assert len(found) > 1000
    assert [f"{name} has {lines} lines" for name, lines, most in found if lines > most] == []
