"""The facts that a verdict is made of. None is unknown, everywhere."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineWindow:
    """What an engine's own counters and gauges say of one window."""

    seconds: float
    running: float | None  # requests being worked on, mean of the looks
    running_most: float | None  # the highest of the looks
    waiting: float | None  # requests waiting to be scheduled, mean of the looks
    waiting_least: float | None  # the lowest of the looks: what waited all the time
    kv_usage: float | None  # 0..1, highest of the looks
    preemptions: float | None
    prompt_tokens: float | None
    output_tokens: float | None
    steps: float | None  # engine steps
    step_tokens: float | None  # tokens a step works on, mean
    narrow_steps: float | None  # steps that held no more tokens than decoding alone explains
    decoding: float | None  # requests that were decoding, averaged over the window's time
    inter_token_seconds: float | None  # mean
    calm_step_seconds: float | None  # a step that nothing disturbs: the 25th percentile of the time between tokens
    disturbed_share: float | None  # 0..1: of the time between tokens, in steps that took several times longer
    first_tokens: float | None  # requests that got their first token
    ttft_seconds: float | None  # mean
    queue_seconds: float | None  # mean, of requests that finished (vLLM) or started (SGLang)
    prefill_stage_seconds: float | None  # added up over requests, where the engine does prefill on its own
    cache_queries: float | None  # prompt tokens looked up in the prefix cache
    cache_hits: float | None
    finished: float | None
    aborted: float | None
    failed: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineHistory:
    """What is known of the engine beyond one window: limits, habits, its best."""

    most_running: float | None = None  # the most requests that ran at once while others waited
    max_num_seqs: float | None = None  # the configured limit, where it is known
    kv_capacity_tokens: float | None = None
    request_tokens: float | None = None  # prompt and output of a request, mean of finished ones
    paces: tuple[tuple[float, float], ...] = ()  # of its windows: requests that decoded, mean time per token
    prefix_caching: bool | None = None  # whether it is on
    cache_hit_ratio: float | None = None  # over the last minute
    prompt_tokens_per_second: float | None = None  # over the last minute

    def best_pace(self, *, at_least: float = 0.0) -> float | None:
        """This will give the lowest mean time per token with `at_least` so many requests decoding, in seconds."""
        return min((pace for decoding, pace in self.paces if decoding >= at_least), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuWindow:
    """What the GPUs of one engine did in a window: means over time, of the GPU that is named."""

    gpus: int
    samples: int
    classic_utilization: float | None  # 0..1: share of time in which a kernel was resident
    sm_active: float | None
    sm_active_spread: float | None  # highest less lowest sample: a spinning collective's does not move
    tensor_active: float | None
    dram_active: float | None
    link_bytes_per_second: float | None  # NVLink and PCIe, the busier direction, of the busiest GPU
    link_share: float | None  # of what the link can carry, where that is known
    sm_clock_share: float | None  # of the highest clock
    thermal_share: float | None  # share of samples slowed down by heat or by the power supply
    power_cap_share: float | None  # share of samples at the power limit
    power_watts: float | None
