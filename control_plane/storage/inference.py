"""Distributions of inference servers between two moments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, func, literal, select
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.model.sample import Reading
from control_plane.storage.readings import Dictionaries, reading_from
from control_plane.storage.schema import SAMPLE_TABLES
from optiinfra.catalogue import TABLES

_SOURCE = SAMPLE_TABLES["inference"]
_SPEC = TABLES["inference"]
# How far before the window its starting point may lie: several scrapes, so that one that failed does no harm.
BASE_LOOKBACK = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Two looks at one server's counters with no reset in between.

    `first` is None when the counters began at zero inside the window.
    """

    entity_id: int
    first: Reading | None
    last: Reading


def _epoch(row: Row[Any]) -> tuple[int, float | None, int | None]:
    return row.entity_id, row.counters_since_unix_seconds, row.layout_id


async def spans(
    engine: AsyncEngine,
    dictionaries: Dictionaries,
    entity_ids: Sequence[int],
    *,
    since: datetime,
    until: datetime,
) -> list[Span]:
    """This will give, for each server and each run of its counters, where they stood at both ends of the window.

    Only samples in which the server answered count. The start is the newest sample at or before
    `since` (up to a minute older), else the first one after it.
    """
    if not entity_ids:
        return []
    rows = select(_SOURCE).where(_SOURCE.c.entity_id.in_(entity_ids), _SOURCE.c.up_flag == 1)
    epoch = (_SOURCE.c.entity_id, _SOURCE.c.counters_since_unix_seconds, _SOURCE.c.layout_id)
    last = (
        rows.where(_SOURCE.c.taken_at > since, _SOURCE.c.taken_at <= until)
        .distinct(*epoch)
        .order_by(*epoch, _SOURCE.c.taken_at.desc())
    )
    before = (
        rows.where(_SOURCE.c.taken_at > since - BASE_LOOKBACK, _SOURCE.c.taken_at <= since)
        .distinct(*epoch)
        .order_by(*epoch, _SOURCE.c.taken_at.desc())
    )
    after = (
        rows.where(_SOURCE.c.taken_at > since, _SOURCE.c.taken_at <= until)
        .distinct(*epoch)
        .order_by(*epoch, _SOURCE.c.taken_at)
    )
    async with engine.connect() as connection:
        ends = (await connection.execute(last)).all()
        starts = {_epoch(row): row for row in await connection.execute(after)}
        starts |= {_epoch(row): row for row in await connection.execute(before)}
    await _load(dictionaries, [*ends, *starts.values()])
    out = []
    for end in ends:
        began = end.counters_since_unix_seconds
        fresh = began is not None and began > since.timestamp()
        first = None if fresh else reading_from(starts[_epoch(end)], _SPEC, dictionaries)
        out.append(Span(entity_id=end.entity_id, first=first, last=reading_from(end, _SPEC, dictionaries)))
    return out


async def stepped(
    engine: AsyncEngine,
    dictionaries: Dictionaries,
    entity_ids: Sequence[int],
    *,
    since: datetime,
    until: datetime,
    step: timedelta,
) -> list[tuple[datetime, Reading]]:
    """This will give each server's newest answering sample of each step, with the step's start, oldest first.

    The first is from before `since` where there is one, as the starting point of the first step.
    """
    start = func.date_bin(literal(step), _SOURCE.c.taken_at, literal(since)).label("step_start")
    query = (
        select(_SOURCE, start)
        .where(
            _SOURCE.c.entity_id.in_(entity_ids),
            _SOURCE.c.up_flag == 1,
            _SOURCE.c.taken_at > since - max(BASE_LOOKBACK, step),
            _SOURCE.c.taken_at <= until,
        )
        .distinct(_SOURCE.c.entity_id, start)
        .order_by(_SOURCE.c.entity_id, start, _SOURCE.c.taken_at.desc())
    )
    async with engine.connect() as connection:
        rows = (await connection.execute(query)).all()
    await _load(dictionaries, rows)
    return [(row.step_start, reading_from(row, _SPEC, dictionaries)) for row in rows]


async def _load(dictionaries: Dictionaries, rows: Sequence[Row[Any]]) -> None:
    await dictionaries.load(
        {r.unknown_set_id for r in rows if r.unknown_set_id is not None},
        {r.layout_id for r in rows if r.layout_id is not None},
    )
