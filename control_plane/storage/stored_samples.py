"""Samples of some entities wherever they lie: loose in their day, or packed. For questions about past days."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from control_plane.storage import growth, moments, readings
from control_plane.storage.packing import store as packing
from control_plane.storage.readings import Bucket
from control_plane.storage.rollups import marks, reading
from control_plane.storage.rollups.fields import FieldNumbers
from control_plane.storage.sample_rows import NO_SET, SampleRows, Stretch
from control_plane.storage.samples import COLUMNS
from control_plane.storage.schema import SAMPLE_TABLES, metric_field
from optiinfra.catalogue import FieldSpec


@asynccontextmanager
async def one_snapshot(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """This will give a connection to which samples that are packed meanwhile are neither missing nor there twice."""
    async with engine.connect() as plain:
        connection = await plain.execution_options(isolation_level="REPEATABLE READ")
        # Before the snapshot is taken: a day changes its place under a lock that this one keeps out.
        await connection.execute(text("LOCK TABLE ONLY packed_sample IN ACCESS SHARE MODE"))
        yield connection


async def reach_packed_days(engine: AsyncEngine, since: datetime) -> bool:
    """This will say whether some samples from `since` on may be packed."""
    async with engine.connect() as connection:
        come = await reading.progress(connection)
    return moments.to_us(since) < come.get(marks.PACKED, 0)


async def read(
    connection: AsyncConnection, table: str, names: Sequence[str], entity_ids: Sequence[int], stretch: Stretch
) -> list[SampleRows]:
    """This will read columns, arrays among them, from both places; the parts are in no order."""
    numbers = await field_numbers(connection, table)
    statement, arguments = packing.query_of(table, names, numbers, stretch)
    found = await reading.rows(connection, statement, arguments)
    parts = packing.unpacked(found, table, names, numbers, stretch)
    return [*parts, *await _loose(connection, table, names, entity_ids, stretch)]


async def read_scalars(
    engine: AsyncEngine, table: str, names: Sequence[str], entity_ids: Sequence[int], since_us: int, until_us: int
) -> SampleRows:
    """This will read columns that hold one number each, in the order of entity and time."""
    stretch = Stretch(since_us=since_us, until_us=until_us, entity_ids=list(entity_ids))
    async with one_snapshot(engine) as connection:
        parts = await read(connection, table, names, entity_ids, stretch)
    return packing.joined(parts or [_nothing(table, names)], names)


async def field_numbers(connection: AsyncConnection, table: str) -> FieldNumbers:
    """This will give the numbers of a table's columns."""
    query = select(metric_field.c.name, metric_field.c.field_id).where(metric_field.c.table_name == table)
    return {(table, name): number for name, number in await connection.execute(query)}


async def _loose(
    connection: AsyncConnection, table: str, names: Sequence[str], entity_ids: Sequence[int], stretch: Stretch
) -> list[SampleRows]:
    source, kinds = SAMPLE_TABLES[table], dict(COLUMNS[table])
    query = (
        select(source.c.entity_id, source.c.taken_at, source.c.unknown_set_id, *[source.c[name] for name in names])
        .where(
            source.c.entity_id.in_(entity_ids),
            source.c.taken_at >= moments.to_datetime(stretch.since_us),
            source.c.taken_at < moments.to_datetime(stretch.until_us),
        )
        .order_by(source.c.entity_id, source.c.taken_at)
    )
    rows = (await connection.execute(query)).all()
    out = []
    # Rows of one shape at a time: arrays have their lengths, and may be missing.
    arrays = [place for place, name in enumerate(names, 3) if kinds[name].endswith("[]")]
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for number, row in enumerate(rows):
        by_shape.setdefault(tuple(-1 if row[p] is None else len(row[p]) for p in arrays), []).append(number)
    for mine in by_shape.values():
        columns: dict[str, npt.NDArray[np.floating]] = {}
        for place, name in enumerate(names, 3):
            values = [rows[number][place] for number in mine]
            if place in arrays and values[0] is None:
                continue
            single = kinds[name] in ("real", "real[]")
            columns[name] = np.array([np.nan if v is None else v for v in values], np.float32 if single else np.float64)
        out.append(
            SampleRows(
                table=table,
                entity_ids=np.array([rows[number][0] for number in mine], np.int32),
                taken_at_us=np.array([moments.to_us(rows[number][1]) for number in mine], np.int64),
                unknown_set_ids=np.array([rows[number][2] or NO_SET for number in mine], np.int32),
                columns=columns,
            )
        )
    return out


def _nothing(table: str, names: Sequence[str]) -> SampleRows:
    whole = np.zeros(0, np.int32)
    return SampleRows(
        table=table, entity_ids=whole, taken_at_us=whole.astype(np.int64), unknown_set_ids=whole,
        columns={name: np.zeros(0) for name in names},
    )  # fmt: skip


async def series(
    engine: AsyncEngine,
    table: str,
    names: Sequence[str],
    entity_ids: Sequence[int],
    *,
    since: datetime,
    until: datetime,
    limit: int,
) -> dict[int, list[tuple[Any, ...]]]:
    """This will give samples (taken_at, then `names`) by entity, oldest first; at most `limit` in all."""
    if not await reach_packed_days(engine, since):
        return await readings.series(engine, table, names, entity_ids, since=since, until=until, limit=limit)
    until_us = moments.to_us(until) + 1  # both ends count here
    rows = await read_scalars(engine, table, names, entity_ids, moments.to_us(since), until_us)
    columns = [_plain(rows.columns[name]) for name in names]
    out: dict[int, list[tuple[Any, ...]]] = {entity_id: [] for entity_id in entity_ids}
    for number in range(min(limit, len(rows))):
        at = moments.to_datetime(int(rows.taken_at_us[number]))
        out[int(rows.entity_ids[number])].append((at, *(column[number] for column in columns)))
    return out


def _plain(values: npt.NDArray[np.floating]) -> list[float | None]:
    """This will give numbers as the database would have: a float4 in its shortest digits, None for unknown."""
    single = values.dtype == np.float32
    return [None if np.isnan(v) else float(str(v)) if single else float(v) for v in values]


async def history(
    engine: AsyncEngine,
    table: str,
    field: FieldSpec,
    entity_ids: Sequence[int],
    *,
    since: datetime,
    until: datetime,
    step: timedelta,
) -> list[Bucket]:
    """This will downsample one scalar field exactly, as readings.history does, of packed samples too."""
    if not await reach_packed_days(engine, since):
        return await readings.history(engine, table, field, entity_ids, since=since, until=until, step=step)
    since_us, step_us = moments.to_us(since), step // timedelta(microseconds=1)
    lookback_us = readings.LOOKBACK // timedelta(microseconds=1) if field.is_counter else 0
    rows = await read_scalars(engine, table, [field.name], entity_ids, since_us - lookback_us, moments.to_us(until))
    grown_by_row = _growth(rows, field.name)
    inside = rows.taken_at_us >= since_us
    steps = np.where(inside, (rows.taken_at_us - since_us) // step_us, -1)
    begins = np.flatnonzero(np.append(True, (np.diff(steps) != 0) | (np.diff(rows.entity_ids) != 0)))
    out = []
    for begin, end in zip(begins, [*begins[1:], len(rows)], strict=True):
        if not len(rows) or steps[begin] < 0:
            continue
        part = slice(begin, end)
        values = rows.columns[field.name][part].astype(np.float64)
        known, grown = values[~np.isnan(values)], grown_by_row.within(part)
        sets = rows.unknown_set_ids[part][np.isnan(values)]
        out.append(
            Bucket(
                entity_id=int(rows.entity_ids[begin]),
                start=since + int(steps[begin]) * step,
                samples=int(end - begin),
                known=len(known),
                minimum=_rounded(known.min()) if len(known) else None,
                mean=_rounded(known.mean()) if len(known) else None,
                maximum=_rounded(known.max()) if len(known) else None,
                p95=_rounded(np.percentile(known, 95)) if len(known) else None,
                increase=_rounded(grown.total) if field.is_counter and grown.total is not None else None,
                rate=grown.rate("no_sample_before") if field.is_counter else None,
                resets=grown.resets if field.is_counter else 0,
                unknown_set_id=int(sets.max()) if len(sets) and sets.max() != NO_SET else None,
            )
        )
    return out


def _rounded(value: float) -> float:
    return float(f"{value:.7g}") if abs(value) < 1e7 else float(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Growth:
    """How a counter grew since the known row before, row by row; NaN where there is none."""

    growth: npt.NDArray[np.float64]  # a fall is a reset to zero: what stands there has grown since
    seconds: npt.NDArray[np.float64]
    fell: npt.NDArray[np.bool_]

    def within(self, rows: slice | npt.NDArray[np.bool_]) -> _Growth:
        return _Growth(growth=self.growth[rows], seconds=self.seconds[rows], fell=self.fell[rows])

    @property
    def total(self) -> float | None:
        seen = self.growth[~np.isnan(self.growth)]
        return float(seen.sum()) if len(seen) else None

    @property
    def resets(self) -> int:
        return int(self.fell.sum())

    def rate(self, why_none: str) -> float | str:
        """This will give growth per second as growth.rate_of does."""
        steady = ~np.isnan(self.growth) & ~self.fell
        if not steady.any():
            return growth.rate(None, None, self.resets, why_none)
        return growth.rate(float(self.growth[steady].sum()), float(self.seconds[steady].sum()), self.resets, why_none)


def _growth(rows: SampleRows, name: str) -> _Growth:
    values = rows.columns[name].astype(np.float64)
    grown, seconds = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
    fell = np.zeros(len(rows), np.bool_)
    known = np.flatnonzero(~np.isnan(values))
    if len(known) > 1:
        of = values[known]
        step = np.diff(of)
        same = np.diff(rows.entity_ids[known]) == 0
        fell[known[1:]] = same & (step < 0)
        grown[known[1:]] = np.where(same, np.where(step < 0, of[1:], step), np.nan)
        seconds[known[1:]] = np.where(same, np.diff(rows.taken_at_us[known]) / 1e6, np.nan)
    return _Growth(growth=grown, seconds=seconds, fell=fell)


async def rates(
    engine: AsyncEngine,
    table: str,
    fields: Sequence[FieldSpec],
    entity_ids: Sequence[int],
    *,
    since: datetime,
    until: datetime,
) -> dict[int, dict[str, float | None]]:
    """This will give the mean growth per second of counters, by entity; None where it is unknown."""
    found = await explained_rates(engine, table, fields, entity_ids, since=since, until=until)
    return {
        entity_id: {name: None if isinstance(rate, str) else rate for name, rate in of_fields.items()}
        for entity_id, of_fields in found.items()
    }


async def explained_rates(
    engine: AsyncEngine,
    table: str,
    fields: Sequence[FieldSpec],
    entity_ids: Sequence[int],
    *,
    since: datetime,
    until: datetime,
) -> dict[int, dict[str, float | str]]:
    """This will give the same, and in place of one that is unknown the reason."""
    if not await reach_packed_days(engine, since):
        return await readings.explained_rates(engine, table, fields, entity_ids, since=since, until=until)
    names = [field.name for field in fields]
    rows = await read_scalars(engine, table, names, entity_ids, moments.to_us(since), moments.to_us(until) + 1)
    out: dict[int, dict[str, float | str]] = {e: dict.fromkeys(names, growth.FEWER_THAN_TWO) for e in entity_ids}
    for name in names:
        grown = _growth(rows, name)
        for entity_id in np.unique(rows.entity_ids):
            out[int(entity_id)][name] = grown.within(rows.entity_ids == entity_id).rate(growth.FEWER_THAN_TWO)
    return out
