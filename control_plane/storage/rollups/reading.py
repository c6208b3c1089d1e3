"""Reading rollups: rows of fields between two moments, as cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.storage import moments
from control_plane.storage.numpy_arrays import use_numpy
from control_plane.storage.rollups import store
from control_plane.storage.rollups.blocks import STRETCHES
from control_plane.storage.rollups.cells import Cells
from control_plane.storage.rollups.fields import FieldKind, kind_of
from control_plane.storage.rollups.listing import listed
from control_plane.storage.rollups.store import Level
from optiinfra.catalogue import FieldSpec

# What histories are made of, by kind. They merge sketches, and have no use for the quantiles of single cells.
_ALWAYS = ("start", "units", "field_id", "layout_id", "entity_ids", "samples", "known", "reason", "entities")
_COLUMNS = {
    FieldKind.GAUGE: ("minimum", "mean", "maximum", "sketch"),
    FieldKind.STATE: ("last", "last_exact", "sketch"),
    FieldKind.COUNTER: ("increase", "seconds", "resets", "reset_increase"),
    FieldKind.HISTOGRAM: ("increase", "seconds", "buckets"),
}


_PROGRESS = sql.SQL("SELECT name, {} FROM rollup_progress").format(moments.as_us("until"))


async def progress(connection: AsyncConnection) -> Mapping[str, int]:
    """This will say how far each step has come, in microseconds since 1970."""
    found = await tuples(connection, _PROGRESS, {})
    return dict(found)


async def find(
    connection: AsyncConnection,
    level: Level,
    fields: Mapping[int, FieldSpec],
    *,
    since_us: int,
    until_us: int,
    entity_ids: Sequence[int] | None = None,
) -> dict[int, list[Cells]]:
    """This will list the cells of rows that have a part in a stretch, by field and layout; the fields by number.

    There are cells outside of the stretch too: callers pick. None for `entity_ids` means all.
    """
    kinds = {number: kind_of(field) for number, field in fields.items()}
    columns = [*_ALWAYS, *dict.fromkeys(name for kind in kinds.values() if kind for name in _COLUMNS[kind])]
    condition = sql.SQL(
        "first_entity = ANY(%(begins)s) AND entity_ids && %(ids)s::int[]" if entity_ids is not None else "true"
    )
    statement = sql.SQL(
        "SELECT {} FROM {} WHERE field_id = ANY(%(numbers)s) AND start > %(oldest)s AND start < %(until)s "
        "AND start + units * %(unit)s > %(since)s AND {}"
    ).format(store.selected(columns), sql.Identifier(level.table), condition)
    arguments: dict[str, Any] = {
        "numbers": list(fields),
        "oldest": moments.to_datetime(since_us - level.span_us),
        "since": moments.to_datetime(since_us),
        "until": moments.to_datetime(until_us),
        "unit": timedelta(microseconds=level.unit_us),
    }
    wanted = None
    if entity_ids is not None:
        wanted = np.unique(np.array(list(entity_ids), np.int32))
        begins = np.unique([wanted // length * length for length in STRETCHES])
        arguments |= {"ids": wanted.tolist(), "begins": begins.tolist()}
    found: dict[tuple[int, int | None], list[dict[str, Any]]] = {}
    for row in await rows(connection, statement, arguments):
        found.setdefault((row["field_id"], row["layout_id"]), []).append(row)
    out: dict[int, list[Cells]] = {}
    for (number, _), mine in found.items():
        kind = kinds[number]
        assert kind is not None
        cells = listed(mine, kind, unit_us=level.unit_us, wanted=wanted)
        if cells is not None:
            out.setdefault(number, []).append(cells)
    return out


async def rows(
    connection: AsyncConnection, statement: sql.Composed, arguments: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """This will run a statement past SQLAlchemy, which would make a Python object of every element."""
    async with (await _driver(connection)).cursor(binary=True, row_factory=dict_row) as cursor:
        use_numpy(cursor.adapters)
        await cursor.execute(statement, arguments)
        return await cursor.fetchall()


async def tuples(
    connection: AsyncConnection, statement: sql.Composed, arguments: Mapping[str, Any]
) -> list[tuple[Any, ...]]:
    """This will do the same, with rows of plain numbers."""
    async with (await _driver(connection)).cursor(binary=True) as cursor:
        await cursor.execute(statement, arguments)
        return await cursor.fetchall()


async def _driver(connection: AsyncConnection) -> psycopg.AsyncConnection[Any]:
    driver = (await connection.get_raw_connection()).driver_connection
    assert isinstance(driver, psycopg.AsyncConnection)
    return driver
