"""A change that is recommended: what exactly, what it should bring, how sure that is, and how to take it back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from control_plane.model.bottleneck import Bottleneck, Evidence


class RecommendationKind(StrEnum):
    """What kind of setting is changed."""

    BATCH = "batch"
    KV_CACHE = "kv_cache"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A number that is expected, and the bounds that hold it nine times in ten."""

    low: float
    expected: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """One flag of an engine's command line; `value` None: take it out."""

    name: str
    value: str | None
    was: str | None  # None: unknown, or not set


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What a change does to a server under the load that was seen. Ratios are after / before."""

    requests_ratio: Interval  # of requests served in a second
    token_time_ratio: Interval  # of the time between two tokens of one request
    running: Interval  # requests that are worked on at once afterwards


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """An alternative that was looked at and not taken."""

    what: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """A change of an engine's flags."""

    kind: RecommendationKind
    engine: str
    flags: Sequence[Flag]
    because: Bottleneck
    effect: Effect
    cost: str  # of doing it
    risk: str
    rollback: str
    evidence: Sequence[Evidence]
    lost: Sequence[Lost]
