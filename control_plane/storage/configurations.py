"""Nodes' configurations: what was asked of each, and what its agent answered.

One row for each node that was ever configured, changed by single statements: two that write at the same moment get two
revisions, and an answer to an older revision never covers one to a newer.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Row, and_, case, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.model.configuration import (
    FLEET_REVISION,
    ConfigurationAnswer,
    NodeConfiguration,
    StoredConfiguration,
)
from control_plane.storage.schema import node_configuration


def _read(said: Mapping[str, Any] | None) -> NodeConfiguration | None:
    """What a later release stored beside is nothing that this one could ask for."""
    if said is None:
        return None
    return NodeConfiguration(
        sampling_interval_seconds=said.get("sampling_interval_seconds"),
        scrape_targets=tuple(said.get("scrape_targets", ())),
        gpu_monitoring_enabled=said.get("gpu_monitoring_enabled"),
        discover_engines=said.get("discover_engines"),
    )


def _from_row(row: Row[Any]) -> StoredConfiguration:
    answer = None
    if row.answered_revision is not None:
        answer = ConfigurationAnswer(
            revision=row.answered_revision,
            is_applied=row.is_applied,
            detail=row.detail,
            in_force_revision=row.in_force_revision,
            in_force=_read(row.in_force),
        )
    return StoredConfiguration(
        node_id=row.node_id,
        revision=row.revision,
        desired=_read(row.desired) or NodeConfiguration(),
        changed_at=row.changed_at,
        answer=answer,
        answered_at=row.answered_at,
    )


async def write(
    engine: AsyncEngine, node_id: int, desired: NodeConfiguration, now: datetime, *, expected: int | None = None
) -> int:
    """This will store what is asked of a node and give its revision; what is asked already keeps its own.

    0: it has another revision than `expected`, and is left as it is.
    """
    new = insert(node_configuration).values(
        node_id=node_id, revision=FLEET_REVISION + 1, desired=desired.said(), changed_at=now
    )
    old = node_configuration.c
    same = and_(old.revision > FLEET_REVISION, old.desired == new.excluded.desired)
    statement = new.on_conflict_do_update(
        index_elements=[old.node_id],
        set_={
            "revision": case((same, old.revision), else_=old.revision + 1),
            "desired": new.excluded.desired,
            "changed_at": case((same, old.changed_at), else_=new.excluded.changed_at),
        },
        where=None if expected is None else old.revision == expected,
    ).returning(old.revision)
    async with engine.begin() as connection:
        return int(await connection.scalar(statement) or 0)


async def record(engine: AsyncEngine, node_id: int, answer: ConfigurationAnswer, now: datetime) -> None:
    """This will store what an agent answered, unless it answered to a newer revision before."""
    values = {
        "answered_revision": answer.revision,
        "is_applied": answer.is_applied,
        "detail": answer.detail,
        "answered_at": now,
        "in_force_revision": answer.in_force_revision,
        "in_force": None if answer.in_force is None else answer.in_force.said(),
    }
    # Of a node that nobody configured the answer is to what holds for the fleet.
    new = insert(node_configuration).values(
        node_id=node_id, revision=FLEET_REVISION, desired={}, changed_at=now, **values
    )
    old = node_configuration.c
    statement = new.on_conflict_do_update(
        index_elements=[old.node_id],
        set_=dict(values),
        where=or_(old.answered_revision.is_(None), old.answered_revision <= answer.revision),
    )
    async with engine.begin() as connection:
        await connection.execute(statement)


async def find(engine: AsyncEngine, node_id: int) -> StoredConfiguration | None:
    """This will give what is stored of a node's configuration; None when it never had one."""
    async with engine.connect() as connection:
        row = (
            await connection.execute(select(node_configuration).where(node_configuration.c.node_id == node_id))
        ).one_or_none()
    return None if row is None else _from_row(row)
