"""Scale up, scale down, scale to zero: how many replicas a service should have, and what that costs or saves.

The number is the scaling policy's (`decisions/scaling`), played over the last minutes; here it is weighed: fewer only
if those that are left hold the load with margin, none only where something can wake it again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from control_plane.decisions.policies.facts import HOURS_A_MONTH, SECONDS_PER_HOUR
from control_plane.decisions.scaling.predictive import PredictiveScaler
from control_plane.model.bottleneck import Evidence
from control_plane.model.forecast import Forecast
from control_plane.model.recommendation import (
    Doing,
    Effect,
    Interval,
    Lost,
    Occasion,
    Recommendation,
    RecommendationKind,
    Risk,
)
from control_plane.model.scaling import Because, NoAction, ScaleTo, ScalingFacts, ScalingLimits

# Of what a replica serves at its limit: survivors may be filled up to here (Dynamo's planner tests at 0.8 of the SLO).
MARGIN = 0.8
# A service without a request for so long is idle; its cold start is minutes, and people come back after lunch.
IDLE_SECONDS = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceState:
    """All replicas of one model. None is unknown."""

    service: str
    engine: str
    version: str | None
    ready: int | None  # that serve
    starting: int
    unhealthy: int  # that are there and do not serve
    demands: Sequence[float | None]  # requests that arrived in each of the last bins, the oldest first
    forecasts: Sequence[Forecast]
    capacity: float | None  # requests a bin that one replica serves within its objectives
    capacity_spread: float  # standard deviation of its logarithm
    capacity_from: str  # how it is known, in words
    bin_seconds: float
    cold_start_seconds: float
    gpus_per_replica: int | None
    usd_per_gpu_hour: float | None
    idle_seconds: float | None  # since the last request; None: unknown
    least: int = 1
    most: int = 1000
    may_sleep: bool = False  # something (a router, a gateway) wakes it when a request comes
    in_flight: bool = False  # a change of it is under way


def scale(state: ServiceState) -> Recommendation | NoAction:
    """This will recommend another number of replicas, or say why this one is right."""
    if state.capacity is None or not math.isfinite(state.capacity) or state.capacity <= 0:
        return NoAction(
            because=Because.MISSING_DATA, explanation=f"nobody knows what one replica serves: {state.capacity_from}"
        )
    if state.in_flight:
        return NoAction(because=Because.IN_FLIGHT, explanation="a change of this service is under way")
    if not state.demands or state.ready is None:
        return NoAction(because=Because.MISSING_DATA, explanation="its demand, or its replicas, are unknown")
    if asleep := _sleep(state):
        return asleep
    decided = _decided(state)
    if isinstance(decided, NoAction):
        return decided
    if decided.replicas > decided.was:
        return _up(state, decided)
    return _down(state, decided)


def _decided(state: ServiceState) -> ScaleTo | NoAction:
    assert state.capacity is not None
    limits = ScalingLimits(
        capacity=MARGIN * state.capacity, bin_seconds=state.bin_seconds, cold_start_seconds=state.cold_start_seconds,
        least=max(state.least, 1), most=state.most,
    )  # fmt: skip
    scaler = PredictiveScaler(limits)
    decided: ScaleTo | NoAction = NoAction(because=Because.MISSING_DATA, explanation="no demand was seen")
    for place, demand in enumerate(state.demands):
        newest = place == len(state.demands) - 1
        forecasts = state.forecasts if newest else ()
        decided = scaler.decide(
            ScalingFacts(demand=demand, ready=state.ready, starting=state.starting, forecasts=forecasts)
        )
    return decided


def _up(state: ServiceState, decided: ScaleTo) -> Recommendation | NoAction:
    more = decided.replicas - decided.was
    gpus, usd = _money(state, more)
    hours = state.cold_start_seconds / SECONDS_PER_HOUR
    spent = None if usd is None else round(usd / HOURS_A_MONTH * hours, 4)
    now = _demand(state)
    short = now is not None and state.ready is not None and now > state.ready * (state.capacity or 0.0)
    return _recommendation(
        state, decided, kind=RecommendationKind.SCALE_UP, because=Occasion.MORE_DEMAND, gpus=gpus, usd=usd,
        doing=Doing(restarts=0, seconds=state.cold_start_seconds, surge_gpus=0, usd=spent),
        cost=f"{more} more replica{'s' if more > 1 else ''} for as long as the demand lasts",
        risk="it is paid for whether the demand comes or not", level=Risk.LOW,
        rollback=f"scale back to {decided.was}",
        lost=(
            Lost(what=f"stay at {decided.was}", why="requests already find too little" if short else "the bound of the "
                 "forecast does not fit into what is there"),
            Lost(what="flags that serve more", why="ask /optimize/batch, /kv-cache and /quantize: they cost no GPU, "
                 "and take a restart"),
        ),
    )  # fmt: skip


def _down(state: ServiceState, decided: ScaleTo) -> Recommendation | NoAction:
    if state.unhealthy:
        said = f"{state.unhealthy} of its replicas do not serve: nothing is released while it is not known why"
        return NoAction(because=Because.UNHEALTHY, explanation=said)
    fewer = decided.was - decided.replicas
    now, ahead = _demand(state), max((f.at_most for f in state.forecasts if math.isfinite(f.at_most)), default=0.0)
    assert state.capacity is not None and now is not None
    # What is left must hold what is there and what may come, with what is not known of a replica taken off.
    surely = state.capacity * math.exp(-state.capacity_spread)
    load = max(now, min(ahead, 1.25 * max(d for d in state.demands if d is not None)))
    left = decided.replicas
    while left < decided.was and load > MARGIN * surely * left:
        left += 1
    if left >= decided.was:
        return NoAction(
            because=Because.BELOW_TRAFFIC,
            explanation=f"{decided.replicas} would do as expected, but what one serves is not sure enough "
            f"(down to {surely:.3g} a bin): those that are left would be fuller than {MARGIN:.0%}",
        )
    decided = ScaleTo(replicas=left, was=decided.was, demand=load, explanation=decided.explanation)
    fewer = decided.was - left
    gpus, usd = _money(state, -fewer)
    return _recommendation(
        state, decided, kind=RecommendationKind.SCALE_DOWN, because=Occasion.LESS_DEMAND, gpus=gpus, usd=usd,
        doing=Doing(restarts=0, seconds=60.0, surge_gpus=0, usd=0.0),
        cost="requests of the replicas that go are drained; what their prefix caches held is computed again",
        risk="a rise within a cold start finds less room", level=Risk.LOW, rollback=f"scale back to {decided.was}",
        lost=(Lost(what=f"{left - 1} replicas", why=f"fuller than {MARGIN:.0%} of what they surely serve"),),
    )  # fmt: skip


def _sleep(state: ServiceState) -> Recommendation | None:
    """This will recommend no replica at all, where nobody asks and something wakes it."""
    expected = max((f.expected for f in state.forecasts), default=0.0)
    quiet = state.idle_seconds is not None and state.idle_seconds >= max(IDLE_SECONDS, 4 * state.cold_start_seconds)
    unseen = any(demand is None or demand > 0 for demand in state.demands)
    if not (state.may_sleep and quiet and not unseen and expected < 0.5 and state.least == 0 and state.ready):
        return None
    gpus, usd = _money(state, -state.ready)
    decided = ScaleTo(replicas=0, was=state.ready, demand=0.0, explanation="nothing was asked of it")
    return _recommendation(
        state, decided, kind=RecommendationKind.SCALE_TO_ZERO, because=Occasion.NO_DEMAND, gpus=gpus, usd=usd,
        doing=Doing(restarts=0, seconds=60.0, surge_gpus=0, usd=0.0),
        cost=f"the first request afterwards waits {state.cold_start_seconds:.0f} s", level=Risk.MEDIUM,
        risk="whatever is to wake it must keep requests meanwhile", rollback=f"scale back to {state.ready}",
        lost=(Lost(what="one replica", why="it would wait for requests that have not come for "
                   f"{(state.idle_seconds or 0.0) / SECONDS_PER_HOUR:.1f} h"),),
    )  # fmt: skip


def _demand(state: ServiceState) -> float | None:
    return state.demands[-1] if state.demands else None


def _money(state: ServiceState, replicas: int) -> tuple[float | None, float | None]:
    """This will give the GPUs and dollars a month of so many replicas more, or fewer."""
    if state.gpus_per_replica is None:
        return None, None
    gpus = float(replicas * state.gpus_per_replica)
    return gpus, None if state.usd_per_gpu_hour is None else round(gpus * state.usd_per_gpu_hour * HOURS_A_MONTH, 2)


def _recommendation(
    state: ServiceState, decided: ScaleTo, *, kind: RecommendationKind, because: Occasion, gpus: float | None,
    usd: float | None, doing: Doing, cost: str, risk: str, level: Risk, rollback: str, lost: Sequence[Lost],
) -> Recommendation:  # fmt: skip
    ratio = decided.replicas / decided.was if decided.was else 1.0
    same = Interval(low=1.0, expected=1.0, high=1.0)
    saving = usd is not None and usd < 0
    payback = round(doing.usd / (-usd / HOURS_A_MONTH), 2) if saving and usd and doing.usd is not None else None
    per_minute = 60.0 / state.bin_seconds
    now = _demand(state)
    seen = () if now is None else (
        Evidence(name="demand_per_minute", value=now * per_minute, unit="count", means="requests that come, a minute"),
    )  # fmt: skip
    return Recommendation(
        kind=kind, engine=state.engine, version=state.version, flags=(), because=because, replicas=decided.replicas,
        replicas_before=decided.was, cost=cost, risk=risk, risk_level=level, rollback=rollback, lost=tuple(lost),
        doing=doing, payback_hours=payback,
        effect=Effect(
            requests_ratio=Interval(low=ratio, expected=ratio, high=ratio), token_time_ratio=same, gpus=gpus,
            usd_per_month=None if usd is None else Interval(low=usd, expected=usd, high=usd),
        ),
        evidence=(
            *seen,
            Evidence(name="provisioned_for_per_minute", value=decided.demand * per_minute, unit="count",
                     means="requests a minute that are to find room: " + decided.explanation),
            Evidence(name="capacity_per_minute", value=(state.capacity or 0.0) * per_minute, unit="count",
                     means=f"requests a minute that one replica serves: {state.capacity_from}"),
            Evidence(name="cold_start_seconds", value=state.cold_start_seconds, unit="seconds",
                     means="from an order to the first request served"),
        ),
    )  # fmt: skip
