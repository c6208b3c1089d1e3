"""The house style, as far as a program can read it: what is not checked is only a wish.

Each rule is a function from a file to its violations, and is itself tested against a file that breaks it.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import tokenize
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("node_agent", "control_plane", "resource_agent", "migrations")
# Written by a program, and checked by comparing it with what that writes. Its words are those of the API.
GENERATED = ("resource_agent/operations.py", "resource_agent/questions/")
SCRIPTS = ("proto/generate.py",)

MOST_FUNCTION_LINES = 70
MOST_FILE_LINES = 500
NOT_NOUNS = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "managers"}
# Written in pieces, so that this file does not break its own rule.
MACHINE_PATHS = tuple("/".join(parts) for parts in (
    ("", "work", "main"), ("", "work", "shared"), ("", "opt", "vllm-test"), ("", "opt", "wheels"),
    ("", "tmp", "bash_jobs"), ("", "root", ".pyenv"),
))  # fmt: skip
REGISTRIES = tuple(".".join(parts) for parts in (
    ("pypi", "org"), ("pythonhosted", "org"), ("docker", "io"), ("ghcr", "io"), ("gcr", "io"), ("quay", "io"),
    ("nvcr", "io"), ("npmjs", "org"), ("pypi", "nvidia", "com"), ("anaconda", "org"),
))  # fmt: skip
UNFINISHED = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|X" r"XX|HA" r"CK)\b")
# ABC-123 and #123; standards and devices are spelled like tickets too.
STANDARDS = "UTF|SHA|RFC|ISO|PEP|IEEE|CVE|GPU|CPU|MIG|AES|TLS|HTTP"
TICKET = re.compile(rf"(?<![\w/&])#\d{{2,}}\b|\b(?!(?:{STANDARDS})-)[A-Z]{{2,10}}-\d+\b")


@dataclass(frozen=True, slots=True)
class Source:
    """One Python file: where it is, what it says, and its tree."""

    path: str  # from the repository's root
    text: str

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @property
    def is_program(self) -> bool:
        return self.path.endswith("__main__.py") or self.path in SCRIPTS


Rule = Callable[[Source], Iterator[str]]
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions_are_short(source: Source) -> Iterator[str]:
    for node in ast.walk(source.tree):
        if isinstance(node, Function):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MOST_FUNCTION_LINES:
                yield at(source, node, f"{node.name} has {length} lines; split it, {MOST_FUNCTION_LINES} are the most")


def files_are_short(source: Source) -> Iterator[str]:
    if len(source.lines) > MOST_FILE_LINES:
        yield f"{source.path}:1: {len(source.lines)} lines; move a noun out, {MOST_FILE_LINES} are the most"


def modules_are_named_after_nouns(source: Source) -> Iterator[str]:
    path = Path(source.path)
    for name in (*path.parent.parts, path.stem):
        if name in NOT_NOUNS:
            yield f"{source.path}:1: {name!r} says nothing; name it after what it holds"


def everything_public_has_a_docstring(source: Source) -> Iterator[str]:
    if not ast.get_docstring(source.tree):
        what = "the package" if source.path.endswith("__init__.py") else "the module"
        yield f"{source.path}:1: {what} has no docstring; say what it is for and what must never happen in it"
    for node in public(source.tree):
        if not ast.get_docstring(node):
            yield at(source, node, f"{node.name} is public and has no docstring; write one, or name it _{node.name}")


def public_docstrings_say_what_will_happen(source: Source) -> Iterator[str]:
    if (text := ast.get_docstring(source.tree)) and not is_sentence(text):
        yield f"{source.path}:1: the docstring does not begin with a sentence; end its first paragraph with a stop"
    for node in public(source.tree):
        text = ast.get_docstring(node) or ""
        if isinstance(node, ast.ClassDef) or is_endpoint(node):
            if text and not is_sentence(text):
                yield at(source, node, f"{node.name}'s docstring does not begin with a sentence; end it with a stop")
        elif text and not text.startswith("This will "):
            yield at(source, node, f"{node.name}'s docstring must begin with 'This will …', not {text[:30]!r}")


def broad_excepts_give_their_reason(source: Source) -> Iterator[str]:
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.ExceptHandler):
            continue
        if node.type is None:
            yield at(source, node, "a bare except catches even Ctrl-C; name the errors")
            continue
        if passes_on(node) or not caught(node.type) & {"Exception", "BaseException"}:
            continue
        if "# boundary: " not in source.lines[node.lineno - 1]:
            yield at(source, node, "say why something must outlive every error: `# boundary: …`, or name the errors")


def nothing_is_left_for_later(source: Source) -> Iterator[str]:
    for line, text in remarks(source):
        if found := UNFINISHED.search(text) or TICKET.search(text):
            yield f"{source.path}:{line}: {found[0]!r}: finish it or drop it; tickets belong into git's log"


def only_programs_print(source: Source) -> Iterator[str]:
    if source.is_program:
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            if "# noqa: T201 - " in source.lines[node.lineno - 1]:  # a program's own output, and it says so
                continue
            yield at(source, node, "only __main__ prints; return the text, or log it")


RULES: dict[Rule, str] = {  # and a file that breaks each
    functions_are_short: "def long():\n" + "    x = 1\n" * MOST_FUNCTION_LINES,
    files_are_short: "x = 1\n" * (MOST_FILE_LINES + 1),
    modules_are_named_after_nouns: '"""Good."""\n',
    everything_public_has_a_docstring: '"""Good."""\nclass Public:\n    """Good."""\n    def method(self): ...\n',
    public_docstrings_say_what_will_happen: '"""Good."""\ndef public():\n    """Returns a thing."""\n',
    broad_excepts_give_their_reason: "try:\n    x = 1\nexcept (OSError, Exception):\n    pass\n",
    nothing_is_left_for_later: "x = 1  # TODO: and so on\n",
    only_programs_print: "print('hello')\n",
}


def at(source: Source, node: ast.stmt | ast.expr | ast.ExceptHandler, sentence: str) -> str:
    return f"{source.path}:{node.lineno}: {sentence}"


def is_sentence(text: str) -> bool:
    return text.split("\n\n")[0].rstrip().endswith((".", ":", "?", "!", ".)"))


def is_endpoint(node: ast.AST) -> bool:
    """An endpoint's docstring is what the API's documentation shows to its users."""
    return isinstance(node, Function) and any(
        isinstance(d, ast.Call) and isinstance(d.func, ast.Attribute) and ast.unparse(d.func.value).endswith("router")
        for d in node.decorator_list
    )


def public(node: ast.Module | ast.ClassDef) -> Iterator[ast.ClassDef | Function]:
    """What others may name: not what begins with _, and nothing inside of functions or private classes."""
    for child in node.body:
        if not isinstance(child, ast.ClassDef | Function) or child.name.startswith("_"):
            continue
        if any(ast.unparse(d) in ("overload", "typing.overload") for d in child.decorator_list):
            continue
        yield child
        if isinstance(child, ast.ClassDef):
            yield from public(child)


def passes_on(node: ast.ExceptHandler) -> bool:
    """It tidies up and raises the error again: nothing outlives it."""
    last = node.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def caught(node: ast.expr) -> set[str]:
    parts = node.elts if isinstance(node, ast.Tuple) else [node]
    return {ast.unparse(part).rpartition(".")[2] for part in parts}


def remarks(source: Source) -> Iterator[tuple[int, str]]:
    """Comments and texts, with their lines."""
    for token in tokenize.generate_tokens(io.StringIO(source.text).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING):
            yield token.start[0], token.string


def sources() -> list[Source]:
    paths = [p for room in ROOMS for p in sorted((ROOT / room).rglob("*.py"))] + [ROOT / name for name in SCRIPTS]
    named = [(str(path.relative_to(ROOT)), path) for path in paths]
    return [Source(name, path.read_text(encoding="utf-8")) for name, path in named if not name.startswith(GENERATED)]


def committed_files() -> list[Path]:
    """Tracked files, and those that would be with the next `git add`."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True, check=False,
    )  # fmt: skip
    if listed.returncode != 0:
        pytest.skip("this is no git checkout")
    paths = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def foreign_places(path: Path, text: str) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), 1):
        for place in MACHINE_PATHS:
            if place in line:
                yield f"{path}:{number}: {place} is one developer's; take it from a setting, or drop it"
        for host in REGISTRIES:
            if host in line:
                yield f"{path}:{number}: {host} is a registry; leave the choice to whoever installs"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_file_keeps(rule: Rule) -> None:
    violations = [violation for source in sources() for violation in rule(source)]
    assert not violations, "\n" + "\n".join(violations)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_rule_finds_its_violation_and_says_where(rule: Rule) -> None:
    (violation,) = rule(Source("node_agent/helpers.py", RULES[rule]))
    assert re.match(r"node_agent/helpers\.py:\d+: \S+", violation)


def test_packages_are_packages() -> None:
    folders = {path.parent for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    missing = [str(folder.relative_to(ROOT)) for folder in folders if not (folder / "__init__.py").is_file()]
    assert not missing, f"write an __init__.py that says what the room is for: {missing}"


def test_no_python_file_is_too_long_wherever_it_lies() -> None:
    found = [
        Source(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8"))
        for path in committed_files()
        if path.suffix == ".py" and "proto/gen" not in str(path.relative_to(ROOT))  # protoc's
    ]
    violations = [violation for source in found for violation in files_are_short(source)]
    assert not violations, "\n" + "\n".join(violations)


def test_no_file_names_a_developers_machine_or_a_package_registry() -> None:
    violations: list[str] = []
    for path in committed_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture or an archive
        violations += foreign_places(path.relative_to(ROOT), text)
    assert not violations, "\n" + "\n".join(violations)


def test_a_machines_path_and_a_registry_are_found() -> None:
    text = f"fine\nsee {MACHINE_PATHS[0]}/x\nfrom {REGISTRIES[0]}\n"
    assert [v.split(" ")[0] for v in foreign_places(Path("a"), text)] == ["a:2:", "a:3:"]
