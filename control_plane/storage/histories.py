"""Histories: what a plan says, carried out.

What comes of samples is exact. What comes of rollups is too, but for quantiles (nearest rank, within one
percent) and for where a window begins: at a whole minute or hour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from control_plane.model.reason import Reason
from control_plane.model.sample import Distribution
from control_plane.storage import moments, stored_samples
from control_plane.storage.history_plans import Plan, Source
from control_plane.storage.readings import Dictionaries
from control_plane.storage.rolled_histories import merged_by_step, rolled_up, steps
from control_plane.storage.rollups import histograms, reading
from control_plane.storage.rollups.cells import NO_REASON, Cells
from control_plane.storage.rollups.minutes import LOOKBACK_US, MINUTE_US
from control_plane.storage.sample_rows import Stretch
from optiinfra.catalogue import TABLES, FieldSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """One field of one entity over a whole window; None where it is unknown."""

    mean: float | None
    increase: float | None  # counters: what stands after a reset included
    rate: float | None  # counters: growth per second within their lives


async def wholes(
    engine: AsyncEngine,
    dictionaries: Dictionaries,
    table: str,
    field: FieldSpec,
    entity_ids: Sequence[int],
    asked: Plan,
) -> dict[int, Whole]:
    """This will say what a field was over a plan of one point, of each entity of which there is a sample."""
    if asked.source is Source.SAMPLES or not entity_ids:
        buckets = await stored_samples.history(
            engine, table, field, entity_ids, since=asked.since, until=asked.until, step=asked.step
        )
        return {
            b.entity_id: Whole(mean=b.mean, increase=b.increase, rate=b.rate if isinstance(b.rate, float) else None)
            for b in buckets
        }
    (found,) = await steps(engine, dictionaries, [(table, field)], entity_ids, asked)
    if found is None:
        return {}
    return {
        int(found.entity_ids[cell]): Whole(
            mean=_number(found.mean[cell]), increase=_number(found.increase[cell]), rate=_number(found.rate[cell])
        )
        for cell in np.flatnonzero(found.samples)
    }


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


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
    grown = await wholes(engine, dictionaries, table, field, entity_ids, asked)
    return {entity_id: grown[entity_id].rate if entity_id in grown else None for entity_id in entity_ids}


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
        come = await reading.progress(connection)
        homes = [(table, field)]
        (parts,), rolled_until_us = await rolled_up(connection, dictionaries, homes, entity_ids, asked, come)
        if rolled_until_us < moments.to_us(asked.until):
            stretch = Stretch(
                since_us=rolled_until_us, until_us=moments.to_us(asked.until), entity_ids=list(entity_ids)
            )
            parts += await _histogram_tail(connection, dictionaries, table, field, stretch)
    await dictionaries.load(set(), {cells.layout_id for cells in parts if cells.layout_id is not None})
    ids = np.unique(np.array(list(entity_ids), np.int32))
    seen: dict[tuple[int, int], list[tuple[tuple[float, ...], Cells, int]]] = {}
    for layout_id in {cells.layout_id for cells in parts}:
        mine = [cells for cells in parts if cells.layout_id == layout_id]
        cells = merged_by_step(mine, ids, asked)
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
