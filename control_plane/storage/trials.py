"""Test runs in Postgres: asked for here, run by whichever replica is free, and never left as if they still ran."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, and_, delete, func, insert, null, or_, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.model.errors import Conflict, LeaseLost, UnknownResource
from control_plane.model.trial import OVER, Trial, TrialKind, TrialSpec, TrialState
from control_plane.storage.schema_trial import trial as table

# Whoever runs one says so every second; one of which nobody has spoken for so long is run by nobody.
SILENT = timedelta(seconds=30)
MOST_WAITING = 100
MOST_KEPT = 10_000  # results, of some ten thousand bytes each
QUEUE_LOCK = 0x7472_6961_6C  # so that not more than MOST_WAITING can come at the same moment


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedTrial:
    """One to be run here, with the keys of its servers as they were sealed."""

    trial: Trial
    sealed_keys: Mapping[str, str]


class TrialStore:
    """Test runs in the database. Every method is one transaction."""

    def __init__(self, engine: AsyncEngine) -> None:
        """`engine` is the database's."""
        self._engine = engine

    async def add(self, trial: Trial, sealed_keys: Mapping[str, str]) -> None:
        """This will store a new one, to be run as soon as somebody is free. Raises Conflict when too many wait."""
        waiting = select(func.count()).select_from(table).where(table.c.state == TrialState.QUEUED)
        oldest = select(table.c.trial_id).where(table.c.ended_at.is_not(None)).order_by(table.c.asked_at.desc())
        async with self._engine.begin() as connection:
            await connection.execute(select(func.pg_advisory_xact_lock(QUEUE_LOCK)))
            if (await connection.scalar(waiting) or 0) >= MOST_WAITING:
                raise Conflict(f"{MOST_WAITING} test runs wait already; cancel some, or wait for them")
            values = {
                "trial_id": trial.trial_id, "kind": str(trial.spec.kind), "state": str(trial.state),
                "asked_at": trial.asked_at, "asked_by": trial.asked_by, "spec": asdict(trial.spec),
                "sealed_keys": dict(sealed_keys) or null(), "because": trial.because,
            }  # fmt: skip
            await connection.execute(insert(table).values(**values))
            await connection.execute(delete(table).where(table.c.trial_id.in_(oldest.offset(MOST_KEPT))))

    async def claim(self, owner: str, now: datetime) -> ClaimedTrial | None:
        """This will claim the one that has waited for longest; None when none does."""
        free = select(table.c.trial_id).where(table.c.state == TrialState.QUEUED).order_by(table.c.asked_at).limit(1)
        claimed = (
            update(table)
            .where(table.c.trial_id == free.with_for_update(skip_locked=True).scalar_subquery())
            .values(state=str(TrialState.RUNNING), owner=owner, started_at=now, beat_at=now, because="it runs")
            .returning(table)
        )
        async with self._engine.begin() as connection:
            row = (await connection.execute(claimed)).one_or_none()
        return None if row is None else ClaimedTrial(trial=_from_row(row), sealed_keys=row.sealed_keys or {})

    async def beat(self, trial_id: str, owner: str, progress: Mapping[str, Any] | None, now: datetime) -> bool:
        """This will say that it still runs and how far it is, and give whether somebody wants it to end.

        Raises LeaseLost when it was given up as interrupted meanwhile.
        """
        told: dict[str, Any] = {"beat_at": now} | ({} if progress is None else {"progress": dict(progress)})
        changed = _owned(trial_id, owner).values(**told).returning(table.c.cancelled_by)
        async with self._engine.begin() as connection:
            row = (await connection.execute(changed)).one_or_none()
        if row is None:
            raise LeaseLost(f"test run {trial_id} is not run here any more")
        return row.cancelled_by is not None

    async def end(
        self, trial_id: str, owner: str, state: TrialState, *, verdict: str | None, because: str,
        result: Mapping[str, Any] | None, now: datetime,
    ) -> None:  # fmt: skip
        """This will store how it ended, and forget the keys. Raises LeaseLost as `beat` does."""
        values = {
            "state": str(state), "ended_at": now, "verdict": verdict, "because": because, "sealed_keys": null(),
            "result": null() if result is None else dict(result),
        }  # fmt: skip
        async with self._engine.begin() as connection:
            if (await connection.execute(_owned(trial_id, owner).values(**values))).rowcount != 1:
                raise LeaseLost(f"test run {trial_id} is not run here any more")

    async def cancel(self, trial_id: str, *, by: str, now: datetime) -> Trial:
        """This will end one that waits, and tell whoever runs one to end it. Raises UnknownResource or Conflict."""
        async with self._engine.begin() as connection:
            found = select(table).where(table.c.trial_id == trial_id).with_for_update()
            row = (await connection.execute(found)).one_or_none()
            if row is None:
                raise UnknownResource(f"there is no test run {trial_id}")
            if TrialState(row.state) in OVER:
                raise Conflict(f"the test run is over: it is {row.state}")
            values: dict[str, Any] = {"cancelled_by": by}
            if row.state == TrialState.QUEUED:
                values |= {
                    "state": str(TrialState.CANCELLED), "ended_at": now, "because": f"{by} cancelled it before it ran",
                    "sealed_keys": null(),
                }  # fmt: skip
            stored = update(table).where(table.c.trial_id == trial_id).values(**values).returning(table)
            return _from_row((await connection.execute(stored)).one())

    async def give_up_silent(self, now: datetime) -> int:
        """This will mark as interrupted what nobody runs any more, and say how many there were."""
        lost = (
            update(table)
            .where(table.c.state == TrialState.RUNNING, table.c.beat_at < now - SILENT)
            .values(
                state=str(TrialState.INTERRUPTED), ended_at=now, sealed_keys=null(),
                because="the process that ran it ended; what it had measured is lost: ask for it again",
            )
        )  # fmt: skip
        async with self._engine.begin() as connection:
            return int((await connection.execute(lost)).rowcount)

    async def get(self, trial_id: str) -> Trial:
        """This will give one. Raises UnknownResource."""
        async with self._engine.connect() as connection:
            row = (await connection.execute(select(table).where(table.c.trial_id == trial_id))).one_or_none()
        if row is None:
            raise UnknownResource(f"there is no test run {trial_id}")
        return _from_row(row)

    async def listed(
        self,
        *,
        limit: int,
        before: tuple[datetime, str] | None = None,
        kinds: Sequence[TrialKind] = (),
        states: Sequence[TrialState] = (),
    ) -> list[Trial]:
        """This will give test runs, the newest first, without their results' figures."""
        columns = [column for column in table.c if column.name not in ("result", "sealed_keys")]
        asked = select(*columns).order_by(table.c.asked_at.desc(), table.c.trial_id).limit(limit)
        if kinds:
            asked = asked.where(table.c.kind.in_([str(kind) for kind in kinds]))
        if states:
            asked = asked.where(table.c.state.in_([str(state) for state in states]))
        if before is not None:
            at, trial_id = before
            same = and_(table.c.asked_at == at, table.c.trial_id > trial_id)
            asked = asked.where(or_(table.c.asked_at < at, same))
        async with self._engine.connect() as connection:
            return [_from_row(row) for row in await connection.execute(asked)]


def _owned(trial_id: str, owner: str) -> Any:
    return update(table).where(
        table.c.trial_id == trial_id, table.c.owner == owner, table.c.state == str(TrialState.RUNNING)
    )


def _from_row(row: Row[Any]) -> Trial:
    spec = {**row.spec, "kind": TrialKind(row.spec["kind"])}
    known = {name: value for name, value in spec.items() if name in TrialSpec.__dataclass_fields__}
    return Trial(
        trial_id=row.trial_id, spec=TrialSpec(**known), state=TrialState(row.state), asked_at=row.asked_at,
        asked_by=row.asked_by, started_at=row.started_at, ended_at=row.ended_at, progress=row.progress,
        verdict=row.verdict, because=row.because, result=row._mapping.get("result"),
    )  # fmt: skip
