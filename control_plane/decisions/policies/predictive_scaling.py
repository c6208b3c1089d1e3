"""How many replicas there should be when one that is asked for now begins to serve.

Planned for is the higher of the demand now and the forecast at the cold-start horizon. How much of the forecast's upper
side is planned for, the margin, is no constant: it follows what it costs. Whoever plans replicas pays for those that
idle and for requests that come above capacity, and the cheapest plan accepts the latter with a fixed small chance (the
newsvendor's critical ratio: Arrow, Harris and Marschak, Econometrica 19, 1951). Which upper quantile that is depends on
how coarse replicas are and how bursty the traffic is, so the margin is tracked until the share of requests over
capacity is what the budget allows (online control of a risk: Feldman, Ringel, Bates and Romano, "Achieving Risk Control
in Online Learning Settings", TMLR 2023). Bounds hold it, and a new service starts high.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from control_plane.model.scaling import (
    Because,
    NoAction,
    ScaleTo,
    ScalingDecision,
    ScalingLook,
    ScalingMemory,
    ScalingRules,
)

# Per minute without overload the margin falls by this, and with it rises by this times the budgets used. Ten times more
# follows every burst and costs 6 % more GPU-hours on Azure's week; ten times less takes weeks to find its level.
MARGIN_RATE = 0.0005
LEAST_MARGIN, MOST_MARGIN = 0.0, 4.0  # from the expected value to four times the way to the upper bound
MOST_BUDGETS = 200.0  # one look counts as no more budgets than this: 10 % of all requests at the default budget
AIM = 0.8  # share of the budget that is aimed at, so that chance does not use more than all
USUAL_SECONDS = 6_000.0  # memory of the usual demand
MOST_REMEMBERED = 10_000  # looks; more would be a clock that stands still
MOST_REPLICAS = 10**9  # of any answer, so that an absurd capacity gives a number still
EXACT = 1e-9  # a float's rounding must not ask for one more replica


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """A look of which all that is needed is known."""

    at_seconds: float
    ready: int
    starting: int
    capacity: float
    demand: float
    over: float | None
    forecast: tuple[float, float] | None  # expected, at most

    @property
    def there(self) -> int:
        return self.ready + self.starting

    def replicas(self, demand: float) -> int:
        """This will give how many replicas serve a demand."""
        return math.ceil(min(demand / self.capacity, MOST_REPLICAS) - EXACT) if demand > 0 else 0


def decide(look: ScalingLook, rules: ScalingRules, memory: ScalingMemory) -> tuple[ScalingDecision, ScalingMemory]:
    """This will decide from one look, and give what to remember for the next one. Missing data holds still."""
    if not 0 <= rules.minimum <= rules.maximum or rules.most_at_once < 1 or not rules.overload_budget > 0:
        limits = f"from {rules.minimum} to {rules.maximum} replicas, at most {rules.most_at_once} at once"
        return NoAction(because=Because.LIMITS_CONTRADICT, detail=limits), memory
    seen = _seen(look)
    if isinstance(seen, NoAction):
        return seen, memory
    memory = _learnt(seen, rules, memory)
    live = seen.replicas(seen.demand)
    if seen.forecast is None:  # nothing goes on today's demand alone
        planned, wanted, kept = seen.demand, live, max(live, seen.there)
    else:
        expected, at_most = seen.forecast
        planned = max(expected + memory.margin * max(at_most - expected, 0.0), seen.demand)
        wanted = max(live, seen.replicas(planned))
        kept = max(wanted, seen.replicas(planned * (1.0 + max(rules.hysteresis, 0.0))))
    memory = replace(memory, wanted=_remembered(seen, rules, memory, kept))
    lately = max(replicas for _, replicas in memory.wanted)
    return _chosen(seen, rules, wanted=wanted, kept=kept, lately=lately, planned=planned), memory


def _seen(look: ScalingLook) -> _Seen | NoAction:
    """This will give the look, if it can be acted on."""
    values = {
        "ready": look.ready, "starting": look.starting, "demand": look.demand,
        "capacity_per_replica": look.capacity_per_replica, "over_capacity_ratio": look.over_capacity_ratio,
        "expected": look.expected, "at_most": look.at_most,
    }  # fmt: skip
    for name, value in values.items():
        if value is not None and (not math.isfinite(value) or value < 0):
            return NoAction(because=Because.ABSURD, detail=f"{name} is {value}")
    if look.capacity_per_replica == 0 or (look.over_capacity_ratio or 0) > 1 or not math.isfinite(look.at_seconds):
        return NoAction(because=Because.ABSURD, detail="no capacity, more than all over capacity, or no time")
    if look.ready is None or look.starting is None or look.demand is None or look.capacity_per_replica is None:
        unknown = [name for name in list(values)[:4] if values[name] is None]
        return NoAction(because=Because.UNKNOWN, detail=", ".join(unknown))
    return _Seen(
        at_seconds=look.at_seconds,
        ready=look.ready,
        starting=look.starting,
        capacity=look.capacity_per_replica,
        demand=look.demand,
        over=look.over_capacity_ratio,
        forecast=None if look.expected is None or look.at_most is None else (look.expected, look.at_most),
    )


def _learnt(seen: _Seen, rules: ScalingRules, memory: ScalingMemory) -> ScalingMemory:
    """This will move the margin by what came since the last look."""
    before = memory.looked_at_seconds
    passed = 0.0 if before is None else min(max(seen.at_seconds - before, 0.0), USUAL_SECONDS)
    usual = memory.usual_demand
    usual = seen.demand if usual is None else usual + passed / USUAL_SECONDS * (seen.demand - usual)
    margin = memory.margin
    if seen.over is not None and usual > 0:
        lost = seen.over * seen.demand / usual  # in requests: a busy minute's share counts for more
        used = min(lost / (AIM * rules.overload_budget), MOST_BUDGETS)
        if seen.there >= rules.maximum:
            used = min(used, 1.0)  # no margin helps against a limit
        margin += MARGIN_RATE * passed / 60.0 * (used - 1.0)
    margin = min(max(margin, LEAST_MARGIN), MOST_MARGIN)
    return replace(memory, margin=margin, usual_demand=usual, looked_at_seconds=seen.at_seconds)


def _remembered(seen: _Seen, rules: ScalingRules, memory: ScalingMemory, kept: int) -> tuple[tuple[float, int], ...]:
    hold = rules.cold_start_seconds if rules.stabilisation_seconds is None else rules.stabilisation_seconds
    recent = [(at, replicas) for at, replicas in memory.wanted if seen.at_seconds - hold < at <= seen.at_seconds]
    return (*recent, (seen.at_seconds, kept))[-MOST_REMEMBERED:]


def _chosen(
    seen: _Seen, rules: ScalingRules, *, wanted: int, kept: int, lately: int, planned: float
) -> ScalingDecision:
    there, low, high = seen.there, rules.minimum, rules.maximum
    if seen.starting > 0:
        return NoAction(because=Because.IN_FLIGHT, detail=f"{seen.starting} of {there} replicas are starting")
    if there < max(wanted, low):
        target = min(max(wanted, low), high, there + rules.most_at_once)
        if target <= there:
            return NoAction(because=Because.AT_LIMIT, detail=f"{wanted} are wanted, {high} allowed, {there} there")
        return ScaleTo(replicas=target, planned_demand=planned, detail=f"{wanted} are wanted, {there} are there")
    # More than is allowed go at once, but today's traffic is served first.
    enough = max(min(max(kept, lately), max(high, wanted)), low)
    target = max(enough, there - rules.most_at_once)
    if target < there:
        return ScaleTo(replicas=target, planned_demand=planned, detail=f"{enough} are enough, {there} are there")
    if max(kept, low) < there:
        return NoAction(because=Because.STABILISING, detail=f"{kept} would do, {lately} were wanted lately")
    return NoAction(because=Because.ENOUGH, detail=f"{wanted} are wanted, {there} are there")
