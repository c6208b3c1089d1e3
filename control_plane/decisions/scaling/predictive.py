"""Predictive scaling: provision for the larger of the traffic that is there and the bound of what is forecast.

How far above the forecast is not a setting: it is steered by what came of it. A bin that found too little capacity
raises the margin, every bin that did not lowers it, in the proportion in which the two cancel at the tolerated share of
requests (risk control by an integral: Angelopoulos, Candès and Tibshirani, "Conformal PID Control for Time Series
Prediction", NeurIPS 2023). So it needs no knowledge of the traffic, of the size of a replica or of how good the
forecasts are.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

from control_plane.model.forecast import Forecast
from control_plane.model.scaling import Because, NoAction, ScaleTo, ScalingFacts, ScalingLimits

# Distances between the expected value and the 95 % bound; chosen on traces of three services, where it hardly matters
# because it is steered: halving or doubling it changes GPU-hours by 1 %.
FIRST_MARGIN = 1.2
LEAST_MARGIN, MOST_MARGIN = 0.3, 6.0
GAIN = 1e-4  # of the logarithm of the margin by a bin with capacity; a week of minutes halves or doubles it at most
MOST_RISE = 0.1  # by one bin, however much it lacked
UNFORECAST = 1.3  # times the traffic that is there, while there is no forecast
# More than any service has: a demand for more is a broken number.
MOST_REPLICAS = 1e7
# Times the most that ever came: no forecast is believed beyond. Bounds of a service without a record are that wide.
BEYOND_ALL = 1.25


class PredictiveScaler:
    """The scaler of one service. Tell it the facts after every bin, also when they are unknown."""

    __slots__ = ("_held", "_highest", "_limits", "_margin")

    def __init__(self, limits: ScalingLimits) -> None:
        self._limits = limits
        self._margin = FIRST_MARGIN
        self._highest = 0.0  # requests that ever came in one bin
        bins = max(math.ceil(limits.hold_seconds / limits.bin_seconds), 1) if limits.bin_seconds > 0 else 1
        self._held: deque[int] = deque(maxlen=bins)

    @property
    def margin(self) -> float:
        """This will give the margin as it is now, in distances between the expected value and its bound."""
        return self._margin

    @staticmethod
    def horizons(limits: ScalingLimits) -> tuple[int, ...]:
        """This will say for which bins ahead forecasts are wanted: to the one in which what is ordered now serves."""
        return tuple(range(1, max(math.ceil(limits.cold_start_seconds / limits.bin_seconds), 0) + 2))

    def decide(self, facts: ScalingFacts) -> ScaleTo | NoAction:
        """This will decide on the number of replicas from now on."""
        limits = self._limits
        if refusal := _refused(limits, facts):
            return refusal
        assert facts.demand is not None and facts.ready is not None
        self._learn(facts.demand, facts.ready)
        self._highest = max(self._highest, facts.demand)
        ahead = min(self._ahead(facts.demand, facts.forecasts), BEYOND_ALL * self._highest)
        demand = max(facts.demand, ahead)
        self._held.append(_replicas(demand, limits))
        serving_now = _replicas(facts.demand, limits)  # the rail: never below the traffic that is there
        wanted = max(*self._held, serving_now, limits.least) if self._held else serving_now
        allowed = min(wanted, limits.most)
        supply = facts.ready + facts.starting
        if allowed == supply:
            return _stay(wanted, allowed, self._held[-1])
        return ScaleTo(
            replicas=allowed,
            was=supply,
            demand=demand,
            explanation=f"{demand:.0f} requests a bin are expected at most, {facts.demand:.0f} came; "
            f"a replica serves {limits.capacity:g}",
        )

    def _learn(self, demand: float, ready: int) -> None:
        lacking = max(demand - ready * self._limits.capacity, 0.0) / demand if demand > 0 else 0.0
        change = GAIN * (lacking / self._limits.tolerated_share - 1.0)
        moved = self._margin * math.exp(min(change, MOST_RISE))
        self._margin = min(max(moved, LEAST_MARGIN), MOST_MARGIN)

    def _ahead(self, demand: float, forecasts: Sequence[Forecast]) -> float:
        known = [f for f in forecasts if math.isfinite(f.expected) and math.isfinite(f.at_most)]
        if not known:
            return UNFORECAST * demand
        return max(f.expected + self._margin * (f.at_most - f.expected) for f in known)


def _replicas(demand: float, limits: ScalingLimits) -> int:
    return math.ceil(demand / limits.capacity - 1e-9)


def _stay(wanted: int, allowed: int, newest: int) -> NoAction:
    if wanted > allowed:
        return NoAction(because=Because.AT_LIMIT, explanation=f"{wanted} replicas are wanted, {allowed} allowed")
    if newest < allowed:
        return NoAction(because=Because.TOO_SOON, explanation=f"{newest} replicas would do, but not for long enough")
    return NoAction(because=Because.ENOUGH, explanation=f"{allowed} replicas are what is wanted")


def _refused(limits: ScalingLimits, facts: ScalingFacts) -> NoAction | None:
    if not (limits.capacity > 0 and limits.bin_seconds > 0 and 0 <= limits.least <= limits.most):
        return NoAction(
            because=Because.CONTRADICTORY_LIMITS,
            explanation=f"at least {limits.least}, at most {limits.most} replicas of {limits.capacity:g} a bin",
        )
    if facts.demand is None or facts.ready is None:
        what = "demand" if facts.demand is None else "the number of replicas that serve"
        return NoAction(because=Because.MISSING_DATA, explanation=f"{what} is unknown")
    sane = math.isfinite(facts.demand) and 0 <= facts.demand <= MOST_REPLICAS * limits.capacity
    if not (sane and facts.ready >= 0 and facts.starting >= 0):
        return NoAction(because=Because.ABSURD_DATA, explanation=f"a demand of {facts.demand:g} cannot be")
    return None
