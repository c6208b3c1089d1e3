"""Inference metrics over time: scalars as for GPUs, histograms as quantiles of each step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from control_plane.analysis import distributions
from control_plane.api import scope
from control_plane.api.answers import page, server_identity, timestamp
from control_plane.api.context import ApiContext, Context
from control_plane.api.operations import listed, operation
from control_plane.api.parameters import ServerHistory, Window
from control_plane.api.resources.metrics import quantiles
from control_plane.api.schemas import SERVER, TEXT
from control_plane.api.series import (
    HISTORY,
    MOST_ENTITIES,
    POINT_SCHEMA,
    bound,
    bound_points,
    described,
    history,
    plan_of,
)
from control_plane.model.entity import Entity
from control_plane.model.errors import InvalidRequest
from control_plane.model.reason import Reason
from control_plane.model.sample import Reading
from control_plane.storage import histories, inference, readings
from control_plane.storage.history_plans import Plan, Source
from optiinfra.catalogue import TABLES

router = APIRouter(tags=["inference metrics"])

CGROUP = {f.name for f in TABLES["server_cgroup"].scalars}
HISTOGRAMS = {f.name for f in TABLES["inference"].histograms}


@router.get(
    "/metrics/history",
    **operation(
        "metrics_history",
        "Fields of inference servers over time",
        scope="read",
        rate="heavy",
        table=True,
        errors=(404, 422, 503),
        answer=listed(
            {
                "type": "object",
                "properties": {**SERVER, "field": TEXT, "points": {"type": "array", "items": POINT_SCHEMA}},
            },
            **HISTORY,
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
    found = await readings.select_entities(context.database.engine, selection, MOST_ENTITIES + 1)
    shown = found[:MOST_ENTITIES]
    planned = plan_of(context, asked, entities=len(shown))
    bound(planned, entities=len(shown), fields=1 if planned.source is Source.SAMPLES else len(set(wanted)))
    bound_points(Window(since=planned.since, until=planned.until), planned.step, series=len(shown) * len(set(wanted)))
    make = _from_samples if planned.source is Source.SAMPLES else _from_rollups
    return page(
        await make(context, shown, list(dict.fromkeys(wanted)), planned),
        more=len(found) > MOST_ENTITIES,
        last_id=shown[-1].entity_id if shown else 0,
        **described(planned),
    )


async def _from_rollups(
    context: ApiContext, shown: Sequence[Entity], wanted: Sequence[str], planned: Plan
) -> list[dict[str, Any]]:
    """This will show what minutes or hours saw, added up."""
    by_series: dict[tuple[int, str], dict[datetime, dict[str, Any]]] = {}
    for name in wanted:
        for seen in await histories.observations(
            context.database.engine, context.dictionaries, "inference", TABLES["inference"].field(name),
            [e.entity_id for e in shown], planned,
        ):  # fmt: skip
            why = "no_sample_before" if seen.reason == Reason.FIRST_SAMPLE.label else seen.reason
            point = quantiles(seen.distribution) or {"count": None, "unknown": why}
            by_series.setdefault((seen.entity_id, name), {})[seen.start] = point
    return [
        server_identity(entity)
        | {"field": name, "points": _points(by_series.get((entity.entity_id, name), {}), planned)}
        for entity in shown
        for name in wanted
    ]


async def _from_samples(
    context: ApiContext, shown: Sequence[Entity], wanted: Sequence[str], planned: Plan
) -> list[dict[str, Any]]:
    """This will show the differences of the looks at the two ends of each step."""
    looks = await inference.stepped(
        context.database.engine, context.dictionaries, [e.entity_id for e in shown],
        since=planned.since, until=planned.until, step=planned.step,
    )  # fmt: skip
    by_entity: dict[int, list[tuple[datetime, Reading]]] = {}
    for at, look in looks:
        by_entity.setdefault(look.entity_id, []).append((at, look))
    return [_series(entity, name, by_entity.get(entity.entity_id, []), planned) for entity in shown for name in wanted]


def _points(by_start: Mapping[datetime, dict[str, Any]], planned: Plan) -> list[dict[str, Any]]:
    starts = [planned.since + n * planned.step for n in range(planned.points)]
    return [{"at": timestamp(at)} | by_start.get(at, {"count": None, "unknown": "no_samples"}) for at in starts]


def _series(entity: Entity, name: str, looks: Sequence[tuple[datetime, Reading]], planned: Plan) -> dict[str, Any]:
    """This will give what was observed in each step: the difference of the looks at its two ends."""
    by_start = {}
    for before, (start, look) in zip([None, *(look for _, look in looks)], looks, strict=False):
        if start >= planned.since:
            by_start[start] = (
                _first_observed(name, look, planned.since) if before is None else _observed(name, before, look)
            )
    return server_identity(entity) | {"field": name, "points": _points(by_start, planned)}


def _first_observed(name: str, look: Reading, since: datetime) -> dict[str, Any]:
    """This will judge a look with none before it: all of it is of this window if its counters began in it."""
    began, last = look.values.get("counters_since_unix_seconds"), look.distributions.get(name)
    if last is None:
        return {"count": None, "unknown": look.unknown.get(name, "not_sent")}
    if not isinstance(began, int | float) or began < since.timestamp():
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
