"""Plans: which steps a strategy takes, and which plans make no sense. Pure."""

from __future__ import annotations

import math
from dataclasses import replace

from control_plane.model.errors import InvalidRequest
from control_plane.model.rollout import WHOLE, Plan, Strategy

CANARY_SHARES = (500, 2500, 5000, WHOLE)
AB_SHARES = (5000, WHOLE)
MOST_STEPS = 20
_DAY = 86_400.0


def steps_of(strategy: Strategy) -> tuple[int, ...]:
    """This will give the steps that a strategy takes when nobody says otherwise."""
    match strategy:
        case Strategy.CANARY:
            return CANARY_SHARES
        case Strategy.AB:
            return AB_SHARES
        case Strategy.BLUE_GREEN:
            return (WHOLE,)


def checked(plan: Plan) -> Plan:
    """This will give the plan, or raise InvalidRequest and say what is wrong with it."""
    shares = plan.shares or steps_of(plan.strategy)
    plan = replace(plan, shares=shares)
    if len(shares) > MOST_STEPS or list(shares) != sorted(set(shares)) or shares[0] <= 0 or shares[-1] != WHOLE:
        raise InvalidRequest("steps are growing shares of the traffic, up to all of it: 5, 25, 50, 100 percent")
    if plan.strategy is Strategy.BLUE_GREEN and shares != (WHOLE,):
        raise InvalidRequest("blue-green moves all traffic at once; for steps choose canary")
    if plan.strategy is Strategy.AB and len(shares) != 2:
        raise InvalidRequest("an A/B test has one share, and then all")
    if not 1 <= plan.replicas <= 10_000 or not 1 <= plan.least_requests <= 10_000_000:
        raise InvalidRequest("a plan needs the replicas that all traffic needs, and requests to judge by")
    if not 0 < plan.least_seconds < plan.most_seconds <= 7 * _DAY:
        raise InvalidRequest("a step lasts some seconds at least, and more at most, up to a week")
    if not 0 < plan.ready_seconds <= _DAY or not 0 < plan.warm_seconds <= _DAY or not 0 < plan.drain_seconds <= _DAY:
        raise InvalidRequest("loading, warming and draining take up to a day each")
    if not 0 <= plan.bake_seconds <= 7 * _DAY:
        raise InvalidRequest("baking takes up to a week")
    if not 0 < plan.allowed_bad_share < 0.9 or not 0 < plan.bad_margin < 1:
        raise InvalidRequest("the share of bad requests that is allowed lies between 0 and 0.9")
    if any(share not in shares for share in plan.approve_before):
        raise InvalidRequest("only a step of the plan can be approved")
    return plan


def replicas_for(plan: Plan, share: int) -> int:
    """This will say how many replicas of the candidate a share of the traffic needs: at least one."""
    return max(1, math.ceil(plan.replicas * share / WHOLE))
