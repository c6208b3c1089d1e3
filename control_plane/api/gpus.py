"""What every question about GPUs needs: their newest samples, of both tiers, and of which nodes there are none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import Response

from control_plane.api import scope
from control_plane.api.answers import page, sampled
from control_plane.api.context import ApiContext
from control_plane.api.parameters import OfGpus
from control_plane.api.schemas import TEXT
from control_plane.model.entity import Entity, EntityKind
from control_plane.model.sample import Reading
from control_plane.storage import nodes, readings

Found = Sequence[tuple[Entity, Reading | None]]

WITHOUT = {
    "type": "array",
    "items": {"type": "object", "properties": {"node": TEXT, "outcome": TEXT, "detail": TEXT}},
    "description": "nodes whose GPUs cannot be read, or that have none, and why",
}


async def latest(context: ApiContext, asked: OfGpus) -> tuple[Found, bool]:
    """This will give one page of GPUs with their newest sample, and whether there are more."""
    selection = await scope.of_gpus(context, asked)
    found = await readings.latest(context.database.engine, context.dictionaries, "gpu", selection, asked.limit + 1)
    return found[: asked.limit], len(found) > asked.limit


async def healths(context: ApiContext, found: Found) -> Mapping[int, Reading | None]:
    """This will give the newest row of gpu_health of each GPU, by entity: it is older than the sample beside it."""
    selection = readings.Selection(kind=EntityKind.GPU, entity_ids=[entity.entity_id for entity, _ in found])
    rows = await readings.latest(
        context.database.engine, context.dictionaries, "gpu_health", selection, max(len(found), 1)
    )
    return {entity.entity_id: reading for entity, reading in rows}


def health(context: ApiContext, reading: Reading | None, names: Sequence[str]) -> dict[str, Any]:
    """This will show fields of gpu_health with the time at which they were read."""
    return {"health": sampled(reading, names, context.clock.now())}


async def gpu_page(
    context: ApiContext, asked: OfGpus, items: list[dict[str, Any]], found: Found, more: bool
) -> Response:
    """This will send one page of GPUs."""
    last_id = found[-1][0].entity_id if found else 0
    return page(items, more=more, last_id=last_id, nodes_without=await without(context, asked))


async def without(context: ApiContext, asked: OfGpus) -> list[dict[str, str]]:
    """This will say of which nodes there is nothing to show, and why: an empty list must not look like health."""
    if asked.gpu or asked.cursor:
        return []
    wanted = await scope.node_ids(context, asked.node)
    out = []
    for node in await nodes.find(context.database.engine):
        if wanted is not None and node.node_id not in wanted:
            continue
        for collector in node.status.collectors if node.status else ():
            if collector.collector == "gpu" and collector.outcome != "ok":
                out.append({"node": node.name, "outcome": collector.outcome, "detail": collector.detail})
    return out
