"""Columns for people: what comes from elsewhere cannot move the cursor, and what is not known says so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

UNKNOWN = "?"
WIDEST = 40


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """This will line up rows under their heads; numbers stand to the right."""
    cells = [[plain(cell) for cell in row] for row in rows]
    widths = [max(len(line[i]) for line in [list(head), *cells]) for i in range(len(head))]
    right = [bool(rows) and all(isinstance(row[i], int | float | None) for row in rows) for i in range(len(head))]
    lines = []
    for line in [list(head), *cells]:
        parts = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(line, widths, right, strict=True)]
        lines.append("  ".join(parts).rstrip())
    return "\n".join(lines)


def plain(value: Any, *, widest: int = WIDEST) -> str:
    """This will show a value: no control characters, no more than fits."""
    if value is None:
        return UNKNOWN
    if isinstance(value, float):
        return f"{value:.1f}"
    text = "".join(character if character.isprintable() else "?" for character in str(value))
    return text if len(text) <= widest else f"{text[: widest - 1]}…"


def percent(ratio: float | None) -> str | None:
    """This will show a ratio as a share of a hundred."""
    return None if ratio is None else f"{ratio * 100:.0f} %"


def gibibytes(count: float | None) -> str | None:
    """This will show bytes in GiB."""
    return None if count is None else f"{count / 2**30:.1f}"
