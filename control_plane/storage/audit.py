"""Who changed what: a row before the change is begun, completed when it has ended.

A write whose row cannot be stored is not begun; one whose process dies leaves a row without a status.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Row, insert, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.model.access import AuditEntry, Caller, CallerKind
from control_plane.storage.schema import audit_entry
from control_plane.storage.session import SyncConnection


def _from_row(row: Row[Any]) -> AuditEntry:
    return AuditEntry(
        audit_id=row.audit_id,
        at=row.at,
        caller_kind=CallerKind(row.caller_kind),
        caller=row.caller,
        caller_name=row.caller_name,
        address=row.address,
        operation=row.operation,
        target=row.target,
        asked=row.asked,
        before=row.before,
        after=row.after,
        status=row.status,
        ended_at=row.ended_at,
    )


async def begin(
    engine: AsyncEngine,
    caller: Caller,
    *,
    at: datetime,
    address: str | None,
    operation: str,
    target: str,
    asked: Mapping[str, Any],
) -> int:
    """This will store that a write is about to be done, and give the entry's id."""
    values = {
        "at": at,
        "caller_kind": caller.kind,
        "caller": caller.subject,
        "caller_name": caller.name,
        "address": address,
        "operation": operation,
        "target": target,
        "asked": asked,
    }
    async with engine.begin() as connection:
        return int(await connection.scalar(insert(audit_entry).values(**values).returning(audit_entry.c.audit_id)) or 0)


async def end(
    engine: AsyncEngine,
    audit_id: int,
    *,
    at: datetime,
    status: int,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | None,
) -> None:
    """This will store how a write ended."""
    values = {"status": status, "ended_at": at, "before": before, "after": after}
    async with engine.begin() as connection:
        await connection.execute(update(audit_entry).where(audit_entry.c.audit_id == audit_id).values(**values))


async def find(
    engine: AsyncEngine,
    *,
    since: datetime,
    until: datetime,
    callers: list[str],
    operations: list[str],
    before: int | None,
    limit: int,
) -> list[AuditEntry]:
    """This will give entries, the newest first; `before` is the id of the last one seen."""
    query = (
        select(audit_entry)
        .where(audit_entry.c.at >= since, audit_entry.c.at <= until)
        .order_by(audit_entry.c.audit_id.desc())
        .limit(limit)
    )
    if callers:
        query = query.where(audit_entry.c.caller.in_(callers) | audit_entry.c.caller_name.in_(callers))
    if operations:
        query = query.where(audit_entry.c.operation.in_(operations))
    if before is not None:
        query = query.where(audit_entry.c.audit_id < before)
    async with engine.connect() as connection:
        return [_from_row(row) for row in await connection.execute(query)]


def drop_before(connection: SyncConnection, oldest: datetime) -> int:
    """This will delete what is older, and give how much that was."""
    return connection.execute("DELETE FROM audit_entry WHERE at < %s", (oldest,)).rowcount
