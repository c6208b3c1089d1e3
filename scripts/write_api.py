"""Writes docs/API.md from the API's description: every operation, with an answer of a real run. See `make openapi`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.golden.write import document

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "docs" / "API.md"
HEAD = """# The REST API

Every operation, what it takes, and an answer of a real run, shortened where `…` stands (whole:
`control_plane/api/examples/`, or `localhost:8003/docs`). What holds for all of them (keys, pages, times, files,
errors): [rest.md](rest.md), [problems.md](problems.md). Written by `make openapi`; do not edit.

"""
# An example is there to be read: so many entries of a list, members of an object and letters of a text.
ENTRIES, MEMBERS, LETTERS = 1, 14, 160
WIDTH = 118
# Parameters that mean the same everywhere; rest.md explains them.
EVERYWHERE = ("cursor", "limit")


def written(description: Mapping[str, Any]) -> str:
    """This will give the page. `description` is the OpenAPI document."""
    groups: dict[str, list[tuple[str, str, Mapping[str, Any]]]] = {}
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            groups.setdefault(operation["tags"][0], []).append((method.upper(), path, operation))
    index = " · ".join(f"[{tag}](#{tag.lower().replace(' ', '-')}) ({len(of)})" for tag, of in sorted(groups.items()))
    parts = [HEAD + index + "\n"]
    for tag, operations in sorted(groups.items()):
        parts.append(f"\n## {tag}\n")
        for method, path, operation in sorted(operations, key=lambda entry: (entry[1], entry[0])):
            parts.append("\n" + "\n".join(_operation(method, path, operation, description["components"]["schemas"])))
    return "".join(parts)


def _operation(method: str, path: str, operation: Mapping[str, Any], schemas: Mapping[str, Any]) -> Iterator[str]:
    yield f"### {method} {path}\n"
    yield f"{operation['summary']}. {_paragraph(operation['description'])}\n"
    yield f"Scope: `{operation['x-required-scope']}`.\n"
    if taken := list(_taken(operation, schemas)):
        yield "| takes | | |\n| --- | --- | --- |"
        yield from taken
        yield ""
    status, body = next((s, b) for s, b in operation["responses"].items() if s.startswith("2"))
    for kind, content in body["content"].items():
        if "example" in content:
            shown = content["example"]
            text = shown if isinstance(shown, str) else _laid(_short(shown))
            lines = text.splitlines()
            text = "\n".join([*lines[:40], "…"] if isinstance(shown, str) and len(lines) > 40 else lines)
            yield f"{status}, `{kind}`:\n\n```{'json' if 'json' in kind else ''}\n{text}\n```\n"
            break


def _paragraph(text: str) -> str:
    return " ".join(text.split())


def _taken(operation: Mapping[str, Any], schemas: Mapping[str, Any]) -> Iterator[str]:
    for entry in operation.get("parameters", []):
        if entry["name"] in EVERYWHERE:
            continue
        said = entry.get("description") or entry["schema"].get("description", "")
        place = {"path": "path", "header": "header"}.get(entry["in"], "query")
        yield _row(entry["name"], place, said, entry.get("required", False))
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        if "json" in kind:
            schema = _resolved(content["schema"], schemas)
            for name, member in schema.get("properties", {}).items():
                said = member.get("description") or _resolved(member, schemas).get("description", "")
                yield _row(name, "body", said, name in schema.get("required", ()))


def _resolved(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" in schema:
        return schemas[schema["$ref"].rpartition("/")[2]]  # type: ignore[no-any-return]
    return schema


def _row(name: str, place: str, said: str, required: bool) -> str:
    return f"| `{name}` | {place}{', required' if required else ''} | {_paragraph(said).replace('|', chr(92) + '|')} |"


def _short(value: Any) -> Any:
    """This will give the value with what is long cut, and a `…` where something was."""
    if isinstance(value, list):
        return [_short(entry) for entry in value[:ENTRIES]] + (["…"] if len(value) > ENTRIES else [])
    if isinstance(value, dict):
        kept = {key: _short(entry) for key, entry in list(value.items())[:MEMBERS]}
        return kept | ({"…": "…"} if len(value) > MEMBERS else {})
    if isinstance(value, str) and len(value) > LETTERS:
        return value[:LETTERS] + "…"
    return value


def _laid(value: Any, indent: int = 0) -> str:
    """This will give the value as JSON, on one line where it has room there."""
    whole = json.dumps(value, ensure_ascii=False)
    if len(whole) + indent <= WIDTH or not isinstance(value, dict | list) or not value:
        return whole
    inner = " " * (indent + 2)
    if isinstance(value, list):
        entries = [_laid(entry, indent + 2) for entry in value]
        return "[\n" + ",\n".join(inner + entry for entry in entries) + "\n" + " " * indent + "]"
    lines: list[str] = []
    for key, entry in value.items():
        member = f"{json.dumps(key, ensure_ascii=False)}: {_laid(entry, indent + 2)}"
        # Short members share a line, as far as they fit.
        if lines and "\n" not in member and "\n" not in lines[-1] and len(lines[-1]) + len(member) + 2 <= WIDTH:
            lines[-1] += ", " + member
        else:
            lines.append(inner + member)
    return "{\n" + ",\n".join(lines) + "\n" + " " * indent + "}"


def main() -> None:
    """This will write the page."""
    TARGET.write_text(written(document()))


if __name__ == "__main__":
    main()
