"""An actuator that touches nothing: what would be done happens in memory, at once, and can be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import assert_never

from control_plane.model.rollout import Effect, Intent, Observed, Plan
from control_plane.rollouts.actuators.base import Refused, Stale


class DryRun:
    """A target as it would be."""

    def __init__(self, *, stable: int, most_candidates: int) -> None:
        """`stable` replicas serve, and there is room for so many of a candidate."""
        self._most = most_candidates
        self._observed = Observed(
            share=0,
            candidate_ready=0,
            candidate_running=0,
            candidate_in_flight=0,
            stable_ready=stable,
            stable_running=stable,
        )
        self.would_do: list[Intent] = []

    async def preflight(self, plan: Plan) -> Sequence[str]:
        """This will say what speaks against a plan."""
        problems = []
        if plan.replicas > self._most:
            problems.append(f"there is room for {self._most} replicas of the candidate, and {plan.replicas} are needed")
        if (self._observed.stable_ready or 0) < plan.replicas:
            problems.append(f"{self._observed.stable_ready} stable replicas are ready, and {plan.replicas} are needed")
        return problems

    async def observe(self) -> Observed:
        """This will read what would be."""
        return self._observed

    async def carry_out(self, intent: Intent, *, seen: Observed | None) -> None:
        """This will note what would be done."""
        before = self._observed
        if intent.effect is Effect.SET_SHARE and seen is not None and seen.share != before.share:
            raise Stale(f"the share is {before.share}, and was {seen.share} when this was decided")
        self._observed = self._after(intent, before)
        if self._observed != before:
            self.would_do.append(intent)

    def _after(self, intent: Intent, before: Observed) -> Observed:
        match intent.effect:
            case Effect.ENSURE_CANDIDATE:
                if intent.value > self._most:
                    raise Refused(f"there is room for {self._most} replicas of the candidate")
                count = max(intent.value, before.candidate_running or 0)
                return replace(before, candidate_running=count, candidate_ready=count)
            case Effect.SET_SHARE:
                return replace(before, share=intent.value)
            case Effect.RETIRE_STABLE:
                return replace(before, stable_running=0, stable_ready=0)
            case Effect.REMOVE_CANDIDATE:
                return replace(before, candidate_running=0, candidate_ready=0)
            case _:
                assert_never(intent.effect)
