"""From the samples of some minutes to their cells, table by table, with memory bounded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from control_plane.storage import sample_rows
from control_plane.storage.packing import store as packing
from control_plane.storage.rollups import histograms
from control_plane.storage.rollups.blocks import FieldCells
from control_plane.storage.rollups.cells import Cells
from control_plane.storage.rollups.fields import FieldNumbers
from control_plane.storage.rollups.histograms import Standings, read_ends, rolled_histograms
from control_plane.storage.rollups.lookups import Lookups
from control_plane.storage.rollups.minutes import LOOKBACK_US, MINUTE_US, Predecessors, grid_of, rolled
from control_plane.storage.rollups.store import FieldBook
from control_plane.storage.sample_rows import Stretch
from control_plane.storage.session import SyncConnection
from optiinfra.catalogue import TABLES

# A GPU's row takes some 450 bytes on the way here and as much again as columns.
MOST_ROWS = 200_000
# Rows of one entity in a minute, until more have been seen: 5 s is the usual cadence.
USUAL_ROWS_PER_MINUTE = 12
_ALL_ENTITIES = 2**31 - 1


@dataclass(slots=True)
class Carry:
    """Where one table's counters stood at the end of a stretch, so that the next one need not look back."""

    until_us: int = 0
    predecessors: dict[int, Predecessors] = field(default_factory=dict)  # by the first entity of each chunk
    standings: dict[int, Standings] = field(default_factory=dict)


class Roller:
    """Rolls stretches of minutes up. One per working thread."""

    def __init__(self, book: FieldBook, numbers: FieldNumbers, lookups: Lookups) -> None:
        """`book` numbers the fields of the cells that come out, `numbers` the columns of packed samples."""
        self._book = book
        self._numbers = numbers
        self._lookups = lookups
        self._carry: dict[str, Carry] = {}
        self._rows_per_minute: dict[str, float] = {}

    def forget(self) -> None:
        """This will look back into the samples next time: another replica may have been at work."""
        self._carry.clear()

    def all_entities(
        self, connection: SyncConnection, table: str, *, start_us: int, units: int
    ) -> Iterator[list[FieldCells]]:
        """This will give the cells of every entity of a table, some entities at a time."""
        carried = self._carry.get(table, Carry())
        went_on = carried.until_us == start_us
        after = Carry(until_us=start_us + units * MINUTE_US)
        bounds = self._chunks(connection, table, units)
        if went_on and set(carried.predecessors) != set(bounds[:-1]):
            went_on = False
        for first, end in pairwise(bounds):
            stretch = Stretch(since_us=start_us, until_us=start_us + units * MINUTE_US, first=first, end=end)
            if went_on:
                before, standing = carried.predecessors[first], carried.standings[first]
            else:
                before, standing = self._looked_back(connection, table, stretch)
            out, after.predecessors[first], after.standings[first] = self._stretch(
                connection, table, stretch, before, standing, firsts=not went_on
            )
            yield out
        self._carry[table] = after

    def some_entities(
        self, connection: SyncConnection, table: str, entity_ids: Sequence[int], *, start_us: int, units: int
    ) -> list[FieldCells]:
        """This will give the cells of the named entities, from what is stored now, packed or not.

        For packed samples the connection's transaction must have one snapshot.
        """
        stretch = Stretch(since_us=start_us, until_us=start_us + units * MINUTE_US, entity_ids=entity_ids)
        before, standing = self._looked_back(connection, table, stretch)
        return self._stretch(connection, table, stretch, before, standing, firsts=True)[0]

    def _chunks(self, connection: SyncConnection, table: str, units: int) -> list[int]:
        """This will give the entity ids at which chunks of some MOST_ROWS rows begin, and the end of the last."""
        rows = self._rows_per_minute.get(table, USUAL_ROWS_PER_MINUTE) * units
        step = max(1, int(MOST_ROWS / rows))
        found = connection.execute(
            f"SELECT entity_id FROM (SELECT entity_id, row_number() OVER (ORDER BY entity_id) AS place "  # noqa: S608
            f"FROM {table}_latest) e WHERE place %% %s = 0 ORDER BY entity_id",
            (step,),
        ).fetchall()
        return [0, *(entity_id + 1 for (entity_id,) in found), _ALL_ENTITIES]

    def _looked_back(self, connection: SyncConnection, table: str, stretch: Stretch) -> tuple[Predecessors, Standings]:
        before = Stretch(
            since_us=stretch.since_us - LOOKBACK_US, until_us=stretch.since_us,
            first=stretch.first, end=stretch.end, entity_ids=stretch.entity_ids,
        )  # fmt: skip
        _, predecessors, standings = self._stretch(connection, table, before, Predecessors(), Standings(), firsts=False)
        return predecessors, standings

    def _stretch(
        self,
        connection: SyncConnection,
        table: str,
        stretch: Stretch,
        before: Predecessors,
        standing: Standings,
        *,
        firsts: bool,
    ) -> tuple[list[FieldCells], Predecessors, Standings]:
        spec = TABLES[table]
        units = (stretch.until_us - stretch.since_us) // MINUTE_US
        names = [f.name for f in spec.scalars]
        rows = sample_rows.read(connection, table, names, stretch)
        may_be_packed = stretch.entity_ids is not None  # what is rolled up for the first time never is
        if may_be_packed:
            packed = packing.read(connection, table, names, self._numbers, stretch)
            rows = packing.joined([rows, *packed], names) if packed else rows
        self._lookups.load(connection, unknown_set_ids=np.unique(rows.unknown_set_ids).tolist())
        grid = grid_of(rows, start_us=stretch.since_us, units=units)
        if grid.count:
            seen = len(rows) / grid.count
            self._rows_per_minute[table] = max(seen, self._rows_per_minute.get(table, USUAL_ROWS_PER_MINUTE))
        found, after = rolled(rows, grid, before, self._lookups.reasons)
        out = [self._named(table, name, cells) for name, cells in found.items()]
        if not spec.histograms:
            return out, after, standing
        ends = read_ends(connection, spec, stretch, firsts=firsts)
        if may_be_packed:
            columns = histograms.columns_of_ends(spec)
            for part in packing.read(connection, table, columns, self._numbers, stretch):
                ends += histograms.ends_of(part, spec, firsts=firsts)
            ends.sort(key=lambda end: (end.entity_id, end.taken_at_us))
        self._lookups.load(
            connection, unknown_set_ids={e.unknown_set_id for e in ends}, layout_ids={e.layout_id for e in ends}
        )
        grown, standing = rolled_histograms(
            spec, ends, standing, start_us=stretch.since_us, units=units,
            reasons=self._lookups.reasons, bounds=self._lookups.bounds,
        )  # fmt: skip
        out += [self._named(table, name, cells) for name, parts in grown.items() for cells in parts]
        return out, after, standing

    def _named(self, table: str, name: str, cells: Cells) -> FieldCells:
        number = self._book.number(table, name)
        return FieldCells(field_id=number, exact=self._book.exact(number), cells=cells)
