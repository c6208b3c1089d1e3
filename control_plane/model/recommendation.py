"""A change that is recommended: what exactly, what it should bring, how sure that is, and how to take it back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from control_plane.model.bottleneck import Bottleneck, Evidence


class RecommendationKind(StrEnum):
    """What is changed."""

    SCALE_UP = "scale_up"
    SCALE_DOWN = "scale_down"
    SCALE_TO_ZERO = "scale_to_zero"
    CONSOLIDATE = "consolidate"
    QUANTIZE = "quantize"
    KV_CACHE = "kv_cache"
    BATCH = "batch"
    PARALLELISM = "parallelism"
    LMCACHE = "lmcache"


class Occasion(StrEnum):
    """Why a change is worth looking at, where it is no bottleneck of one server."""

    MORE_DEMAND = "more_demand"  # than the replicas can serve by the time that another one is ready
    LESS_DEMAND = "less_demand"  # fewer replicas hold it with margin
    NO_DEMAND = "no_demand"
    SPREAD_OUT = "spread_out"  # engines on more GPUs than they need
    SMALLER_FORMAT = "smaller_format"  # the GPU multiplies numbers of fewer bits faster, and reads them faster
    BETTER_SHAPE = "better_shape"  # the same GPUs, divided otherwise, serve more
    CACHE_REUSE = "cache_reuse"  # what prompts have in common does, or does not, fit into a cache


class Risk(StrEnum):
    """How much can go wrong."""

    LOW = "low"  # the way back is as quick as the change, and answers stay as they are
    MEDIUM = "medium"
    HIGH = "high"  # answers may change, or the server may not start


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A number that is expected, and the bounds that hold it nine times in ten."""

    low: float
    expected: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """One flag of an engine's command line; `value` None: take it out; an empty one: it takes none."""

    name: str
    value: str | None
    was: str | None  # None: unknown, or not set


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What a change does under the load that was seen. Ratios are after / before; None: not said."""

    requests_ratio: Interval  # of requests that can be served in a second
    token_time_ratio: Interval  # of the time between two tokens of one request
    running: Interval | None = None  # requests that are worked on at once afterwards
    ttft_ratio: Interval | None = None
    memory_bytes: Interval | None = None  # on each GPU afterwards: weights, runtime and the cache in use
    gpus: float | None = None  # more (positive) or fewer GPUs
    usd_per_month: Interval | None = None  # spent more (positive) or less, for the same work


@dataclass(frozen=True, slots=True, kw_only=True)
class Doing:
    """What carrying a change out takes."""

    restarts: int  # of servers
    seconds: float  # until it serves as promised
    surge_gpus: int  # beside those in use, so that nothing is lost meanwhile
    usd: float | None  # of surge GPUs and of servers that start; None: no price is known


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """An engine that goes to another GPU."""

    engine: str
    source: str
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """An alternative that was looked at and not taken."""

    what: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """A change, exactly, with what it brings and costs."""

    kind: RecommendationKind
    engine: str
    flags: Sequence[Flag]
    because: Bottleneck | Occasion
    effect: Effect
    cost: str  # of doing it
    risk: str
    rollback: str
    evidence: Sequence[Evidence]
    lost: Sequence[Lost]
    version: str | None = None  # of the engine that the flags are spelt for; None: unknown
    needs: Sequence[str] = ()  # what must be there before
    replicas: int | None = None  # afterwards; None: it changes no number of replicas
    replicas_before: int | None = None
    moves: Sequence[Move] = ()
    doing: Doing | None = None
    risk_level: Risk = Risk.MEDIUM
    payback_hours: float | None = None  # until it has saved what doing it costs; None: it saves no money, or no price
