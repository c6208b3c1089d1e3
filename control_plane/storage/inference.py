"""Distributions of inference servers between two moments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, func, literal, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.model.sample import Reading
from control_plane.storage.readings import Dictionaries, ReadingMaker
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


def _taken_at(row: Row[Any]) -> datetime:
    moment: datetime = row.taken_at
    return moment


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
        .ext(distinct_on(*epoch))
        .order_by(*epoch, _SOURCE.c.taken_at.desc())
    )
    before = (
        rows.where(_SOURCE.c.taken_at > since - BASE_LOOKBACK, _SOURCE.c.taken_at <= since)
        .ext(distinct_on(*epoch))
        .order_by(*epoch, _SOURCE.c.taken_at.desc())
    )
    after = (
        rows.where(_SOURCE.c.taken_at > since, _SOURCE.c.taken_at <= until)
        .ext(distinct_on(*epoch))
        .order_by(*epoch, _SOURCE.c.taken_at)
    )
    async with engine.connect() as connection:
        ends = (await connection.execute(last)).all()
        starts = {_epoch(row): row for row in await connection.execute(after)}
        starts |= {_epoch(row): row for row in await connection.execute(before)}
    await _load(dictionaries, [*ends, *starts.values()])
    maker = ReadingMaker(ends, _SPEC, dictionaries)
    # Written over in the order of time: what stays is the newest, or the oldest, of each run of the counters.
    newest_of = {_epoch(row)[:2]: row for row in sorted(ends, key=_taken_at)}
    oldest_of = {_epoch(row)[:2]: row for row in sorted(starts.values(), key=_taken_at, reverse=True)}
    out = []
    for (entity_id, began), newest in newest_of.items():
        oldest = oldest_of[entity_id, began]
        looked, alike, stood = (maker.reading(row) for row in (newest, starts[_epoch(newest)], oldest))
        fresh = began is not None and began > since.timestamp()
        out.append(Span(entity_id=entity_id, first=None if fresh else _start(stood, alike, looked), last=looked))
    return out


def _start(oldest: Reading, alike: Reading, last: Reading) -> Reading:
    """This will give where a run stood first. A histogram that came later counts from its own first look.

    The layout of a row changes when an engine shows a histogram that it did not show before: the
    counters beside it run on, so this is no reset.
    """
    kept = {
        name: d for name, d in oldest.distributions.items()
        if name in last.distributions and d.bounds == last.distributions[name].bounds
    }  # fmt: skip
    return replace(oldest, distributions={**alike.distributions, **kept})


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
        .ext(distinct_on(_SOURCE.c.entity_id, start))
        .order_by(_SOURCE.c.entity_id, start, _SOURCE.c.taken_at.desc())
    )
    async with engine.connect() as connection:
        rows = (await connection.execute(query)).all()
    await _load(dictionaries, rows)
    maker = ReadingMaker(rows, _SPEC, dictionaries)
    return [(row.step_start, maker.reading(row)) for row in rows]


async def _load(dictionaries: Dictionaries, rows: Sequence[Row[Any]]) -> None:
    await dictionaries.load(
        {r.unknown_set_id for r in rows if r.unknown_set_id is not None},
        {r.layout_id for r in rows if r.layout_id is not None},
    )
