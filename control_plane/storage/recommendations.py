"""Recommendations in Postgres: the same one found again is the same row, a newer word on the same thing replaces it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, case, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.model.decision import ALIVE, Kept, RecommendationState
from control_plane.model.errors import Conflict, UnknownResource
from control_plane.storage.schema_decisions import recommendation as table

# One that nobody finds again for so long is of another time.
LIFE = timedelta(days=1)
_WAITING = ("open", "approved")


def _kept(row: Row[Any]) -> Kept:
    return Kept(
        recommendation_id=row.recommendation_id, kind=row.kind, subject_kind=row.subject_kind, subject=row.subject,
        subject_id=row.subject_id, state=RecommendationState(row.state), made_at=row.made_at, found_at=row.found_at,
        expires_at=row.expires_at, decided_at=row.decided_at, decided_by=row.decided_by, reason=row.reason,
        saved_usd_per_month=row.saved_usd_per_month, gain_ratio=row.gain_ratio, body=row.body, realised=row.realised,
    )  # fmt: skip


async def keep(
    engine: AsyncEngine, *, kind: str, subject_kind: str, subject: str, subject_id: int | None, fingerprint: str,
    saved_usd_per_month: float | None, gain_ratio: float, body: dict[str, Any], now: datetime,
) -> Kept:  # fmt: skip
    """This will keep a recommendation, or note that the same one was found again, and let older words on it go."""
    values = {
        "kind": kind, "subject_kind": subject_kind, "subject": subject, "subject_id": subject_id,
        "fingerprint": fingerprint, "state": "open", "made_at": now, "found_at": now, "expires_at": now + LIFE,
        "saved_usd_per_month": saved_usd_per_month, "gain_ratio": gain_ratio, "body": body,
    }  # fmt: skip
    statement = insert(table).values(values)
    # What is under way stays as it was decided on; the moment at which it was found again is all that changes.
    fresh: dict[str, Any] = {"found_at": now, "expires_at": now + LIFE}
    fresh |= {
        name: func.coalesce(_if_open(statement.excluded[name]), table.c[name])
        for name in ("saved_usd_per_month", "gain_ratio", "body")
    }
    statement = statement.on_conflict_do_update(
        index_elements=[table.c.fingerprint], index_where=text("state IN ('open', 'approved', 'executing')"), set_=fresh
    )
    async with engine.begin() as connection:
        row = (await connection.execute(statement.returning(table))).one()
        same = [table.c.kind == kind, table.c.subject_kind == subject_kind, table.c.subject == subject]
        same.append(table.c.subject_id == subject_id if subject_id is not None else table.c.subject_id.is_(None))
        await connection.execute(
            update(table)
            .where(*same, table.c.state.in_(_WAITING), table.c.recommendation_id != row.recommendation_id)
            .values(state="superseded")
        )
    return _kept(row)


def _if_open(value: Any) -> Any:
    return case((table.c.state == "open", value))


async def expire(engine: AsyncEngine, now: datetime) -> None:
    """This will let go what nobody found again for a day."""
    async with engine.begin() as connection:
        await connection.execute(
            update(table).where(table.c.state.in_(_WAITING), table.c.expires_at <= now).values(state="expired")
        )


async def find(
    engine: AsyncEngine, *, states: Sequence[RecommendationState] = ALIVE, kinds: Sequence[str] | None = None,
    subject_ids: Sequence[int] | None = None, subjects: Sequence[str] | None = None, offset: int = 0, limit: int = 1000,
) -> list[Kept]:  # fmt: skip
    """This will give recommendations, what saves most first; then what serves most more."""
    query = select(table).where(table.c.state.in_([str(s) for s in states]))
    if kinds is not None:
        query = query.where(table.c.kind.in_(kinds))
    if subject_ids is not None or subjects is not None:
        query = query.where(or_(table.c.subject_id.in_(subject_ids or []), table.c.subject.in_(subjects or [])))
    order = (
        func.coalesce(table.c.saved_usd_per_month, 0.0).desc(), table.c.gain_ratio.desc(), table.c.recommendation_id,
    )  # fmt: skip
    async with engine.connect() as connection:
        return [_kept(row) for row in await connection.execute(query.order_by(*order).offset(offset).limit(limit))]


async def get(engine: AsyncEngine, recommendation_id: int) -> Kept:
    """This will give one. Raises UnknownResource."""
    async with engine.connect() as connection:
        row = (
            await connection.execute(select(table).where(table.c.recommendation_id == recommendation_id))
        ).one_or_none()
    if row is None:
        raise UnknownResource(
            f"there is no recommendation {recommendation_id}; GET /optimize/recommendations lists them"
        )
    return _kept(row)


async def move(
    engine: AsyncEngine, recommendation_id: int, *, before: Sequence[RecommendationState], after: RecommendationState,
    now: datetime, by: str | None = None, reason: str | None = None,
) -> Kept:  # fmt: skip
    """This will bring one from one of the states `before` to another. Raises UnknownResource, Conflict."""
    values: dict[str, Any] = {"state": str(after)}
    if by is not None:
        values |= {"decided_at": now, "decided_by": by, "reason": reason}
    statement = (
        update(table)
        .where(table.c.recommendation_id == recommendation_id, table.c.state.in_([str(s) for s in before]))
        .values(values)
        .returning(table)
    )
    async with engine.begin() as connection:
        row = (await connection.execute(statement)).one_or_none()
    if row is None:
        known = await get(engine, recommendation_id)
        raise Conflict(f"recommendation {recommendation_id} is {known.state}; it cannot become {after}")
    return _kept(row)


async def realise(engine: AsyncEngine, recommendation_id: int, came: dict[str, Any], now: datetime) -> None:
    """This will note what came of a recommendation that was carried out."""
    async with engine.begin() as connection:
        await connection.execute(
            update(table)
            .where(table.c.recommendation_id == recommendation_id, table.c.realised.is_(None))
            .values(state="executed", realised=came | {"at": now.isoformat()})
        )
