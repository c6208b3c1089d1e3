"""What samples are about: GPUs, disks, interfaces, inference servers, and the node itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, LiteralString

from sqlalchemy import Row, Select, select
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.model.entity import AnnouncedEntity, Entity, EntityKind
from control_plane.model.labels import labels_of
from control_plane.storage.schema import entity, node
from control_plane.storage.session import SyncConnection

EntityKey = tuple[int, EntityKind, str]  # node id, kind, key


_CHANGE = (
    "attributes = excluded.attributes, last_seen_at = excluded.last_seen_at, "
    "state_since = CASE WHEN old.attributes->'state' IS DISTINCT FROM excluded.attributes->'state' "
    "THEN excluded.state_since ELSE old.state_since END"
)
_CHANGE_NOTHING = "last_seen_at = old.last_seen_at"  # an update all the same, so that the id is returned


def upsert(connection: SyncConnection, announced: Sequence[AnnouncedEntity], now: datetime) -> dict[EntityKey, int]:
    """This will store the entities and give their ids. Of two with one key, the later one wins.

    What a backlog says is older than what is stored: it adds what is missing and changes nothing.
    """
    newest = {(a.node_id, a.kind, a.key): a for a in sorted(announced, key=lambda a: not a.is_old)}
    ordered = [newest[key] for key in sorted(newest)]
    ids = _write(connection, [a for a in ordered if a.is_old], now, on_conflict=_CHANGE_NOTHING)
    return ids | _write(connection, [a for a in ordered if not a.is_old], now, on_conflict=_CHANGE)


def _write(
    connection: SyncConnection, ordered: Sequence[AnnouncedEntity], now: datetime, *, on_conflict: LiteralString
) -> dict[EntityKey, int]:
    if not ordered:
        return {}
    rows = connection.execute(
        "INSERT INTO entity AS old (node_id, kind, key, attributes, first_seen_at, last_seen_at, state_since) "
        "SELECT n, k, key, a::jsonb, %(now)s, %(now)s, %(now)s "
        "FROM unnest(%(nodes)s::int[], %(kinds)s::smallint[], %(keys)s::text[], %(attributes)s::text[]) "
        "AS t(n, k, key, a) ON CONFLICT (node_id, kind, key) DO UPDATE SET "
        + on_conflict
        + " RETURNING node_id, kind, key, entity_id",
        {
            "now": now,
            "nodes": [a.node_id for a in ordered],
            "kinds": [int(a.kind) for a in ordered],
            "keys": [a.key for a in ordered],
            "attributes": [json.dumps(a.attributes) for a in ordered],
        },
    ).fetchall()
    return {(node_id, EntityKind(kind), key): entity_id for node_id, kind, key, entity_id in rows}


def every(connection: SyncConnection, kind: EntityKind, node_ids: Sequence[int] | None = None) -> list[Entity]:
    """This will give all entities of a kind, in the order of their ids; None means of any node."""
    rows = connection.execute(
        "SELECT e.entity_id, e.node_id, n.name, e.kind, e.key, e.attributes, e.first_seen_at, e.last_seen_at, "
        "e.state_since, n.attributes->'labels' FROM entity e JOIN node n USING (node_id) "
        "WHERE e.kind = %s AND n.forgotten_at IS NULL AND (%s::int[] IS NULL OR e.node_id = ANY(%s)) "
        "ORDER BY e.entity_id",
        (int(kind), node_ids, node_ids),
    ).fetchall()
    return [
        Entity(
            entity_id=entity_id, node_id=node_id, node_name=name, kind=EntityKind(kind_number), key=key,
            attributes=attributes, first_seen_at=first, last_seen_at=last, state_since=since,
            node_labels=labels_of(labels),
        )
        for entity_id, node_id, name, kind_number, key, attributes, first, last, since, labels in rows
    ]  # fmt: skip


def selection() -> Select[Any]:
    """This will give the query for entities with their node's name; add conditions to it."""
    return select(entity, node.c.name.label("node_name")).join(node, node.c.node_id == entity.c.node_id)


def from_row(row: Row[Any]) -> Entity:
    """This will make an Entity of a row of `selection`."""
    return Entity(
        entity_id=row.entity_id,
        node_id=row.node_id,
        node_name=row.node_name,
        kind=EntityKind(row.kind),
        key=row.key,
        attributes=row.attributes,
        first_seen_at=row.first_seen_at,
        last_seen_at=row.last_seen_at,
        state_since=row.state_since,
    )


async def find(
    engine: AsyncEngine,
    *,
    kind: EntityKind,
    node_ids: Sequence[int] | None = None,
    keys: Sequence[str] | None = None,
    entity_ids: Sequence[int] | None = None,
) -> list[Entity]:
    """This will give the entities of a kind, in the order of their ids; None means any."""
    query = selection().where(entity.c.kind == int(kind)).order_by(entity.c.entity_id)
    if node_ids is not None:
        query = query.where(entity.c.node_id.in_(node_ids))
    if keys is not None:
        query = query.where(entity.c.key.in_(keys))
    if entity_ids is not None:
        query = query.where(entity.c.entity_id.in_(entity_ids))
    async with engine.connect() as connection:
        return [from_row(row) for row in await connection.execute(query)]
