"""What binds an inference server, how sure that is, and what may be done about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class Bottleneck(StrEnum):
    """What binds, in the order in which it is asked: what comes first would make the rest a guess."""

    MISSING_DATA = "missing_data"  # nothing can be said, and nothing is not "fine"
    STUCK_COLLECTIVE = "stuck_collective"  # GPUs spin in a collective that never ends
    HUNG_ENGINE = "hung_engine"  # requests run and get nowhere
    FAULTY_GPU = "throttled_or_faulty_gpu"  # heat or power delivery slows the GPU down
    IDLE = "idle"  # nothing was asked of it
    KV_CAPACITY_BOUND = "kv_capacity_bound"  # no room in the KV cache for another request
    PREFIX_CACHE_MISS = "prefix_cache_miss"  # prompts are computed again that were computed before
    PREFILL_BOUND = "prefill_bound"  # prompts fill the engine's steps
    BATCH_LIMITED = "batch_limited"  # a limit on concurrent requests binds, and the hardware has room
    NETWORK_OR_CLIENT = "network_or_client"  # requests end early, and not because of the engine
    COMMUNICATION_BOUND = "communication_bound"  # the links between GPUs bind
    DECODE_BANDWIDTH_BOUND = "decode_bandwidth_bound"  # device memory bandwidth binds
    COMPUTE_BOUND = "compute_bound"  # the arithmetic pipes bind
    HOST_BOUND = "host_bound"  # the GPU waits for the CPU
    QUEUE_BOUND = "queue_bound"  # more is asked than all of it can serve
    HEALTHY = "healthy"  # it serves what is asked, and nothing binds


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One number that speaks for, or against, a verdict."""

    name: str
    value: float
    unit: str  # seconds, ratio, count, tokens, count/s, tokens/s, bytes/s
    means: str  # a sentence for people


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What binds in one window."""

    bottleneck: Bottleneck
    score: float  # 0..1: how strongly the evidence says so
    runner_up: Bottleneck | None  # what would bind next
    runner_up_score: float
    evidence: Sequence[Evidence]
    remedies: Sequence[str]  # in the order in which to try them
    cannot_tell: Mapping[Bottleneck, str] = field(default_factory=dict)  # class -> what would be needed


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """What was learnt of an engine since it started, and outlives the process that learnt it."""

    counters_since: float | None = None  # when its counters began (Unix seconds): another start, another engine
    most_running: float | None = None  # the most requests that ran at once while others waited
    paces: tuple[tuple[float, float], ...] = ()  # requests that decoded, mean time per token: only the best ones


@dataclass(frozen=True, slots=True, kw_only=True)
class Spell:
    """One bottleneck of one server, or of a GPU that no server has, over the time in which it bound."""

    entity_id: int
    since: datetime
    until: datetime  # when the newest window that was judged ended
    verdict: Verdict  # of the newest window in which it bound
