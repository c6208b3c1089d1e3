"""From samples to the cells of their minutes: one numpy pass over each field of many entities."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from control_plane.model.reason import Reason
from control_plane.storage.rollups import sketches
from control_plane.storage.rollups.cells import NO_REASON, STATISTICS, Cells, Numbers
from control_plane.storage.rollups.fields import FieldKind, kind_of
from control_plane.storage.sample_rows import SampleRows
from optiinfra.catalogue import TABLES, FieldSpec

MINUTE_US = 60_000_000
# Growth of a counter is seen between two samples. Further apart than this there is a gap, and growth
# over a gap has no moment.
LOOKBACK_US = 5 * MINUTE_US

Reasons = Callable[[int], Mapping[str, str]]  # unknown_set_id -> field -> label


@dataclass(slots=True)
class Predecessors:
    """The newest known value of each counter, by entity: where the next stretch's growth begins."""

    entity_ids: npt.NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    values: dict[str, Numbers] = field(default_factory=dict)
    taken_at_us: dict[str, npt.NDArray[np.int64]] = field(default_factory=dict)

    def of(self, name: str, entity_ids: npt.NDArray[np.int32]) -> tuple[Numbers, npt.NDArray[np.int64]]:
        """This will give a counter's value and time for each entity; NaN and 0 where there is none."""
        values, times = np.full(len(entity_ids), np.nan), np.zeros(len(entity_ids), np.int64)
        if name in self.values and len(self.entity_ids):
            place = np.minimum(np.searchsorted(self.entity_ids, entity_ids), len(self.entity_ids) - 1)
            found = self.entity_ids[place] == entity_ids
            values[found] = self.values[name][place[found]]
            times[found] = self.taken_at_us[name][place[found]]
        return values, times


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Where each row of a stretch falls."""

    start_us: int
    units: int
    entity_ids: npt.NDArray[np.int32]  # those that have rows, ascending
    entity: npt.NDArray[np.int64]  # (n,), of each row, its place in entity_ids
    cell: npt.NDArray[np.int64]  # (n,)
    first: npt.NDArray[np.int64]  # the row in which each cell that has rows begins
    present: npt.NDArray[np.int64]  # and the cells that have rows

    @property
    def count(self) -> int:
        """This will give the number of cells."""
        return len(self.entity_ids) * self.units


def grid_of(rows: SampleRows, *, start_us: int, units: int) -> Grid:
    """This will lay out rows, which must all lie within the stretch."""
    entity_ids, entity = np.unique(rows.entity_ids, return_inverse=True)
    cell = entity * units + (rows.taken_at_us - start_us) // MINUTE_US
    first = np.flatnonzero(np.append(True, np.diff(cell) != 0)) if len(cell) else np.zeros(0, np.int64)
    return Grid(
        start_us=start_us,
        units=units,
        entity_ids=entity_ids,
        entity=entity,
        cell=cell,
        first=first,
        present=cell[first],
    )


def rolled(
    rows: SampleRows, grid: Grid, before: Predecessors, reasons: Reasons
) -> tuple[dict[str, Cells], Predecessors]:
    """This will give the cells of every field that holds one number, and where its counters stand at the end."""
    work = _Pass(rows, grid, TABLES[rows.table].scalars, before, reasons)
    return {spec.name: work.field(place) for place, spec in enumerate(work.fields)}, work.after


def rolled_field(rows: SampleRows, grid: Grid, spec: FieldSpec, before: Predecessors, reasons: Reasons) -> Cells:
    """This will give the cells of one field."""
    return _Pass(rows, grid, [spec], before, reasons).field(0)


class _Pass:
    """One pass over rows: what their fields have in common is worked out once."""

    def __init__(
        self, rows: SampleRows, grid: Grid, fields: Sequence[FieldSpec], before: Predecessors, reasons: Reasons
    ) -> None:
        self.fields = fields
        self.after = Predecessors(entity_ids=np.union1d(before.entity_ids, grid.entity_ids).astype(np.int32))
        self._rows, self._grid, self._before = rows, grid, before
        self._why = _ReasonTable(rows, reasons, fields)
        self._all_rows = _known_rows(grid, rows.taken_at_us, None)
        self._samples = np.zeros(grid.count, np.int32)
        self._samples[grid.present] = np.diff(np.append(grid.first, len(rows)))

    def field(self, place: int) -> Cells:
        spec, grid = self.fields[place], self._grid
        values = self._rows.columns[spec.name]
        unknown = np.isnan(values)
        known, reason = self._samples, np.full(grid.count, NO_REASON, np.int16)
        if unknown.any():
            known = known.copy()
            known[grid.present] -= np.add.reduceat(unknown, grid.first, dtype=np.int32)
            newest = _newest(unknown, grid)
            reason[grid.present[newest >= 0]] = self._why.of(place, newest[newest >= 0])
        kind = kind_of(spec)
        assert kind is not None
        cells = Cells(
            kind=kind, start_us=grid.start_us, unit_us=MINUTE_US, units=grid.units, entity_ids=grid.entity_ids,
            samples=self._samples, known=known, reason=reason,
            statistics={name: np.full(grid.count, np.nan) for name in STATISTICS[kind]},
        )  # fmt: skip
        if kind is not FieldKind.COUNTER:
            return _filled_gauge(cells, grid, values, unknown)
        known_rows = _known_rows(grid, self._rows.taken_at_us, unknown) if unknown.any() else self._all_rows
        _fill_counter(cells, grid, spec.name, values.astype(np.float64), known_rows, self._before, self.after)
        return cells


class _ReasonTable:
    """Reasons by unknown set and field, looked up once for all rows."""

    def __init__(self, rows: SampleRows, reasons: Reasons, fields: Sequence[FieldSpec]) -> None:
        sets, self._set = np.unique(rows.unknown_set_ids, return_inverse=True)
        codes = {reason.label: int(reason) for reason in Reason}
        self._codes = np.full((len(sets), len(fields)), int(Reason.NOT_SENT), np.int16)
        for place, unknown_set_id in enumerate(sets):
            said = reasons(int(unknown_set_id))
            for column, spec in enumerate(fields):
                if spec.name in said:
                    self._codes[place, column] = codes.get(said[spec.name], int(Reason.NOT_COLLECTED))

    def of(self, field_place: int, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int16]:
        codes: npt.NDArray[np.int16] = self._codes[self._set[rows], field_place]
        return codes


def _newest(counts: npt.NDArray[np.bool_], grid: Grid) -> npt.NDArray[np.int64]:
    """This will give, for each cell that has rows, the newest row that counts; -1 where none does."""
    newest: npt.NDArray[np.int64] = np.maximum.reduceat(np.where(counts, np.arange(len(counts)), -1), grid.first)
    return newest


def _last(values: npt.NDArray[np.floating], unknown: npt.NDArray[np.bool_], grid: Grid) -> Numbers:
    if not unknown.any():
        whole: Numbers = values[np.append(grid.first[1:], len(values)) - 1].astype(np.float64)
        return whole
    newest = _newest(~unknown, grid)
    return np.where(newest >= 0, values[newest], np.nan).astype(np.float64)


def _filled_gauge(cells: Cells, grid: Grid, values: npt.NDArray[np.floating], unknown: npt.NDArray[np.bool_]) -> Cells:
    if not len(values):
        return cells
    at, statistics = grid.present, cells.statistics
    statistics["last"][at] = _last(values, unknown, grid)
    low, high = np.fmin.reduceat(values, grid.first), np.fmax.reduceat(values, grid.first)
    varied = low < high  # False where nothing is known
    if cells.kind is FieldKind.GAUGE:
        statistics["minimum"][at], statistics["maximum"][at] = low, high
        mean = low.astype(np.float64)
        if varied.any():
            total = np.add.reduceat(np.where(unknown, 0, values), grid.first, dtype=np.float64)
            # Rounding must not carry a mean out of its bounds.
            mean[varied] = np.clip(total[varied] / cells.known[at][varied], low[varied], high[varied])
        statistics["mean"][at] = mean
    if not varied.any():
        return cells
    counted = np.repeat(varied, np.diff(np.append(grid.first, len(values)))) & ~unknown
    bins_of = sketches.bins_of if cells.kind is FieldKind.GAUGE else sketches.states_of
    return replace(cells, sketch=sketches.counted(grid.cell[counted], bins_of(values[counted])))


@dataclass(frozen=True, slots=True, kw_only=True)
class _KnownRows:
    """The rows in which a counter was known, and where their entities and cells begin."""

    rows: npt.NDArray[np.int64] | slice
    entity: npt.NDArray[np.int64]  # the place in the grid's entity_ids of each entity that has any
    first_of_entity: npt.NDArray[np.int64]
    cell: npt.NDArray[np.int64]  # each cell that has any
    first_of_cell: npt.NDArray[np.int64]
    taken_at_us: npt.NDArray[np.int64]


def _known_rows(grid: Grid, taken_at_us: npt.NDArray[np.int64], unknown: npt.NDArray[np.bool_] | None) -> _KnownRows:
    rows = slice(None) if unknown is None else np.flatnonzero(~unknown)
    entity, cell, taken_at = grid.entity[rows], grid.cell[rows], taken_at_us[rows]
    first_of_entity = np.flatnonzero(np.append(len(entity) > 0, np.diff(entity) != 0))
    first_of_cell = np.flatnonzero(np.append(len(cell) > 0, np.diff(cell) != 0))
    return _KnownRows(
        rows=rows,
        entity=entity[first_of_entity],
        first_of_entity=first_of_entity,
        cell=cell[first_of_cell],
        first_of_cell=first_of_cell,
        taken_at_us=taken_at,
    )


def _fill_counter(
    cells: Cells, grid: Grid, name: str, values: Numbers, known: _KnownRows, before: Predecessors, after: Predecessors
) -> None:
    """This will add up a counter's growth between known samples that lie no further apart than LOOKBACK_US."""
    last_value, last_at = before.of(name, after.entity_ids)
    value, at, begin = values[known.rows], known.taken_at_us, known.first_of_entity
    if len(value):
        growth, seconds = np.diff(value, prepend=np.nan), np.diff(at, prepend=0) / 1e6
        value_before, at_before = before.of(name, grid.entity_ids[known.entity])
        growth[begin], seconds[begin] = value[begin] - value_before, (at[begin] - at_before) / 1e6
        growth[seconds > LOOKBACK_US / 1e6] = np.nan
        fell = growth < 0  # a reset: what is there now has grown since
        growth = np.where(fell, value, growth)
        unseen = np.isnan(growth)
        any_seen = None
        if unseen.any():
            growth, seconds = np.where(unseen, 0, growth), np.where(unseen, 0, seconds)
            any_seen = np.add.reduceat(~unseen, known.first_of_cell, dtype=np.int64) > 0
        amounts = {
            "increase": growth,
            # How fast it grew around a reset nobody knows: rates are made without it.
            "seconds": np.where(fell, 0, seconds),
            "resets": fell,
            "reset_increase": np.where(fell, growth, 0),
        }
        for statistic, amount in amounts.items():
            total = np.add.reduceat(amount, known.first_of_cell, dtype=np.float64)
            cells.statistics[statistic][known.cell] = total if any_seen is None else np.where(any_seen, total, np.nan)
        cells.statistics["last"][known.cell] = value[np.append(known.first_of_cell[1:], len(value)) - 1]
        newest = np.append(begin[1:], len(value)) - 1
        place = np.searchsorted(after.entity_ids, grid.entity_ids[known.entity])
        last_value[place], last_at[place] = value[newest], at[newest]
    after.values[name], after.taken_at_us[name] = last_value, last_at
