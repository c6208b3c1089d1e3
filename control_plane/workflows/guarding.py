"""The guard of objectives as rollouts use it: its memory as JSON values, its words as theirs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any, assert_never

from control_plane.model.rollout import Look, Plan
from control_plane.model.slo import GuardVerdict
from control_plane.rollouts.deciding import WATCH_SECONDS
from control_plane.slo import guard
from control_plane.slo.guard import GuardPlan, GuardState, Onset, Piece, Seen
from control_plane.statistics.sequences import Verdict


class CandidateGuard:
    """Judges a candidate's requests."""

    def judge(
        self, memory: Mapping[str, object] | None, look: Look | None, plan: Plan, now: datetime
    ) -> tuple[Mapping[str, object] | None, Verdict]:
        """This will take a look into account and give what to remember, and FAIL, PASS or INCONCLUSIVE."""
        watched = GuardPlan(allowed_share=plan.allowed_bad_share, interval_seconds=WATCH_SECONDS)
        state = GuardState() if memory is None else _state(memory)
        if look is not None:
            seen = Seen(at=now, seconds=look.seconds, good=look.candidate_good, bad=look.candidate_bad)
            state = guard.watch(watched, state, seen)
        verdict = guard.judge(watched, state, now).verdict
        return _values(state), _said(verdict)


def _said(verdict: GuardVerdict) -> Verdict:
    match verdict:
        case GuardVerdict.PASS:
            return Verdict.PASS
        case GuardVerdict.VIOLATION:
            return Verdict.FAIL
        case GuardVerdict.NOT_ENOUGH_TRAFFIC:
            return Verdict.INCONCLUSIVE
        case _:
            assert_never(verdict)


def _values(state: GuardState) -> dict[str, Any]:
    return {name: _plain(value) for name, value in asdict(state).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float) and value == float("-inf"):
        return None  # nothing yet; JSON has no word for it
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return {key: _plain(entry) for key, entry in value.items()} if isinstance(value, dict) else value


def _state(memory: Mapping[str, Any]) -> GuardState:
    try:
        return GuardState(
            statistics=tuple(float("-inf") if value is None else float(value) for value in memory["statistics"]),
            onsets=tuple(Onset(**_with_times(onset, "since")) for onset in memory["onsets"]),
            recent=tuple(Piece(**_with_times(piece, "start", "end")) for piece in memory["recent"]),
            violated_since=_time(memory["violated_since"]),
            alarmed_at=_time(memory["alarmed_at"]),
            evaluated_at=_time(memory["evaluated_at"]),
        )
    except (KeyError, TypeError, ValueError):
        return GuardState()  # of another release: it begins anew, knowing nothing


def _with_times(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {**values, **{name: _time(values[name]) for name in names}}


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
