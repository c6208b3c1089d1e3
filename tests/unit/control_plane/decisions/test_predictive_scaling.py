"""The scaling policy holds still on what it does not know, never starves what is served, and has one change in flight."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from control_plane.decisions.policies.predictive_scaling import LEAST_MARGIN, MOST_MARGIN, decide
from control_plane.model.scaling import (
    Because,
    NoAction,
    ScaleTo,
    ScalingDecision,
    ScalingLook,
    ScalingMemory,
    ScalingRules,
)

RULES = ScalingRules(maximum=100, cold_start_seconds=300)
LOOK = ScalingLook(
    at_seconds=600, ready=10, starting=0, capacity_per_replica=2.0, demand=15.0, over_capacity_ratio=0.0,
    expected=16.0, at_most=18.0,
)  # fmt: skip
numbers = st.one_of(st.none(), st.floats(), st.floats(0, 1e4), st.integers(-1, 50).map(float))
counts = st.one_of(st.none(), st.integers(-2, 120))


def decided(look: ScalingLook, rules: ScalingRules = RULES, memory: ScalingMemory | None = None) -> ScalingDecision:
    return decide(look, rules, memory or ScalingMemory())[0]


def why(decision: ScalingDecision) -> Because:
    assert isinstance(decision, NoAction)
    return decision.because


def test_what_is_enough_stays() -> None:
    assert why(decided(LOOK)) is Because.ENOUGH  # 16 + 1.4 x 2 = 18.8 are planned for, ten serve 20


def test_more_is_asked_for_before_it_is_needed() -> None:
    decision = decided(replace(LOOK, expected=25.0, at_most=30.0))
    assert isinstance(decision, ScaleTo)
    assert decision.replicas == math.ceil((25 + 1.4 * 5) / 2)
    assert decision.planned_demand == pytest.approx(32.0)


def test_the_demand_now_counts_when_the_forecast_is_lower() -> None:
    decision = decided(replace(LOOK, demand=30.0, expected=5.0, at_most=6.0))
    assert isinstance(decision, ScaleTo)
    assert decision.replicas == 15


@pytest.mark.parametrize("field", ["ready", "starting", "demand", "capacity_per_replica"])
def test_what_is_not_known_holds_still(field: str) -> None:
    memory = ScalingMemory(margin=2.0)
    decision, after = decide(replace(LOOK, **{field: None}), RULES, memory)
    assert why(decision) is Because.UNKNOWN
    assert isinstance(decision, NoAction)
    assert field in decision.detail
    assert after == memory


@pytest.mark.parametrize(
    "wrong",
    [{"demand": math.nan}, {"demand": -1.0}, {"capacity_per_replica": 0.0}, {"capacity_per_replica": math.inf},
     {"at_most": math.nan}, {"over_capacity_ratio": 1.5}, {"ready": -1}, {"at_seconds": math.nan}],
)  # fmt: skip
def test_what_cannot_be_holds_still(wrong: dict[str, float]) -> None:
    assert why(decided(replace(LOOK, **wrong))) is Because.ABSURD


def test_without_a_forecast_nothing_goes_and_what_is_short_comes() -> None:
    blind = replace(LOOK, expected=None, at_most=None)
    assert why(decided(replace(blind, demand=1.0))) is Because.ENOUGH
    decision = decided(replace(blind, demand=30.0))
    assert isinstance(decision, ScaleTo)
    assert decision.replicas == 15


def test_one_change_is_in_flight_at_a_time() -> None:
    for demand in (1.0, 15.0, 500.0):
        assert why(decided(replace(LOOK, demand=demand, starting=1))) is Because.IN_FLIGHT


def test_what_was_wanted_lately_stays_for_a_cold_start() -> None:
    decision, memory = decide(replace(LOOK, at_seconds=0.0), RULES, ScalingMemory())
    quiet = replace(LOOK, demand=2.0, expected=2.0, at_most=2.0)
    for at in (60.0, 240.0):
        decision, memory = decide(replace(quiet, at_seconds=at), RULES, memory)
        assert why(decision) is Because.STABILISING
    decision, memory = decide(replace(quiet, at_seconds=300.0), RULES, memory)
    assert isinstance(decision, ScaleTo)
    assert decision.replicas == 2  # one would serve 2.0 and no more: hysteresis


def test_a_replica_goes_only_if_the_others_have_room_to_spare() -> None:
    tight = replace(LOOK, demand=17.9, expected=17.9, at_most=17.9)  # nine serve 18.0
    assert why(decided(tight)) is Because.ENOUGH
    decision = decided(replace(tight, demand=17.5, expected=17.5, at_most=17.5))
    assert isinstance(decision, ScaleTo)
    assert decision.replicas == 9


def test_the_limits_hold() -> None:
    rules = replace(RULES, minimum=3, maximum=12, most_at_once=2)
    high = decided(replace(LOOK, expected=90.0, at_most=90.0), rules)
    assert isinstance(high, ScaleTo)
    assert high.replicas == 12
    assert why(decided(replace(LOOK, ready=12, expected=90.0, at_most=90.0), rules)) is Because.AT_LIMIT
    low = decided(replace(LOOK, demand=0.0, expected=0.0, at_most=0.0), rules)
    assert isinstance(low, ScaleTo)
    assert low.replicas == 8


@pytest.mark.parametrize(
    "change", [{"minimum": 5, "maximum": 4}, {"minimum": -1}, {"most_at_once": 0}, {"overload_budget": 0.0}]
)
def test_limits_that_contradict_each_other_hold_still(change: dict[str, int]) -> None:
    assert why(decided(replace(LOOK, demand=0.0), replace(RULES, **change))) is Because.LIMITS_CONTRADICT


def test_above_the_maximum_today_s_traffic_is_served_before_the_limit() -> None:
    decision = decided(replace(LOOK, demand=15.0, expected=15.0, at_most=15.0), replace(RULES, maximum=4))
    assert isinstance(decision, ScaleTo)
    assert decision.replicas == 8


def test_nothing_is_kept_for_a_service_that_may_sleep() -> None:
    rules = replace(RULES, minimum=0)
    decision = decided(replace(LOOK, demand=0.0, expected=0.0, at_most=0.0), rules)
    assert isinstance(decision, ScaleTo)
    assert decision.replicas == 0


def test_overload_raises_the_margin_and_quiet_lowers_it_slowly() -> None:
    memory = ScalingMemory(looked_at_seconds=540.0, usual_demand=15.0)
    _, quiet = decide(LOOK, RULES, memory)
    _, over = decide(replace(LOOK, over_capacity_ratio=0.02), RULES, memory)
    assert quiet.margin < memory.margin < over.margin
    # In balance when exactly what is aimed at comes over capacity.
    _, even = decide(replace(LOOK, over_capacity_ratio=0.8 * RULES.overload_budget), RULES, memory)
    assert even.margin == pytest.approx(memory.margin)


def test_no_margin_is_learnt_where_a_limit_is_what_fails() -> None:
    memory = ScalingMemory(looked_at_seconds=540.0, usual_demand=15.0)
    _, after = decide(replace(LOOK, over_capacity_ratio=0.9), replace(RULES, maximum=10), memory)
    assert after.margin <= memory.margin


@settings(max_examples=300, deadline=None)
@given(
    look=st.builds(
        ScalingLook, at_seconds=st.floats(0, 1e6), ready=counts, starting=counts, capacity_per_replica=numbers,
        demand=numbers, over_capacity_ratio=numbers, expected=numbers, at_most=numbers,
    ),
    rules=st.builds(
        ScalingRules, minimum=st.integers(-1, 20), maximum=st.integers(0, 60), most_at_once=st.integers(0, 9),
        cold_start_seconds=st.floats(0, 1e4), overload_budget=st.floats(0, 1), hysteresis=st.floats(-1, 1),
    ),
    margin=st.floats(LEAST_MARGIN, MOST_MARGIN),
)  # fmt: skip
def test_whatever_is_seen_the_rails_are_never_crossed(look: ScalingLook, rules: ScalingRules, margin: float) -> None:
    decision, memory = decide(look, rules, ScalingMemory(margin=margin))
    assert LEAST_MARGIN <= memory.margin <= MOST_MARGIN
    if isinstance(decision, NoAction):
        return
    assert look.ready is not None
    assert look.demand is not None
    assert look.capacity_per_replica is not None
    there = look.ready
    assert look.starting == 0
    assert rules.minimum <= rules.maximum
    assert abs(decision.replicas - there) <= rules.most_at_once
    assert decision.replicas != there
    if decision.replicas > there:
        assert decision.replicas <= rules.maximum
    else:
        assert decision.replicas >= rules.minimum
        assert decision.replicas * look.capacity_per_replica >= look.demand * (1 - 1e-6)


class Service(RuleBasedStateMachine):
    """A service with the policy in command, whatever happens to it."""

    def __init__(self) -> None:
        super().__init__()
        self.at, self.ready, self.starting, self.demand = 0.0, 5, 0, 8.0
        self.memory = ScalingMemory()
        self.rules = replace(RULES, minimum=1, maximum=20, most_at_once=6)
        self.went_down_to: float | None = None

    @rule(demand=st.floats(0, 60), at_most=st.floats(1, 3), expected=st.floats(0, 60), known=st.booleans())
    def look(self, demand: float, at_most: float, expected: float, known: bool) -> None:
        self.at += 60
        before = self.ready + self.starting
        seen = replace(
            LOOK, at_seconds=self.at, ready=self.ready, starting=self.starting, demand=demand if known else None,
            expected=expected, at_most=expected * at_most, over_capacity_ratio=max(0.0, 1 - self.ready * 2 / max(demand, 1e-9)),
        )  # fmt: skip
        decision, self.memory = decide(seen, self.rules, self.memory)
        self.went_down_to = None
        if isinstance(decision, ScaleTo):
            assert known
            assert self.starting == 0
            assert abs(decision.replicas - before) <= 6
            if decision.replicas > before:
                self.starting = decision.replicas - before
            else:
                self.ready = decision.replicas
                self.went_down_to = demand

    @rule()
    def start(self) -> None:
        self.ready, self.starting = self.ready + self.starting, 0

    @rule(lost=st.integers(0, 3))
    def crash(self, lost: int) -> None:
        self.ready = max(0, self.ready - lost)
        self.went_down_to = None

    @invariant()
    def limits_hold(self) -> None:
        assert self.ready + self.starting <= 20
        if self.went_down_to is not None:
            assert self.ready >= 1
            assert self.ready * 2.0 >= self.went_down_to * (1 - 1e-6)
        assert len(self.memory.wanted) <= 6  # a cold start of looks


TestService = Service.TestCase
