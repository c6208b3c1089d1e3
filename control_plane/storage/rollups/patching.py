"""Replacing cells that are stored already by those that late samples make."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from control_plane.storage.rollups import store
from control_plane.storage.rollups.blocks import FieldCells
from control_plane.storage.rollups.cells import Cells, laid_out, places, without
from control_plane.storage.rollups.store import FieldBook, Level
from control_plane.storage.session import SyncConnection


def replace_cells(
    connection: SyncConnection,
    level: Level,
    book: FieldBook,
    table: str,
    new: Sequence[FieldCells],
    *,
    entity_ids: Sequence[int],
    since_us: int,
    until_us: int,
    numbers: Sequence[int] | None = None,
) -> None:
    """This will make `new` all that is stored of these entities in a stretch.

    `numbers` narrows that to some fields of the table. Rows keep their shape: a cell goes where one of its entity was,
    and only what has no place yet gets a new row.
    """
    stale = np.array(sorted(entity_ids), np.int32)
    if not len(stale):
        return
    taken = store.take(
        connection, level, book, book.numbers_of(table) if numbers is None else numbers,
        since_us=since_us, until_us=until_us, entities=(int(stale[0]), int(stale[-1])),
    )  # fmt: skip
    left: dict[tuple[int, int | None], list[FieldCells]] = {}
    for found in new:
        left.setdefault((found.field_id, found.cells.layout_id), []).append(found)
    out = []
    for row in taken:
        cells = _emptied(row.cells, stale, since_us=since_us, until_us=until_us)
        waiting = left.get((row.field_id, row.cells.layout_id), [])
        for number, found in enumerate(waiting):
            cells, rest = _moved(found.cells, cells)
            waiting[number] = FieldCells(field_id=found.field_id, exact=found.exact, cells=rest)
        out.append(FieldCells(field_id=row.field_id, exact=row.exact, cells=cells))
    out += [found for waiting in left.values() for found in waiting]
    store.insert(connection, level, out)


def _emptied(cells: Cells, stale: np.ndarray[tuple[int], np.dtype[np.int32]], *, since_us: int, until_us: int) -> Cells:
    starts = cells.unit_starts_us
    entity = np.repeat(np.isin(cells.entity_ids, stale), cells.units)
    return without(cells, entity & (starts >= since_us) & (starts < until_us))


def _moved(found: Cells, row: Cells) -> tuple[Cells, Cells]:
    """This will put what has its place in a row there, and give the row and what is left."""
    shape = {"start_us": row.start_us, "units": row.units, "entity_ids": row.entity_ids}
    fits = (places(found, **shape) >= 0) & (found.samples > 0)  # type: ignore[arg-type]
    if not fits.any():
        return row, found
    fitting = without(found, ~fits)
    return laid_out([row, fitting], **shape), without(found, fits)  # type: ignore[arg-type]
