"""Who has and who uses GPUs: counts by finding, and the newest samples of the processes on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.model.entity import Entity, EntityKind
from control_plane.model.sample import Reading
from control_plane.storage.readings import Dictionaries, ReadingMaker, Selection
from control_plane.storage.schema import LATEST_TABLES, entity, node
from optiinfra.catalogue import TABLES

_TABLE = "gpu_process"
# What agents that attribute nothing leave out.
_FINDING = func.coalesce(entity.c.attributes["attribution"]["finding"].astext, "unknown")


async def count_findings(engine: AsyncEngine, selection: Selection) -> dict[str, dict[str, int]]:
    """This will count the selected GPUs by node name and finding, in the order of the nodes' names."""
    columns = (node.c.name, _FINDING.label("finding"))
    query = (
        selection.apply(
            select(*columns, func.count().label("gpus")).select_from(
                entity.join(node, node.c.node_id == entity.c.node_id)
            )
        )
        .group_by(*columns)
        .order_by(*columns)
    )
    found: dict[str, dict[str, int]] = {}
    async with engine.connect() as connection:
        for row in await connection.execute(query):
            found.setdefault(row.name, {})[row.finding] = row.gpus
    return found


async def newest_of_processes(
    engine: AsyncEngine, dictionaries: Dictionaries, gpus: Sequence[Entity], *, since: datetime, limit: int
) -> Mapping[tuple[int, str, int], Reading]:
    """This will give, by node, GPU and pid, the newest samples of processes that were taken after `since`.

    A pid comes again: of several processes with one, the one that was sampled last counts.
    """
    if not gpus:
        return {}
    source = LATEST_TABLES[_TABLE]
    gpu = entity.c.attributes["gpu"].astext
    query = (
        select(entity.c.node_id.label("on_node"), gpu.label("gpu"), entity.c.attributes["pid"].label("pid"), source)
        .join(source, source.c.entity_id == entity.c.entity_id)
        .where(
            entity.c.kind == int(EntityKind.GPU_PROCESS),
            entity.c.node_id.in_({one.node_id for one in gpus}),
            gpu.in_({one.key for one in gpus}),
            source.c.taken_at > since,
        )
        .order_by(source.c.taken_at.desc())
        .limit(limit)
    )
    async with engine.connect() as connection:
        rows = (await connection.execute(query)).all()
    await dictionaries.load({row.unknown_set_id for row in rows if row.unknown_set_id is not None}, set())
    maker = ReadingMaker(rows, TABLES[_TABLE], dictionaries)
    # Written over from the oldest to the newest.
    return {(row.on_node, row.gpu, row.pid): maker.reading(row) for row in reversed(rows)}
