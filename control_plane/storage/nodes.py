"""Nodes: who has introduced itself, and how it is doing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.model.entity import EntityKind
from control_plane.model.node import CollectorState, Node, NodeStatus
from control_plane.storage.schema import (
    enrolment,
    entity,
    ingest_refusal,
    node,
    node_configuration,
    node_status,
    sample_loss,
)


def _from_row(row: Row[Any]) -> Node:
    status = None
    if row.taken_at is not None:
        status = NodeStatus(
            node_id=row.node_id,
            taken_at=row.taken_at,
            received_at=row.received_at,
            clock_offset_seconds=row.clock_offset_seconds,
            sampling_interval_seconds=row.sampling_interval_seconds,
            collectors=[CollectorState(**c) for c in row.collectors],
        )
    return Node(
        node_id=row.node_id,
        agent_id=row.agent_id,
        name=row.name,
        agent_version=row.agent_version,
        replayed=row.replayed,
        attributes=row.attributes,
        first_seen_at=row.first_seen_at,
        connected_at=row.connected_at,
        status=status,
        lost_ticks=int(row.lost_ticks or 0),
        refused_batches=int(row.refused_batches or 0),
    )


async def with_entities(
    engine: AsyncEngine, kind: EntityKind, *, node_ids: Sequence[int] | None, after: int, limit: int
) -> list[tuple[int, str]]:
    """This will give the ids and names of nodes that have, or had, entities of a kind, in the order of their ids."""
    mine = select(entity.c.entity_id).where(entity.c.node_id == node.c.node_id, entity.c.kind == int(kind))
    query = select(node.c.node_id, node.c.name).where(node.c.node_id > after, mine.exists())
    if node_ids is not None:
        query = query.where(node.c.node_id.in_(node_ids))
    async with engine.connect() as connection:
        found = await connection.execute(query.order_by(node.c.node_id).limit(limit))
        return [(node_id, name) for node_id, name in found]


async def find(
    engine: AsyncEngine,
    *,
    named: Sequence[str] | None = None,
    after: int = 0,
    limit: int = 1000,
) -> list[Node]:
    """This will give nodes in the order of their ids, from the one after `after`.

    `named` keeps those whose name, or whose id in digits, is one of these.
    """
    lost = select(func.sum(sample_loss.c.tick_count)).where(sample_loss.c.node_id == node.c.node_id)
    refused = select(func.sum(ingest_refusal.c.count)).where(ingest_refusal.c.node_id == node.c.node_id)
    query = (
        select(
            node,
            node_status.c.taken_at,
            node_status.c.received_at,
            node_status.c.clock_offset_seconds,
            node_status.c.sampling_interval_seconds,
            node_status.c.collectors,
            lost.scalar_subquery().label("lost_ticks"),
            refused.scalar_subquery().label("refused_batches"),
        )
        .outerjoin(node_status, node_status.c.node_id == node.c.node_id)
        .where(node.c.node_id > after, node.c.forgotten_at.is_(None))
        .order_by(node.c.node_id)
        .limit(limit)
    )
    if named is not None:
        ids = [int(name) for name in named if name.isdecimal() and len(name) < 10]  # fits the id's type
        query = query.where(node.c.name.in_(named) | node.c.node_id.in_(ids))
    async with engine.connect() as connection:
        return [_from_row(row) for row in await connection.execute(query)]


async def forget(engine: AsyncEngine, node_id: int, now: datetime) -> None:
    """This will take a node off every list, its agent's certificate out of force, and its configuration away."""
    forgotten = update(node).where(node.c.node_id == node_id).values(forgotten_at=now).returning(node.c.agent_id)
    async with engine.begin() as connection:
        agent_id = await connection.scalar(forgotten)
        await connection.execute(delete(enrolment).where(enrolment.c.agent_id == agent_id))
        await connection.execute(delete(node_configuration).where(node_configuration.c.node_id == node_id))


async def losses(engine: AsyncEngine, node_id: int, limit: int = 100) -> list[Mapping[str, Any]]:
    """This will give a node's newest losses: sequence range, time range, ticks, reason."""
    query = (
        select(sample_loss)
        .where(sample_loss.c.node_id == node_id)
        .order_by(sample_loss.c.recorded_at.desc())
        .limit(limit)
    )
    async with engine.connect() as connection:
        return [dict(row._mapping) for row in await connection.execute(query)]


async def refusals(engine: AsyncEngine, node_id: int) -> list[Mapping[str, Any]]:
    """This will give a node's refused batches by cause."""
    query = select(ingest_refusal).where(ingest_refusal.c.node_id == node_id).order_by(ingest_refusal.c.cause)
    async with engine.connect() as connection:
        return [dict(row._mapping) for row in await connection.execute(query)]
