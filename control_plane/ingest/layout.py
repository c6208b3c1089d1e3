"""Schemas that agents announce, turned into numpy record types.

The same schema announced by a thousand nodes is one Layout object, so their rows can be decoded
together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import isfinite
from typing import Any

import numpy as np

from control_plane.model.errors import OptiInfraError
from optiinfra.catalogue import TABLES, TableSpec

# TGI's widest histogram has 1,024 buckets, the widest host we know of 1,024 logical CPUs.
MOST_FIELDS = 512
MOST_VALUES_PER_FIELD = 4096
MOST_RECORD_BYTES = 256 * 1024


class RefusedSchema(OptiInfraError):
    """An announced schema cannot be used; the text says why."""


class UnknownTable(RefusedSchema):
    """A schema is for a table that this release does not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WireField:
    """One field as an agent announces it."""

    name: str
    type: str  # f32, f64, histogram
    count: int
    bounds: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layout:
    """How the records of one schema lie in memory, and which of them the catalogue knows.

    Compared by identity: `layout_of` gives the same object for the same schema.
    """

    table: TableSpec
    dtype: np.dtype[np.void]
    record_bytes: int
    known: Mapping[str, tuple[int, WireField]]  # fields both sides know, with their place in the record
    ignored: tuple[str, ...]  # fields of a newer agent
    also: Layout | None = None  # the same records as rows of the table to which fields that older agents send moved


_EXPECTED = {"real": ("f32", "f64"), "double": ("f32", "f64"), "bigint": ("f32", "f64"), "real[]": ("f32", "f64")}


def _check(field: WireField) -> None:
    if field.count < 1 or field.count > MOST_VALUES_PER_FIELD:
        raise RefusedSchema(f"field {field.name} has {field.count} values; 1 to {MOST_VALUES_PER_FIELD} are accepted")
    if field.type != "histogram":
        return
    if len(field.bounds) != field.count - 1:
        raise RefusedSchema(f"histogram {field.name} has {field.count} buckets but {len(field.bounds)} bounds")
    ascending = all(a < b for a, b in pairwise(field.bounds))
    if not ascending or not all(isfinite(b) for b in field.bounds):
        raise RefusedSchema(f"histogram {field.name} has bounds that are not finite and ascending")


def _numpy_fields(position: int, field: WireField) -> list[Any]:
    """This will lay one field out; names are positions, since agents may send any text as a name."""
    shape = () if field.count == 1 and field.type != "histogram" else (field.count,)
    match field.type:
        case "f32" | "f64":
            return [(f"v{position}", "<f4" if field.type == "f32" else "<f8", shape)]
        case "histogram":
            return [(f"s{position}", "<f8"), (f"v{position}", "<u8", shape)]
        case other:
            raise RefusedSchema(f"field {field.name} has the unknown type {other}")


@lru_cache(maxsize=4096)
def layout_of(table: str, fields: tuple[WireField, ...]) -> Layout:
    """This will lay out the records of a schema. Raises RefusedSchema."""
    spec = TABLES.get(table)
    if spec is None:
        raise UnknownTable(f"there is no table {table!r}; known are {', '.join(TABLES)}")
    if len(fields) > MOST_FIELDS:
        raise RefusedSchema(f"{len(fields)} fields; at most {MOST_FIELDS} are accepted")
    if len({f.name for f in fields}) != len(fields):
        raise RefusedSchema("a field is named twice")
    parts: list[Any] = [("entity", "<u4")]
    for position, field in enumerate(fields):
        _check(field)
        parts += _numpy_fields(position, field)
    dtype = np.dtype(parts)
    if dtype.itemsize > MOST_RECORD_BYTES:
        raise RefusedSchema(f"a record has {dtype.itemsize} bytes; at most {MOST_RECORD_BYTES} are accepted")
    known, size = _known(spec, fields), dtype.itemsize
    moved_to = next((other for other in TABLES.values() if other.moved_from == table), None)
    moved = _known(moved_to, fields) if moved_to is not None else {}
    also = None
    if moved_to is not None and moved:
        also = Layout(table=moved_to, dtype=dtype, record_bytes=size, known=moved, ignored=())
    ignored = tuple(f.name for f in fields if f.name not in known and f.name not in moved)
    return Layout(table=spec, dtype=dtype, record_bytes=size, known=known, ignored=ignored, also=also)


def _known(spec: TableSpec, fields: tuple[WireField, ...]) -> dict[str, tuple[int, WireField]]:
    """This will find the fields that a table has, with their place. Raises RefusedSchema."""
    catalogue = {f.name: f for f in spec.fields}
    known: dict[str, tuple[int, WireField]] = {}
    for position, field in enumerate(fields):
        entry = catalogue.get(field.name)
        if entry is None:
            continue
        if field.type not in _EXPECTED.get(entry.type, ("histogram",)):
            raise RefusedSchema(f"field {field.name} is sent as {field.type}, but is a {entry.type}")
        if entry.type in ("real", "double", "bigint") and field.count != 1:
            raise RefusedSchema(f"field {field.name} is one number, but {field.count} are sent")
        known[field.name] = (position, field)
    return known
