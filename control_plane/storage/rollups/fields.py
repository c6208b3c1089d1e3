"""Which statistics each field of the catalogue gets, and the number by which rollups name it."""

from __future__ import annotations

from enum import Enum
from typing import LiteralString

from control_plane.storage.samples import COLUMNS
from control_plane.storage.session import SyncConnection
from optiinfra.catalogue import TABLES, FieldSpec, TableSpec


class FieldKind(Enum):
    """What can be said of a field over a stretch of time."""

    GAUGE = "gauge"  # minimum, mean, maximum, quantiles, last
    STATE = "state"  # a code or a set of bits: which values it had and how often; its mean would say nothing
    COUNTER = "counter"  # growth, over how many seconds, resets, last
    HISTOGRAM = "histogram"  # growth of its buckets and of its sum


def kind_of(field: FieldSpec) -> FieldKind | None:
    """This will say how a field is rolled up; None for one value per core, which only samples keep."""
    if field.type == "real[]":
        return None
    if field.type == "histogram":
        return FieldKind.HISTOGRAM
    if field.is_counter:
        return FieldKind.COUNTER
    return FieldKind.STATE if field.unit in ("bits", "code") else FieldKind.GAUGE


def is_exact(field: FieldSpec) -> bool:
    """This will say whether a field's last value needs more digits than a float4 has."""
    return field.type in ("double", "bigint")


def rolled_up(spec: TableSpec) -> list[FieldSpec]:
    """This will list the fields of a table that have rollups."""
    return [field for field in spec.fields if kind_of(field) is not None]


# Tables of which nodes and the fleet have rollups of their own, and what those are of.
SCOPED: tuple[LiteralString, ...] = ("gpu", "gpu_health")
NODE, FLEET = "node", "fleet"
SCOPES = (NODE, FLEET)


def scoped(table: str, scope: str) -> str:
    """This will name the table under which the fields of a scope are numbered."""
    return f"{table}@{scope}"


def has_scopes(field: FieldSpec) -> bool:
    """This will say whether many entities together have a number for a field: they have no common state."""
    return kind_of(field) in (FieldKind.GAUGE, FieldKind.COUNTER)


FieldNumbers = dict[tuple[str, str], int]  # (table, field) -> field_id


def numbers(connection: SyncConnection) -> FieldNumbers:
    """This will give the number of every field and every column, giving one to those that have none yet."""
    known = [(table, field.name) for table, spec in TABLES.items() for field in spec.fields]
    known += [(table, name) for table in TABLES for name, _ in COLUMNS[table] if (table, name) not in set(known)]
    known += [
        (scoped(table, scope), field.name)
        for table in SCOPED for scope in SCOPES for field in TABLES[table].fields if has_scopes(field)
    ]  # fmt: skip
    connection.execute(
        "INSERT INTO metric_field (table_name, name) "
        "SELECT t, n FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS given(t, n, place) "
        "WHERE NOT EXISTS (SELECT FROM metric_field f WHERE f.table_name = t AND f.name = n) "
        "ORDER BY place ON CONFLICT DO NOTHING",
        ([table for table, _ in known], [name for _, name in known]),
    )
    rows = connection.execute("SELECT table_name, name, field_id FROM metric_field").fetchall()
    return {(table, name): field_id for table, name, field_id in rows}
