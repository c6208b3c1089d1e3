"""Batch: let more requests run at once where a limit on their number binds and nothing else does."""

from __future__ import annotations

import math

from control_plane.decisions.tuning.facts import ServerFacts
from control_plane.decisions.tuning.flags import MOST_RUNNING
from control_plane.decisions.tuning.growth import more_at_once, pace_of
from control_plane.model.recommendation import Flag, Interval, Lost, Recommendation, RecommendationKind
from control_plane.model.scaling import Because, NoAction

ROOM = 1.25  # more than were seen, so that a little more load does not bind again
# vLLM's own default on GPUs of 70 GiB and more (vllm/engine/arg_utils.py); above it graphs and logits take memory.
MOST = 1024
KV_FULL = 0.9  # share of the KV cache that running requests may take; beyond, preemption begins


def batch(facts: ServerFacts) -> Recommendation | NoAction:
    """This will recommend a number of requests at once for a server that a limit on them binds."""
    flag = MOST_RUNNING.get(facts.engine)
    if flag is None:
        return NoAction(because=Because.NO_FLAG_HELPS, explanation=f"{facts.engine} has no flag that we change")
    pace, demand, now = pace_of(facts), facts.demand, facts.running_most
    if pace is None or demand is None or now is None:
        return NoAction(because=Because.MISSING_DATA, explanation="too little traffic to say how fast it is")
    places = kv_places(facts)
    wanted = _power_of_two(ROOM * demand)
    if places is not None:
        wanted = min(wanted, max(math.floor(places), 1))
    wanted = min(wanted, MOST)
    if wanted <= now:
        return NoAction(
            because=Because.AT_LIMIT,
            explanation=f"the KV cache holds {places or 0:.0f} requests of the usual length, and {now:.0f} run",
        )
    ran = min(demand, wanted)
    return Recommendation(
        kind=RecommendationKind.BATCH,
        engine=facts.engine,
        flags=(Flag(name=flag, value=str(wanted), was=f"{now:.0f}"),),
        because=facts.bottleneck,
        effect=more_at_once(facts, pace, Interval(low=max(0.8 * ran, now), expected=ran, high=ran * 1.05)),
        cost="a restart of the server; its prefix cache is empty afterwards",
        risk="each request's tokens come more slowly the more run at once; too many for the KV cache are thrown back",
        rollback=f"restart with {flag} {now:.0f}",
        evidence=facts.evidence,
        lost=_lost(facts),
    )


def kv_places(facts: ServerFacts) -> float | None:
    """This will say how many requests of the usual length the KV cache holds; None when that is unknown."""
    if not facts.kv_capacity_tokens or not facts.request_tokens:
        return None
    return KV_FULL * facts.kv_capacity_tokens / facts.request_tokens


def _power_of_two(number: float) -> int:
    return 1 << max(math.ceil(math.log2(max(number, 1.0))), 0)


def _lost(facts: ServerFacts) -> tuple[Lost, ...]:
    usage = "unknown" if facts.kv_usage is None else f"{facts.kv_usage:.0%} full"
    return (
        Lost(what="more KV cache", why=f"it is {usage}: it does not bind"),
        Lost(what="more replicas", why="this one has room; replicas cost GPUs, a flag does not"),
    )
