"""Join tokens and enrolments: who may hold a certificate.

A token is spent in the transaction that stores the enrolment, under its row's lock: of two that come
with the last use at the same moment, one enrols.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import delete, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from control_plane.model.enrolment import Applicant
from control_plane.storage.schema import enrolment, join_token

# A token that has expired is of use for nothing but a look into the table; for this long.
KEPT_AFTER_EXPIRY = timedelta(days=7)


class NotEnrolled(StrEnum):
    """Why an agent was not enrolled."""

    TOKEN = "token"  # noqa: S105 - a word to compare, no secret
    OTHER_KEY = "other_key"


async def add_token(
    engine: AsyncEngine, *, digest: bytes, node_name: str | None, max_uses: int, now: datetime, expires_at: datetime
) -> None:
    """This will store a new token's digest, and drop those that expired long ago."""
    values = {"digest": digest, "node_name": node_name, "max_uses": max_uses, "uses": 0}
    async with engine.begin() as connection:
        await connection.execute(delete(join_token).where(join_token.c.expires_at < now - KEPT_AFTER_EXPIRY))
        await connection.execute(insert(join_token).values(**values, created_at=now, expires_at=expires_at))


async def enrol(
    engine: AsyncEngine, applicant: Applicant, *, digest: bytes, enrolment_id: str, now: datetime
) -> str | NotEnrolled:
    """This will spend one use of a token and give the id of the enrolment, or say why not.

    An agent that asks again with the same token and key did not get its answer: it costs no use.
    """
    async with engine.begin() as connection:
        token = (
            await connection.execute(select(join_token).where(join_token.c.digest == digest).with_for_update())
        ).one_or_none()
        if token is None or token.expires_at <= now or token.node_name not in (None, applicant.node_name):
            return NotEnrolled.TOKEN
        known = (
            await connection.execute(
                select(enrolment).where(enrolment.c.agent_id == applicant.agent_id).with_for_update()
            )
        ).one_or_none()
        same_key = known is not None and bytes(known.key_digest) == applicant.key_digest
        if known is not None and same_key and known.token_id == token.token_id:
            return str(known.enrolment_id)
        if token.uses >= token.max_uses:
            return NotEnrolled.TOKEN
        if known is not None and not same_key and token.node_name is None:
            return NotEnrolled.OTHER_KEY
        await _store(connection, applicant, token_id=token.token_id, enrolment_id=enrolment_id, now=now)
    return enrolment_id


async def _store(
    connection: AsyncConnection, applicant: Applicant, *, token_id: int, enrolment_id: str, now: datetime
) -> None:
    spent = update(join_token).where(join_token.c.token_id == token_id).values(uses=join_token.c.uses + 1)
    await connection.execute(spent)
    values = {
        "enrolment_id": enrolment_id,
        "key_digest": applicant.key_digest,
        "token_id": token_id,
        "node_name": applicant.node_name,
        "enrolled_at": now,
    }
    statement = upsert(enrolment).values(agent_id=applicant.agent_id, **values)
    await connection.execute(statement.on_conflict_do_update(index_elements=[enrolment.c.agent_id], set_=values))


async def key_in_force(engine: AsyncEngine, *, agent_id: str, enrolment_id: str) -> bytes | None:
    """This will give the digest of the key that this enrolment is for; None when it is no longer in force."""
    query = select(enrolment.c.key_digest).where(
        enrolment.c.agent_id == agent_id, enrolment.c.enrolment_id == enrolment_id
    )
    async with engine.connect() as connection:
        found = await connection.scalar(query)
    return None if found is None else bytes(found)
