"""KV cache: make room for more requests where the cache is what binds."""

from __future__ import annotations

import math

from control_plane.decisions.tuning.facts import ServerFacts
from control_plane.decisions.tuning.flags import BLOCKS, KV_FORMAT, MEMORY_SHARE, TOKENS
from control_plane.decisions.tuning.growth import more_at_once, pace_of
from control_plane.model.recommendation import Flag, Interval, Lost, Recommendation, RecommendationKind
from control_plane.model.scaling import Because, NoAction

ROOM = 1.25
# What a GPU of its own can give an engine: the rest is the CUDA context's and fragmentation's (vLLM's default was 0.9,
# and is 0.92 since 0.20).
MOST_MEMORY_SHARE = 0.92
LEAST_GAIN = 1.1  # times the places; less is not worth a restart


def kv_cache(facts: ServerFacts) -> Recommendation | NoAction:
    """This will recommend how to make room in the KV cache of a server that is bound by it."""
    pace, demand = pace_of(facts), facts.demand
    if pace is None or demand is None or not facts.kv_capacity_tokens or not facts.request_tokens:
        return NoAction(because=Because.MISSING_DATA, explanation="too little is known of the cache or of the traffic")
    flags, gain = _larger(facts, demand)
    if gain < LEAST_GAIN:
        return NoAction(
            because=Because.NO_FLAG_HELPS,
            explanation="the cache has all the memory that a flag can give it; FP8 keys and values, fewer or shorter "
            "requests, or more GPUs are left",
        )
    running = min(gain * pace.running, demand)
    # Requests hold less than their whole length until they end: more run than whole ones fit.
    at_least, at_most = min(max(0.75 * running, pace.running), demand), min(1.3 * running, demand * 1.05)
    lost = [Lost(what="fewer requests at once", why="ends preemption, but serves no more")]
    if spelt := KV_FORMAT.get(facts.engine):
        why = "doubles the cache, but answers may change: try it by a trial first"
        lost.insert(0, Lost(what=" ".join(spelt), why=why))
    return Recommendation(
        kind=RecommendationKind.KV_CACHE,
        engine=facts.engine,
        flags=flags,
        because=facts.bottleneck,
        effect=more_at_once(facts, pace, Interval(low=at_least, expected=running, high=max(at_most, running))),
        cost="a restart of the server; its prefix cache is empty afterwards",
        risk="the server does not start where the memory is not there: keep the old flags at hand",
        rollback="restart with " + " ".join(f"{f.name} {f.was}" if f.was else f"no {f.name}" for f in flags),
        evidence=facts.evidence,
        lost=tuple(lost),
    )


def _larger(facts: ServerFacts, demand: float) -> tuple[tuple[Flag, ...], float]:
    """This will give flags, and how many times the cache they make it, at least."""
    assert facts.kv_capacity_tokens and facts.request_tokens
    wanted = ROOM * demand * facts.request_tokens
    override = BLOCKS.get(facts.engine)
    if override and facts.blocks_override and facts.block_tokens:
        blocks = math.ceil(wanted / facts.block_tokens)
        if blocks > facts.blocks_override:
            flag = Flag(name=override, value=str(blocks), was=f"{facts.blocks_override:.0f}")
            return (flag,), blocks / facts.blocks_override
    share, name = facts.memory_share, MEMORY_SHARE.get(facts.engine)
    if facts.on_gpu and name and share and share < MOST_MEMORY_SHARE:
        # The cache has at most what the engine may take: it grows by at least that proportion.
        flag = Flag(name=name, value=f"{MOST_MEMORY_SHARE:g}", was=f"{share:g}")
        return (flag,), MOST_MEMORY_SHARE / share
    tokens = TOKENS.get(facts.engine)
    if tokens and not facts.on_gpu and wanted > facts.kv_capacity_tokens:
        flag = Flag(name=tokens, value=f"{wanted:.0f}", was=f"{facts.kv_capacity_tokens:.0f}")
        return (flag,), wanted / facts.kv_capacity_tokens
    return (), 1.0
