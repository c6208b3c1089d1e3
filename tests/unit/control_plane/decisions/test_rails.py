"""Rails hold whatever is proposed, whatever is configured and whatever the numbers are."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from control_plane.decisions.policies.scale import ServiceState, scale
from control_plane.decisions.rails import (
    MOST_GROWTH,
    RailSettings,
    Situation,
    Window,
    most_at_once,
    refused,
    waves,
    windows_of,
)
from control_plane.model.recommendation import (
    Doing,
    Effect,
    Interval,
    Occasion,
    Recommendation,
    RecommendationKind,
)
from control_plane.model.scaling import Because, NoAction

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)  # a Monday
SAME = Interval(low=1.0, expected=1.0, high=1.0)


def change(
    kind: RecommendationKind, *, after: int | None = None, before: int | None = None, surge: int = 0
) -> Recommendation:
    usd = Interval(low=500, expected=500, high=500)
    return Recommendation(
        kind=kind, engine="vllm", flags=(), because=Occasion.LESS_DEMAND, replicas=after, replicas_before=before,
        effect=Effect(requests_ratio=SAME, token_time_ratio=SAME, usd_per_month=usd), cost="", risk="", rollback="",
        evidence=(), lost=(), doing=Doing(restarts=1, seconds=60, surge_gpus=surge, usd=1.0),
    )  # fmt: skip


SITUATION = Situation(now=NOW, demand=10.0, capacity=5.0, ready=4, starting=0, unhealthy=0, in_flight=0)
DOWN = change(RecommendationKind.SCALE_DOWN, after=3, before=4)
UP = change(RecommendationKind.SCALE_UP, after=6, before=4)
BUDGET = RailSettings(budget_usd_per_month=1000.0)


def why(found: NoAction | None) -> Because | None:
    return None if found is None else found.because


@pytest.mark.parametrize(
    ("proposed", "situation", "configured", "because"),
    [
        (DOWN, SITUATION, RailSettings(), None),
        (UP, SITUATION, RailSettings(), None),
        (change(RecommendationKind.SCALE_DOWN, after=1, before=4), SITUATION, RailSettings(), Because.BELOW_TRAFFIC),
        (change(RecommendationKind.SCALE_TO_ZERO, after=0, before=4), SITUATION, RailSettings(), Because.AT_LIMIT),
        (DOWN, replace(SITUATION, demand=None), RailSettings(), Because.MISSING_DATA),
        (DOWN, replace(SITUATION, capacity=None), RailSettings(), Because.MISSING_DATA),
        (DOWN, replace(SITUATION, demand=math.nan), RailSettings(), Because.ABSURD_DATA),
        (DOWN, replace(SITUATION, capacity=0.0), RailSettings(), Because.ABSURD_DATA),
        (DOWN, replace(SITUATION, unhealthy=1), RailSettings(), Because.UNHEALTHY),
        (UP, replace(SITUATION, unhealthy=1), RailSettings(), None),  # what is broken must not keep help away
        (DOWN, replace(SITUATION, in_flight=1), RailSettings(), Because.IN_FLIGHT),
        (DOWN, replace(SITUATION, ready=5), RailSettings(), Because.TOO_SOON),
        (DOWN, SITUATION, RailSettings(least_replicas=5, most_replicas=2), Because.CONTRADICTORY_LIMITS),
        (DOWN, SITUATION, RailSettings(most_at_once=0), Because.CONTRADICTORY_LIMITS),
        (DOWN, SITUATION, RailSettings(least_replicas=4), Because.AT_LIMIT),
        (change(RecommendationKind.SCALE_UP, after=40, before=4), SITUATION, RailSettings(), Because.TOO_MANY_AT_ONCE),
        (UP, replace(SITUATION, spent_usd_per_month=900.0), BUDGET, Because.OVER_BUDGET),
        (UP, SITUATION, BUDGET, Because.OVER_BUDGET),  # what is spent is unknown
        (DOWN, SITUATION, RailSettings(windows=[Window(since=time(2), until=time(5))]), Because.OUTSIDE_WINDOW),
        (UP, SITUATION, RailSettings(windows=[Window(since=time(2), until=time(5))]), None),
        (change(RecommendationKind.BATCH), replace(SITUATION, ready=2), RailSettings(), Because.BELOW_TRAFFIC),
        (change(RecommendationKind.BATCH, surge=1), replace(SITUATION, ready=2), RailSettings(), None),
    ],
)  # fmt: skip
def test_each_rail(
    proposed: Recommendation, situation: Situation, configured: RailSettings, because: Because | None
) -> None:
    assert why(refused(proposed, situation, configured)) is because


def test_a_window_may_go_over_midnight() -> None:
    window = Window(since=time(22), until=time(4), weekdays=frozenset({0}))
    assert window.holds(NOW.replace(hour=23))
    assert window.holds(NOW.replace(hour=3) + timedelta(days=1))
    assert not window.holds(NOW.replace(hour=3))
    assert not window.holds(NOW)


def test_windows_are_read_as_people_write_them() -> None:
    night, weekend = windows_of("22:00-04:00, Sat-Sun 08:00-18:00")
    assert (night.since, night.until, night.weekdays) == (time(22), time(4), frozenset(range(7)))
    assert weekend.weekdays == {5, 6}
    assert windows_of("Fri-Mon 01:00-02:00")[0].weekdays == {4, 5, 6, 0}
    assert windows_of("") == ()
    for wrong in ("night", "25:00-26:00", "Foo 01:00-02:00", "01:00-01:00", "01:00"):
        with pytest.raises(ValueError, match=r"window|hour|open"):
            windows_of(wrong)


@given(st.integers(0, 500), st.none() | st.integers(1, 50))
def test_a_wave_is_a_quarter_at_most_and_nobody_is_left_out(count: int, configured: int | None) -> None:
    found = waves([f"s{n}" for n in range(count)], RailSettings(most_at_once=configured))
    assert [name for wave in found for name in wave] == [f"s{n}" for n in range(count)]
    assert all(len(wave) <= max(count // 4, 1) for wave in found)
    assert most_at_once(count, RailSettings(most_at_once=10**6)) <= max(count // 4, 1)


class Operated(RuleBasedStateMachine):
    """A service, its traffic, broken metrics and a careless operator, with the real policy and the real rails."""

    @initialize(ready=st.integers(1, 12), demand=st.floats(0, 500))
    def begin(self, ready: int, demand: float) -> None:
        self.ready, self.unhealthy, self.in_flight = ready, 0, False
        self.capacity, self.demands = 60.0, [demand]
        self.rails = RailSettings()
        self.told: list[float | None] = [demand]
        self.changed: str | None = None

    @rule(demand=st.floats(0, 2000))
    def traffic(self, demand: float) -> None:
        self.demands.append(demand)
        self.told.append(demand)

    @rule(absurd=st.sampled_from([None, math.nan, math.inf, -1.0, 1e300]))
    def metrics_break(self, absurd: float | None) -> None:
        self.demands.append(self.demands[-1])
        self.told.append(absurd)

    @rule(broken=st.integers(0, 3))
    def replicas_break(self, broken: int) -> None:
        self.unhealthy = broken

    @rule(going=st.booleans())
    def somebody_changes_it(self, going: bool) -> None:
        self.in_flight = going

    @rule(least=st.integers(-2, 20), most=st.integers(-2, 20), budget=st.none() | st.floats(allow_nan=True),
          at_once=st.none() | st.integers(-1, 100), sleep=st.booleans())  # fmt: skip
    def configure(self, least: int, most: int, budget: float | None, at_once: int | None, sleep: bool) -> None:
        self.rails = RailSettings(
            least_replicas=least, most_replicas=most, budget_usd_per_month=budget, most_at_once=at_once, may_sleep=sleep
        )

    @rule(capacity=st.none() | st.floats(allow_nan=True) | st.floats(10, 100), idle=st.none() | st.floats(0, 1e5))
    def decide(self, capacity: float | None, idle: float | None) -> None:
        state = ServiceState(
            service="s", engine="vllm", version=None, ready=self.ready, starting=0, unhealthy=self.unhealthy,
            demands=self.told[-10:], forecasts=(), capacity=capacity, capacity_spread=0.1, capacity_from="seen",
            bin_seconds=60.0, cold_start_seconds=120.0, gpus_per_replica=1, usd_per_gpu_hour=2.0, idle_seconds=idle,
            least=self.rails.least_replicas, most=self.rails.most_replicas, may_sleep=self.rails.may_sleep,
            in_flight=self.in_flight,
        )  # fmt: skip
        found = scale(state)
        if isinstance(found, NoAction):
            assert found.explanation
            return
        demand, known = self.told[-1], capacity
        situation = Situation(
            now=NOW, demand=None if demand is None else demand / 60.0, capacity=None if known is None else known / 60.0,
            ready=self.ready, starting=0, unhealthy=self.unhealthy, in_flight=int(self.in_flight),
            spent_usd_per_month=100.0,
        )  # fmt: skip
        if refused(found, situation, self.rails) is not None:
            return
        self._may(found, demand, known)
        assert found.replicas is not None
        self.ready = found.replicas

    def _may(self, found: Recommendation, demand: float | None, capacity: float | None) -> None:
        """What no configuration and no number may have brought about."""
        after = found.replicas
        assert after is not None
        assert not self.in_flight
        assert demand is not None and math.isfinite(demand) and demand >= 0
        assert capacity is not None and math.isfinite(capacity) and capacity > 0
        assert max(self.rails.least_replicas, 0) <= after <= self.rails.most_replicas
        if after < self.ready:
            assert self.unhealthy == 0
            assert demand <= after * capacity
        else:
            assert after <= max(self.ready, 1) * MOST_GROWTH
        if after == 0:
            assert self.rails.may_sleep and demand == 0

    @invariant()
    def something_serves(self) -> None:
        assert getattr(self, "ready", 1) >= 0


TestOperated = Operated.TestCase
TestOperated.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
