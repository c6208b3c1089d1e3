"""Scaling as everyone speaks of it: what is seen, what is allowed, what is decided and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingLook:
    """One look at the replicas of one service. `None` means that it is not known; it never means none."""

    at_seconds: float  # on one clock, which does not jump
    ready: int | None
    starting: int | None  # asked for, and not serving yet
    capacity_per_replica: float | None  # requests/s that one replica serves within its SLO
    demand: float | None  # requests/s that arrived since the last look; arrivals, since completions hide an overload
    over_capacity_ratio: float | None  # 0..1: share of those that arrived above what the ready replicas can serve
    expected: float | None  # requests/s when a replica that is asked for now begins to serve
    at_most: float | None  # the same, exceeded seldom; never below `expected`


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingRules:
    """What is allowed, and what is wanted."""

    minimum: int = 1
    maximum: int
    most_at_once: int = 64  # replicas that one change may add or take away
    cold_start_seconds: float  # from asking for a replica until it serves
    # Requests that may arrive above capacity, as a share of all: what an SLO of 99.95 % leaves.
    overload_budget: float = 0.0005
    # Nothing is taken away that was wanted so lately. None: one cold start. Taking a replica away and starting it again
    # costs a cold start, so keeping it for as long is at most twice as dear as knowing the future (ski rental: Karlin,
    # Manasse, Rudolph and Sleator, Algorithmica 3, 1988).
    stabilisation_seconds: float | None = None
    # Fewer replicas must still hold so much more than the demand that is planned for, or they are not taken away.
    hysteresis: float = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingMemory:
    """What a policy remembers from look to look. A new one is a safe one."""

    margin: float = 1.4  # how much of the way from `expected` to `at_most`, and beyond, is planned for
    usual_demand: float | None = None  # requests/s
    looked_at_seconds: float | None = None
    wanted: Sequence[tuple[float, int]] = field(default=())  # (when, replicas), the oldest first


class Because(StrEnum):
    """Why nothing is done."""

    UNKNOWN = "something that is needed is not known"
    ABSURD = "something that was measured cannot be"
    LIMITS_CONTRADICT = "the limits contradict each other"
    IN_FLIGHT = "a change is in flight"
    ENOUGH = "there is as much as is needed"
    STABILISING = "what is there was needed too lately to take it away"
    AT_LIMIT = "the limits leave no room"


@dataclass(frozen=True, slots=True, kw_only=True)
class NoAction:
    """Nothing is to be done, and that is a result."""

    because: Because
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleTo:
    """So many replicas are to be there, the starting ones included."""

    replicas: int
    planned_demand: float  # requests/s that they are for
    detail: str


ScalingDecision = ScaleTo | NoAction
