"""Every operation of the API is asked by a test that checks what it answers."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]
DESCRIPTION = TESTS / "golden" / "openapi.json"
# These ask everything alike, and so say nothing of what one operation answers.
SWEEPING = {"test_api_fuzz.py", "test_api_access.py", "test_api_refusals.py"}
HOLE = "\0"  # where an f-string puts a value


def _asked() -> Iterator[str]:
    """This will give every path that stands in a test, without its query."""
    for file in (TESTS / "integration").rglob("test_*.py"):
        if file.name not in SWEEPING:
            for node in ast.walk(ast.parse(file.read_text())):
                text = _text(node)
                if "/" in text[:2]:
                    yield text.partition("?")[0]


def _text(node: ast.AST) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) or HOLE for part in node.values)
    return ""


def test_every_operation_is_asked_by_a_test() -> None:
    paths = json.loads(DESCRIPTION.read_bytes())["paths"]
    asked = set(_asked())
    missing = [path for path in paths if not any(_is(path, text) for text in asked)]
    assert not missing, "no test under tests/integration asks these; add one that checks what they answer"


def _is(path: str, text: str) -> bool:
    """Whether `text` can be `path`: a hole that it begins with may stand for several parts, and any part for a name."""
    pattern = re.sub(r"\\\{[^}]*\\\}", r"[^/]+", re.escape(path))
    if text.startswith(HOLE):
        return text.count("/") > 1 and re.sub(r"\{[^}]*\}", HOLE, path).endswith(text[1:])
    return bool(re.fullmatch(pattern, text))
