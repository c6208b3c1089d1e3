"""Drives workflows that are due: claims one, runs its graph until it waits or ends, and lets it be.

What a drive begins with follows from the stored state alone, so it does not matter which process it is or how the one
before ended. LangGraph knows no owner of a thread: that only one process drives it is the lock's doing.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
from datetime import datetime, timedelta
from typing import Any

from control_plane.model.errors import OptiInfraError
from control_plane.model.workflow import WorkflowState
from control_plane.runtime.clock import Clock
from control_plane.storage import workflows
from control_plane.storage.session import Database
from control_plane.storage.workflows import Claim

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
AWAY_SECONDS = 5.0  # after a failure that was not the workflow's
RETRY = timedelta(seconds=10)  # after a drive that failed
MOST_DRIVES_FAILED = 5
LOOK_FOR_HANGING_EVERY = 30  # polls


class WorkflowDriver:
    """Drives workflows until it is cancelled, one at a time."""

    def __init__(self, database: Database, clock: Clock, work: Any) -> None:
        """`work` does what the steps are about (workflows/optimise_graph.py, Work)."""
        self._database, self._clock, self._work = database, clock, work
        self._connection: Any = None
        self._graph: Any = None
        self._failed: dict[str, int] = {}
        self._polls = 0
        self.last_error: str | None = None

    async def run(self) -> None:
        """This will drive whatever is due, on and on."""
        while True:
            try:
                busy = await self.once()
                self.last_error = None
            except Exception as error:  # boundary: a database that is away comes back, and workflows are driven on
                await self.close()
                self.last_error = f"{type(error).__name__}: {error}".splitlines()[0]
                log.warning("workflows are not driven; it is tried again: %s", self.last_error)
                await asyncio.sleep(AWAY_SECONDS)
                continue
            if not busy:
                await asyncio.sleep(POLL_SECONDS)

    async def close(self) -> None:
        """This will let the connection, and with it whatever it drives, go."""
        connection, self._connection = self._connection, None
        if connection is not None and not connection.closed:
            await connection.close()

    async def once(self) -> bool:
        """This will drive the workflow that has been due for longest, and say whether there was one."""
        if self._connection is None or self._connection.closed:
            self._connection = await workflows.connect(self._database.url)
        self._polls += 1
        if self._polls % LOOK_FOR_HANGING_EVERY == 0:
            await workflows.cut_off(self._connection, self._clock.now())
        claim = await workflows.claim(self._connection, self._clock.now())
        if claim is None:
            return False
        try:
            await self._drive(claim)
        finally:
            await claim.release()
        return True

    async def _drive(self, claim: Claim) -> None:
        name, now = claim.workflow.workflow_id, self._clock.now()
        try:
            state, because, due_at, took = await self._advance(claim)
        except OptiInfraError as error:
            self._failed[name] = self._failed.get(name, 0) + 1
            if self._failed[name] < MOST_DRIVES_FAILED:
                said = f"tried again: {error}"
                await claim.settle(claim.workflow.state, said, due_at=now + RETRY, took_answer=False, now=now)
                return
            state, because, due_at, took = WorkflowState.FAILED, str(error), None, True
        self._failed.pop(name, None)
        await claim.settle(state, because, due_at=due_at, took_answer=took, now=self._clock.now())

    async def _advance(self, claim: Claim) -> tuple[WorkflowState, str, datetime | None, bool]:
        """This will run the graph until it waits or ends, and say where it stands then."""
        saver, graph = await self._compiled(claim)
        config = {"configurable": {"thread_id": claim.workflow.workflow_id}, "recursion_limit": 60}
        snapshot = await graph.aget_state(config)
        given, took = self._input(claim, snapshot)
        if given is not _NOTHING:
            module = self._module()
            drive = self._given(module, claim, saver.lock)
            await graph.ainvoke(given, config, context=drive, durability="sync")
            snapshot = await graph.aget_state(config)
        return self._standing(snapshot, took)

    def _input(self, claim: Claim, snapshot: Any) -> tuple[Any, bool]:
        """This will say what the next run begins with, and whether it takes a person's answer along."""
        pending = claim.workflow.pending
        if snapshot.created_at is None:
            return {"asked": dict(claim.workflow.asked)}, False
        if snapshot.interrupts:
            waits = snapshot.interrupts[0]
            if waits.value["kind"] == "approval":
                if pending is None:
                    return _NOTHING, False
                return self._resume({waits.id: pending}), True
            return self._resume({waits.id: pending or {"tick": True}}), pending is not None
        if snapshot.next:
            return None, False  # a process died in the middle: from the last step that was stored
        return _NOTHING, False  # it has ended, and only our own row does not know

    def _standing(self, snapshot: Any, took: bool) -> tuple[WorkflowState, str, datetime | None, bool]:
        if snapshot.interrupts:
            waits = snapshot.interrupts[0].value
            if waits["kind"] == "approval":
                said = f"somebody has to agree to recommendation {waits['recommendation_id']}"
                return WorkflowState.AWAITING_APPROVAL, said, None, took
            due = self._clock.now() + timedelta(seconds=float(waits["seconds"]))
            return WorkflowState.WATCHING, f"look {waits['look'] + 1} is due", due, took
        verdict = snapshot.values.get("verdict")
        if snapshot.next or verdict is None:
            # A step that is gone in this release leaves a thread without a next one: never let it look finished.
            return WorkflowState.FAILED, "it stands in a step that this release does not know", None, True
        return WorkflowState(verdict), str(snapshot.values.get("because", "")), None, True

    def _given(self, module: Any, claim: Claim, lock: asyncio.Lock) -> Any:
        """This will give the steps what they may do. One connection: nobody writes while the saver does."""

        async def note(step: str, detail: dict[str, Any]) -> bool:
            async with lock:
                return await claim.note(step, detail, self._clock.now())

        async def about(recommendation_id: int) -> None:
            async with lock:
                await claim.about(recommendation_id)

        return module.Drive(work=self._work, note=note, about=about)

    # -- what takes time to load ------------------------------------------------------------------------

    @staticmethod
    def _module() -> Any:
        return importlib.import_module("control_plane.workflows.optimise_graph")

    @staticmethod
    def _resume(answers: dict[str, Any]) -> Any:
        return importlib.import_module("langgraph.types").Command(resume=answers)

    async def _compiled(self, claim: Claim) -> tuple[Any, Any]:
        module = await asyncio.to_thread(self._module)
        stored = await asyncio.to_thread(importlib.import_module, "langgraph.checkpoint.postgres.aio")
        saver = stored.AsyncPostgresSaver(claim.connection)
        if self._graph is None:
            await self._set_up(claim, saver)
            self._graph = module.build()
        return saver, self._graph.compile(checkpointer=saver)

    async def _set_up(self, claim: Claim, saver: Any) -> None:
        """This will make the checkpoints' tables, once, whoever comes first."""
        while not await workflows.try_setup_lock(claim.connection):  # noqa: ASYNC110 - another process has it
            await asyncio.sleep(0.1)
        try:
            await saver.setup()
        finally:
            await workflows.release_setup_lock(claim.connection)


_NOTHING = object()
