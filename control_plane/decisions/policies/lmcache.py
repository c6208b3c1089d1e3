"""LMCache: how large its memory should be, from how full it is and how much of what is looked up is found."""

from __future__ import annotations

import math
from dataclasses import dataclass

from control_plane.model.bottleneck import Evidence
from control_plane.model.recommendation import (
    Doing,
    Effect,
    Flag,
    Interval,
    Lost,
    Occasion,
    Recommendation,
    RecommendationKind,
    Risk,
)
from control_plane.model.scaling import Because, NoAction

FULL, EMPTY = 0.75, 0.3  # of the memory; LMCache evicts from a watermark of 0.8 on
GROWTH = 2.0
KEPT_ROOM = 1.5  # times what is used, when a cache is made smaller
# Of the host's memory that is free now, what a cache may take at most.
MOST_OF_FREE = 0.5
ENOUGH_TOKENS = 100_000
ENOUGH_SECONDS = 3600.0  # a cache that has just begun is empty for that reason
# A hit ratio grows with the cache's size as a power of it; of LRU caches under requests whose popularity falls off as
# in Zipf's law it is between nearly nothing and proportion (Breslau et al., "Web caching and Zipf-like distributions").
EXPONENTS = (0.02, 0.2, 0.7)
GIB = 2.0**30
START_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheState:
    """One cache. None is unknown."""

    mode: str | None  # multiprocess, in_process, controller
    healthy: bool | None
    used_bytes: float | None
    capacity_bytes: float | None
    requested_tokens: float | None  # looked up since its counters began
    hit_tokens: float | None
    evicted_chunks: float | None
    counted_seconds: float | None  # since they began
    host_free_bytes: float | None


def lmcache(state: CacheState) -> Recommendation | NoAction:
    """This will recommend another size of a cache's memory, or say why this one is right."""
    if state.mode not in ("multiprocess", "in_process"):
        return NoAction(
            because=Because.NOT_SUPPORTED, explanation=f"a {state.mode or 'cache of unknown mode'} has no size"
        )
    if state.healthy is False:
        return NoAction(because=Because.UNHEALTHY, explanation="it says itself that it is not well: find that first")
    used, capacity = state.used_bytes, state.capacity_bytes
    asked, hit = state.requested_tokens, state.hit_tokens
    if used is None or not capacity or asked is None or hit is None:
        return NoAction(because=Because.MISSING_DATA, explanation="its size, its use or its lookups are not known")
    numbers = (used, capacity, asked, hit)
    if not all(math.isfinite(n) and n >= 0 for n in numbers) or hit > asked * 1.001 or used > capacity * 1.01:
        return NoAction(because=Because.ABSURD_DATA, explanation="more is used or found than there is")
    if asked < ENOUGH_TOKENS:
        return NoAction(
            because=Because.NOTHING_BINDS, explanation=f"only {asked:.0f} tokens were looked up in it so far"
        )
    share, ratio = used / capacity, hit / asked
    if share >= FULL and (state.evicted_chunks or 0.0) > 0:
        return _larger(state, capacity, ratio)
    if share < EMPTY and not state.evicted_chunks and (state.counted_seconds or 0.0) >= ENOUGH_SECONDS:
        return _smaller(state, used, capacity, ratio)
    return NoAction(
        because=Because.ENOUGH, explanation=f"{share:.0%} of it is used and {ratio:.0%} of tokens are found"
    )


def _larger(state: CacheState, capacity: float, ratio: float) -> Recommendation | NoAction:
    if state.host_free_bytes is None:
        return NoAction(because=Because.MISSING_DATA, explanation="how much memory its host has free is not known")
    wanted = min(capacity * GROWTH, capacity + MOST_OF_FREE * state.host_free_bytes)
    if wanted < 1.2 * capacity:
        said = "its host has not the memory for a larger one; a second level on disk would hold what is evicted"
        return NoAction(because=Because.DOES_NOT_FIT, explanation=said)
    growth = wanted / capacity
    low, expected, high = (min(ratio * growth**exponent, 1.0) for exponent in EXPONENTS)
    return _recommended(
        state, wanted, capacity, Interval(low=low, expected=expected, high=high), ratio,
        Lost(what="a second level on disk", why="slower to read than to compute for short prompts; try memory first"),
    )  # fmt: skip


def _smaller(state: CacheState, used: float, capacity: float, ratio: float) -> Recommendation:
    wanted = max(used * KEPT_ROOM, GIB)
    return _recommended(
        state, wanted, capacity, Interval(low=0.95 * ratio, expected=ratio, high=ratio), ratio,
        Lost(what="exactly what is used", why="a busier hour would begin to evict"),
    )  # fmt: skip


def _recommended(
    state: CacheState, wanted: float, capacity: float, found: Interval, ratio: float, lost: Lost
) -> Recommendation:
    gib = max(math.ceil(wanted / GIB), 1)
    name = "--l1-size-gb" if state.mode == "multiprocess" else "LMCACHE_MAX_LOCAL_CPU_SIZE"
    was = f"{capacity / GIB:g}"
    # What is found is not computed again: prompts take less by that much at most, and the rest stays as it is.
    gain = (1.0 - ratio) / max(1.0 - found.expected, 0.05)
    most = (1.0 - ratio) / max(1.0 - found.high, 0.05)
    least = (1.0 - ratio) / max(1.0 - found.low, 0.05)
    return Recommendation(
        kind=RecommendationKind.LMCACHE, engine="lmcache", because=Occasion.CACHE_REUSE,
        flags=(Flag(name=name, value=str(gib), was=was),),
        effect=Effect(
            requests_ratio=Interval(low=min(least, 1.0), expected=max(gain, 1.0) ** 0.5, high=max(most, 1.0)),
            token_time_ratio=Interval(low=1.0, expected=1.0, high=1.0),
            memory_bytes=Interval(low=gib * GIB, expected=gib * GIB, high=gib * GIB),
        ),
        cost="a restart of the cache: what it holds is lost for every engine on the node, and computed again",
        risk="the host has that much less memory for everything else" if wanted > capacity else "a busier hour evicts",
        risk_level=Risk.LOW if wanted < capacity else Risk.MEDIUM, rollback=f"restart it with {name} {was}",
        evidence=(
            Evidence(name="hit_ratio", value=ratio, unit="ratio", means="of tokens that were looked up were found"),
            Evidence(name="hit_ratio_after", value=found.expected, unit="ratio",
                     means=f"would be, {found.low:.0%} to {found.high:.0%} nine times in ten: how prompts "
                     "repeat is not known beyond that"),
            Evidence(name="memory_usage", value=(state.used_bytes or 0.0) / capacity, unit="ratio",
                     means="of its memory is used"),
            Evidence(name="memory_change_bytes", value=gib * GIB - capacity, unit="bytes", means="of memory"),
        ),
        lost=(lost, Lost(what="another eviction policy", why="its effect cannot be told from what the cache counts")),
        doing=Doing(restarts=1, seconds=START_SECONDS, surge_gpus=0, usd=None),
    )  # fmt: skip
