"""LMCache: every cache server, controller and in-process cache that was found, and what it did."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from control_plane.api import scope
from control_plane.api.answers import page, sampled, values
from control_plane.api.context import ApiContext, Context
from control_plane.api.operations import listed, operation
from control_plane.api.parameters import OfNodes
from control_plane.api.schemas import MAYBE_TEXT, TIME, UNKNOWN, field_schema
from control_plane.model.entity import Entity, EntityKind
from control_plane.model.sample import Reading
from control_plane.storage import readings
from optiinfra.catalogue import TABLES

router = APIRouter(tags=["lmcache"])

_SPEC = TABLES["lmcache"]
STATUS = ["healthy_flag", "memory_usage_ratio", "memory_used_bytes", "memory_capacity_bytes", "workers_count"]
METRICS = [f.name for f in _SPEC.scalars if f.name not in STATUS]
DISTRIBUTIONS = [f.name for f in _SPEC.histograms]


def _identity(entity: Entity) -> dict[str, Any]:
    """This will name a cache."""
    config = entity.attributes.get("config")
    return {
        "cache_id": entity.entity_id,
        "url": entity.key,
        "node": entity.node_name,
        "mode": config.get("mode") if isinstance(config, dict) else None,
        "state": entity.attributes.get("state"),
    }


def _status(context: ApiContext, entity: Entity, reading: Reading | None) -> dict[str, Any]:
    """This will say how a cache is."""
    attributes = entity.attributes
    return _identity(entity) | {
        "state_detail": attributes.get("state_detail"),
        "state_since": entity.state_since,
        "version": attributes.get("version"),
        "config": attributes.get("config"),
        "found_by": attributes.get("source"),
        "first_seen_at": entity.first_seen_at,
        **sampled(reading, STATUS, context.clock.now()),
    }


def _metrics(context: ApiContext, entity: Entity, reading: Reading | None) -> dict[str, Any]:
    """This will say what a cache did since its counters began."""
    return _identity(entity) | {
        **sampled(reading, METRICS, context.clock.now()),
        "memory": values(reading, STATUS[1:4]),
        "distributions": _distributions(reading),
    }


def _distributions(reading: Reading | None) -> dict[str, Any]:
    """This will give count and sum of each distribution and, under `unknown`, why one is missing."""
    found = {} if reading is None else reading.distributions
    why = {} if reading is None else reading.unknown
    otherwise = "never_sampled" if reading is None else "not_sent"
    shown = {n: {"count": sum(found[n].counts), "sum": found[n].sum} if n in found else None for n in DISTRIBUTIONS}
    return shown | {"unknown": {n: why.get(n, otherwise) for n in DISTRIBUTIONS if n not in found}}


_NAMED = {
    "cache_id": {"type": "integer"},
    "url": {"type": "string", "description": "of a cache inside a server: the server's, with #lmcache behind it"},
    "node": {"type": "string"},
    "mode": {**MAYBE_TEXT, "description": "multiprocess, in_process or controller"},
    "state": MAYBE_TEXT,
    "taken_at": TIME,
    "age_seconds": {"type": ["number", "null"]},
    "unknown": UNKNOWN,
}
STATUS_SCHEMA = {
    "type": "object",
    "properties": {
        **_NAMED,
        "state_since": TIME,
        "config": {"type": ["object", "null"], "description": "as the cache, or its command line, says"},
        **{name: field_schema(_SPEC.field(name)) for name in STATUS},
    },
}
METRICS_SCHEMA = {
    "type": "object",
    "properties": {**_NAMED, **{name: field_schema(_SPEC.field(name)) for name in METRICS}},
}


@router.get(
    "/lmcache/status",
    **operation(
        "lmcache_status", "Every LMCache found", scope="read", answer=listed(STATUS_SCHEMA), errors=(404, 422, 503)
    ),
)
async def get_status(asked: Annotated[OfNodes, Query()], context: Context) -> Response:
    """`state` is up, unhealthy (it says so itself), gone, unreachable or error; engines then compute what it held."""
    return await _list(asked, context, _status)


@router.get(
    "/lmcache/metrics",
    **operation(
        "lmcache_metrics", "What every LMCache did", scope="read", answer=listed(METRICS_SCHEMA), errors=(404, 422, 503)
    ),
)
async def get_metrics(asked: Annotated[OfNodes, Query()], context: Context) -> Response:
    """Counters stand since `counters_since_unix_seconds`; `lookup_hit_tokens_total` over
    `lookup_requested_tokens_total` is the share of tokens that was found."""
    return await _list(asked, context, _metrics)


async def _list(
    asked: OfNodes, context: ApiContext, item: Callable[[ApiContext, Entity, Reading | None], dict[str, Any]]
) -> Response:
    """This will give one page of caches, each made by `item`."""
    selection = await scope.of_nodes(context, asked, EntityKind.CACHE_SERVER)
    found = await readings.latest(context.database.engine, context.dictionaries, "lmcache", selection, asked.limit + 1)
    shown = found[: asked.limit]
    items = [item(context, entity, reading) for entity, reading in shown]
    return page(items, more=len(found) > asked.limit, last_id=shown[-1][0].entity_id if shown else 0)
