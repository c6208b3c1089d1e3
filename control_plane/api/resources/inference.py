"""Inference servers: every vLLM, SGLang and TGI that was found, and how it is set up."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response

from control_plane.api import scope
from control_plane.api.answers import answer, page, rated, sampled, server_attribution, server_identity, values
from control_plane.api.context import ApiContext, Context
from control_plane.api.operations import listed, operation
from control_plane.api.parameters import Name, OfServers, Parameters
from control_plane.api.schemas import (
    MAYBE_TEXT,
    SERVER,
    SERVER_ATTRIBUTION,
    TIME,
    UNKNOWN,
    field_schema,
    reading_schema,
    scalar_names,
)
from control_plane.model.entity import Entity, EntityKind
from control_plane.model.sample import Reading
from control_plane.storage import readings, stored_samples
from control_plane.storage.readings import Selection
from optiinfra.catalogue import TABLES

router = APIRouter(tags=["inference"])

LOAD = [
    "requests_running_count", "requests_waiting_count", "kv_cache_usage_ratio", "kv_cache_capacity_tokens",
    "ranks_count", "scrape_seconds",
]  # fmt: skip
CGROUP = "server_cgroup"
FOUND = "found"  # the other statuses say why nothing, or not all, is known of a group
CGROUP_COUNTERS = [f for f in TABLES[CGROUP].scalars if f.is_counter]
# Rates are over the last minute: long enough to be smooth, short enough to be now.
RATE_WINDOW = timedelta(minutes=1)
TOTALS = [f.name for f in TABLES["inference"].scalars if f.is_counter]


async def _cgroups(context: ApiContext, servers: Sequence[Entity]) -> dict[int, Reading]:
    """This will give the newest sample of each server's control group, by the server's id."""
    selection = Selection(kind=EntityKind.INFERENCE_SERVER, entity_ids=[server.entity_id for server in servers])
    found = await readings.latest(context.database.engine, context.dictionaries, CGROUP, selection, len(servers))
    return {server.entity_id: reading for server, reading in found if reading is not None}


def _cgroup(context: ApiContext, server: Entity, reading: Reading | None) -> dict[str, Any]:
    """This will show a server's control group: where it is, what it may use and what it used."""
    said = sampled(reading, scalar_names(CGROUP), context.clock.now())
    path, status = server.attributes.get("cgroup"), server.attributes.get("cgroup_status")
    if path is None:
        said["unknown"]["path"] = "not_found" if "cgroup" in server.attributes else "not_sent"
    if status is None:
        said["unknown"]["status"] = "not_sent"
    return {"path": path, "status": status} | _explained(said, status)


def _explained(said: dict[str, Any], status: object) -> dict[str, Any]:
    """This will give a group that cannot be looked at one reason, in place of one for each value."""
    if status in (None, FOUND):
        return said
    return said | {"unknown": dict.fromkeys(said["unknown"], status)}


def _item(
    context: ApiContext, entity: Entity, reading: Reading | None, names: list[str], cgroup: Reading | None
) -> dict[str, Any]:
    attributes = entity.attributes
    return server_identity(entity) | {
        "state_detail": attributes.get("state_detail"),
        "state_since": entity.state_since,
        "version": attributes.get("version"),
        "max_model_len": attributes.get("max_model_len"),
        "config": attributes.get("config"),
        "found_by": attributes.get("source"),
        "pid": attributes.get("pid"),
        "attribution": server_attribution(entity),
        "first_seen_at": entity.first_seen_at,
        "load": values(reading, names),
        "cgroup": _cgroup(context, entity, cgroup),
        **sampled(reading, (), context.clock.now()),
    }


CGROUP_STATUS = {
    "enum": [FOUND, "cgroup_v1_host", "root_group", "not_mounted", "no_process", "server_gone", "error", None],
    "description": "whether it can be looked at; docs/problems.md says what each means",
}
ITEM_SCHEMA = {
    "type": "object",
    "properties": {
        **SERVER,
        "state_since": TIME,
        "taken_at": TIME,
        "age_seconds": {"type": ["number", "null"]},
        "unknown": UNKNOWN,
        "version": {"type": ["string", "null"]},
        "attribution": SERVER_ATTRIBUTION,
        "config": {"type": ["object", "null"], "description": "as the engine, or its command line, says"},
        "load": {
            "type": "object",
            "properties": {name: field_schema(TABLES["inference"].field(name)) for name in LOAD} | {"unknown": UNKNOWN},
        },
        "cgroup": reading_schema(CGROUP, scalar_names(CGROUP), path=MAYBE_TEXT, status=CGROUP_STATUS)
        | {"description": "the control group of the process that listens: its container, or its systemd unit"},
    },
}


@router.get(
    "/inference/servers",
    **operation(
        "inference_servers",
        "Every inference server found",
        scope="read",
        shared=True,
        answer=listed(ITEM_SCHEMA),
        errors=(404, 422, 503),
    ),
)
async def list_servers(asked: Annotated[OfServers, Query()], context: Context) -> Response:
    """`state` is up; hung (it answers, but its running requests get nowhere); unhealthy (it answers, but its health
    check is 503: it starts, drains or its worker has died); gone (nothing listens any more); unreachable (no answer
    in time); error; or not_watched (it was taken out of the node's configuration). `state_detail` has the evidence,
    `state_since` the time."""
    selection = await scope.of_servers(context, asked)
    found = await readings.latest(
        context.database.engine, context.dictionaries, "inference", selection, asked.limit + 1
    )
    shown = found[: asked.limit]
    cgroups = await _cgroups(context, [entity for entity, _ in shown])
    items = [_item(context, entity, reading, LOAD, cgroups.get(entity.entity_id)) for entity, reading in shown]
    return page(items, more=len(found) > asked.limit, last_id=shown[-1][0].entity_id if shown else 0)


@router.get(
    "/inference/servers/{server_id}",
    **operation(
        "inference_server",
        "One inference server, with its live load",
        scope="read",
        answer=ITEM_SCHEMA,
        errors=(404, 422, 503),
    ),
)
async def get_server(
    server_id: Annotated[Name, Path(description="a server's id")],
    _: Annotated[Parameters, Query()],
    context: Context,
) -> Response:
    """Its configuration, its load now, its counters since they began, and its control group with rates over a minute.

    `cgroup` is the group of the process that listens: its container, or its systemd unit. Limits are the smallest of
    it and of the groups above.
    """
    selection = Selection(
        kind=EntityKind.INFERENCE_SERVER, entity_ids=await scope.server_ids(context, [server_id]) or []
    )
    found = await readings.latest(context.database.engine, context.dictionaries, "inference", selection, 1)
    entity, reading = found[0]
    item = _item(context, entity, reading, LOAD + TOTALS, (await _cgroups(context, [entity])).get(entity.entity_id))
    now = context.clock.now()
    rates = await stored_samples.explained_rates(
        context.database.engine, CGROUP, CGROUP_COUNTERS, [entity.entity_id], since=now - RATE_WINDOW, until=now
    )
    grown = rates.get(entity.entity_id, {})
    per_second = rated({f.name.removesuffix("_total"): grown.get(f.name) for f in CGROUP_COUNTERS})
    item["cgroup"]["per_second"] = _explained(per_second, item["cgroup"]["status"])
    return answer(item)
