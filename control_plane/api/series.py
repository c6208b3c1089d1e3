"""Histories: the same question and the same answer for every table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from fastapi import Response

from control_plane.api.answers import page, timestamp
from control_plane.api.context import ApiContext
from control_plane.api.parameters import History, Window, step_of, window
from control_plane.model.entity import Entity
from control_plane.model.errors import InvalidRequest
from control_plane.storage import readings
from control_plane.storage.readings import Bucket, Selection
from optiinfra.catalogue import TABLES, FieldSpec

DEFAULT_WINDOW = timedelta(hours=1)
# Rows that one answer may make the database read: about a second's work on two cores.
MOST_ROWS = 3_000_000
USUAL_SAMPLING_SECONDS = 5.0
MOST_ENTITIES = 50
# The same for the points of an answer: 50 series of 20 fields of 10,000 points would be gigabytes.
MOST_POINTS = 100_000

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
        "unknown": {"type": "string", "description": "why there is no value, or no rate, when there is none"},
    },
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
) -> Response:
    """This will answer a history: for each entity and field, a point for each step of the window."""
    fields = scalar_fields(table, asked.field)
    span = window(asked, context.clock.now(), DEFAULT_WINDOW)
    step = step_of(asked, span)
    found = await readings.select_entities(context.database.engine, selection, MOST_ENTITIES + 1)
    shown, more = found[:MOST_ENTITIES], len(found) > MOST_ENTITIES
    bound_rows(span, entities=len(shown), fields=len(fields))
    bound_points(span, step, series=len(shown) * len(fields))
    ids = [entity.entity_id for entity in shown]
    items = []
    for home, field in fields:
        buckets = await readings.history(
            context.database.engine, home, field, ids, since=span.since, until=span.until, step=step
        )
        await context.dictionaries.load({b.unknown_set_id for b in buckets if b.unknown_set_id is not None}, set())
        by_entity: dict[int, dict[datetime, Bucket]] = {}
        for bucket in buckets:
            by_entity.setdefault(bucket.entity_id, {})[bucket.start] = bucket
        items += [
            dict(identify(entity)) | {"field": field.name} | {"points": _points(
                context, field, by_entity.get(entity.entity_id, {}), span, step)}
            for entity in shown
        ]  # fmt: skip
    return page(
        items,
        more=more,
        last_id=shown[-1].entity_id if shown else 0,
        since=timestamp(span.since),
        until=timestamp(span.until),
        resolution_seconds=step.total_seconds(),
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
    context: ApiContext, field: FieldSpec, buckets: Mapping[datetime, Bucket], span: Window, step: timedelta
) -> list[dict[str, Any]]:
    points = []
    start = span.since
    while start < span.until:
        points.append({"at": timestamp(start)} | _point(context, field, buckets.get(start)))
        start += step
    return points


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
