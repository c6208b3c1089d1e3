"""Regenerates everything that derives from `proto/`: stubs, the catalogue module, docs/metrics.md.

Run by `make proto` in its own environment (requirements/gen.lock): stubs come from
grpcio-tools 1.76, because later generators demand a protobuf that older ML stacks on the
same host do not have. `--check` regenerates into a scratch folder and compares.
"""

from __future__ import annotations

import argparse
import filecmp
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

PROTO = Path(__file__).resolve().parent
ROOT = PROTO.parent
KNOWN_TYPES = ("real", "double", "bigint", "real[]", "histogram")
UNITS = (
    "bytes_per_second", "bytes", "seconds", "ratio", "celsius", "watts", "joules",
    "megahertz", "cores", "tokens", "bits", "count", "flag", "code",
)  # fmt: skip

CATALOGUE_HEAD = '''"""The field catalogue. Generated from proto/metrics.toml by proto/generate.py: do not edit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldSpec:
    """One value of one table; see docs/metrics.md for all of them."""

    name: str
    type: str  # real, double, bigint, real[], histogram
    unit: str  # the unit its name ends in; "count" for plain counters
    is_counter: bool
    minimum: float | None  # smallest possible value; below it a reading is impossible
    maximum: float | None
    source: str
    doc: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSpec:
    """The values that are sampled together for one kind of entity."""

    name: str
    entity: str
    doc: str
    fields: tuple[FieldSpec, ...]
    moved_from: str = ""  # the table in which older agents send fields of this one

    def field(self, name: str) -> FieldSpec:
        """This will give the field called `name`; KeyError when there is none."""
        for spec in self.fields:
            if spec.name == name:
                return spec
        raise KeyError(f"table {self.name} has no field {name}")

    @property
    def scalars(self) -> tuple[FieldSpec, ...]:
        """This will give the fields that hold one number."""
        return tuple(f for f in self.fields if f.type in ("real", "double", "bigint"))

    @property
    def histograms(self) -> tuple[FieldSpec, ...]:
        """This will give the fields that hold a distribution."""
        return tuple(f for f in self.fields if f.type == "histogram")


_TABLES: dict[str, TableSpec] = {}
'''


def unit_of(name: str) -> str:
    """This will give the unit that a field's name ends in; ValueError when it names none."""
    stem = name.removesuffix("_total")
    for unit in UNITS:
        if stem == unit or stem.endswith("_" + unit):
            return unit
    if name.endswith("_total"):
        return "count"
    raise ValueError(f"{name}: a field's name must end in its unit, one of {', '.join(UNITS)}")


def load_catalogue() -> dict[str, Any]:
    """This will read proto/metrics.toml and refuse it when a row breaks the catalogue's rules."""
    catalogue = tomllib.loads((PROTO / "metrics.toml").read_text())
    for table, body in catalogue.items():
        for name, row in body["fields"].items():
            unit_of(name)
            if row["type"] not in KNOWN_TYPES:
                raise ValueError(f"{table}.{name}: unknown type {row['type']}")
            if row["type"] != "histogram" and len(row.get("range", ())) != 2:
                raise ValueError(f"{table}.{name}: needs a range of two numbers")
            if not row.get("doc") or not row.get("source"):
                raise ValueError(f"{table}.{name}: needs a doc and a source")
    return catalogue


def render_catalogue(catalogue: dict[str, Any]) -> str:
    """This will give the text of the generated Python module."""
    out = [CATALOGUE_HEAD]
    for table, body in catalogue.items():
        out.append(f'_TABLES["{table}"] = TableSpec(')
        out.append(f'    name="{table}",\n    entity="{body["entity"]}",\n    doc={body["doc"]!r},')
        out.append("    fields=(")
        for name, row in body["fields"].items():
            low, high = row.get("range", (None, None))
            counter = name.endswith("_total")
            out.append(
                f'        FieldSpec(name="{name}", type="{row["type"]}", unit="{unit_of(name)}", '
                f"is_counter={counter}, minimum={low!r}, maximum={high!r}, "
                f"source={row['source']!r}, doc={row['doc']!r}),"
            )
        out.append("    ),")
        if "moved_from" in body:
            out.append(f'    moved_from="{body["moved_from"]}",')
        out.append(")")
    out.append("\nTABLES: Mapping[str, TableSpec] = MappingProxyType(_TABLES)\n")
    return "\n".join(out)


def render_docs(catalogue: dict[str, Any]) -> str:
    """This will give the text of docs/metrics.md."""
    out = [
        "# Metrics\n",
        "Every value that an agent sends and the database keeps. Generated from `proto/metrics.toml` by\n"
        "`make proto`.\n",
        "A name ends in its unit. `_total` marks a counter; everything else is a gauge. A value outside its range is",
        "impossible: it is stored as unknown with the reason `out_of_range`, and counted.\n",
    ]
    for table, body in catalogue.items():
        out.append(f"## `{table}`\n\n{body['doc']}\n")
        out.append("| field | type | range | read from | meaning |\n| --- | --- | --- | --- | --- |")
        for name, row in body["fields"].items():
            low, high = row.get("range", ("", ""))
            span = f"{low:g} to {high:g}" if row["type"] != "histogram" else ""
            out.append(f"| `{name}` | {row['type']} | {span} | {row['source']} | {row['doc']} |")
        out.append("")
    return "\n".join(out)


def generate(gen: Path, docs: Path) -> None:
    """This will write stubs and the catalogue under `gen`, and metrics.md under `docs`."""
    package = gen / "optiinfra"
    (package / "telemetry" / "v1").mkdir(parents=True, exist_ok=True)
    docs.mkdir(parents=True, exist_ok=True)
    protos = sorted(str(p.relative_to(PROTO)) for p in (PROTO / "optiinfra").rglob("*.proto"))
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}"]
    plugins = Path(sys.executable).parent  # not resolved: the environment's folder, not the interpreter's
    command += [f"--plugin={plugins / name}" for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")]
    command += [f"--{plugin}={gen}" for plugin in ("python_out", "grpc_python_out", "mypy_out", "mypy_grpc_out")]
    subprocess.run([*command, *protos], check=True, cwd=PROTO)
    for stub in ("telemetry", "command"):  # no services in them: nothing to import
        (package / "telemetry" / "v1" / f"{stub}_pb2_grpc.py").unlink(missing_ok=True)
        (package / "telemetry" / "v1" / f"{stub}_pb2_grpc.pyi").unlink(missing_ok=True)
    for folder, text in (
        (package, "What both sides of the wire share: stubs and the field catalogue. Generated."),
        (package / "telemetry", "Telemetry messages. Generated."),
        (package / "telemetry" / "v1", "Version 1 of the telemetry messages. Generated."),
        (package / "kubelet", "What the kubelet says on its local socket. Generated."),
        (package / "kubelet" / "v1", "Version 1 of the kubelet's PodResources. Generated."),
    ):
        (folder / "__init__.py").write_text(f'"""{text}"""\n')
    (package / "py.typed").write_text("")
    catalogue = load_catalogue()
    (package / "catalogue.py").write_text(render_catalogue(catalogue))
    (docs / "metrics.md").write_text(render_docs(catalogue))


def differences(left: Path, right: Path) -> list[str]:
    """This will list files that differ between two generated trees, caches aside."""
    names = {p.relative_to(left) for p in left.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    names |= {p.relative_to(right) for p in right.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    return sorted(
        str(name)
        for name in names
        if not (left / name).exists()
        or not (right / name).exists()
        or not filecmp.cmp(left / name, right / name, shallow=False)
    )


def main() -> int:
    """This will regenerate, or with --check compare and exit 1 when something is out of date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    if not parser.parse_args().check:
        shutil.rmtree(PROTO / "gen", ignore_errors=True)
        generate(PROTO / "gen", ROOT / "docs")
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(scratch)
        generate(fresh / "gen", fresh / "docs")
        stale = differences(fresh / "gen", PROTO / "gen")
        if (fresh / "docs" / "metrics.md").read_text() != (ROOT / "docs" / "metrics.md").read_text():
            stale.append("docs/metrics.md")
    if stale:
        print("out of date, run `make proto`:", *stale, sep="\n  ", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
