"""Writes that may be sent again: each key of a caller is claimed once, and keeps the first answer for a day."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.storage.schema import idempotency_key
from control_plane.storage.session import SyncConnection


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstTime:
    """What was sent the first time, and what came of it."""

    fingerprint: bytes
    status: int | None  # None: it has not ended, or its process died
    media_type: str | None
    content: bytes | None  # None: it is not kept


async def claim(engine: AsyncEngine, *, caller: str, key: str, fingerprint: bytes, now: datetime) -> FirstTime | None:
    """This will claim a key, or give what was done with it before; None: it is claimed now."""
    new = insert(idempotency_key).values(caller=caller, key=key, fingerprint=fingerprint, created_at=now)
    mine = (idempotency_key.c.caller == caller) & (idempotency_key.c.key == key)
    async with engine.begin() as connection:
        claimed = new.on_conflict_do_nothing().returning(idempotency_key.c.key)
        if (await connection.execute(claimed)).one_or_none() is not None:
            return None
        row = (await connection.execute(select(idempotency_key).where(mine))).one_or_none()
    if row is None:  # it was let go of a moment ago: the caller may try again
        return FirstTime(fingerprint=fingerprint, status=None, media_type=None, content=None)
    return FirstTime(
        fingerprint=bytes(row.fingerprint),
        status=row.status,
        media_type=row.media_type,
        content=None if row.content is None else bytes(row.content),
    )


async def keep(
    engine: AsyncEngine, *, caller: str, key: str, status: int, media_type: str | None, content: bytes | None
) -> None:
    """This will keep an answer for whoever sends the same again."""
    mine = (idempotency_key.c.caller == caller) & (idempotency_key.c.key == key)
    statement = update(idempotency_key).where(mine).values(status=status, media_type=media_type, content=content)
    async with engine.begin() as connection:
        await connection.execute(statement)


async def let_go(engine: AsyncEngine, *, caller: str, key: str) -> None:
    """This will let a key be used again: nothing came of it."""
    mine = (idempotency_key.c.caller == caller) & (idempotency_key.c.key == key)
    async with engine.begin() as connection:
        await connection.execute(delete(idempotency_key).where(mine))


def drop_before(connection: SyncConnection, oldest: datetime) -> int:
    """This will forget keys that are older, and give how many those were."""
    return connection.execute("DELETE FROM idempotency_key WHERE created_at < %s", (oldest,)).rowcount
