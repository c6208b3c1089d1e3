"""API keys: their digests, what they open, and until when."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.model.access import ApiKey, Scope
from control_plane.storage.schema import api_key

# What `last_used_at` is good for needs no finer grain, and a row that changed with every request would.
USE_IS_NOTED_EVERY = timedelta(minutes=1)


def _from_row(row: Row[Any]) -> ApiKey:
    return ApiKey(
        key_id=row.key_id,
        name=row.name,
        digest=bytes(row.digest),
        # A scope of a later release is none that this one could give.
        scopes=frozenset(Scope(name) for name in row.scopes if name in tuple(Scope)),
        created_at=row.created_at,
        created_by=row.created_by,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
    )


async def add(engine: AsyncEngine, key: ApiKey) -> None:
    """This will store a new key."""
    values = {
        "key_id": key.key_id,
        "name": key.name,
        "digest": key.digest,
        "scopes": sorted(key.scopes),
        "created_at": key.created_at,
        "created_by": key.created_by,
        "expires_at": key.expires_at,
    }
    async with engine.begin() as connection:
        await connection.execute(insert(api_key).values(**values))


async def find(engine: AsyncEngine, key_id: str) -> ApiKey | None:
    """This will give the key with that id, whatever its state."""
    async with engine.connect() as connection:
        row = (await connection.execute(select(api_key).where(api_key.c.key_id == key_id))).one_or_none()
    return None if row is None else _from_row(row)


async def every(engine: AsyncEngine, *, after: str = "", limit: int = 1000) -> list[ApiKey]:
    """This will give keys by id, from the one after `after` on."""
    query = select(api_key).where(api_key.c.key_id > after).order_by(api_key.c.key_id).limit(limit)
    async with engine.connect() as connection:
        return [_from_row(row) for row in await connection.execute(query)]


async def revoke(engine: AsyncEngine, key_id: str, now: datetime) -> ApiKey | None:
    """This will revoke a key for ever and give it; one that is revoked keeps its time. None: there is no such key."""
    statement = (
        update(api_key)
        .where(api_key.c.key_id == key_id, api_key.c.revoked_at.is_(None))
        .values(revoked_at=now)
        .returning(api_key)
    )
    async with engine.begin() as connection:
        row = (await connection.execute(statement)).one_or_none()
    return await find(engine, key_id) if row is None else _from_row(row)


async def note_use(engine: AsyncEngine, key_id: str, now: datetime) -> None:
    """This will note that a key was used, at most once a minute."""
    long_ago = or_(api_key.c.last_used_at.is_(None), api_key.c.last_used_at < now - USE_IS_NOTED_EVERY)
    statement = update(api_key).where(api_key.c.key_id == key_id, long_ago).values(last_used_at=now)
    async with engine.begin() as connection:
        await connection.execute(statement)
