"""One turn of one rollout: look, think, store, act, in this order, and from the store alone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from control_plane.model.errors import OptiInfraError
from control_plane.model.rollout import Effect, Intent, Look, Note, Observed, Plan, Rollout, State
from control_plane.rollouts import machine
from control_plane.rollouts.actuators.base import Actuator
from control_plane.rollouts.deciding import Facts, decide
from control_plane.rollouts.freezing import FreezeWindow, is_frozen
from control_plane.runtime.clock import Clock
from control_plane.statistics.sequences import Verdict

log = logging.getLogger(__name__)

# An actuator that takes longer is taken for one that does not answer; rolling back has two seconds.
CALL_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Requests that ended, counted up by whoever serves or routes them."""

    candidate_good: float
    candidate_bad: float
    stable_good: float
    stable_bad: float


class Store(Protocol):
    """Where rollouts are kept."""

    async def commit(
        self, rollout: Rollout, version: int, notes: Sequence[Note], *, due_at: datetime | None, now: datetime
    ) -> int:
        """This will keep a rollout's next version and its notes, or nothing. Raises LeaseLost if it is not next."""
        ...

    async def remark(self, rollout_id: str, note: Note) -> None:
        """This will add a note to a rollout's history."""
        ...


class Traffic(Protocol):
    """Counts what became of requests."""

    async def totals(self, target: str) -> Totals | None:
        """This will give counts since some moment; None when they are not known."""
        ...


class Guard(Protocol):
    """Judges the candidate's requests by the objective."""

    def judge(
        self, memory: Mapping[str, object] | None, look: Look | None, plan: Plan, now: datetime
    ) -> tuple[Mapping[str, object] | None, Verdict]:
        """This will take a look into account and give what to remember, and FAIL, PASS or INCONCLUSIVE."""
        ...


class Probe(Protocol):
    """Asks a candidate for real answers before it gets traffic."""

    async def warm(self, target: str) -> bool:
        """This will say whether every replica of the candidate answers as it should."""
        ...


@dataclass(slots=True, kw_only=True)
class Runner:
    """Drives rollouts of one target. It remembers only when it looked last, and does without that as well."""

    store: Store
    actuator: Actuator
    traffic: Traffic
    guard: Guard
    probe: Probe
    clock: Clock
    freezes: Sequence[FreezeWindow] = ()
    _last: tuple[float, Totals] | None = None

    async def turn(self, rollout: Rollout, version: int) -> Rollout:
        """This will take one turn of a rollout that was claimed at `version`, and give the rollout after it.

        Raises LeaseLost when another replica has driven it meanwhile: then nothing was done here.
        """
        observed = await self._observed()
        look = await self._look(rollout.target)
        if rollout.state in machine.GUARDED and rollout.share:
            # Until the router was seen to send users there, what ended on the candidate was its warm-up.
            seen = look if rollout.share_seen else None
            memory, verdict = self.guard.judge(rollout.guard, seen, rollout.plan, self.clock.now())
        else:
            memory, verdict = None, Verdict.INCONCLUSIVE
        facts = Facts(
            observed=observed,
            look=look,
            guard=verdict,
            problems=await self._problems(rollout),
            warm=await self._warm(rollout),
            frozen=is_frozen(self.freezes, self.clock.now()),
        )
        turn = decide(replace(rollout, guard=memory), facts, self.clock.now())
        now = self.clock.now()
        due_at = now + timedelta(seconds=turn.wake_seconds)
        # Stored before anything is done, also when nothing but the hour is new: who commits is who may act.
        await self.store.commit(turn.rollout, version, turn.notes, due_at=due_at, now=now)
        if turn.intent is not None:
            await self._carry_out(turn.rollout, turn.intent, observed)
        return turn.rollout

    async def _observed(self) -> Observed | None:
        try:
            async with asyncio.timeout(CALL_SECONDS):
                return await self.actuator.observe()
        except (OptiInfraError, TimeoutError) as error:
            log.info("a rollout's target does not answer: %s", type(error).__name__)
            return None

    async def _look(self, target: str) -> Look | None:
        try:
            async with asyncio.timeout(CALL_SECONDS):
                totals = await self.traffic.totals(target)
        except (OptiInfraError, TimeoutError):
            totals = None
        if totals is None:
            return None
        now, before = self.clock.monotonic(), self._last
        self._last = (now, totals)
        if before is None:
            return None
        look = Look(
            seconds=now - before[0],
            candidate_good=totals.candidate_good - before[1].candidate_good,
            candidate_bad=totals.candidate_bad - before[1].candidate_bad,
            stable_good=totals.stable_good - before[1].stable_good,
            stable_bad=totals.stable_bad - before[1].stable_bad,
        )
        counts = (look.candidate_good, look.candidate_bad, look.stable_good, look.stable_bad)
        return look if min(counts) >= 0 else None  # a count that fell began anew: what came between is not known

    async def _problems(self, rollout: Rollout) -> tuple[str, ...] | None:
        if rollout.state is not State.PENDING:
            return None
        try:
            async with asyncio.timeout(CALL_SECONDS):
                return tuple(await self.actuator.preflight(rollout.plan))
        except (OptiInfraError, TimeoutError):
            return None

    async def _warm(self, rollout: Rollout) -> bool | None:
        if rollout.state is not State.WARMING:
            return None
        try:
            async with asyncio.timeout(rollout.plan.warm_seconds):
                return await self.probe.warm(rollout.target)
        except (OptiInfraError, TimeoutError):
            return None

    async def _carry_out(self, rollout: Rollout, intent: Intent, observed: Observed | None) -> None:
        back = intent.effect is Effect.SET_SHARE and intent.value == 0
        outcome = "done"
        try:
            async with asyncio.timeout(CALL_SECONDS):
                await self.actuator.carry_out(intent, seen=None if back else observed)
        except TimeoutError:
            outcome = f"no answer within {CALL_SECONDS:g} s"
        except OptiInfraError as error:
            outcome = f"{type(error).__name__}: {error}"
        note = Note(
            at=self.clock.now(), event=f"{intent.effect}_tried", state=rollout.state, because=outcome,
            details={"key": intent.key},
        )  # fmt: skip
        await self.store.remark(rollout.rollout_id, note)
