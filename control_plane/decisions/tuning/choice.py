"""Which policy answers what binds, or why nothing is changed."""

from __future__ import annotations

import math
from dataclasses import fields

from control_plane.decisions.tuning.batch import batch
from control_plane.decisions.tuning.facts import ServerFacts
from control_plane.decisions.tuning.kv_cache import kv_cache
from control_plane.model.bottleneck import Bottleneck
from control_plane.model.recommendation import Recommendation
from control_plane.model.scaling import Because, NoAction

UNTOUCHED = {
    Bottleneck.MISSING_DATA: (Because.MISSING_DATA, "nothing is known of it; nothing that depends on it is changed"),
    Bottleneck.IDLE: (Because.NOTHING_BINDS, "nothing was asked of it"),
    Bottleneck.HEALTHY: (Because.NOTHING_BINDS, "it serves what is asked"),
    Bottleneck.STUCK_COLLECTIVE: (Because.NO_FLAG_HELPS, "its GPUs wait for each other: restart all ranks together"),
    Bottleneck.HUNG_ENGINE: (Because.NO_FLAG_HELPS, "it does not move: restart it, and look at its workers"),
    Bottleneck.FAULTY_GPU: (Because.NO_FLAG_HELPS, "a GPU is slowed down by heat or power: no flag cools it"),
    Bottleneck.NETWORK_OR_CLIENT: (Because.NO_FLAG_HELPS, "clients give up, and not because of the engine"),
    Bottleneck.PREFIX_CACHE_MISS: (Because.NO_FLAG_HELPS, "route requests with the same beginning to one replica"),
    Bottleneck.PREFILL_BOUND: (
        Because.NO_FLAG_HELPS,
        "prompts take the engine's time. More tokens in a step move waiting from the first token to the others, and "
        "serve no more; FP8 weights and shared beginnings would, and have to be tried; else it takes replicas",
    ),
    Bottleneck.COMMUNICATION_BOUND: (Because.NO_FLAG_HELPS, "links bind: fewer ranks and more replicas"),
    Bottleneck.DECODE_BANDWIDTH_BOUND: (Because.NO_FLAG_HELPS, "memory bandwidth binds: smaller weights, or replicas"),
    Bottleneck.COMPUTE_BOUND: (Because.NO_FLAG_HELPS, "arithmetic binds: FP8 or NVFP4 weights, or replicas"),
    Bottleneck.HOST_BOUND: (Because.NO_FLAG_HELPS, "the GPU waits for the CPU: CUDA graphs, more or quieter cores"),
    Bottleneck.QUEUE_BOUND: (Because.NO_FLAG_HELPS, "more is asked than it can serve: replicas"),
}  # fmt: skip


def recommend(facts: ServerFacts) -> Recommendation | NoAction:
    """This will recommend a change of flags for what binds this server, or say why none."""
    if absurd := _absurd(facts):
        return NoAction(because=Because.ABSURD_DATA, explanation=absurd)
    if facts.bottleneck is Bottleneck.BATCH_LIMITED:
        return batch(facts)
    if facts.bottleneck is Bottleneck.KV_CAPACITY_BOUND:
        return kv_cache(facts)
    because, explanation = UNTOUCHED[facts.bottleneck]
    return NoAction(because=because, explanation=explanation)


def _absurd(facts: ServerFacts) -> str | None:
    for field in fields(facts):
        value = getattr(facts, field.name)
        if isinstance(value, float) and (math.isnan(value) or math.isinf(value) or value < 0):
            return f"{field.name} is {value:g}, which cannot be"
    return None
