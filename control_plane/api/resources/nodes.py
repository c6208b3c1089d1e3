"""Nodes: which there are, and whether their numbers can be relied on."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response

from control_plane.api import scope
from control_plane.api.answers import age_seconds, answer, gpu_attribution, gpu_identity, page, server_identity
from control_plane.api.context import ApiContext, Context
from control_plane.api.operations import listed, operation
from control_plane.api.parameters import Name, Paged, Parameters, decode_cursor
from control_plane.api.schemas import TEXT, TIME, UNKNOWN
from control_plane.model.entity import Entity, EntityKind
from control_plane.model.node import Node, NodeState, node_state
from control_plane.storage import nodes
from control_plane.storage.readings import Selection, select_entities

router = APIRouter(tags=["nodes"])

MOST_DEVICES = 1024


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
        "collectors": [
            {
                "collector": c.collector,
                "outcome": c.outcome,
                "duration_seconds": round(c.duration_seconds, 6),
                "detail": c.detail,
            }
            for c in (status.collectors if status else ())
        ],
        "lost_ticks": node.lost_ticks,
        "refused_batches": node.refused_batches,
    }


def _gpu(gpu: Entity) -> dict[str, Any]:
    attributes = {name: value for name, value in gpu.attributes.items() if name != "attribution"}
    return gpu_identity(gpu) | {"attribution": gpu_attribution(gpu), "attributes": attributes}


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


@router.get("/nodes", **operation("nodes", "Every node and its state", answer=listed(NODE_SCHEMA)))
async def list_nodes(asked: Annotated[Paged, Query()], context: Context) -> Response:
    """A node is stale when three samples in a row are missing, and gone after five minutes."""
    found = await nodes.find(context.database.engine, after=decode_cursor(asked.cursor, "after"), limit=asked.limit + 1)
    shown = found[: asked.limit]
    items = [_shown(context, node) for node in shown]
    return page(items, more=len(found) > asked.limit, last_id=shown[-1].node_id if shown else 0)


@router.get("/nodes/{node_id}", **operation("node", "One node, with what is on it", errors=(404, 422, 503)))
async def get_node(
    node_id: Annotated[Name, Path(description="a node's id or name")],
    _: Annotated[Parameters, Query()],
    context: Context,
) -> Response:
    """Identity, GPUs, inference servers, what was lost and what was refused."""
    node = await scope.find_node(context, node_id)
    engine = context.database.engine
    gpus = await select_entities(engine, Selection(kind=EntityKind.GPU, node_ids=[node.node_id]), MOST_DEVICES)
    servers = await select_entities(
        engine, Selection(kind=EntityKind.INFERENCE_SERVER, node_ids=[node.node_id]), MOST_DEVICES
    )
    body = _shown(context, node) | {
        "attributes": node.attributes,
        "gpus": [_gpu(gpu) for gpu in gpus],
        "inference_servers": [server_identity(server) for server in servers],
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
