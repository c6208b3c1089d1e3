"""Rollouts in Postgres: who drives one has claimed it, and what it decided is stored before it is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, Select, and_, func, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.model.errors import Conflict, LeaseLost, UnknownResource
from control_plane.model.rollout import Command, Effect, Intent, Note, Rollout, State
from control_plane.storage.rollout_json import read, written
from control_plane.storage.schema_rollout import rollout as table
from control_plane.storage.schema_rollout import rollout_intent, rollout_note

# A replica that has claimed a turn and died is followed by another after this; a turn takes less.
CLAIM = timedelta(seconds=30)
ENDED = frozenset({State.SUCCEEDED, State.ROLLED_BACK, State.REFUSED})


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRollout:
    """A rollout with what the table knows of it."""

    rollout: Rollout
    settings: Mapping[str, Any]  # what it was started with: where, and which side is the candidate
    version: int
    started_at: datetime
    ended_at: datetime | None


class RolloutStore:
    """Rollouts in the database."""

    def __init__(self, engine: AsyncEngine) -> None:
        """Every method is one transaction."""
        self._engine = engine

    async def start(self, rollout: Rollout, settings: Mapping[str, Any]) -> None:
        """This will store a new rollout, due at once. Raises Conflict while another one of its target is under way."""
        values = {
            "rollout_id": rollout.rollout_id, "target": rollout.target, "state": str(rollout.state), "version": 1,
            "started_at": rollout.since, "ended_at": None, "due_at": rollout.since, "settings": dict(settings),
            "body": written(rollout),
        }  # fmt: skip
        try:
            async with self._engine.begin() as connection:
                await connection.execute(insert(table).values(**values))
        except IntegrityError as error:
            raise Conflict(f"a rollout of {rollout.target} is under way; end it first") from error

    async def claim_due(self, now: datetime) -> StoredRollout | None:
        """This will claim the rollout that has been due for longest; None when none is. Only its holder may commit."""
        free = select(table.c.rollout_id).where(table.c.due_at <= now).order_by(table.c.due_at).limit(1)
        claimed = (
            update(table)
            .where(table.c.rollout_id == free.with_for_update(skip_locked=True).scalar_subquery())
            .values(due_at=now + CLAIM, version=table.c.version + 1)
            .returning(table)
        )
        async with self._engine.begin() as connection:
            row = (await connection.execute(claimed)).one_or_none()
        return None if row is None else _from_row(row)

    async def commit(
        self, rollout: Rollout, version: int, notes: Sequence[Note], *, due_at: datetime | None, now: datetime
    ) -> int:
        """This will keep a rollout's next version, its intent and its notes, all or nothing.

        Raises LeaseLost when its version is another by now: another replica drives it, or somebody commanded.
        """
        over = rollout.state in ENDED
        kept = (
            update(table)
            .where(table.c.rollout_id == rollout.rollout_id, table.c.version == version)
            .values(
                body=written(rollout), state=str(rollout.state), version=version + 1, due_at=None if over else due_at,
                ended_at=now if over else None,
            )
        )  # fmt: skip
        async with self._engine.begin() as connection:
            if (await connection.execute(kept)).rowcount != 1:
                raise LeaseLost(f"rollout {rollout.rollout_id} has moved on")
            await self._keep_intent(connection, rollout)
            for note in notes:
                await connection.execute(_noted(rollout.rollout_id, note))
        return version + 1

    @staticmethod
    async def _keep_intent(connection: Any, rollout: Rollout) -> None:
        if rollout.intent is not None:
            intent = rollout.intent
            values = {
                "key": intent.key, "rollout_id": rollout.rollout_id, "effect": str(intent.effect),
                "value": intent.value, "decided_at": intent.decided_at,
            }  # fmt: skip
            await connection.execute(upsert(rollout_intent).values(**values).on_conflict_do_nothing())

    async def remark(self, rollout_id: str, note: Note) -> None:
        """This will add a note to a rollout's history."""
        async with self._engine.begin() as connection:
            await connection.execute(_noted(rollout_id, note))

    async def command(self, rollout_id: str, command: Command, *, by: str, now: datetime) -> StoredRollout:
        """This will leave a person's command for the next turn, which is due at once.

        Raises UnknownResource, or Conflict when the rollout has ended.
        """
        async with self._engine.begin() as connection:
            found = select(table).where(table.c.rollout_id == rollout_id).with_for_update()
            row = (await connection.execute(found)).one_or_none()
            if row is None:
                raise UnknownResource(f"there is no rollout {rollout_id}")
            if row.ended_at is not None:
                raise Conflict(f"rollout {rollout_id} has ended: it is {row.state}")
            changed = replace(read(row.body), command=command, commanded_by=by)
            values = {"body": written(changed), "version": row.version + 1, "due_at": now}
            stored = update(table).where(table.c.rollout_id == rollout_id).values(**values).returning(table)
            return _from_row((await connection.execute(stored)).one())

    async def get(self, rollout_id: str) -> StoredRollout:
        """This will give one rollout. Raises UnknownResource."""
        async with self._engine.connect() as connection:
            row = (await connection.execute(select(table).where(table.c.rollout_id == rollout_id))).one_or_none()
        if row is None:
            raise UnknownResource(f"there is no rollout {rollout_id}")
        return _from_row(row)

    async def active(self) -> list[StoredRollout]:
        """This will give every rollout that has not ended, the newest first."""
        return await self._listed(select(table).where(table.c.ended_at.is_(None)).order_by(table.c.started_at.desc()))

    async def history(self, *, limit: int, before: tuple[datetime, str] | None = None) -> list[StoredRollout]:
        """This will give rollouts, the newest first, from after `before` (its start and id) on."""
        asked = select(table).order_by(table.c.started_at.desc(), table.c.rollout_id).limit(limit)
        if before is not None:
            at, rollout_id = before
            same = and_(table.c.started_at == at, table.c.rollout_id > rollout_id)
            asked = asked.where(or_(table.c.started_at < at, same))
        return await self._listed(asked)

    async def _listed(self, asked: Select[Any]) -> list[StoredRollout]:
        async with self._engine.connect() as connection:
            return [_from_row(row) for row in await connection.execute(asked)]

    async def newest_note(self) -> int:
        """This will give the id of the newest note of any rollout; 0 when there is none."""
        async with self._engine.connect() as connection:
            return int(await connection.scalar(select(func.max(rollout_note.c.note_id))) or 0)

    async def notes_after(self, note_id: int, *, limit: int) -> list[tuple[int, str, Note]]:
        """This will give notes of all rollouts after that one, the oldest first: its id, its rollout, the note."""
        asked = (
            select(rollout_note).where(rollout_note.c.note_id > note_id).order_by(rollout_note.c.note_id).limit(limit)
        )
        async with self._engine.connect() as connection:
            return [(row.note_id, row.rollout_id, _note(row)) for row in await connection.execute(asked)]

    async def notes(self, rollout_id: str, *, limit: int = 1000) -> list[Note]:
        """This will give the newest notes of a rollout, the oldest of them first."""
        asked = (
            select(rollout_note)
            .where(rollout_note.c.rollout_id == rollout_id)
            .order_by(rollout_note.c.note_id.desc())
            .limit(limit)
        )
        async with self._engine.connect() as connection:
            rows = list(await connection.execute(asked))
        return [_note(row) for row in reversed(rows)]

    async def intents(self, rollout_id: str) -> list[Intent]:
        """This will give everything that a rollout ever decided to do, in order."""
        asked = (
            select(rollout_intent)
            .where(rollout_intent.c.rollout_id == rollout_id)
            .order_by(rollout_intent.c.decided_at, rollout_intent.c.key)
        )
        async with self._engine.connect() as connection:
            return [
                Intent(key=row.key, effect=Effect(row.effect), value=row.value, decided_at=row.decided_at)
                for row in await connection.execute(asked)
            ]


def _noted(rollout_id: str, note: Note) -> Any:
    return insert(rollout_note).values(
        rollout_id=rollout_id, at=note.at, event=note.event, state=str(note.state), because=note.because,
        details=dict(note.details),
    )  # fmt: skip


def _from_row(row: Row[Any]) -> StoredRollout:
    return StoredRollout(
        rollout=read(row.body), settings=row.settings, version=row.version, started_at=row.started_at,
        ended_at=row.ended_at,
    )  # fmt: skip


def _note(row: Row[Any]) -> Note:
    return Note(at=row.at, event=row.event, state=State(row.state), because=row.because, details=row.details)
