from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from control_plane.model.errors import InvalidRequest
from control_plane.model.rollout import WHOLE, Event, Plan, State, Strategy
from control_plane.rollouts import machine, plan
from control_plane.rollouts.machine import TABLE

DOCUMENT = Path(__file__).parents[4] / "docs" / "rollouts.md"
PLAN = Plan(strategy=Strategy.CANARY, shares=(), replicas=4)


def reachable(start: State) -> set[State]:
    found, open_ones = {start}, [start]
    while open_ones:
        state = open_ones.pop()
        new = {after for (before, _), after in TABLE.items() if before is state} - found
        found |= new
        open_ones += new
    return found


def test_every_state_can_be_reached_and_only_ends_are_ends() -> None:
    assert reachable(State.PENDING) == set(State)
    assert {before for before, _ in TABLE} == set(State) - set(machine.ENDED)


def test_every_state_leads_to_an_end() -> None:
    for state in State:
        assert reachable(state) & set(machine.ENDED), state


def test_whoever_may_have_traffic_can_be_sent_back() -> None:
    for state in machine.GUARDED:
        for event in (Event.VIOLATION, Event.CANDIDATE_LOST, Event.ROLL_BACK):
            assert machine.after(state, event) is State.ROLLING_BACK


def test_the_way_back_leads_nowhere_else() -> None:
    for state in machine.BACKWARD:
        assert reachable(state) <= {*machine.BACKWARD, State.ROLLED_BACK}


def test_nothing_passes_without_being_observed() -> None:
    before_end = {before for (before, _), after in TABLE.items() if after is State.BAKING}
    assert before_end == {State.OBSERVING}
    assert {before for (before, _), after in TABLE.items() if after is State.SUCCEEDED} == {State.RETIRING}


def test_what_the_table_does_not_have_cannot_happen() -> None:
    with pytest.raises(machine.ImpossibleTransition):
        machine.after(State.SUCCEEDED, Event.ROLL_BACK)


def test_the_documents_diagram_is_the_table() -> None:
    (drawn,) = re.findall(r"```mermaid\n(.*?)\n```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert drawn == machine.diagram(), "write machine.diagram() into docs/rollouts.md"


@pytest.mark.parametrize("strategy", list(Strategy))
def test_each_strategy_has_its_steps(strategy: Strategy) -> None:
    made = plan.checked(replace(PLAN, strategy=strategy))
    assert made.shares[-1] == WHOLE


@pytest.mark.parametrize(
    "changed",
    [
        {"shares": (500, 2500)}, {"shares": (2500, 500, WHOLE)}, {"shares": (0, WHOLE)}, {"shares": (500, 500, WHOLE)},
        {"shares": (20_000,)}, {"replicas": 0}, {"least_seconds": 2000.0}, {"approve_before": (700,)},
        {"allowed_bad_share": 0.0}, {"allowed_bad_share": 1.0}, {"bake_seconds": -1.0}, {"drain_seconds": 0.0},
        {"strategy": Strategy.BLUE_GREEN, "shares": (500, WHOLE)}, {"strategy": Strategy.AB, "shares": (WHOLE,)},
        {"least_requests": 0}, {"ready_seconds": float("inf")},
    ],
)  # fmt: skip
def test_a_plan_that_makes_no_sense_is_refused(changed: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest):
        plan.checked(replace(PLAN, **changed))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("replicas", "share", "needed"), [(4, 500, 1), (4, 2500, 1), (4, 2501, 2), (4, WHOLE, 4), (1, 5000, 1)]
)
def test_a_share_needs_its_replicas(replicas: int, share: int, needed: int) -> None:
    assert plan.replicas_for(replace(PLAN, replicas=replicas), share) == needed
