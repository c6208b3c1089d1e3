"""Reading rollups: rows of one field between two moments, as cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.storage import moments
from control_plane.storage.numpy_arrays import use_numpy
from control_plane.storage.rollups import store
from control_plane.storage.rollups.blocks import COLUMNS, FieldCells, cells_of_row
from control_plane.storage.rollups.fields import is_exact, kind_of
from control_plane.storage.rollups.store import Level
from control_plane.storage.schema import metric_field, rollup_progress
from optiinfra.catalogue import FieldSpec

SKETCH = ("sketch_lengths", "sketch_steps", "sketch_counts")
# Readers merge sketches, and have no use for the quantiles of single cells.
READ = tuple(column for column in COLUMNS if column not in ("p50", "p95", "p99", "share"))


async def progress(connection: AsyncConnection) -> Mapping[str, int]:
    """This will say how far each step has come, in microseconds since 1970."""
    rows = await connection.execute(select(rollup_progress.c.name, rollup_progress.c.until))
    return {name: moments.to_us(until) for name, until in rows}


async def field_id(connection: AsyncConnection, table: str, name: str) -> int | None:
    """This will give a field's number; None while it has never been rolled up."""
    query = select(metric_field.c.field_id).where(metric_field.c.table_name == table, metric_field.c.name == name)
    number = await connection.scalar(query)
    return None if number is None else int(number)


async def find(
    connection: AsyncConnection,
    level: Level,
    table: str,
    field: FieldSpec,
    *,
    since_us: int,
    until_us: int,
    entity_ids: Sequence[int] | None = None,
    columns: Sequence[str] = READ,
) -> list[FieldCells]:
    """This will give the rows of a field that have a part in a stretch; None for `entity_ids` means all.

    Rows hold cells outside of what was asked for too: callers pick.
    """
    number = await field_id(connection, table, field.name)
    if number is None or (entity_ids is not None and not entity_ids):
        return []
    statement = sql.SQL(
        "SELECT {} FROM {} WHERE field_id = %(number)s AND start > %(oldest)s AND start < %(until)s "
        "AND start + units * %(unit)s > %(since)s AND first_entity <= %(high)s AND last_entity >= %(low)s "
        "AND (%(ids)s::int[] IS NULL OR entity_ids && %(ids)s::int[])"
    ).format(store.selected(columns), sql.Identifier(level.table))
    arguments = {
        "number": number,
        "oldest": moments.to_datetime(since_us - level.span_us),
        "since": moments.to_datetime(since_us),
        "until": moments.to_datetime(until_us),
        "unit": timedelta(microseconds=level.unit_us),
        "low": 0 if entity_ids is None else min(entity_ids),
        "high": 2**31 - 1 if entity_ids is None else max(entity_ids),
        "ids": None if entity_ids is None else list(entity_ids),
    }
    kind = kind_of(field)
    assert kind is not None
    return [
        FieldCells(field_id=number, exact=is_exact(field), cells=cells_of_row(row, kind, unit_us=level.unit_us))
        for row in await rows(connection, statement, arguments)
    ]


async def rows(
    connection: AsyncConnection, statement: sql.Composed, arguments: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """This will run a statement past SQLAlchemy, which would make a Python object of every element."""
    driver = (await connection.get_raw_connection()).driver_connection
    assert isinstance(driver, psycopg.AsyncConnection)
    async with driver.cursor(binary=True, row_factory=dict_row) as cursor:
        use_numpy(cursor.adapters)
        await cursor.execute(statement, arguments)
        return await cursor.fetchall()
