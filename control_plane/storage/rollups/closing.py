"""When an hour is over: its minutes into rows of an hour each, and the hour itself out of them; likewise days.

A row of one minute and many entities is quick to write; one of many minutes and few entities is small and
quick to read. Every step can be done again: it takes what is there, whatever its shape.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from psycopg import sql

from control_plane.storage.rollups import store
from control_plane.storage.rollups.blocks import FieldCells
from control_plane.storage.rollups.cells import coarser, laid_out
from control_plane.storage.rollups.fields import FLEET
from control_plane.storage.rollups.store import HOUR, MINUTE, FieldBook, Level
from control_plane.storage.session import SyncConnection

# Cells that are taken into memory together: at a hundred bytes each, and as much again while they are merged.
MOST_CELLS_AT_ONCE = 1_000_000


def batches(connection: SyncConnection, book: FieldBook, table: str, level: Level) -> Iterator[list[int]]:
    """This will cut a table's fields into groups whose cells of one span fit into memory together."""
    cells = max(1, _entities_of(connection, table)) * (level.span_us // level.unit_us)
    size = max(1, MOST_CELLS_AT_ONCE // cells)
    numbers = book.numbers_of(table)
    for begin in range(0, len(numbers), size):
        yield numbers[begin : begin + size]


def _entities_of(connection: SyncConnection, table: str) -> int:
    """This will say of how many entities a table has cells, or had lately."""
    home, _, scope = table.partition("@")
    if scope == FLEET:
        return 1
    count = sql.SQL("count(DISTINCT node_id)" if scope else "count(*)")
    row = connection.execute(sql.SQL("SELECT {} FROM {}").format(count, sql.Identifier(f"{home}_latest"))).fetchone()
    return int(row[0]) if row else 0


def close_hour(connection: SyncConnection, book: FieldBook, numbers: Sequence[int], hour_us: int) -> None:
    """This will gather the minutes of an hour of some fields, and store the hour. Inside the caller's transaction."""
    end_us = hour_us + MINUTE.span_us
    taken = store.take(connection, MINUTE, book, numbers, since_us=hour_us, until_us=end_us)
    minutes = list(gathered(taken, MINUTE))
    store.insert(connection, MINUTE, minutes)
    store.take(connection, HOUR, book, numbers, since_us=hour_us, until_us=end_us)  # of a try before this one
    store.insert(connection, HOUR, hours_of(minutes))


def close_day(connection: SyncConnection, book: FieldBook, numbers: Sequence[int], day_us: int) -> None:
    """This will gather the hours of a day of some fields. Inside the caller's transaction."""
    taken = store.take(connection, HOUR, book, numbers, since_us=day_us, until_us=day_us + HOUR.span_us)
    store.insert(connection, HOUR, gathered(taken, HOUR))


def hours_of(minutes: Iterable[FieldCells]) -> Iterator[FieldCells]:
    """This will merge cells of sixty minutes into cells of their hour."""
    for found in minutes:
        cells = coarser(found.cells, MINUTE.span_us // MINUTE.unit_us)
        yield FieldCells(field_id=found.field_id, exact=found.exact, cells=cells)


def gathered(taken: Sequence[FieldCells], level: Level) -> Iterator[FieldCells]:
    """This will lay the rows of one span onto one grid for each field and layout."""
    by_grid: dict[tuple[int, int | None], list[FieldCells]] = {}
    for found in taken:
        by_grid.setdefault((found.field_id, found.cells.layout_id), []).append(found)
    for mine in by_grid.values():
        start_us = min(f.cells.start_us for f in mine) // level.span_us * level.span_us
        entity_ids = np.unique(np.concatenate([f.cells.entity_ids for f in mine])).astype(np.int32)
        cells = laid_out(
            [f.cells for f in mine], start_us=start_us, units=level.span_us // level.unit_us, entity_ids=entity_ids
        )
        yield FieldCells(field_id=mine[0].field_id, exact=mine[0].exact, cells=cells)
