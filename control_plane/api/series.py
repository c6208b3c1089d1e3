"""Histories: the same question and the same answer for every table."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from fastapi import Response

from control_plane.api.answers import page, timestamp
from control_plane.api.context import ApiContext
from control_plane.api.parameters import History, Window, step_of, window
from control_plane.api.points import Series, starts
from control_plane.model.entity import Entity
from control_plane.model.errors import InvalidRequest
from control_plane.storage import history_plans, readings, rolled_histories, stored_samples
from control_plane.storage.history_plans import Kept, Plan, Source
from control_plane.storage.readings import Bucket, Selection
from control_plane.storage.rolled_histories import Homes
from optiinfra.catalogue import TABLES, FieldSpec

DEFAULT_WINDOW = timedelta(hours=1)
# Rows that one answer may make the database read: about a second's work on two cores.
MOST_ROWS = 3_000_000
USUAL_SAMPLING_SECONDS = 5.0
MOST_ENTITIES = 50
# The same for the points of an answer: 50 series of 20 fields of 10,000 points would be gigabytes.
MOST_POINTS = 100_000
UNITS = {Source.SAMPLES: "samples", Source.MINUTES: "minutes", Source.HOURS: "hours"}
MADE_FROM = {
    "type": "string",
    "enum": [source.value for source in Source],
    "description": "samples, or what rollups say of each minute or hour; points then begin at whole ones, and p95 is "
    "the nearest rank within one percent",
}

POINT_SCHEMA = {
    "type": "object",
    "properties": {
        "at": {"type": "string", "format": "date-time"},
        "min": {"type": ["number", "null"]},
        "mean": {"type": ["number", "null"]},
        "max": {"type": ["number", "null"]},
        "p95": {"type": ["number", "null"]},
        "rate_per_second": {"type": ["number", "null"], "description": "counters only"},
        "resets": {"type": "integer", "description": "counters only: how often it fell, which no rate counts"},
        "samples": {"type": "integer"},
        "gpus": {"type": "integer", "description": "by=node and by=fleet only: how many of them were sampled"},
        "unknown": {"type": "string", "description": "why there is no value, or no rate, when there is none"},
    },
}
HISTORY: dict[str, dict[str, Any]] = {
    "since": {"type": "string", "format": "date-time", "description": "where the first point begins"},
    "until": {"type": "string", "format": "date-time"},
    "resolution_seconds": {"type": "number", "description": "the width of a point that was used"},
    "made_from": MADE_FROM,
}


def scalar_fields(table: str, names: Sequence[str]) -> list[tuple[str, FieldSpec]]:
    """This will look the asked fields up, each with its table: that one, or one to which fields of it moved.

    Raises InvalidRequest for one that is no single number.
    """
    tables = [spec for spec in TABLES.values() if table in (spec.name, spec.moved_from)]
    known = {field.name: (spec.name, field) for spec in tables for field in spec.scalars}
    for name in names:
        if name not in known:
            raise InvalidRequest(f"{name[:64]!r} is no field of {table}; known are {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(names)]


async def history(
    context: ApiContext,
    asked: History,
    table: str,
    selection: Selection,
    identify: Callable[[Entity], Mapping[str, Any]],
    check: Callable[[Sequence[Entity]], Awaitable[None]] | None = None,
) -> Response:
    """This will answer a history: for each entity and field, a point for each step of the window.

    `check` is given the entities that were found, and raises when somebody asked for others.
    """
    fields = scalar_fields(table, asked.field)
    found = await readings.select_entities(context.database.engine, selection, MOST_ENTITIES + 1)
    shown, more = found[:MOST_ENTITIES], len(found) > MOST_ENTITIES
    if check is not None:
        await check(found)
    planned = plan_of(context, asked, entities=len(shown))
    bound(planned, entities=len(shown), fields=len(fields))
    make = _from_samples if planned.source is Source.SAMPLES else _from_rollups
    made = await make(context, fields, [entity.entity_id for entity in shown], planned)
    return page(
        [dict(identify(entity)) | {"field": field.name, "points": points(entity.entity_id)}
         for (_, field), points in zip(fields, made, strict=True) for entity in shown],
        more=more,
        last_id=shown[-1].entity_id if shown else 0,
        **described(planned),
    )  # fmt: skip


PointsOf = Callable[[int], list[dict[str, Any]]]  # by entity


async def _from_rollups(context: ApiContext, fields: Homes, ids: Sequence[int], planned: Plan) -> list[PointsOf]:
    found = await rolled_histories.steps(context.database.engine, context.dictionaries, fields, ids, planned)
    at = starts(planned)
    return [Series(field, steps, at).points for (_, field), steps in zip(fields, found, strict=True)]


async def _from_samples(context: ApiContext, fields: Homes, ids: Sequence[int], planned: Plan) -> list[PointsOf]:
    out = []
    for home, field in fields:
        buckets = await stored_samples.history(
            context.database.engine, home, field, ids, since=planned.since, until=planned.until, step=planned.step
        )
        await context.dictionaries.load({b.unknown_set_id for b in buckets if b.unknown_set_id is not None}, set())
        out.append(_points_of(context, field, buckets, planned))
    return out


def _points_of(context: ApiContext, field: FieldSpec, buckets: Sequence[Bucket], planned: Plan) -> PointsOf:
    by_entity: dict[int, dict[datetime, Bucket]] = {}
    for bucket in buckets:
        by_entity.setdefault(bucket.entity_id, {})[bucket.start] = bucket
    return lambda entity_id: _points(context, field, by_entity.get(entity_id, {}), planned)


def plan_of(context: ApiContext, asked: History, *, entities: int) -> Plan:
    """This will settle what a history is made from, and where its points lie."""
    now = context.clock.now()
    span = window(asked, now, DEFAULT_WINDOW)
    return history_plans.plan(
        span.since, span.until, step_of(asked, span),
        entities=entities, step_was_asked=asked.step is not None, kept=kept(context, now),
    )  # fmt: skip


def kept(context: ApiContext, now: datetime) -> Kept | None:
    """This will say from when on there are samples and minutes."""
    days = [context.capabilities.get(f"{what}_retention_days") for what in ("raw", "minute")]
    samples, minutes = [now - timedelta(days=d) if isinstance(d, int) else None for d in days]
    return Kept(samples_since=samples, minutes_since=minutes) if samples and minutes else None


def described(planned: Plan) -> dict[str, Any]:
    """This will say what an answer is about, and from what it was made."""
    return {
        "since": timestamp(planned.since),
        "until": timestamp(planned.until),
        "resolution_seconds": planned.step.total_seconds(),
        "made_from": planned.source,
    }


def bound(planned: Plan, *, entities: int, fields: int = 1) -> None:
    """This will refuse a question whose answer would be too large, or too long in the making. Raises InvalidRequest."""
    span = Window(since=planned.since, until=planned.until)
    bound_points(span, planned.step, series=entities * fields)
    if planned.units * entities * fields > MOST_ROWS:
        raise InvalidRequest(
            f"about {planned.units * entities * fields:,.0f} {UNITS[planned.source]} would have to be read; name fewer "
            "of them (node, gpu, server), fewer fields, or a shorter window"
        )


def bound_rows(span: Window, *, entities: int, fields: int = 1) -> None:
    """This will refuse a question that would read more rows than one answer may. Raises InvalidRequest."""
    rows = span.seconds / USUAL_SAMPLING_SECONDS * entities * fields
    if rows > MOST_ROWS:
        raise InvalidRequest(
            f"about {rows:,.0f} samples would have to be read; name fewer of them (node, gpu, server), fewer fields, "
            "or a shorter window"
        )


def bound_points(span: Window, step: timedelta, *, series: int) -> None:
    """This will refuse a question whose answer would be too large. Raises InvalidRequest."""
    points = span.seconds / step.total_seconds() * series
    if points > MOST_POINTS:
        raise InvalidRequest(f"the answer would have {points:,.0f} points; ask for a longer step or fewer series")


def _points(
    context: ApiContext, field: FieldSpec, buckets: Mapping[datetime, Bucket], planned: Plan
) -> list[dict[str, Any]]:
    starts = [planned.since + n * planned.step for n in range(planned.points)]
    return [{"at": timestamp(at)} | _point(context, field, buckets.get(at)) for at in starts]


def _point(context: ApiContext, field: FieldSpec, bucket: Bucket | None) -> dict[str, Any]:
    nothing: dict[str, Any] = {"min": None, "mean": None, "max": None, "p95": None}
    if field.is_counter:
        nothing["rate_per_second"] = None
    if bucket is None:
        return nothing | {"samples": 0, "unknown": "no_samples"}
    if bucket.known == 0:
        why = context.dictionaries.reasons(bucket.unknown_set_id).get(field.name, "not_sent")
        return nothing | {"samples": bucket.samples, "unknown": why}
    shown: dict[str, Any] = {"min": bucket.minimum, "mean": bucket.mean, "max": bucket.maximum, "p95": bucket.p95}
    if field.is_counter:
        # Over the time that its samples really span: the last step may just have begun, and others have gaps.
        shown["rate_per_second"] = round(bucket.rate, 6) if isinstance(bucket.rate, float) else None
        if shown["rate_per_second"] is None:
            shown["unknown"] = bucket.rate or "no_sample_before"
        shown["resets"] = bucket.resets
    return shown | {"samples": bucket.samples}
