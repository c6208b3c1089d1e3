"""Writes the Python client's questions, and its methods, from the API's description. Run by `make openapi`; a test
compares.
"""

from __future__ import annotations

import keyword
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

ROOT = Path(__file__).resolve().parents[1]
CLIENT = ROOT / "resource_agent"
DESCRIPTION = ROOT / "tests" / "golden" / "openapi.json"
KINDS = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "object": "Mapping[str, Any]"}
# Names under which people have these in scripts; each appears with its operation.
PUBLISHED = {
    "analyze_utilization": ("post", "/analysis/utilization"),
    "get_scaling_recommendations": ("get", "/optimize/recommendations"),
    "execute_optimization": ("post", "/optimize/execute"),
    "optimize_lmcache": ("post", "/lmcache/optimize"),
}
STREAM = "/events"  # it has no end, and a method returns
QUESTIONS_HEAD = '''"""Questions about {noun}. Written by `make openapi` from the API's description; do not edit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from resource_agent.answers import Answer, Page
from resource_agent.transport import Question, question
'''
CLASSES_HEAD = '''"""Every operation of the API as a method. Written by `make openapi`; do not edit."""

from __future__ import annotations

from resource_agent import questions
from resource_agent.methods import awaited, waiting
'''


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One argument of a method."""

    name: str
    kind: str
    required: bool
    place: str  # path, query or body

    @property
    def python(self) -> str:
        """This will give its name in Python."""
        return f"{self.name}_" if keyword.iskeyword(self.name) else self.name.replace("-", "_").replace(".", "_")

    @property
    def declared(self) -> str:
        """This will give it as a signature has it."""
        return f"{self.python}: {self.kind}" if self.required else f"{self.python}: {self.kind} | None = None"


def _kind(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        kinds = {_kind(entry, schemas) for entry in schema["anyOf"] if entry.get("type") != "null"}
        return kinds.pop() if len(kinds) == 1 else "Any"
    said = schema.get("type")
    if said == "array":
        entry = _kind(schema.get("items", {}), schemas)
        return f"{entry} | Sequence[{entry}]" if entry == "str" else f"Sequence[{entry}]"
    return KINDS.get(said, "str" if "enum" in schema else "Any") if isinstance(said, str) else "Any"


def _parameters(described: Mapping[str, Any], schemas: Mapping[str, Any]) -> Iterator[Parameter]:
    for entry in described.get("parameters", []):
        if entry["in"] != "header":
            yield Parameter(
                name=entry["name"], kind=_kind(entry["schema"], schemas), required=bool(entry.get("required")),
                place=entry["in"],
            )  # fmt: skip
    for kind, content in described.get("requestBody", {}).get("content", {}).items():
        if kind != "application/json":
            continue
        schema = content["schema"]
        schema = schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
        if "properties" not in schema:
            yield Parameter(name="body", kind="Any", required=True, place="whole body")
            continue
        for name, entry in schema["properties"].items():
            kind = _kind(entry, schemas).removeprefix("str | ")  # in JSON a list is a list
            yield Parameter(name=name, kind=kind, required=name in schema.get("required", []), place="body")


def _answer(described: Mapping[str, Any]) -> str:
    success = next(body for status, body in described["responses"].items() if status.startswith("2"))
    content = success.get("content", {}).get("application/json")
    if content is None:
        return "str"
    return "Page" if "items" in content["schema"].get("properties", {}) else "Answer"


def _function(name: str, http: str, path: str, described: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    parameters = sorted(_parameters(described, schemas), key=lambda p: (p.place != "path", not p.required))
    headers = {entry["name"] for entry in described.get("parameters", []) if entry["in"] == "header"}
    positional = [p for p in parameters if p.place == "path" or p.place == "whole body"]
    named = [p.declared for p in parameters if p not in positional]
    named += ["idempotency_key: str | None = None"] * ("Idempotency-Key" in headers)
    named += ["if_match: str | None = None"] * ("If-Match" in headers)
    signature = ", ".join([*(p.declared for p in positional), *(["*", *named] if named else [])])
    given = _answer(described)
    arguments = [f'"{http.upper()}", "{path}"']
    for place in ("path", "query", "body"):
        entries = ", ".join(f'"{p.name}": {p.python}' for p in parameters if p.place == place)
        if entries:
            arguments.append(f"{place}={{{entries}}}")
    arguments += ["body=body"] * any(p.place == "whole body" for p in parameters)
    arguments += ["writes=True, idempotency_key=idempotency_key"] * ("Idempotency-Key" in headers)
    arguments += ["if_match=if_match"] * ("If-Match" in headers)
    arguments += ["listed=True"] * (given == "Page")
    summary = described["summary"].rstrip(".")
    return (
        f"def {name}({signature}) -> Question[{given}]:\n"
        f'    """{summary}: {http.upper()} {path}."""\n'
        f"    return question({', '.join(arguments)})\n"
    )


def render(document: Mapping[str, Any]) -> dict[Path, str]:
    """This will give the text of every module: one for each noun of the API, their list, and the two classes."""
    schemas = document["components"]["schemas"]
    functions: dict[str, list[str]] = {}
    methods: list[tuple[str, str]] = []  # a method's name, and the function that it is made of
    for path, operations in document["paths"].items():
        for http, described in operations.items():
            if path == STREAM:
                continue
            noun, name = described["tags"][0].replace(" ", "_"), described["operationId"]
            functions.setdefault(noun, []).append(_function(name, http, path, described, schemas))
            published = [known for known, where in PUBLISHED.items() if where == (http, path)]
            methods += [(each, f"questions.{noun}.{name}") for each in (name, *published)]
    folder, names = CLIENT / "questions", sorted(functions)
    listed = ", ".join(names)
    out = {
        folder / f"{noun}.py": QUESTIONS_HEAD.format(noun=noun.replace("_", " ")) + "\n\n".join(["", *texts])
        for noun, texts in functions.items()
    }
    out[folder / "__init__.py"] = (
        '"""What can be asked, a module for each noun of the API. Written by `make openapi`; do not edit."""\n\n'
        f"from resource_agent.questions import {listed}\n\n__all__ = {names!r}\n"
    )
    classes = [CLASSES_HEAD]
    for class_name, made_by in (("Operations", "waiting"), ("AsyncOperations", "awaited")):
        entries = "".join(f"    {name} = {made_by}({source})\n" for name, source in methods)
        classes.append(f'\n\nclass {class_name}:\n    """One method for each operation."""\n\n{entries}')
    out[CLIENT / "operations.py"] = "".join(classes)
    return {path: formatted(text, path) for path, text in out.items()}


def formatted(text: str, path: Path) -> str:
    """This will put a module into shape, without the imports that it does not need."""
    for action in (["check", "--fix", "--quiet", "--select", "I,F401"], ["format"]):
        command = [sys.executable, "-m", "ruff", *action, "--stdin-filename", str(path), "-"]
        text = subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout
    return text


def main() -> None:
    """This will write them, and take away what the API has no longer."""
    modules = render(orjson.loads(DESCRIPTION.read_bytes()))
    (CLIENT / "questions").mkdir(exist_ok=True)
    for path, text in modules.items():
        path.write_text(text, encoding="utf-8")
    for path in set((CLIENT / "questions").glob("*.py")) - modules.keys():
        path.unlink()


if __name__ == "__main__":
    main()
