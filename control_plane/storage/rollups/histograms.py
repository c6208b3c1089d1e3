"""Growth of histograms by minute, from where their counters stood at the ends of it.

Rows with histograms are large, and only the last of each minute is needed: the database picks it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from psycopg import sql
from psycopg.rows import dict_row

from control_plane.model.reason import Reason
from control_plane.storage import moments
from control_plane.storage.numpy_arrays import use_numpy
from control_plane.storage.rollups.cells import NO_REASON, STATISTICS, Cells
from control_plane.storage.rollups.fields import FieldKind
from control_plane.storage.rollups.minutes import LOOKBACK_US, MINUTE_US, Reasons
from control_plane.storage.sample_rows import SampleRows, Stretch
from control_plane.storage.session import SyncConnection
from optiinfra.catalogue import TableSpec

Bounds = Mapping[int, Mapping[str, Sequence[float]]]  # layout_id -> histogram -> bounds


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """Where one entity's histograms stood in one row."""

    entity_id: int
    taken_at_us: int
    counters_since: float | None
    layout_id: int
    unknown_set_id: int
    buckets: Mapping[str, npt.NDArray[np.int64] | None]
    sums: Mapping[str, float | None]


@dataclass(slots=True)
class Standings:
    """The newest end of each entity and run of its counters: where the next stretch's growth begins."""

    ends: dict[tuple[int, float | None, int], End] = field(default_factory=dict)


def read_ends(connection: SyncConnection, spec: TableSpec, stretch: Stretch, *, firsts: bool) -> list[End]:
    """This will read the last row of each entity, minute and run of counters, oldest first.

    With `firsts` also the first one: needed where nothing is known of the time before.
    """
    query = ends_query(spec, stretch, "DESC")
    if firsts:
        query = sql.SQL("({}) UNION ({})").format(query, ends_query(spec, stretch, "ASC"))
    with connection.cursor(binary=True, row_factory=dict_row) as cursor:
        use_numpy(cursor.adapters)
        ends = [end_of(row, spec) for row in cursor.execute(query)]
    return sorted(ends, key=lambda end: (end.entity_id, end.taken_at_us))


def ends_query(spec: TableSpec, stretch: Stretch, order: str) -> sql.Composed:
    """This will give the query for the last (DESC) or first (ASC) row of each entity, minute and run of counters."""
    columns = [sql.Identifier(f"{f.name}_{part}") for f in spec.histograms for part in ("buckets", "sum")]
    run = sql.SQL("entity_id, date_trunc('minute', taken_at), counters_since_unix_seconds, layout_id")
    return sql.SQL(
        "SELECT DISTINCT ON ({run}) entity_id, {taken_at} AS taken_at_us, counters_since_unix_seconds, "
        "layout_id, coalesce(unknown_set_id, 0) AS unknown_set_id, {columns} FROM {table} "
        "WHERE {condition} AND layout_id IS NOT NULL ORDER BY {run}, taken_at {order}"
    ).format(
        run=run,
        taken_at=moments.as_us("taken_at"),
        columns=sql.SQL(", ").join(columns),
        table=sql.Identifier(f"{spec.name}_sample"),
        condition=stretch.condition(),
        order=sql.SQL("DESC" if order == "DESC" else "ASC"),
    )


def end_of(row: Mapping[str, Any], spec: TableSpec) -> End:
    """This will make an end of a row of `ends_query`."""
    return End(
        entity_id=row["entity_id"],
        taken_at_us=row["taken_at_us"],
        counters_since=row["counters_since_unix_seconds"],
        layout_id=row["layout_id"],
        unknown_set_id=row["unknown_set_id"],
        buckets={f.name: row[f"{f.name}_buckets"] for f in spec.histograms},
        sums={f.name: row[f"{f.name}_sum"] for f in spec.histograms},
    )


def ends_of(rows: SampleRows, spec: TableSpec, *, firsts: bool) -> list[End]:
    """This will pick the same ends of samples that are at hand already, with their arrays."""
    since = rows.columns["counters_since_unix_seconds"]
    layouts = rows.columns["layout_id"]
    run = np.stack([
        rows.entity_ids.astype(np.float64), (rows.taken_at_us // MINUTE_US).astype(np.float64),
        np.nan_to_num(since, nan=-1.0), np.nan_to_num(layouts, nan=-1.0),
    ])  # fmt: skip
    _, last = np.unique(run[:, ::-1], axis=1, return_index=True)
    picked = set((len(rows) - 1 - last).tolist())
    if firsts:
        picked |= set(np.unique(run, axis=1, return_index=True)[1].tolist())
    return [_end_at(rows, row, spec) for row in sorted(picked) if not np.isnan(layouts[row])]


def _end_at(rows: SampleRows, row: int, spec: TableSpec) -> End:
    buckets: dict[str, npt.NDArray[np.int64] | None] = {}
    sums: dict[str, float | None] = {}
    for field_ in spec.histograms:
        counts = rows.columns.get(f"{field_.name}_buckets")
        total = rows.columns[f"{field_.name}_sum"][row]
        known = counts is not None and not np.isnan(counts[row]).any()
        buckets[field_.name] = counts[row].astype(np.int64) if counts is not None and known else None
        sums[field_.name] = None if np.isnan(total) else float(total)
    since = rows.columns["counters_since_unix_seconds"][row]
    return End(
        entity_id=int(rows.entity_ids[row]),
        taken_at_us=int(rows.taken_at_us[row]),
        counters_since=None if np.isnan(since) else float(since),
        layout_id=int(rows.columns["layout_id"][row]),
        unknown_set_id=int(rows.unknown_set_ids[row]),
        buckets=buckets,
        sums=sums,
    )


def columns_of_ends(spec: TableSpec) -> list[str]:
    """This will name the columns that ends are made of."""
    parts = [f"{f.name}_{part}" for f in spec.histograms for part in ("buckets", "sum")]
    return ["counters_since_unix_seconds", "layout_id", *parts]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Growth:
    """What one entity's histogram grew by in one minute."""

    entity_id: int
    unit: int
    layout_id: int
    reason: int
    seconds: float = np.nan
    sum: float = np.nan
    buckets: npt.NDArray[np.int64] | None = None


def rolled_histograms(
    spec: TableSpec,
    ends: Sequence[End],
    before: Standings,
    *,
    start_us: int,
    units: int,
    reasons: Reasons,
    bounds: Bounds,
) -> tuple[dict[str, list[Cells]], Standings]:
    """This will give each histogram's cells, one Cells for each set of bounds, and where the counters stand at the end.

    `ends` are ordered by entity and time.
    """
    found: dict[str, list[_Growth]] = {f.name: [] for f in spec.histograms}
    standing = dict(before.ends)
    for end in ends:
        key = (end.entity_id, end.counters_since, end.layout_id)
        if end.taken_at_us >= start_us:
            said = reasons(end.unknown_set_id)
            for f in spec.histograms:
                found[f.name].append(_grown(end, f.name, standing, start_us=start_us, said=said, bounds=bounds))
        standing[key] = end
    oldest = start_us + units * MINUTE_US - LOOKBACK_US
    after = Standings(ends={key: end for key, end in standing.items() if end.taken_at_us >= oldest})
    return {
        name: list(_cells(growths, len_of=bounds, name=name, start_us=start_us, units=units))
        for name, growths in found.items()
    }, after


def _grown(
    end: End,
    name: str,
    standing: Mapping[tuple[int, float | None, int], End],
    *,
    start_us: int,
    said: Mapping[str, str],
    bounds: Bounds,
) -> _Growth:
    unit = (end.taken_at_us - start_us) // MINUTE_US
    now = end.buckets[name]
    if now is None:
        return _Growth(entity_id=end.entity_id, unit=unit, layout_id=end.layout_id, reason=_code(said.get(name)))
    known = _Growth(entity_id=end.entity_id, unit=unit, layout_id=end.layout_id, reason=NO_REASON)
    base = _base(end, name, standing, bounds)
    total = end.sums[name]
    if base is None:
        # Counters that began after the time we look back to: all that is in them has grown since.
        since = end.counters_since
        if since is None or since * 1e6 < end.taken_at_us - LOOKBACK_US:
            return replace(known, reason=int(Reason.FIRST_SAMPLE))
        seconds = max(0.0, end.taken_at_us / 1e6 - since)
        return replace(known, seconds=seconds, sum=np.nan if total is None else total, buckets=now)
    was = base.buckets[name]
    assert was is not None
    grown = now - was
    if (grown < 0).any():  # it began anew, and did not say so
        grown, was_sum = now, 0.0
    else:
        was_sum = base.sums[name] or 0.0
    return replace(
        known,
        seconds=(end.taken_at_us - base.taken_at_us) / 1e6,
        sum=np.nan if total is None else max(0.0, total - was_sum),
        buckets=grown,
    )


def _base(end: End, name: str, standing: Mapping[tuple[int, float | None, int], End], bounds: Bounds) -> End | None:
    """This will give the newest earlier end of the same run of counters whose buckets mean the same."""
    candidates = [standing.get((end.entity_id, end.counters_since, end.layout_id))]
    if candidates[0] is None or candidates[0].buckets[name] is None:
        # The layout changes when an engine shows a histogram more; the others run on.
        mine = bounds.get(end.layout_id, {}).get(name)
        candidates = [
            other
            for (entity_id, since, layout_id), other in standing.items()
            if entity_id == end.entity_id and since == end.counters_since
            and bounds.get(layout_id, {}).get(name) == mine
        ]  # fmt: skip
    usable = [
        other
        for other in candidates
        if other is not None and other.buckets[name] is not None and end.taken_at_us - other.taken_at_us <= LOOKBACK_US
    ]
    return max(usable, key=lambda other: other.taken_at_us, default=None)


def _code(label: str | None) -> int:
    return next((int(reason) for reason in Reason if reason.label == label), int(Reason.NOT_SENT))


def _cells(growths: Sequence[_Growth], *, len_of: Bounds, name: str, start_us: int, units: int) -> Iterator[Cells]:
    """This will lay growths out, one grid for each layout; several of one cell add up."""
    for layout_id in sorted({growth.layout_id for growth in growths}):
        mine = [growth for growth in growths if growth.layout_id == layout_id]
        entity_ids = np.unique([growth.entity_id for growth in mine]).astype(np.int32)
        width = len(len_of.get(layout_id, {}).get(name, ())) + 1
        count = len(entity_ids) * units
        grid = Cells(
            kind=FieldKind.HISTOGRAM, start_us=start_us, unit_us=MINUTE_US, units=units, entity_ids=entity_ids,
            samples=np.zeros(count, np.int32), known=np.zeros(count, np.int32),
            reason=np.full(count, NO_REASON, np.int16),
            statistics={n: np.full(count, np.nan) for n in STATISTICS[FieldKind.HISTOGRAM]},
            layout_id=layout_id, buckets=np.zeros((count, width), np.int64),
        )  # fmt: skip
        assert grid.buckets is not None
        for growth in mine:
            cell = int(np.searchsorted(entity_ids, growth.entity_id)) * units + growth.unit
            grid.samples[cell] += 1
            if growth.reason != NO_REASON:
                grid.reason[cell] = growth.reason
            if growth.buckets is not None and len(growth.buckets) == width:
                grid.known[cell] += 1
                grid.buckets[cell] += growth.buckets
                for statistic, amount in (("increase", growth.sum), ("seconds", growth.seconds)):
                    was = grid.statistics[statistic][cell]
                    grid.statistics[statistic][cell] = amount if np.isnan(was) else np.nansum((was, amount))
        yield grid
