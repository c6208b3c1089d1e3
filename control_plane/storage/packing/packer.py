"""Packs the samples of an hour of some nodes: reads every column of every row, and says so if it could not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from control_plane.storage import sample_rows
from control_plane.storage.packing.blocks import HOUR_US, PackedRow, packed_columns, packed_rows
from control_plane.storage.rollups.fields import FieldNumbers
from control_plane.storage.sample_rows import SampleRows, Stretch
from control_plane.storage.session import SyncConnection

# A GPU's row takes some 450 bytes on the way here and as much again as columns.
MOST_ROWS = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    """Rows whose arrays have the same lengths: the lengths, and what tells these rows from others."""

    widths: dict[str, int]
    condition: sql.Composable | None


def packed_hour(
    connection: SyncConnection, table: str, numbers: FieldNumbers, stretch: Stretch, next_block: dict[int, int]
) -> Iterator[tuple[SampleRows, list[PackedRow]]]:
    """This will read the loose samples of a stretch within one hour and pack them, in parts."""
    hour_us = stretch.since_us // HOUR_US * HOUR_US
    scalars = [name for name, kind in packed_columns(table).items() if not kind.endswith("[]")]
    scalars.remove("unknown_set_id")
    for shape in _shapes(connection, table, stretch):
        rows = sample_rows.read(
            connection, table, [*scalars, *shape.widths], stretch, widths=shape.widths, also=shape.condition
        )
        yield rows, list(packed_rows(rows, numbers, hour_us=hour_us, next_block=next_block))


def _shapes(connection: SyncConnection, table: str, stretch: Stretch) -> list[_Shape]:
    arrays = [name for name, kind in packed_columns(table).items() if kind.endswith("[]")]
    if not arrays:
        return [_Shape(widths={}, condition=None)]
    lengths = [sql.SQL("coalesce(cardinality({}), -1)").format(sql.Identifier(name)) for name in arrays]
    query = sql.SQL("SELECT DISTINCT {} FROM {} WHERE {}").format(
        sql.SQL(", ").join(lengths), sql.Identifier(f"{table}_sample"), stretch.condition()
    )
    found: list[tuple[Any, ...]] = connection.execute(query).fetchall()
    return [
        _Shape(
            widths={name: width for name, width in zip(arrays, row, strict=True) if width > 0},
            condition=sql.SQL("({}) = ({})").format(
                sql.SQL(", ").join(lengths), sql.SQL(", ").join(map(sql.Literal, row))
            ),
        )
        for row in found
    ]
