"""Scaling holds still when it does not know, never goes below the traffic that is there, and keeps its limits."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from control_plane.decisions.scaling.predictive import PredictiveScaler
from control_plane.model.forecast import Forecast, ForecastRecord
from control_plane.model.scaling import Because, NoAction, ScaleTo, ScalingFacts, ScalingLimits

LIMITS = ScalingLimits(capacity=100, bin_seconds=60, cold_start_seconds=300, most=50)
RECORD = ForecastRecord(forecasts=0, mean_per_bin=None, accuracy=None, bias=None, coverage=None, skill=None)


def forecast(expected: float, at_most: float, bins: int = 6) -> Forecast:
    return Forecast(horizon_seconds=60.0 * bins, expected=expected, at_most=at_most, level=0.95, record=RECORD)


def facts(demand: float | None, ready: int | None = 10, starting: int = 0, *forecasts: Forecast) -> ScalingFacts:
    return ScalingFacts(demand=demand, ready=ready, starting=starting, forecasts=forecasts)


def test_it_provisions_for_the_bound_of_the_forecast_when_that_is_more_than_the_traffic() -> None:
    scaler = PredictiveScaler(LIMITS)
    scaler.decide(facts(1200, 12))
    for _ in range(5):
        decision = scaler.decide(facts(500, 5, 0, forecast(1000, 1200)))
    assert isinstance(decision, ScaleTo)
    assert 12 < decision.replicas <= 13


def test_no_forecast_is_believed_far_beyond_the_most_that_ever_came() -> None:
    decision = PredictiveScaler(LIMITS).decide(facts(500, 5, 0, forecast(1000, 5000)))
    assert isinstance(decision, ScaleTo)
    assert decision.replicas == 7


def test_it_provisions_for_the_traffic_when_the_forecast_is_less() -> None:
    decision = PredictiveScaler(LIMITS).decide(facts(2000, 5, 0, forecast(300, 400)))
    assert isinstance(decision, ScaleTo)
    assert decision.replicas == 20


@pytest.mark.parametrize("unknown", [facts(None), facts(500, None)])
def test_missing_data_holds_still(unknown: ScalingFacts) -> None:
    decision = PredictiveScaler(LIMITS).decide(unknown)
    assert isinstance(decision, NoAction)
    assert decision.because is Because.MISSING_DATA


@pytest.mark.parametrize("demand", [math.nan, math.inf, -1.0])
def test_an_absurd_demand_holds_still(demand: float) -> None:
    decision = PredictiveScaler(LIMITS).decide(facts(demand))
    assert isinstance(decision, NoAction)
    assert decision.because is Because.ABSURD_DATA


@pytest.mark.parametrize(
    "limits", [replace(LIMITS, least=5, most=3), replace(LIMITS, capacity=0), replace(LIMITS, least=-1)]
)
def test_limits_that_contradict_each_other_hold_still_rather_than_fall_to_none(limits: ScalingLimits) -> None:
    decision = PredictiveScaler(limits).decide(facts(500))
    assert isinstance(decision, NoAction)
    assert decision.because is Because.CONTRADICTORY_LIMITS


def test_what_is_starting_is_not_ordered_again() -> None:
    decision = PredictiveScaler(LIMITS).decide(facts(1000, 4, 6, forecast(900, 950)))
    assert isinstance(decision, NoAction)
    assert decision.because is Because.ENOUGH


def test_more_than_is_allowed_is_said_and_not_done() -> None:
    decision = PredictiveScaler(LIMITS).decide(facts(90_000, 50))
    assert isinstance(decision, NoAction)
    assert decision.because is Because.AT_LIMIT


def test_replicas_are_released_only_after_fewer_would_have_done_for_the_whole_hold() -> None:
    scaler = PredictiveScaler(LIMITS)
    scaler.decide(facts(1000, 10))
    decisions = [scaler.decide(facts(100, 13, 0, forecast(100, 110))) for _ in range(5)]
    assert [isinstance(decision, ScaleTo) for decision in decisions] == [False, False, False, False, True]
    early = decisions[0]
    assert isinstance(early, NoAction)
    assert early.because is Because.TOO_SOON


def test_lacking_capacity_raises_the_margin_and_having_it_lowers_it() -> None:
    scaler = PredictiveScaler(LIMITS)
    before = scaler.margin
    scaler.decide(facts(2000, 5))
    raised = scaler.margin
    scaler.decide(facts(100, 5))
    assert before < raised
    assert scaler.margin < raised


def test_the_margin_settles_where_the_tolerated_share_of_requests_finds_no_capacity() -> None:
    scaler = PredictiveScaler(replace(LIMITS, capacity=1.0, most=10**6, hold_seconds=60))
    ready, lacking, came = 1000, 0.0, 0.0
    for minute in range(60_000):
        demand = 1000.0 * (1.0 + 0.06 * math.sin(minute * 2.399) + 0.06 * math.sin(minute * 12.9898))
        if minute > 30_000:
            lacking, came = lacking + max(demand - ready, 0), came + demand
        decision = scaler.decide(facts(demand, ready, 0, forecast(1000, 1080)))
        ready = decision.replicas if isinstance(decision, ScaleTo) else ready
    assert lacking / came < 2 * LIMITS.tolerated_share


class Service(RuleBasedStateMachine):
    """A service under any demand, any forecasts and any gaps: the rails hold after every decision."""

    def __init__(self) -> None:
        super().__init__()
        self.limits = replace(LIMITS, least=2, most=40)
        self.scaler = PredictiveScaler(self.limits)
        self.ready, self.starting = 5, 0
        self.came: float | None = None

    @rule(
        demand=st.one_of(st.none(), st.floats(0, 1e5), st.just(math.nan)),
        bounds=st.lists(st.tuples(st.floats(0, 1e5), st.floats(0, 1e5)), max_size=3),
        arrived=st.booleans(),
    )
    def bin_passes(self, demand: float | None, bounds: list[tuple[float, float]], arrived: bool) -> None:
        if arrived:
            self.ready, self.starting = self.ready + self.starting, 0
        supply = self.ready + self.starting
        told = tuple(forecast(min(pair), max(pair)) for pair in bounds)
        decision = self.scaler.decide(facts(demand, self.ready, self.starting, *told))
        known = demand is not None and not math.isnan(demand)
        if isinstance(decision, ScaleTo):
            assert known
            assert decision.replicas != supply
            more = decision.replicas - supply
            if more > 0:
                self.starting += more
            else:
                dropped = min(self.starting, -more)
                self.starting -= dropped
                self.ready -= -more - dropped
        self.came = demand if known else None

    @invariant()
    def limits_hold(self) -> None:
        supply = self.ready + self.starting
        assert self.limits.least <= supply <= self.limits.most
        if self.came is not None:
            needed = min(math.ceil(self.came / self.limits.capacity - 1e-9), self.limits.most)
            assert supply >= needed

    @invariant()
    def the_margin_is_a_number(self) -> None:
        assert 0 < self.scaler.margin < 10


TestService = Service.TestCase
TestService.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@given(st.floats(1, 1e6), st.floats(0, 7200))
def test_forecasts_are_wanted_up_to_the_bin_in_which_an_order_serves(bin_seconds: float, cold_start: float) -> None:
    limits = replace(LIMITS, bin_seconds=bin_seconds, cold_start_seconds=cold_start)
    horizons = PredictiveScaler.horizons(limits)
    assert horizons[0] == 1
    assert (horizons[-1] - 1) * bin_seconds >= cold_start - 1e-6
