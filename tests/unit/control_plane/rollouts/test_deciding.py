"""What each safeguard does alone: without it, one of these fails."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from control_plane.model.rollout import WHOLE, Effect, Event, Look, Observed, Plan, Rollout, State, Strategy
from control_plane.rollouts import machine
from control_plane.rollouts.deciding import Facts, Turn, decide
from control_plane.statistics.sequences import Verdict

NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
PLAN = Plan(strategy=Strategy.CANARY, shares=(500, 5000, WHOLE), replicas=2, least_seconds=60, most_seconds=600)
OBSERVED = Observed(
    share=500, candidate_ready=2, candidate_running=2, candidate_in_flight=1, stable_ready=2, stable_running=2
)
# Both sides are equally good, and the candidate gets five of a hundred.
FAIR = Look(seconds=10, candidate_good=50, candidate_bad=0, stable_good=950, stable_bad=0)
GREEDY = replace(FAIR, candidate_good=400, stable_good=600)


def rollout(state: State = State.OBSERVING, looks: tuple[Look, ...] = (FAIR,) * 10) -> Rollout:
    return Rollout(
        rollout_id="r", target="t", plan=PLAN, state=state, since=NOW - timedelta(seconds=120), share=500,
        share_seen=True, shares_asked=(0, 500), looks=looks,
    )  # fmt: skip


def turn(stands: Rollout, guard: Verdict = Verdict.PASS) -> Turn:
    return decide(stands, Facts(observed=OBSERVED, guard=guard), NOW)


def test_a_step_passes_when_nothing_is_missing() -> None:
    assert turn(rollout()).rollout.state is State.PROVISIONING


@pytest.mark.parametrize("state", sorted(machine.GUARDED))
def test_the_guard_sends_back_at_once_whatever_it_waits_for(state: State) -> None:
    found = turn(rollout(state), Verdict.FAIL)
    assert found.rollout.state is State.ROLLING_BACK
    assert found.intent is not None
    assert (found.intent.effect, found.intent.value) == (Effect.SET_SHARE, 0)
    assert Event.VIOLATION in [note.event for note in found.notes]


def test_a_guard_that_is_not_sure_keeps_a_step_from_passing() -> None:
    found = turn(rollout(), Verdict.INCONCLUSIVE).rollout
    assert (found.state, found.step) == (State.OBSERVING, 0)
    assert "not certain" in found.because


@pytest.mark.parametrize("state", sorted(machine.GUARDED))
def test_more_traffic_than_was_asked_for_sends_back_however_good_the_candidate_is(state: State) -> None:
    found = turn(rollout(state, (GREEDY,) * 10))
    assert found.rollout.state is State.ROLLING_BACK
    assert "more traffic than 5 %" in found.rollout.because


def test_less_traffic_than_was_asked_for_keeps_a_step_from_passing() -> None:
    stands = replace(rollout(looks=(replace(FAIR, candidate_good=300, stable_good=700),) * 10), step=1, share=5000)
    facts = Facts(observed=replace(OBSERVED, share=5000), guard=Verdict.PASS)
    found = decide(stands, facts, NOW).rollout
    assert found.state is State.OBSERVING
    assert "does not get the traffic" in found.because


def test_more_bad_requests_than_the_stable_version_send_back_within_what_is_allowed() -> None:
    worse = replace(FAIR, candidate_good=46, candidate_bad=4, stable_good=950)
    assert turn(rollout(looks=(worse,) * 60)).rollout.state is State.ROLLING_BACK


def test_a_candidate_that_is_gone_is_sent_back_after_ten_seconds() -> None:
    stands, gone = rollout(), Facts(observed=replace(OBSERVED, candidate_ready=0), guard=Verdict.INCONCLUSIVE)
    first = decide(stands, gone, NOW)
    assert first.rollout.state is State.OBSERVING
    later = decide(first.rollout, gone, NOW + timedelta(seconds=10))
    assert later.rollout.state is State.ROLLING_BACK


@pytest.mark.parametrize(
    "state", [State.OBSERVING, State.BAKING, State.PROVISIONING, State.WARMING, State.SHIFTING]
)  # fmt: skip
def test_in_a_freeze_nothing_moves_forward_and_the_way_back_is_open(state: State) -> None:
    frozen = Facts(observed=OBSERVED, guard=Verdict.PASS, warm=True, frozen=True)
    stands = replace(rollout(state), since=NOW - timedelta(seconds=900))
    if state is State.SHIFTING:
        stands = replace(stands, share=5000, share_seen=False, shares_asked=(0, 500, 5000), step=1)
    held = decide(stands, frozen, NOW)
    assert (held.rollout.state, held.intent) == (state, None)
    bad = decide(stands, replace(frozen, guard=Verdict.FAIL), NOW)
    assert bad.rollout.state is State.ROLLING_BACK
