"""Distributions of inference servers between two moments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy import Row, func, literal, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.model.sample import Reading
from control_plane.storage import moments, stored_samples, whole_samples
from control_plane.storage.readings import Dictionaries, ReadingMaker
from control_plane.storage.sample_rows import SampleRows, taken
from control_plane.storage.schema import SAMPLE_TABLES
from control_plane.storage.whole_samples import Key
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


# The newest row of each run of counters, and by run the oldest.
Ends = tuple[Sequence[Row[Any]], dict[tuple[int, float | None, int | None], Row[Any]]]


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
    at_hand = not await stored_samples.reach_packed_days(engine, since - BASE_LOOKBACK)
    ends, starts = await (_ends if at_hand else _stored_ends)(engine, entity_ids, since, until)
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


async def _ends(engine: AsyncEngine, entity_ids: Sequence[int], since: datetime, until: datetime) -> Ends:
    """This will give where each run of counters was looked at last, and first."""
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
    return ends, starts


async def _stored_ends(engine: AsyncEngine, entity_ids: Sequence[int], since: datetime, until: datetime) -> Ends:
    """This will give the same of samples some of which are packed: first which rows those are, then these rows."""
    looks = await _answering(engine, entity_ids, moments.to_us(since - BASE_LOOKBACK) + 1, moments.to_us(until) + 1)
    inside = looks.taken_at_us > moments.to_us(since)
    last: dict[Any, Key] = {}
    first: dict[Any, Key] = {}
    # In the order of entity and time: the last of those before the window stays, and the first of those in it.
    for run, key, within in zip(_runs(looks), _keys(looks), inside.tolist(), strict=True):
        if within:
            last[run] = key
            first.setdefault(run, key)
        else:
            first[run] = key
    found = await whole_samples.rows(engine, "inference", [*last.values(), *first.values()])
    ends = [found[key] for key in last.values()]
    return ends, {_epoch(found[first[run]]): found[first[run]] for run in first}


async def _answering(engine: AsyncEngine, entity_ids: Sequence[int], since_us: int, until_us: int) -> SampleRows:
    """This will give the looks at which servers answered, with what tells the runs of their counters apart."""
    names = ["up_flag", "counters_since_unix_seconds", "layout_id"]
    return taken(
        looks := await stored_samples.read_scalars(engine, "inference", names, entity_ids, since_us, until_us),
        looks.columns["up_flag"] == 1,
    )


def _runs(looks: SampleRows) -> list[tuple[int, float, float]]:
    numbers = [np.nan_to_num(looks.columns[name], nan=-1) for name in ("counters_since_unix_seconds", "layout_id")]
    return list(zip(looks.entity_ids.tolist(), *(values.tolist() for values in numbers), strict=True))


def _keys(looks: SampleRows) -> list[Key]:
    return list(zip(looks.entity_ids.tolist(), looks.taken_at_us.tolist(), strict=True))


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
    if not entity_ids:
        return []
    after = since - max(BASE_LOOKBACK, step)
    if await stored_samples.reach_packed_days(engine, after):
        found = await _stored_steps(engine, entity_ids, since=since, after=after, until=until, step=step)
    else:
        found = await _steps(engine, entity_ids, since=since, after=after, until=until, step=step)
    await _load(dictionaries, [row for _, row in found])
    maker = ReadingMaker([row for _, row in found], _SPEC, dictionaries)
    return [(start, maker.reading(row)) for start, row in found]


async def _steps(
    engine: AsyncEngine,
    entity_ids: Sequence[int],
    *,
    since: datetime,
    after: datetime,
    until: datetime,
    step: timedelta,
) -> list[tuple[datetime, Row[Any]]]:
    start = func.date_bin(literal(step), _SOURCE.c.taken_at, literal(since)).label("step_start")
    query = (
        select(_SOURCE, start)
        .where(
            _SOURCE.c.entity_id.in_(entity_ids),
            _SOURCE.c.up_flag == 1,
            _SOURCE.c.taken_at > after,
            _SOURCE.c.taken_at <= until,
        )
        .ext(distinct_on(_SOURCE.c.entity_id, start))
        .order_by(_SOURCE.c.entity_id, start, _SOURCE.c.taken_at.desc())
    )
    async with engine.connect() as connection:
        return [(row.step_start, row) for row in await connection.execute(query)]


async def _stored_steps(
    engine: AsyncEngine,
    entity_ids: Sequence[int],
    *,
    since: datetime,
    after: datetime,
    until: datetime,
    step: timedelta,
) -> list[tuple[datetime, Row[Any]]]:
    """This will give the same of samples some of which are packed."""
    looks = await _answering(engine, entity_ids, moments.to_us(after) + 1, moments.to_us(until) + 1)
    numbers = (looks.taken_at_us - moments.to_us(since)) // (step // timedelta(microseconds=1))
    newest = dict(zip(zip(looks.entity_ids.tolist(), numbers.tolist(), strict=True), _keys(looks), strict=True))
    found = await whole_samples.rows(engine, "inference", newest.values())
    return [(since + number * step, found[key]) for (_, number), key in newest.items()]


async def _load(dictionaries: Dictionaries, rows: Sequence[Row[Any]]) -> None:
    await dictionaries.load(
        {r.unknown_set_id for r in rows if r.unknown_set_id is not None},
        {r.layout_id for r in rows if r.layout_id is not None},
    )
