"""Inference metrics over time: scalars as for GPUs, histograms as quantiles of each step."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from control_plane.analysis import distributions
from control_plane.api import scope
from control_plane.api.answers import page, server_identity, timestamp
from control_plane.api.context import Context
from control_plane.api.operations import listed, operation
from control_plane.api.parameters import ServerHistory, Window, step_of, window
from control_plane.api.resources.metrics import quantiles
from control_plane.api.schemas import SERVER, TEXT
from control_plane.api.series import DEFAULT_WINDOW, MOST_ENTITIES, POINT_SCHEMA, bound_points, bound_rows, history
from control_plane.model.entity import Entity
from control_plane.model.errors import InvalidRequest
from control_plane.model.sample import Reading
from control_plane.storage import inference, readings
from optiinfra.catalogue import TABLES

router = APIRouter(tags=["inference metrics"])

CGROUP = {f.name for f in TABLES["server_cgroup"].scalars}
HISTOGRAMS = {f.name for f in TABLES["inference"].histograms}


@router.get(
    "/metrics/history",
    **operation(
        "metrics_history",
        "Fields of inference servers over time",
        errors=(404, 422, 503),
        answer=listed(
            {
                "type": "object",
                "properties": {**SERVER, "field": TEXT, "points": {"type": "array", "items": POINT_SCHEMA}},
            }
        ),
    ),
)
async def metrics_history(asked: Annotated[ServerHistory, Query()], context: Context) -> Response:
    """Single numbers give min, mean, max, p95; histograms count, mean, p50, p95, p99. Not both in one question, nor
    fields of `inference` together with fields of `server_cgroup`."""
    wanted = [name for name in asked.field if name in HISTOGRAMS]
    selection = await scope.of_servers(context, asked)
    if asked.field[0] in CGROUP:
        return await history(context, asked, "server_cgroup", selection, server_identity)
    if not wanted:
        return await history(context, asked, "inference", selection, server_identity)
    if len(wanted) != len(asked.field):
        raise InvalidRequest("ask for histograms and for single numbers in two questions")
    span = window(asked, context.clock.now(), DEFAULT_WINDOW)
    step = step_of(asked, span)
    found = await readings.select_entities(context.database.engine, selection, MOST_ENTITIES + 1)
    shown = found[:MOST_ENTITIES]
    bound_rows(span, entities=len(shown))
    bound_points(span, step, series=len(shown) * len(set(wanted)))
    looks = await inference.stepped(
        context.database.engine, context.dictionaries, [e.entity_id for e in shown],
        since=span.since, until=span.until, step=step,
    )  # fmt: skip
    by_entity: dict[int, list[tuple[datetime, Reading]]] = {}
    for at, look in looks:
        by_entity.setdefault(look.entity_id, []).append((at, look))
    items = [
        _series(entity, name, by_entity.get(entity.entity_id, []), span, step)
        for entity in shown
        for name in dict.fromkeys(wanted)
    ]
    return page(
        items,
        more=len(found) > MOST_ENTITIES,
        last_id=shown[-1].entity_id if shown else 0,
        since=timestamp(span.since),
        until=timestamp(span.until),
        resolution_seconds=step.total_seconds(),
    )


def _series(
    entity: Entity, name: str, looks: Sequence[tuple[datetime, Reading]], span: Window, step: timedelta
) -> dict[str, Any]:
    """This will give what was observed in each step: the difference of the looks at its two ends."""
    by_start = {}
    for before, (start, look) in zip([None, *(look for _, look in looks)], looks, strict=False):
        if start >= span.since:
            by_start[start] = _first_observed(name, look, span) if before is None else _observed(name, before, look)
    points = []
    start = span.since
    while start < span.until:
        points.append({"at": timestamp(start)} | by_start.get(start, {"count": None, "unknown": "no_samples"}))
        start += step
    return server_identity(entity) | {"field": name, "points": points}


def _first_observed(name: str, look: Reading, span: Window) -> dict[str, Any]:
    """This will judge a look with none before it: all of it is of this window if its counters began in it."""
    began, last = look.values.get("counters_since_unix_seconds"), look.distributions.get(name)
    if last is None:
        return {"count": None, "unknown": look.unknown.get(name, "not_sent")}
    if not isinstance(began, int | float) or began < span.since.timestamp():
        return {"count": None, "unknown": "no_sample_before"}
    return quantiles(last) or {}


def _observed(name: str, before: Reading, look: Reading) -> dict[str, Any]:
    last = look.distributions.get(name)
    if last is None:
        return {"count": None, "unknown": look.unknown.get(name, "not_sent")}
    first = before.distributions.get(name)
    same_run = before.values.get("counters_since_unix_seconds") == look.values.get("counters_since_unix_seconds")
    if same_run and first is None:
        return {"count": None, "unknown": before.unknown.get(name, "not_sent")}
    if same_run and first is not None and first.bounds != last.bounds:
        return {"count": None, "unknown": "bucket_bounds_differ"}
    return quantiles(distributions.increase(first if same_run else None, last)) or {}
