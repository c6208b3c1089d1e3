"""Histories out of rollups: hours as far as they go, then minutes, then what samples say of the newest end.

All in columns: a point of an answer is never an object here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
from psycopg import sql
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from control_plane.storage import growth, moments
from control_plane.storage.history_plans import Plan, Source
from control_plane.storage.readings import Dictionaries
from control_plane.storage.rollups import reading, sketches
from control_plane.storage.rollups.blocks import NO_BIN, quantile_bins
from control_plane.storage.rollups.cells import Cells, Numbers, Places, empty, merged, without
from control_plane.storage.rollups.fields import FieldKind
from control_plane.storage.rollups.minutes import LOOKBACK_US, MINUTE_US, Predecessors, grid_of, rolled_field
from control_plane.storage.rollups.store import HOUR, MINUTE
from control_plane.storage.sample_rows import SampleRows
from optiinfra.catalogue import FieldSpec

Homes = Sequence[tuple[str, FieldSpec]]  # fields, each with its table
Ints = npt.NDArray[np.integer]

# Why there is no rate, by the numbers in Steps.no_rate.
NO_RATE = (None, "no_sample_before", "counter_reset", "samples_too_close")


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """One field of several entities over the steps of a plan.

    Arrays have a number for each entity and step, entity by entity; NaN is unknown.
    """

    entity_ids: npt.NDArray[np.int32]
    points: int
    samples: Ints
    known: Ints
    reason: Ints  # why the last unknown one was unknown; NO_REASON when none was
    minimum: Numbers
    mean: Numbers
    maximum: Numbers
    p95: Numbers
    increase: Numbers  # counters: what stands after a reset included
    rate: Numbers  # counters: growth per second within their lives
    no_rate: Ints  # why there is none: places in NO_RATE
    resets: Ints
    entities: Ints | None  # of nodes and the fleet: how many GPUs were sampled


async def steps(
    engine: AsyncEngine,
    dictionaries: Dictionaries,
    homes: Homes,
    entity_ids: Sequence[int],
    asked: Plan,
    *,
    with_tail: bool = True,
) -> list[Steps | None]:
    """This will give the steps of each field, of a plan that is made from rollups; None for one without any cell."""
    parts: list[list[Cells]] = [[] for _ in homes]
    async with engine.connect() as connection:
        come = await reading.progress(connection)
        found, rolled_until_us = await rolled_up(connection, dictionaries, homes, entity_ids, asked, come)
        if with_tail and rolled_until_us < moments.to_us(asked.until):
            parts = await _tail(
                connection, dictionaries, homes, entity_ids, rolled_until_us, moments.to_us(asked.until)
            )
    ids = np.unique(np.array(list(entity_ids), np.int32))
    return [_steps(merged_by_step([*mine, *part], ids, asked)) for mine, part in zip(found, parts, strict=True)]


async def rolled_until(engine: AsyncEngine) -> datetime | None:
    """This will say up to where minutes are rolled up; None while none is."""
    async with engine.connect() as connection:
        come = await reading.progress(connection)
    return moments.to_datetime(come["minute"]) if "minute" in come else None


async def rolled_up(
    connection: AsyncConnection,
    dictionaries: Dictionaries,
    homes: Homes,
    entity_ids: Sequence[int],
    asked: Plan,
    come: Mapping[str, int],
) -> tuple[list[list[Cells]], int]:
    """This will read the cells of each field, and say up to where they go."""
    since_us, until_us = moments.to_us(asked.since), moments.to_us(asked.until)
    minutes_until = min(come.get("minute", since_us), until_us)
    hours_until = min(come.get("hour", since_us), minutes_until) if asked.source is Source.HOURS else since_us
    numbers = [await dictionaries.field_id(connection, table, field.name) for table, field in homes]
    fields = {number: field for number, (_, field) in zip(numbers, homes, strict=True) if number is not None}
    by_number: dict[int, list[Cells]] = {}
    for level, begin, end in ((HOUR, since_us, hours_until), (MINUTE, max(since_us, hours_until), minutes_until)):
        if begin < end and fields and entity_ids:
            found = await reading.find(connection, level, fields, since_us=begin, until_us=end, entity_ids=entity_ids)
            for number, parts in found.items():
                by_number.setdefault(number, []).extend(within(cells, begin, end) for cells in parts)
    return [by_number.get(number, []) if number is not None else [] for number in numbers], max(minutes_until, since_us)


def within(cells: Cells, since_us: int, until_us: int) -> Cells:
    """This will leave out the cells of other times, which another source may have too."""
    starts = cells.unit_starts_us
    outside = (starts < since_us) | (starts >= until_us)
    return without(cells, outside) if outside.any() else cells


def merged_by_step(parts: Sequence[Cells], ids: npt.NDArray[np.int32], asked: Plan) -> Cells | None:
    """This will merge cells into those of the plan's points; `ids` are in order."""
    if not parts:
        return None
    since_us, step_us = moments.to_us(asked.since), asked.step // timedelta(microseconds=1)
    grid = empty(parts[0], start_us=since_us, units=asked.points, entity_ids=ids, unit_us=step_us)
    return merged([(cells, _step_of(cells, ids, since_us, step_us, asked.points)) for cells in parts], into=grid)


def _step_of(cells: Cells, ids: npt.NDArray[np.int32], since_us: int, step_us: int, points: int) -> Places:
    entity = np.minimum(np.searchsorted(ids, cells.entity_ids), len(ids) - 1)
    entity = np.where(ids[entity] == cells.entity_ids, entity, -1)
    if cells.starts_us is not None:
        step = (cells.starts_us - since_us) // step_us
        return np.where((entity >= 0) & (step >= 0) & (step < points), entity * points + step, -1)
    step = (cells.start_us - since_us + np.arange(cells.units, dtype=np.int64) * cells.unit_us) // step_us
    inside = (entity >= 0)[:, np.newaxis] & ((step >= 0) & (step < points))
    return np.where(inside, entity[:, np.newaxis] * points + step, -1).ravel()


async def _tail(
    connection: AsyncConnection,
    dictionaries: Dictionaries,
    homes: Homes,
    entity_ids: Sequence[int],
    since_us: int,
    until_us: int,
) -> list[list[Cells]]:
    """This will roll up here what has not been yet: some minutes usually."""
    out: dict[tuple[str, str], list[Cells]] = {}
    for table in dict.fromkeys(table for table, _ in homes):
        fields = [field for home, field in homes if home == table]
        lookback_us = LOOKBACK_US if any(field.is_counter for field in fields) else 0
        start_us = since_us - lookback_us
        rows = await _rows(connection, table, [f.name for f in fields], entity_ids, start_us, until_us)
        await dictionaries.load(set(np.unique(rows.unknown_set_ids).tolist()) - {0}, set())
        units = -(-(until_us - start_us) // MINUTE_US)
        grid = grid_of(rows, start_us=start_us, units=units)
        for field in fields:
            cells = rolled_field(rows, grid, field, Predecessors(), lambda number: dictionaries.reasons(number or None))
            out[table, field.name] = [within(cells, since_us, start_us + units * MINUTE_US)]
    return [out[table, field.name] for table, field in homes]


async def _rows(
    connection: AsyncConnection,
    table: str,
    names: Sequence[str],
    entity_ids: Sequence[int],
    since_us: int,
    until_us: int,
) -> SampleRows:
    statement = sql.SQL(
        "SELECT entity_id, {}, coalesce(unknown_set_id, 0), {} FROM {} WHERE entity_id = ANY(%(ids)s) "
        "AND taken_at >= %(since)s AND taken_at < %(until)s ORDER BY entity_id, taken_at"
    ).format(
        moments.as_us("taken_at"),
        sql.SQL(", ").join(sql.SQL("coalesce({}::float8, 'NaN')").format(sql.Identifier(name)) for name in names),
        sql.Identifier(f"{table}_sample"),
    )
    arguments: dict[str, Any] = {
        "ids": list(entity_ids), "since": moments.to_datetime(since_us), "until": moments.to_datetime(until_us)
    }  # fmt: skip
    found = await reading.tuples(connection, statement, arguments)
    columns = list(zip(*found, strict=True)) or [()] * (3 + len(names))
    return SampleRows(
        table=table,
        entity_ids=np.array(columns[0], np.int32),
        taken_at_us=np.array(columns[1], np.int64),
        unknown_set_ids=np.array(columns[2], np.int32),
        columns={name: np.array(values, np.float64) for name, values in zip(names, columns[3:], strict=True)},
    )


def _steps(cells: Cells | None) -> Steps | None:
    if cells is None:
        return None
    nothing = np.full(len(cells), np.nan)
    found = cells.statistics
    is_counter = cells.kind is FieldKind.COUNTER
    rate, no_rate = _rates(cells) if is_counter else (nothing, np.zeros(len(cells), np.int8))
    return Steps(
        entity_ids=cells.entity_ids,
        points=cells.units,
        samples=cells.samples,
        known=cells.known,
        reason=cells.reason,
        minimum=found.get("minimum", nothing),
        mean=found.get("mean", nothing),
        maximum=found.get("maximum", nothing),
        p95=quantiles(cells) if cells.kind is FieldKind.GAUGE else nothing,
        increase=found.get("increase", nothing),
        rate=rate,
        no_rate=no_rate,
        resets=np.nan_to_num(found.get("resets", nothing)).astype(np.int64),
        entities=cells.entities,
    )


def _rates(cells: Cells) -> tuple[Numbers, Ints]:
    """This will give a counter's growth per second within its lives, and where there is none, why: see growth.rate."""
    found = cells.statistics
    resets, seconds = np.nan_to_num(found["resets"]), np.nan_to_num(found["seconds"])
    nothing = np.isnan(found["increase"]) | ((resets > 0) & (seconds == 0))
    why = np.where(nothing, np.where(resets > 0, 2, 1), np.where(seconds < growth.TOO_CLOSE_SECONDS, 3, 0))
    steady = found["increase"] - np.nan_to_num(found["reset_increase"])
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = np.where(why == 0, steady / seconds, np.nan)
    return rate, why.astype(np.int8)


def quantiles(cells: Cells, share: float = 0.95) -> Numbers:
    """This will give each cell's quantile, which is never outside of what was seen."""
    bins = quantile_bins(cells, share)
    values = np.where(bins == NO_BIN, np.nan, sketches.values_of(bins))
    return np.clip(values, cells.statistics["minimum"], cells.statistics["maximum"])
