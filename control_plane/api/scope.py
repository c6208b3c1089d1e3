"""From names in a question to the entities it is about."""

from __future__ import annotations

from collections.abc import Sequence

from control_plane.api.context import ApiContext
from control_plane.api.parameters import OfGpus, OfNodes, OfServers, decode_cursor
from control_plane.model.entity import EntityKind
from control_plane.model.errors import UnknownResource
from control_plane.model.node import Node
from control_plane.storage import nodes
from control_plane.storage.readings import Selection, select_entities

# Ids are Postgres integers.
LONGEST_ID = 9


async def find_node(context: ApiContext, name: str) -> Node:
    """This will give the node with that name or id. Raises UnknownResource."""
    found = await nodes.find(context.database.engine, name_or_id=name)
    if not found:
        raise UnknownResource(f"there is no node {name[:64]!r}; GET /nodes lists those there are")
    # Of several with one name, the one that sampled last.
    return max(found, key=lambda n: n.status.taken_at if n.status else n.first_seen_at)


async def node_ids(context: ApiContext, names: Sequence[str]) -> list[int] | None:
    """This will give the ids of the named nodes; None when none is named. Raises UnknownResource."""
    return [(await find_node(context, name)).node_id for name in names] or None


async def of_nodes(context: ApiContext, asked: OfNodes, kind: EntityKind) -> Selection:
    """This will select entities of one kind on the asked nodes."""
    return Selection(
        kind=kind, node_ids=await node_ids(context, asked.node), after=decode_cursor(asked.cursor, "after")
    )


async def of_gpus(context: ApiContext, asked: OfGpus) -> Selection:
    """This will select the asked GPUs. Raises UnknownResource for one that does not exist."""
    if asked.gpu:
        known = await select_entities(
            context.database.engine, Selection(kind=EntityKind.GPU, keys=asked.gpu), len(asked.gpu) * 100
        )
        missing = set(asked.gpu) - {entity.key for entity in known}
        if missing:
            raise UnknownResource(f"there is no GPU {min(missing)[:64]!r}; GET /gpu/metrics lists those there are")
    return Selection(
        kind=EntityKind.GPU,
        node_ids=await node_ids(context, asked.node),
        keys=asked.gpu or None,
        after=decode_cursor(asked.cursor, "after"),
    )


async def server_url(context: ApiContext, name: str) -> str:
    """This will give the URL of the server with that id or URL. Raises UnknownResource."""
    everything = Selection(kind=EntityKind.INFERENCE_SERVER, keys=None if name.isdecimal() else [name])
    if name.isdecimal() and len(name) <= LONGEST_ID:
        everything = Selection(kind=EntityKind.INFERENCE_SERVER, after=int(name) - 1)
        found = await select_entities(context.database.engine, everything, 1)
        if found and found[0].entity_id == int(name):
            return found[0].key
    elif await select_entities(context.database.engine, everything, 1):
        return name
    raise UnknownResource(f"there is no inference server {name[:64]!r}; GET /inference/servers lists those there are")


async def of_servers(context: ApiContext, asked: OfServers) -> Selection:
    """This will select the asked inference servers. Raises UnknownResource for one that does not exist."""
    return Selection(
        kind=EntityKind.INFERENCE_SERVER,
        node_ids=await node_ids(context, asked.node),
        keys=[await server_url(context, name) for name in asked.server] or None,
        models=asked.model or None,
        after=decode_cursor(asked.cursor, "after"),
    )
