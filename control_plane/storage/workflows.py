"""Workflows in Postgres. One connection drives one workflow: it holds its lock, its checkpoints and its steps.

Nothing of a drive can be written without the lock, because a connection that has lost one has lost the other. A process
that dies frees it at once; one that hangs is cut off when its time is up.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row
from sqlalchemy import Row, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.model.errors import Conflict, StorageUnavailable, UnknownResource
from control_plane.model.workflow import ENDED, Step, Workflow, WorkflowState
from control_plane.storage.schema_decisions import workflow as table
from control_plane.storage.schema_decisions import workflow_step
from control_plane.storage.session import libpq_url, redacted_url

# The class of our advisory locks; the object is the workflow's id, hashed.
LOCKS = 7341
# A drive takes seconds; the longest step is a consolidation.
DRIVE = timedelta(seconds=120)
SCHEMA = "langgraph"
_SETUP_LOCK = 7342


def _workflow(row: Row[Any] | DictRow) -> Workflow:
    said: Mapping[Any, Any] = row if isinstance(row, dict) else dict(row._mapping)
    return Workflow(
        state=WorkflowState(said["state"]),
        **{name: said[name] for name in Workflow.__slots__ if name != "state"},
    )


async def start(
    engine: AsyncEngine, *, workflow_id: str, graph_version: int, asked: Mapping[str, Any],
    recommendation_id: int | None, by: str, now: datetime,
) -> Workflow:  # fmt: skip
    """This will store a workflow that is due at once. Raises Conflict while another is about the same thing."""
    values = {
        "workflow_id": workflow_id, "graph_version": graph_version, "state": "running", "because": "it was asked for",
        "started_by": by, "asked": dict(asked), "recommendation_id": recommendation_id, "started_at": now,
        "due_at": now, "drives": 0,
    }  # fmt: skip
    try:
        async with engine.begin() as connection:
            return _workflow((await connection.execute(insert(table).values(values).returning(table))).one())
    except IntegrityError as error:
        raise Conflict(f"a workflow about recommendation {recommendation_id} is under way; GET /workflows") from error


async def get(engine: AsyncEngine, workflow_id: str) -> Workflow:
    """This will give one. Raises UnknownResource."""
    async with engine.connect() as connection:
        row = (await connection.execute(select(table).where(table.c.workflow_id == workflow_id))).one_or_none()
    if row is None:
        raise UnknownResource(f"there is no workflow {workflow_id[:64]!r}; GET /workflows lists those there are")
    return _workflow(row)


async def find(
    engine: AsyncEngine, *, states: Sequence[WorkflowState] | None = None, only_executions: bool = False,
    offset: int = 0, limit: int = 1000,
) -> list[Workflow]:  # fmt: skip
    """This will give workflows, the newest first."""
    query = select(table).order_by(table.c.started_at.desc(), table.c.workflow_id).offset(offset).limit(limit)
    if states:
        query = query.where(table.c.state.in_([str(state) for state in states]))
    if only_executions:
        query = query.where(table.c.recommendation_id.is_not(None))
    async with engine.connect() as connection:
        return [_workflow(row) for row in await connection.execute(query)]


async def steps(engine: AsyncEngine, workflow_id: str) -> list[Step]:
    """This will give what a workflow did, in order."""
    query = select(workflow_step).where(workflow_step.c.workflow_id == workflow_id)
    async with engine.connect() as connection:
        rows = list(await connection.execute(query.order_by(workflow_step.c.place)))
    return [Step(step=row.step, at=row.at, detail=row.detail) for row in rows]


async def answer(
    engine: AsyncEngine, workflow_id: str, pending: Mapping[str, Any], *, only_in: Sequence[WorkflowState],
    now: datetime,
) -> Workflow:  # fmt: skip
    """This will leave a person's answer for the next drive, which is due at once. Raises UnknownResource, Conflict."""
    statement = (
        update(table)
        .where(table.c.workflow_id == workflow_id, table.c.state.in_([str(state) for state in only_in]))
        .values(pending=dict(pending), due_at=now)
        .returning(table)
    )
    async with engine.begin() as connection:
        row = (await connection.execute(statement)).one_or_none()
    if row is None:
        known = await get(engine, workflow_id)
        raise Conflict(f"workflow {workflow_id} is {known.state}: it takes no such answer now")
    return _workflow(row)


@dataclass(slots=True)
class Claim:
    """A workflow that this process drives, as long as its connection lives."""

    workflow: Workflow
    connection: AsyncConnection[DictRow]

    async def note(self, step: str, detail: Mapping[str, Any], now: datetime) -> bool:
        """This will store what was done in a step; False when that was stored before, which then stays."""
        cursor = await self.connection.execute(
            "INSERT INTO public.workflow_step (workflow_id, step, at, detail) VALUES (%s, %s, %s, %s) "
            "ON CONFLICT DO NOTHING",
            (self.workflow.workflow_id, step, now, json.dumps(detail)),
        )
        return cursor.rowcount == 1

    async def about(self, recommendation_id: int) -> None:
        """This will say which recommendation it is about. Raises Conflict while another workflow is."""
        try:
            await self.connection.execute(
                "UPDATE public.workflow SET recommendation_id = %s WHERE workflow_id = %s",
                (recommendation_id, self.workflow.workflow_id),
            )
        except psycopg.IntegrityError as error:
            raise Conflict(f"another workflow is about recommendation {recommendation_id}") from error

    async def settle(
        self, state: WorkflowState, because: str, *, due_at: datetime | None, took_answer: bool, now: datetime
    ) -> None:
        """This will store where it stands, and let it be. An answer that came meanwhile stays, and is due."""
        await self.connection.execute(
            "UPDATE public.workflow SET state = %(state)s, because = %(because)s, deadline_at = NULL, "
            "ended_at = %(ended)s, "
            "due_at = CASE WHEN %(ended)s::timestamptz IS NOT NULL THEN NULL "
            "WHEN pending IS DISTINCT FROM %(seen)s::jsonb THEN %(now)s ELSE %(due)s END, "
            "pending = CASE WHEN %(took)s AND pending IS NOT DISTINCT FROM %(seen)s::jsonb THEN NULL ELSE pending END "
            "WHERE workflow_id = %(id)s",
            {
                "state": str(state), "because": because, "ended": now if state in ENDED else None, "due": due_at,
                "took": took_answer, "now": now, "id": self.workflow.workflow_id,
                "seen": None if self.workflow.pending is None else json.dumps(self.workflow.pending),
            },
        )  # fmt: skip

    async def release(self) -> None:
        """This will let another process drive it."""
        if not self.connection.closed:
            await self.connection.execute(
                "SELECT pg_advisory_unlock(%s, hashtext(%s))", (LOCKS, self.workflow.workflow_id)
            )


async def connect(url: str) -> AsyncConnection[DictRow]:
    """This will open a connection that drives workflows. Raises StorageUnavailable."""
    try:
        return await AsyncConnection.connect(
            libpq_url(url), autocommit=True, prepare_threshold=0, row_factory=dict_row,
            options=f"-c search_path={SCHEMA} -c timezone=UTC", application_name="optiinfra workflows",
        )  # fmt: skip
    except psycopg.OperationalError as error:
        raise StorageUnavailable(f"Postgres does not answer at {redacted_url(url)}") from error


async def claim(connection: AsyncConnection[DictRow], now: datetime) -> Claim | None:
    """This will take the lock of the workflow that has been due for longest; None when none is, or all are driven."""
    due = await connection.execute(
        "SELECT workflow_id FROM public.workflow WHERE due_at <= %s ORDER BY due_at LIMIT 50", (now,)
    )
    for row in await due.fetchall():
        name = row["workflow_id"]
        took = await connection.execute("SELECT pg_try_advisory_lock(%s, hashtext(%s)) AS ok", (LOCKS, name))
        if not (await took.fetchone() or {"ok": False})["ok"]:
            continue
        # Another process may have driven it between the question and the lock.
        again = await connection.execute(
            "UPDATE public.workflow SET drives = drives + 1, deadline_at = %s WHERE workflow_id = %s AND due_at <= %s "
            "RETURNING *",
            (now + DRIVE, name, now),
        )
        found = await again.fetchone()
        if found is not None:
            return Claim(_workflow(found), connection)
        await connection.execute("SELECT pg_advisory_unlock(%s, hashtext(%s))", (LOCKS, name))
    return None


async def cut_off(connection: AsyncConnection[DictRow], now: datetime) -> int:
    """This will end the connections of processes that have driven one workflow for too long, and count them."""
    found = await connection.execute(
        "SELECT pg_terminate_backend(l.pid) FROM public.workflow w JOIN pg_locks l ON l.locktype = 'advisory' "
        "AND l.classid = %s AND l.objid::bigint = (hashtext(w.workflow_id)::bigint & 4294967295) AND l.granted "
        "AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
        "AND l.pid <> pg_backend_pid() WHERE w.deadline_at < %s",
        (LOCKS, now),
    )
    return len(await found.fetchall())


async def try_setup_lock(connection: AsyncConnection[DictRow]) -> bool:
    """This will take the right to make the graph's tables; False while another process has it.

    Never waits inside Postgres: tables are made with CREATE INDEX CONCURRENTLY, which waits for whoever waits there.
    """
    took = await connection.execute("SELECT pg_try_advisory_lock(%s) AS ok", (_SETUP_LOCK,))
    return bool((await took.fetchone() or {"ok": False})["ok"])


async def release_setup_lock(connection: AsyncConnection[DictRow]) -> None:
    """This will give it back."""
    await connection.execute("SELECT pg_advisory_unlock(%s)", (_SETUP_LOCK,))
