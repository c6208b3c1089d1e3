"""What happened on nodes. A batch that is sent twice is told apart by the cursor, as its samples are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select, tuple_
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.model.event import AdmittedEvent, NodeEvent
from control_plane.storage.schema import event
from control_plane.storage.session import SyncConnection

# One statement's share, so that the hourly sweep never holds locks for long.
DELETED_AT_ONCE = 10_000


def insert(connection: SyncConnection, rows: Sequence[tuple[int, datetime, datetime, AdmittedEvent]]) -> None:
    """This will store events, each with its node's id, when it happened and when it came."""
    if not rows:
        return
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO event (node_id, taken_at, received_at, entity_kind, severity, kind, entity_key, detail) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
            [
                (node_id, at, received, e.entity_kind, e.severity, e.kind, e.entity_key, json.dumps(e.detail))
                for node_id, at, received, e in rows
            ],
        )


def drop_before(connection: SyncConnection, oldest: datetime) -> int:
    """This will delete events from before `oldest`, some at a time, and give their number. Needs autocommit mode."""
    deleted = 0
    while True:
        count = connection.execute(
            "DELETE FROM event WHERE event_id IN (SELECT event_id FROM event WHERE taken_at < %s LIMIT %s)",
            (oldest, DELETED_AT_ONCE),
        ).rowcount
        deleted += count
        if count < DELETED_AT_ONCE:
            return deleted


async def find(
    engine: AsyncEngine,
    node_id: int,
    *,
    since: datetime,
    until: datetime,
    kinds: Sequence[str],
    before: tuple[datetime, int] | None,
    limit: int,
) -> list[NodeEvent]:
    """This will give a node's events, the newest first; `before` is the time and id of the last one seen."""
    query = (
        select(event)
        .where(event.c.node_id == node_id, event.c.taken_at >= since, event.c.taken_at <= until)
        .order_by(event.c.taken_at.desc(), event.c.event_id.desc())
        .limit(limit)
    )
    if kinds:
        query = query.where(event.c.kind.in_(kinds))
    if before is not None:
        query = query.where(tuple_(event.c.taken_at, event.c.event_id) < tuple_(*before))
    async with engine.connect() as connection:
        rows = await connection.execute(query)
        return [
            NodeEvent(
                event_id=row.event_id,
                taken_at=row.taken_at,
                received_at=row.received_at,
                kind=row.kind,
                entity_kind=row.entity_kind,
                entity_key=row.entity_key,
                severity=row.severity,
                detail=row.detail,
            )
            for row in rows
        ]
