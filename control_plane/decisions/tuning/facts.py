"""What a recording says of a server, as far as its flags can change it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from control_plane.model.bottleneck import Bottleneck, Evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """One server under load, over the time in which one thing bound it. None is unknown."""

    engine: str
    bottleneck: Bottleneck
    evidence: Sequence[Evidence]
    running: float | None  # requests worked on at once, mean
    running_most: float | None  # the most that ran while others waited
    waiting: float | None  # mean
    demand: float | None  # requests that ran or waited while it was busy: what would run if nothing held it
    requests_per_second: float | None
    output_tokens: float | None  # of one request, mean
    request_tokens: float | None  # prompt and output of one request, mean
    inter_token_seconds: float | None
    kv_capacity_tokens: float | None
    kv_usage: float | None  # 0..1
    block_tokens: float | None  # of one block of the KV cache
    blocks_override: float | None  # a number of blocks that was asked for by flag
    memory_share: float | None  # of the GPU that the engine may take
    kv_format: str | None
    on_gpu: bool  # the GPU's own metrics were recorded
    dram_active: float | None  # 0..1
    tensor_active: float | None
