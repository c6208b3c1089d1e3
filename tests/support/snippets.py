"""Commands and programs that stand in the documents, as a reader would copy them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
# Written from measurements and recordings; what stands there is output.
NOT_READ = {"docs/benchmarks.md", "docs/API.md"}
PROGRAMS = ("curl ", "optiinfra ", ".venv/bin/optiinfra ")
INLINE = re.compile(r"`((?:" + "|".join(re.escape(program) for program in PROGRAMS) + r")[^`]+)`")
SHELLS = ("", "bash", "sh", "console")


@dataclass(frozen=True, slots=True)
class Snippet:
    """One command, or one Python program, and the document it stands in."""

    document: str
    text: str

    def __str__(self) -> str:
        return f"{self.document}: {self.text}"


def commands() -> list[Snippet]:
    """This will give every command in code blocks and in tables, in the documents' order."""
    return [Snippet(document, text) for document, page in _pages() for text in _commands(page)]


def programs() -> list[Snippet]:
    """This will give every Python block."""
    return [
        Snippet(document, text)
        for document, page in _pages()
        for text in re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    ]


def _pages() -> Iterator[tuple[str, str]]:
    for file in [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]:
        name = str(file.relative_to(REPOSITORY))
        if name not in NOT_READ:
            yield name, file.read_text()


def _commands(page: str) -> Iterator[str]:
    waiting: list[str] = []  # lines of a command that goes on
    language: str | None = None  # of the fenced block that we are in
    for line in page.splitlines():
        if line.startswith("```"):
            language = None if language is not None else line[3:].strip()
            continue
        in_block = language in SHELLS if language is not None else line.startswith("    ")
        if not in_block:
            waiting = []
            if language is None:
                yield from INLINE.findall(line)
            continue
        if waiting or line.strip().startswith(PROGRAMS):
            waiting.append(line.strip() if not waiting else line)
            text = "\n".join(waiting)
            if not text.endswith("\\") and _is_whole(text):
                yield text
                waiting = []


def _is_whole(text: str) -> bool:
    try:
        shlex.split(text, comments=True)
    except ValueError:  # a quotation goes on in the next line
        return False
    return True
