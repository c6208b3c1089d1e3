"""How many replicas serve a model, how many should, and why nothing is changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from control_plane.model.forecast import Forecast


class Because(StrEnum):
    """Why a decision is to leave things as they are."""

    MISSING_DATA = "missing_data"  # not knowing is no reason to change anything
    ABSURD_DATA = "absurd_data"  # a number that cannot be
    CONTRADICTORY_LIMITS = "contradictory_limits"  # limits that nothing can satisfy
    ENOUGH = "enough"  # what is there, or starting, is what is wanted
    TOO_SOON = "too_soon"  # fewer would do, but not for long enough yet
    AT_LIMIT = "at_limit"  # more is wanted than is allowed
    NOTHING_BINDS = "nothing_binds"  # it serves what is asked
    NO_FLAG_HELPS = "no_flag_helps"  # what binds is not a setting of the engine
    NOT_WORTH_IT = "not_worth_it"  # it would bring too little, or less than doing it costs
    NOT_SUPPORTED = "not_supported"  # the engine, its release or the GPU cannot do it
    DOES_NOT_FIT = "does_not_fit"  # into the GPUs' memory
    READ_ONLY = "read_only"  # an engine that is watched and not changed
    BELOW_TRAFFIC = "below_traffic"  # too little would be left for the traffic that is there
    UNHEALTHY = "unhealthy"  # something is wrong with it for another reason
    IN_FLIGHT = "in_flight"  # another change of it is under way
    OUTSIDE_WINDOW = "outside_window"  # not now
    OVER_BUDGET = "over_budget"
    TOO_MANY_AT_ONCE = "too_many_at_once"


@dataclass(frozen=True, slots=True, kw_only=True)
class NoAction:
    """Leave it as it is, and why, in a word for programs and in a sentence for people."""

    because: Because
    explanation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleTo:
    """So many replicas, those that start included."""

    replicas: int
    was: int
    demand: float  # requests a bin that are provisioned for
    explanation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingLimits:
    """What a service's replicas can do, and within what their number may move."""

    capacity: float  # requests a bin that one replica serves within its objectives
    bin_seconds: float
    cold_start_seconds: float  # from the order to the first request served
    least: int = 1
    most: int = 10_000
    hold_seconds: float = 300.0  # fewer are wanted for so long before any is released
    tolerated_share: float = 5e-4  # of requests that may find no capacity


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingFacts:
    """What is known after a bin."""

    demand: float | None  # requests that arrived in it, those refused or waiting included; None: unknown
    ready: int | None  # replicas that serve
    starting: int  # ordered and not ready yet
    forecasts: Sequence[Forecast]  # of demand in the bins ahead, the nearest first; empty: none yet
