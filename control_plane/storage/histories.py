"""Histories: from the coarsest of samples, minutes and hours that answers, and the newest end from samples.

What comes of samples is exact. What comes of rollups is too, but for quantiles (nearest rank, within one
percent) and for where a window begins: at a whole minute or hour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import ColumnElement, literal_column, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from control_plane.model.reason import Reason
from control_plane.model.sample import Distribution
from control_plane.storage import growth, moments, stored_samples
from control_plane.storage.readings import Bucket, Dictionaries
from control_plane.storage.rollups import histograms, reading, sketches
from control_plane.storage.rollups.blocks import NO_BIN, quantile_bins
from control_plane.storage.rollups.cells import NO_REASON, Cells, Places, empty, merged, without
from control_plane.storage.rollups.fields import FieldKind
from control_plane.storage.rollups.minutes import LOOKBACK_US, MINUTE_US, Predecessors, grid_of, rolled_field
from control_plane.storage.rollups.store import HOUR, HOUR_US, MINUTE
from control_plane.storage.sample_rows import SampleRows, Stretch
from control_plane.storage.schema import SAMPLE_TABLES
from optiinfra.catalogue import TABLES, FieldSpec

# Below this a question is answered from samples: some milliseconds, and exact in every respect.
FEW_ROWS = 4_000
USUAL_SAMPLING_SECONDS = 5.0
# Points of half an hour or more may as well be whole hours, unless a width was asked for.
NEARLY_AN_HOUR = timedelta(minutes=30)


class Source(StrEnum):
    """What an answer was made from."""

    SAMPLES = "samples"
    MINUTES = "1m"
    HOURS = "1h"

    @property
    def unit_us(self) -> int:
        """This will give the length of a unit; the usual distance of samples where there is none."""
        lengths = {Source.MINUTES: MINUTE_US, Source.HOURS: HOUR_US}
        return lengths.get(self, round(USUAL_SAMPLING_SECONDS * 1e6))


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """From when on there are samples and minutes."""

    samples_since: datetime
    minutes_since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a history will be answered: its points begin at `since` and are `step` apart."""

    source: Source
    since: datetime
    until: datetime
    step: timedelta

    @property
    def points(self) -> int:
        """This will give the number of points."""
        return -(-(self.until - self.since) // self.step)

    @property
    def units(self) -> float:
        """This will give how many rows or cells of one entity have to be looked at for one field."""
        return (self.until - self.since) / timedelta(microseconds=self.source.unit_us)


def plan(
    since: datetime, until: datetime, step: timedelta, *, entities: int, step_was_asked: bool, kept: Kept | None = None
) -> Plan:
    """This will choose the source of a history: the coarsest whose units are no longer than its points."""
    rows = (until - since).total_seconds() / USUAL_SAMPLING_SECONDS * max(1, entities)
    source = Source.SAMPLES
    if step >= timedelta(minutes=1) and rows > FEW_ROWS:
        nearly = not step_was_asked and step >= NEARLY_AN_HOUR
        source = Source.HOURS if step >= timedelta(hours=1) or nearly else Source.MINUTES
    if kept is not None and since < kept.samples_since and source is Source.SAMPLES:
        source = Source.MINUTES
    if kept is not None and since < kept.minutes_since:
        source = Source.HOURS
    return _aligned(source, since, until, step)


# From here on a window that begins up to a minute, or an hour, early is off by two percent at most.
MINUTES_FROM, HOURS_FROM = timedelta(hours=1), timedelta(days=2)


def whole_window(since: datetime, until: datetime, *, entities: int, kept: Kept | None = None) -> Plan:
    """This will plan a history of one point, which is the whole window."""
    rows = (until - since).total_seconds() / USUAL_SAMPLING_SECONDS * max(1, entities)
    many = rows > FEW_ROWS and until - since >= MINUTES_FROM
    source = Source.MINUTES if many or (kept and since < kept.samples_since) else Source.SAMPLES
    if (source is Source.MINUTES and until - since > HOURS_FROM) or (kept and since < kept.minutes_since):
        source = Source.HOURS
    return _aligned(source, since, until, until - since)


def _aligned(source: Source, since: datetime, until: datetime, step: timedelta) -> Plan:
    if source is Source.SAMPLES:
        return Plan(source=source, since=since, until=until, step=step)
    unit = timedelta(microseconds=source.unit_us)
    begin = moments.to_datetime(moments.to_us(since) // source.unit_us * source.unit_us)
    whole = step == until - since
    return Plan(source=source, since=begin, until=until, step=-(-(until - begin if whole else step) // unit) * unit)


async def rates(
    engine: AsyncEngine,
    dictionaries: Dictionaries,
    table: str,
    field: FieldSpec,
    entity_ids: Sequence[int],
    asked: Plan,
) -> dict[int, float | None]:
    """This will give a counter's mean growth per second over a planned window, by entity; None where it is unknown."""
    if asked.source is Source.SAMPLES:
        found = await stored_samples.rates(engine, table, [field], entity_ids, since=asked.since, until=asked.until)
        return {entity_id: rates[field.name] for entity_id, rates in found.items()}
    out: dict[int, float | None] = dict.fromkeys(entity_ids)
    for bucket in await history(engine, dictionaries, table, field, entity_ids, asked):
        if isinstance(bucket.rate, float):
            out[bucket.entity_id] = bucket.rate
    return out


async def history(
    engine: AsyncEngine,
    dictionaries: Dictionaries,
    table: str,
    field: FieldSpec,
    entity_ids: Sequence[int],
    asked: Plan,
) -> list[Bucket]:
    """This will downsample one scalar field as planned: a bucket for each entity and step that has rows."""
    if asked.source is Source.SAMPLES or not entity_ids:
        return await stored_samples.history(
            engine, table, field, entity_ids, since=asked.since, until=asked.until, step=asked.step
        )
    async with engine.connect() as connection:
        parts, rolled_until_us = await _rolled_up(connection, table, field, entity_ids, asked)
        since_us = max(rolled_until_us, moments.to_us(asked.since))
        if since_us < moments.to_us(asked.until):
            parts += await _tail(connection, dictionaries, table, field, entity_ids, since_us, asked.until)
    return _buckets(merged_by_step(parts, entity_ids, asked), asked, field)


async def _rolled_up(
    connection: AsyncConnection, table: str, field: FieldSpec, entity_ids: Sequence[int] | None, asked: Plan
) -> tuple[list[Cells], int]:
    """This will read hours as far as they go, then minutes, and say where samples have to go on."""
    come = await reading.progress(connection)
    since_us, until_us = moments.to_us(asked.since), moments.to_us(asked.until)
    minutes_until = min(come.get("minute", since_us), until_us)
    hours_until = min(come.get("hour", since_us), minutes_until) if asked.source is Source.HOURS else since_us
    parts = []
    for level, begin, end in ((HOUR, since_us, hours_until), (MINUTE, max(since_us, hours_until), minutes_until)):
        if begin < end:
            found = await reading.find(
                connection, level, table, field, since_us=begin, until_us=end, entity_ids=entity_ids
            )
            parts += [_within(f.cells, begin, end) for f in found]
    return parts, max(minutes_until, since_us)


def _within(cells: Cells, since_us: int, until_us: int) -> Cells:
    """This will leave out the cells of other times, which another source may have too."""
    starts = cells.unit_starts_us
    outside = (starts < since_us) | (starts >= until_us)
    return without(cells, outside) if outside.any() else cells


def merged_by_step(parts: Sequence[Cells], entity_ids: Sequence[int], asked: Plan) -> Cells | None:
    """This will merge cells into those of the plan's points."""
    if not parts:
        return None
    ids = np.array(sorted(set(entity_ids)), np.int32)
    since_us, step_us = moments.to_us(asked.since), asked.step // timedelta(microseconds=1)
    grid = empty(parts[0], start_us=since_us, units=asked.points, entity_ids=ids, unit_us=step_us)
    return merged([(cells, _step_of(cells, ids, since_us, step_us, asked.points)) for cells in parts], into=grid)


def _step_of(cells: Cells, ids: npt.NDArray[np.int32], since_us: int, step_us: int, points: int) -> Places:
    entity = np.searchsorted(ids, cells.entity_ids)
    found = entity < len(ids)
    found[found] = ids[entity[found]] == cells.entity_ids[found]
    step = (cells.unit_starts_us - since_us) // step_us
    inside = np.repeat(found, cells.units) & (step >= 0) & (step < points)
    return np.where(inside, np.repeat(entity, cells.units) * points + step, -1)


async def _tail(
    connection: AsyncConnection,
    dictionaries: Dictionaries,
    table: str,
    field: FieldSpec,
    entity_ids: Sequence[int],
    since_us: int,
    until: datetime,
) -> list[Cells]:
    """This will roll up here what has not been yet: some minutes usually."""
    source = SAMPLE_TABLES[table]
    lookback_us = LOOKBACK_US if field.is_counter else 0
    taken_at_us: ColumnElement[int] = literal_column("(extract(epoch FROM taken_at) * 1000000)::bigint")
    query = (
        select(source.c.entity_id, taken_at_us, source.c.unknown_set_id, source.c[field.name])
        .where(
            source.c.entity_id.in_(entity_ids),
            source.c.taken_at >= moments.to_datetime(since_us - lookback_us),
            source.c.taken_at < until,
        )
        .order_by(source.c.entity_id, source.c.taken_at)
    )
    found = (await connection.execute(query)).all()
    await dictionaries.load({row[2] for row in found if row[2] is not None}, set())
    rows = SampleRows(
        table=table,
        entity_ids=np.array([row[0] for row in found], np.int32),
        taken_at_us=np.array([row[1] for row in found], np.int64),
        unknown_set_ids=np.array([row[2] or 0 for row in found], np.int32),
        columns={field.name: np.array([np.nan if row[3] is None else row[3] for row in found], np.float64)},
    )
    start_us = since_us - lookback_us
    units = -(-(moments.to_us(until) - start_us) // MINUTE_US)
    grid = grid_of(rows, start_us=start_us, units=units)
    cells = rolled_field(rows, grid, field, Predecessors(), lambda number: dictionaries.reasons(number or None))
    return [_within(cells, since_us, start_us + units * MINUTE_US)]


def _buckets(cells: Cells | None, asked: Plan, field: FieldSpec) -> list[Bucket]:
    if cells is None:
        return []
    p95 = _quantiles(cells) if cells.kind is FieldKind.GAUGE else np.full(len(cells), np.nan)
    out = []
    labels = {int(reason): reason.label for reason in Reason}
    for cell in np.flatnonzero(cells.samples > 0):
        entity, step = divmod(int(cell), cells.units)
        found = {name: _number(values[cell]) for name, values in cells.statistics.items()}
        reason = int(cells.reason[cell])
        out.append(
            Bucket(
                entity_id=int(cells.entity_ids[entity]),
                start=asked.since + step * asked.step,
                samples=int(cells.samples[cell]),
                known=int(cells.known[cell]),
                minimum=_plain(found.get("minimum"), field),
                mean=_plain(found.get("mean"), field),
                maximum=_plain(found.get("maximum"), field),
                p95=_plain(_number(p95[cell]), field),
                increase=found.get("increase"),
                rate=_rate(found) if cells.kind is FieldKind.COUNTER else None,
                resets=int(found.get("resets") or 0),
                unknown_set_id=None,
                reason=None if reason == NO_REASON else labels[reason],
            )
        )
    return out


def _rate(found: Mapping[str, float | None]) -> float | str:
    """This will give a counter's growth per second within its lives, or why it is unknown."""
    increase, seconds, resets = found["increase"], found["seconds"], found["resets"] or 0
    if increase is None or (resets and not seconds):
        return growth.rate(None, None, resets, "no_sample_before")
    return growth.rate(increase - (found["reset_increase"] or 0.0), seconds, resets, "no_sample_before")


def _quantiles(cells: Cells, share: float = 0.95) -> npt.NDArray[np.float64]:
    """This will give each cell's quantile, which is never outside of what was seen."""
    bins = quantile_bins(cells, share)
    values = np.where(bins == NO_BIN, np.nan, sketches.values_of(bins))
    return np.clip(values, cells.statistics["minimum"], cells.statistics["maximum"])


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _plain(value: float | None, field: FieldSpec) -> float | None:
    """This will give the digits that rollups have, and whole numbers where they mean so."""
    if value is None:
        return None
    return float(f"{value:.7g}") if field.type == "real" or not value.is_integer() else value


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What one histogram of one entity saw in one step; the distribution is None when that is unknown."""

    entity_id: int
    start: datetime
    distribution: Distribution | None
    reason: str | None


async def observations(
    engine: AsyncEngine,
    dictionaries: Dictionaries,
    table: str,
    field: FieldSpec,
    entity_ids: Sequence[int],
    asked: Plan,
) -> list[Observed]:
    """This will give what a histogram saw in each step, of a plan that is made from rollups."""
    if not entity_ids:
        return []
    async with engine.connect() as connection:
        parts, rolled_until_us = await _rolled_up(connection, table, field, entity_ids, asked)
        if rolled_until_us < moments.to_us(asked.until):
            stretch = Stretch(
                since_us=rolled_until_us, until_us=moments.to_us(asked.until), entity_ids=list(entity_ids)
            )
            parts += await _histogram_tail(connection, dictionaries, table, field, stretch)
    await dictionaries.load(set(), {cells.layout_id for cells in parts if cells.layout_id is not None})
    seen: dict[tuple[int, int], list[tuple[tuple[float, ...], Cells, int]]] = {}
    for layout_id in {cells.layout_id for cells in parts}:
        mine = [cells for cells in parts if cells.layout_id == layout_id]
        cells = merged_by_step(mine, entity_ids, asked)
        assert cells is not None
        bounds = dictionaries.bounds(layout_id).get(field.name, ())
        for cell in np.flatnonzero(cells.samples > 0):
            entity, step = divmod(int(cell), cells.units)
            seen.setdefault((int(cells.entity_ids[entity]), step), []).append((bounds, cells, int(cell)))
    return [
        Observed(entity_id=entity_id, start=asked.since + step * asked.step, **_distribution(found))
        for (entity_id, step), found in sorted(seen.items())
    ]


def _distribution(found: Sequence[tuple[tuple[float, ...], Cells, int]]) -> dict[str, Any]:
    """This will add up what the runs of a step saw, if their buckets mean the same."""
    known = [(bounds, cells, cell) for bounds, cells, cell in found if cells.known[cell] > 0]
    if not known:
        reason = max(int(cells.reason[cell]) for _, cells, cell in found)
        return {"distribution": None, "reason": "not_sent" if reason == NO_REASON else Reason(reason).label}
    if len({bounds for bounds, _, _ in known}) > 1:
        return {"distribution": None, "reason": "bucket_bounds_differ"}
    counts = np.sum([cells.buckets[cell] for _, cells, cell in known if cells.buckets is not None], axis=0)
    sums = [float(cells.statistics["increase"][cell]) for _, cells, cell in known]
    total = None if any(np.isnan(value) for value in sums) else sum(sums)
    return {"distribution": Distribution(bounds=known[0][0], counts=tuple(counts.tolist()), sum=total), "reason": None}


async def _histogram_tail(
    connection: AsyncConnection, dictionaries: Dictionaries, table: str, field: FieldSpec, stretch: Stretch
) -> list[Cells]:
    """This will roll up here what has not been yet."""
    spec = replace(TABLES[table], fields=(field,))
    looked_back = replace(stretch, since_us=stretch.since_us - LOOKBACK_US)
    rows = [
        row
        for order in ("ASC", "DESC")
        for row in await reading.rows(connection, histograms.ends_query(spec, looked_back, order))
    ]
    ends = {(row["entity_id"], row["taken_at_us"]): histograms.end_of(row, spec) for row in rows}
    await dictionaries.load(
        {end.unknown_set_id for end in ends.values() if end.unknown_set_id}, {end.layout_id for end in ends.values()}
    )
    found, _ = histograms.rolled_histograms(
        spec,
        [ends[key] for key in sorted(ends)],
        histograms.Standings(),
        start_us=stretch.since_us,
        units=-(-(stretch.until_us - stretch.since_us) // MINUTE_US),
        reasons=lambda number: dictionaries.reasons(number or None),
        bounds={end.layout_id: dictionaries.bounds(end.layout_id) for end in ends.values()},
    )
    return found[field.name]
