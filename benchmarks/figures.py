"""Figures of several runs, and how they look in Markdown."""

from __future__ import annotations

import platform
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

# What the figures depend on most, beside this repository.
PACKAGES = ("grpcio", "protobuf", "numpy", "psycopg", "sqlalchemy", "fastapi", "uvicorn", "uvloop", "orjson")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One thing that was measured in several runs. `floor` names the figure that it is compared with."""

    name: str
    unit: str
    values: Sequence[float]
    floor: str | None = None

    @property
    def median(self) -> float:
        """This will give the middle of the runs."""
        return statistics.median(self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Cells beside one another that are no spread of runs."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one benchmark found."""

    name: str
    title: str
    explanation: str  # what is measured, and what the floor is
    figures: Sequence[Figure]
    notes: Sequence[str] = field(default_factory=tuple)
    tables: Sequence[Table] = field(default_factory=tuple)
    quick: bool = False  # measured small: the document says so

    def ratio(self, figure: Figure) -> float | None:
        """This will give how many times its floor a figure is, by the medians."""
        if figure.floor is None:
            return None
        (floor,) = [f for f in self.figures if f.name == figure.floor]
        return figure.median / floor.median if floor.median else None


def number(value: float) -> str:
    """This will write a number with three digits that count, and no exponent."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def table(result: Result) -> str:
    """This will write a result's figures as a Markdown table."""
    lines = [
        "| figure | unit | min | median | max | runs | × floor | floor |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for figure in result.figures:
        ratio = result.ratio(figure)
        cells = [
            figure.name,
            figure.unit,
            number(min(figure.values)),
            number(figure.median),
            number(max(figure.values)),
        ]
        cells += [str(len(figure.values)), "" if ratio is None else number(ratio), figure.floor or ""]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def cells(table: Table) -> str:
    """This will write a table of cells in Markdown: names to the left, numbers to the right."""
    rule = ["---", *["---:"] * (len(table.head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (table.head, rule, *table.rows))


def section(result: Result) -> str:
    """This will write a result as a section of the document."""
    parts = [
        f"## {result.title}",
        result.explanation,
        f"`python -m benchmarks {result.name}{' --quick' if result.quick else ''}`",
        *([table(result)] if result.figures else []),
        *map(cells, result.tables),
    ]
    if result.notes:
        parts.append("\n".join(f"- {note}" for note in result.notes))
    return "\n\n".join(parts)


def document(results: Sequence[Result], *, machine: str, versions: str) -> str:
    """This will write the whole of docs/benchmarks.md."""
    head = (
        "# Benchmarks\n\n"
        "Written by `make bench` (`python -m benchmarks`); do not edit. Every figure stands beside a floor that was "
        "measured in the same run, because absolute numbers of one machine say little about another: "
        "read the ratios.\n\n"
        "**This machine is a shared, noisy virtual machine with two cores**: the load, the control plane and Postgres "
        "take turns on them, and neighbours take their share. Minimum and maximum say how noisy it was.\n\n"
        f"Machine: {machine}.\n\nVersions: {versions}."
    )
    return "\n\n".join([head, *(section(result) for result in results)]) + "\n"


def with_section(text: str, result: Result) -> str:
    """This will give the document with this result's section written anew, at its place or at the end."""
    parts = re.split(r"\n\n(?=## )", text.rstrip("\n"))
    mine = [i for i, part in enumerate(parts) if f"`python -m benchmarks {result.name}`" in part.splitlines()]
    if mine:
        parts[mine[0]] = section(result)
    else:
        parts.append(section(result))
    return "\n\n".join(parts) + "\n"


def machine_line() -> str:
    """This will name this machine: processor, cores, memory, kernel."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown processor"
    )
    cores = sum(line.startswith("processor") for line in lines)
    memory = int(Path("/proc/meminfo").read_text(encoding="utf-8").split()[1]) / 2**20
    return f"{model}, {cores} logical CPUs, {memory:.0f} GiB memory, Linux {platform.release()}"


def versions_line(postgres: str) -> str:
    """This will name what was measured."""
    named = [f"OptiInfra {version('optiinfra')}", f"Python {platform.python_version()}", f"Postgres {postgres}"]
    return ", ".join([*named, *(f"{package} {version(package)}" for package in PACKAGES)])
