"""Nodes: which there are, and whether their numbers can be relied on."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from pydantic import Field

from control_plane.api import scope
from control_plane.api.answers import (
    age_seconds,
    answer,
    gpu_attribution,
    gpu_identity,
    instance_identity,
    page,
    sampled,
    server_identity,
)
from control_plane.api.audit_trail import Changed
from control_plane.api.context import ApiContext, Context
from control_plane.api.operations import listed, operation
from control_plane.api.parameters import Name, Paged, Parameters, decode_cursor
from control_plane.api.resources.gpu_attribution import counted
from control_plane.api.schemas import TEXT, TIME, UNKNOWN, scalar_names
from control_plane.model.entity import Entity, EntityKind
from control_plane.model.errors import Conflict
from control_plane.model.node import CollectorState, Node, NodeState, NodeStatus, node_state
from control_plane.storage import nodes
from control_plane.storage.attribution import count_findings
from control_plane.storage.readings import Selection, count_entities, latest, select_entities

router = APIRouter(tags=["nodes"])

MOST_DEVICES = 1024
# An agent answers at once, or its stream is stuck.
RELEASE_SECONDS = 10.0


def _collector(status: NodeStatus, state: CollectorState) -> dict[str, Any]:
    """Ages are the agent's; moments are those of the node's newest sample, less the age."""
    shown: dict[str, Any] = {
        "collector": state.collector,
        "outcome": state.outcome,
        "duration_seconds": round(state.duration_seconds, 6),
        "detail": state.detail,
        "last_success_at": None,
        "last_success_age_seconds": None,
        "unknown": {},
    }
    if state.last_success_age_seconds is None:
        # An agent of release 0.1 does not say.
        why = "not_sent" if state.outcome in ("ok", "partial") else "never_succeeded"
        shown["unknown"] = {"last_success_at": why, "last_success_age_seconds": why}
    else:
        shown["last_success_at"] = status.taken_at - timedelta(seconds=state.last_success_age_seconds)
        shown["last_success_age_seconds"] = round(state.last_success_age_seconds, 3)
    if state.last_error_age_seconds is not None:
        failed_at = status.taken_at - timedelta(seconds=state.last_error_age_seconds)
        shown |= {"last_error": state.last_error, "last_error_at": failed_at}
    return shown


def _shown(context: ApiContext, node: Node) -> dict[str, Any]:
    now = context.clock.now()
    status = node.status
    age = age_seconds(status.taken_at, now) if status else None
    interval = status.sampling_interval_seconds if status else None
    read = {
        "last_sample_at": status.taken_at if status else None,
        "age_seconds": age,
        "sampling_interval_seconds": interval,
        "lag_seconds": round((status.received_at - status.taken_at).total_seconds(), 3) if status else None,
        "clock_offset_seconds": round(status.clock_offset_seconds, 3)
        if status and status.clock_offset_seconds is not None
        else None,
    }
    return {
        "node_id": node.node_id,
        "name": node.name,
        "state": node_state(age_seconds=age, interval_seconds=interval),
        "streaming": node.node_id in context.ingest.connected_nodes(),
        "replayed": node.replayed,
        "agent_version": node.agent_version,
        "first_seen_at": node.first_seen_at,
        **read,
        "unknown": {n: "not_sent" if status else "never_sampled" for n, value in read.items() if value is None},
        "collectors": [_collector(status, c) for c in status.collectors] if status else [],
        "lost_ticks": node.lost_ticks,
        "refused_batches": node.refused_batches,
    }


def _gpu(gpu: Entity, instances: Sequence[Entity]) -> dict[str, Any]:
    attributes = {name: value for name, value in gpu.attributes.items() if name != "attribution"}
    mine = [one for one in instances if one.attributes.get("gpu") == gpu.key and one.attributes.get("state") != "gone"]
    return gpu_identity(gpu) | {
        "attribution": gpu_attribution(gpu),
        "attributes": attributes,
        "instances": [instance_identity(one) | {"attribution": gpu_attribution(one)} for one in mine],
    }


NODE_SCHEMA = {
    "type": "object",
    "properties": {
        "node_id": {"type": "integer"},
        "name": TEXT,
        "state": {"enum": [state.value for state in NodeState]},
        "streaming": {"type": "boolean", "description": "its agent has a stream to this replica"},
        "replayed": {"type": "boolean", "description": "a recording that is played, not a live machine"},
        "last_sample_at": TIME,
        "age_seconds": {"type": ["number", "null"]},
        "lag_seconds": {"type": ["number", "null"], "description": "from taking the newest sample to its arrival"},
        "clock_offset_seconds": {"type": ["number", "null"], "description": "the node's clock minus ours"},
        "unknown": UNKNOWN,
        "collectors": {"type": "array", "items": {"type": "object"}},
        "lost_ticks": {"type": "integer"},
        "refused_batches": {"type": "integer"},
    },
}


async def _agent(context: ApiContext, node_id: int) -> dict[str, Any]:
    """This will give what the agent last said of itself; an agent of release 0.1 does not."""
    selection = Selection(kind=EntityKind.NODE, node_ids=[node_id])
    found = await latest(context.database.engine, context.dictionaries, "agent", selection, 1)
    readings = [reading for _, reading in found if reading is not None]
    return sampled(readings[0] if readings else None, scalar_names("agent"), context.clock.now())


@router.get("/nodes", **operation("nodes", "Every node and its state", scope="read", answer=listed(NODE_SCHEMA)))
async def list_nodes(asked: Annotated[Paged, Query()], context: Context) -> Response:
    """A node is stale when three samples in a row are missing, and gone after five minutes."""
    found = await nodes.find(context.database.engine, after=decode_cursor(asked.cursor, "after"), limit=asked.limit + 1)
    shown = found[: asked.limit]
    items = [_shown(context, node) for node in shown]
    return page(items, more=len(found) > asked.limit, last_id=shown[-1].node_id if shown else 0)


@router.get(
    "/nodes/{node_id}", **operation("node", "One node, with what is on it", scope="read", errors=(404, 422, 503))
)
async def get_node(
    node_id: Annotated[Name, Path(description="a node's id or name")],
    _: Annotated[Parameters, Query()],
    context: Context,
) -> Response:
    """Identity, wiring, GPUs, inference servers, how its agent does, what was lost and what was refused."""
    node = await scope.find_node(context, node_id)
    engine = context.database.engine
    gpus_here = Selection(kind=EntityKind.GPU, node_ids=[node.node_id])
    instances_here = Selection(kind=EntityKind.GPU_INSTANCE, node_ids=[node.node_id])
    servers_here = Selection(kind=EntityKind.INFERENCE_SERVER, node_ids=[node.node_id])
    gpus = await select_entities(engine, gpus_here, MOST_DEVICES)
    instances = await select_entities(engine, instances_here, MOST_DEVICES)
    servers = await select_entities(engine, servers_here, MOST_DEVICES)
    body = _shown(context, node) | {
        "attributes": node.attributes,
        "gpus": [_gpu(gpu, instances) for gpu in gpus],
        "gpu_findings": counted((await count_findings(engine, gpus_here)).get(node.name, {})),
        "inference_servers": [server_identity(server) for server in servers],
        "left_out": {
            "gpus": max(0, await count_entities(engine, gpus_here) - len(gpus)),
            "inference_servers": max(0, await count_entities(engine, servers_here) - len(servers)),
        },
        "agent": await _agent(context, node.node_id),
        "losses": [
            {key: value for key, value in loss.items() if key not in ("node_id", "epoch")}
            for loss in await nodes.losses(engine, node.node_id)
        ],
        "refusals": [
            {key: value for key, value in refusal.items() if key != "node_id"}
            for refusal in await nodes.refusals(engine, node.node_id)
        ],
    }
    return answer(body)


@router.delete(
    "/nodes/{node_id}",
    **operation("node_forget", "Forget a node that is gone", scope="admin", errors=(404, 409, 422, 503)),
)
async def forget_node(
    node_id: Annotated[Name, Path(description="a node's id or name")],
    _: Annotated[Parameters, Query()],
    context: Context,
    change: Changed,
) -> Response:
    """Takes it off every list and its agent's certificate out of force. Its samples stay until retention ends."""
    node = await scope.find_node(context, node_id)
    if node.node_id in context.ingest.connected_nodes():
        raise Conflict(f"node {node.name} is connected; stop its agent first")
    now = context.clock.now()
    change.was({"node_id": node.node_id, "name": node.name, "agent_version": node.agent_version})
    await nodes.forget(context.database.engine, node.node_id, now)
    return answer({"node_id": node.node_id, "name": node.name, "forgotten_at": now})


class ReleaseQuestion(Parameters):
    """For how long."""

    seconds: int = Field(120, ge=0, le=3600, description="how long the agent leaves the driver alone; 0 ends it now")


@router.post(
    "/nodes/{node_id}/gpus/release",
    **operation("node_gpus_release", "Have an agent let go of its GPUs", scope="operate", errors=(404, 422, 503)),
)
async def release_gpus(
    node_id: Annotated[Name, Path(description="a node's id or name")],
    asked: Annotated[ReleaseQuestion, Query()],
    context: Context,
) -> Response:
    """For a reset or a change of MIG. Done only where the host's `allowed_commands` name `release_gpus`."""
    node = await scope.find_node(context, node_id)
    outcome, detail = await context.ingest.release_gpus(
        node.node_id, seconds=asked.seconds, timeout_seconds=RELEASE_SECONDS
    )
    return answer(
        {"node_id": node.node_id, "node": node.name, "outcome": outcome, "detail": detail, "seconds": asked.seconds}
    )
