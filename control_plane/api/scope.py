"""From names in a question to the entities it is about."""

from __future__ import annotations

from collections.abc import Sequence

from control_plane.api.context import ApiContext
from control_plane.api.parameters import OfGpus, OfNodes, OfServers, decode_cursor
from control_plane.model.entity import Entity, EntityKind
from control_plane.model.errors import UnknownResource
from control_plane.model.node import Node
from control_plane.storage import nodes
from control_plane.storage.readings import Selection, select_entities

# Ids are Postgres integers.
LONGEST_ID = 9
# A node that was set up anew keeps its name and gets another id; more of one name than this is no name.
MOST_NAMESAKES = 10_000


async def find_nodes(context: ApiContext, names: Sequence[str]) -> list[Node]:
    """This will give the nodes with those names or ids, each once. Raises UnknownResource."""
    found = await nodes.find(context.database.engine, named=names, limit=MOST_NAMESAKES) if names else []
    chosen: dict[int, Node] = {}
    for name in names:
        matching = [n for n in found if n.name == name or (name.isdecimal() and str(n.node_id) == str(int(name)))]
        if not matching:
            raise UnknownResource(f"there is no node {name[:64]!r}; GET /nodes lists those there are")
        # Of several with one name, the one that sampled last.
        node = max(matching, key=lambda n: n.status.taken_at if n.status else n.first_seen_at)
        chosen[node.node_id] = node
    return list(chosen.values())


async def find_node(context: ApiContext, name: str) -> Node:
    """This will give the node with that name or id. Raises UnknownResource."""
    return (await find_nodes(context, [name]))[0]


async def node_ids(context: ApiContext, names: Sequence[str]) -> list[int] | None:
    """This will give the ids of the named nodes; None when none is named. Raises UnknownResource."""
    return [node.node_id for node in await find_nodes(context, names)] or None


async def of_nodes(context: ApiContext, asked: OfNodes, kind: EntityKind) -> Selection:
    """This will select entities of one kind on the asked nodes."""
    return Selection(
        kind=kind, node_ids=await node_ids(context, asked.node), after=decode_cursor(asked.cursor, "after")
    )


async def known_gpus(context: ApiContext, names: Sequence[str]) -> None:
    """This will raise UnknownResource for a GPU that does not exist."""
    if not names:
        return
    known = await select_entities(context.database.engine, Selection(kind=EntityKind.GPU, keys=names), len(names) * 100)
    missing = set(names) - {entity.key for entity in known}
    if missing:
        raise UnknownResource(f"there is no GPU {min(missing)[:64]!r}; GET /gpu/metrics lists those there are")


async def of_gpus(context: ApiContext, asked: OfGpus, *, check: bool = True) -> Selection:
    """This will select the asked GPUs. Raises UnknownResource for one that does not exist, unless not to `check`."""
    if check:
        await known_gpus(context, asked.gpu)
    return Selection(
        kind=EntityKind.GPU,
        node_ids=await node_ids(context, asked.node),
        keys=asked.gpu or None,
        after=decode_cursor(asked.cursor, "after"),
    )


async def check_gpus(context: ApiContext, asked: OfGpus, found: Sequence[Entity]) -> None:
    """This will do of_gpus' check when some of the asked GPUs are not among those found: another node may have them."""
    if set(asked.gpu) - {entity.key for entity in found}:
        await known_gpus(context, asked.gpu)


async def server_ids(context: ApiContext, names: Sequence[str]) -> list[int] | None:
    """This will give the ids of the servers with those ids or URLs; None when none is named.

    An id is one server. A URL may be several: a loopback address says the same on every node.
    Raises UnknownResource.
    """
    if not names:
        return None
    wanted = {name: int(name) for name in names if name.isdecimal() and len(name) <= LONGEST_ID}
    urls = [name for name in names if name not in wanted]
    engine, kind = context.database.engine, EntityKind.INFERENCE_SERVER
    by_id = await select_entities(engine, Selection(kind=kind, entity_ids=list(wanted.values())), len(wanted))
    by_url = await select_entities(engine, Selection(kind=kind, keys=urls), MOST_NAMESAKES) if urls else []
    ids, keys = {e.entity_id for e in by_id}, {e.key for e in by_url}
    for name in names:
        if (wanted[name] not in ids) if name in wanted else (name not in keys):
            raise UnknownResource(
                f"there is no inference server {name[:64]!r}; GET /inference/servers lists those there are"
            )
    return sorted(ids | {e.entity_id for e in by_url})


async def of_servers(context: ApiContext, asked: OfServers) -> Selection:
    """This will select the asked inference servers. Raises UnknownResource for one that does not exist."""
    return Selection(
        kind=EntityKind.INFERENCE_SERVER,
        node_ids=await node_ids(context, asked.node),
        entity_ids=await server_ids(context, asked.server),
        models=asked.model or None,
        namespaces=asked.namespace or None,
        pods=asked.pod or None,
        after=decode_cursor(asked.cursor, "after"),
    )
