"""The numbers behind a verdict, each with what it means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from control_plane.analysis.bottlenecks.facts import EngineHistory, EngineWindow, GpuWindow
from control_plane.analysis.bottlenecks.scores import Derived
from control_plane.model.bottleneck import Bottleneck as B
from control_plane.model.bottleneck import Evidence

# Which numbers speak for which class; the order is the order on the screen.
_SPEAKS: Mapping[B, tuple[str, ...]] = {
    B.MISSING_DATA: (),
    B.STUCK_COLLECTIVE: ("gpu_utilization_ratio", "sm_active_ratio", "sm_active_spread", "dram_active_ratio", "link"),
    B.HUNG_ENGINE: ("requests_running", "output_tokens_rate", "prompt_tokens_rate"),
    B.FAULTY_GPU: ("thermal_share", "sm_clock_share", "power_watts"),
    B.IDLE: ("requests_running", "requests_waiting"),
    B.KV_CAPACITY_BOUND: ("kv_cache_usage", "kv_places", "preemptions_rate", "requests_running", "requests_waiting"),
    B.PREFIX_CACHE_MISS: ("cache_hit_ratio", "cache_turnover_seconds", "prefill_share", "ttft_seconds"),
    B.PREFILL_BOUND: ("prefill_share", "step_tokens", "prompt_tokens_rate", "ttft_seconds", "tensor_active_ratio",
                      "power_cap_share", "requests_waiting"),
    B.BATCH_LIMITED: ("requests_running", "running_limit", "requests_waiting", "queue_seconds", "kv_cache_usage",
                      "dram_active_ratio", "tensor_active_ratio"),
    B.NETWORK_OR_CLIENT: ("aborted_ratio", "requests_waiting"),
    B.COMMUNICATION_BOUND: ("link_share", "link", "tensor_active_ratio", "dram_active_ratio"),
    B.DECODE_BANDWIDTH_BOUND: ("requests_decoding", "inter_token_seconds", "prefill_share", "dram_active_ratio",
                               "tensor_active_ratio"),
    B.COMPUTE_BOUND: ("tensor_active_ratio", "sm_active_ratio", "dram_active_ratio", "power_cap_share"),
    B.HOST_BOUND: ("busy_share", "sm_active_ratio", "dram_active_ratio", "inter_token_seconds", "requests_decoding"),
    B.QUEUE_BOUND: ("requests_waiting", "requests_running", "queue_seconds", "ttft_seconds", "slowed"),
    B.HEALTHY: ("busy_share", "requests_running", "requests_waiting", "ttft_seconds", "inter_token_seconds",
                "kv_cache_usage", "sm_active_ratio", "dram_active_ratio"),
}  # fmt: skip


def evidence(
    bottleneck: B, window: EngineWindow | None, history: EngineHistory, gpu: GpuWindow | None, derived: Derived | None
) -> tuple[Evidence, ...]:
    """This will give the known numbers that speak for (or, for "healthy", against) a bottleneck."""
    known = {each.name: each for each in _numbers(window, history, gpu, derived)}
    return tuple(known[name] for name in _SPEAKS[bottleneck] if name in known)


def _numbers(
    window: EngineWindow | None, history: EngineHistory, gpu: GpuWindow | None, derived: Derived | None
) -> Iterator[Evidence]:
    for name, value, unit, means in (
        *_of_engine(window),
        *_of_history(history),
        *_of_derived(derived),
        *_of_gpu(gpu),
    ):
        if value is not None:
            yield Evidence(name=name, value=float(f"{value:.6g}"), unit=unit, means=means)


Number = tuple[str, float | None, str, str]


def _of_engine(window: EngineWindow | None) -> Iterator[Number]:
    if window is None:
        return
    seconds = window.seconds or None
    ended = (window.finished or 0.0) + (window.aborted or 0.0) + (window.failed or 0.0)
    yield "requests_running", window.running, "count", "requests being worked on"
    yield "requests_waiting", window.waiting, "count", "requests waiting to be scheduled"
    yield "requests_decoding", window.decoding, "count", "requests that were decoding, on average over the time"
    yield "kv_cache_usage", window.kv_usage, "ratio", "of the KV cache in use"
    yield "preemptions_rate", _per(window.preemptions, seconds), "count/s", "requests thrown back for want of KV cache"
    yield "output_tokens_rate", _per(window.output_tokens, seconds), "tokens/s", "tokens that came out"
    yield "prompt_tokens_rate", _per(window.prompt_tokens, seconds), "tokens/s", "prompt tokens taken in"
    yield "step_tokens", window.step_tokens, "tokens", "tokens that one engine step works on"
    yield "ttft_seconds", window.ttft_seconds, "seconds", "mean time to the first token"
    yield "inter_token_seconds", window.inter_token_seconds, "seconds", "mean time between two tokens of a request"
    yield "queue_seconds", window.queue_seconds, "seconds", "mean time that requests waited to be scheduled"
    if ended and window.aborted is not None:
        yield "aborted_ratio", window.aborted / ended, "ratio", "of the requests that ended, given up by clients"


def _of_history(history: EngineHistory) -> Iterator[Number]:
    limit = history.max_num_seqs
    said = "requests that may run at once, as configured"
    if limit is None:
        limit, said = history.most_running, "the most requests that ever ran at once while others waited"
    yield "running_limit", limit, "count", said
    yield "cache_hit_ratio", history.cache_hit_ratio, "ratio", "of looked-up prompt tokens found in the prefix cache"
    if history.kv_capacity_tokens and history.prompt_tokens_per_second:
        turnover = history.kv_capacity_tokens / history.prompt_tokens_per_second
        yield "cache_turnover_seconds", turnover, "seconds", "until new prompts have filled the whole cache once"


def _of_derived(derived: Derived | None) -> Iterator[Number]:
    if derived is None:
        return
    yield "busy_share", derived.busy, "ratio", "of the time the engine was stepping"
    yield "prefill_share", derived.prefill_share, "ratio", "of the engine's busy time went into prompts"
    yield "kv_places", derived.kv_places, "count", "requests of the usual length that the KV cache holds at once"
    yield "slowed", derived.slowed, "ratio", "time per token, over what it reaches with a small batch"


def _of_gpu(gpu: GpuWindow | None) -> Iterator[Number]:
    if gpu is None:
        return
    yield "gpu_utilization_ratio", gpu.classic_utilization, "ratio", "of the time a kernel was resident (and no more)"
    yield "sm_active_ratio", gpu.sm_active, "ratio", "of the SMs had work"
    yield "sm_active_spread", gpu.sm_active_spread, "ratio", "between the highest and the lowest look at the SMs"
    yield "tensor_active_ratio", gpu.tensor_active, "ratio", "of the cycles the tensor pipes worked"
    yield "dram_active_ratio", gpu.dram_active, "ratio", "of the memory's bandwidth used"
    yield "link", gpu.link_bytes_per_second, "bytes/s", "over NVLink or PCIe, the busier direction"
    yield "link_share", gpu.link_share, "ratio", "of what that link carries"
    yield "sm_clock_share", gpu.sm_clock_share, "ratio", "of the highest SM clock"
    yield "thermal_share", gpu.thermal_share, "ratio", "of the looks slowed down by heat or power delivery"
    yield "power_cap_share", gpu.power_cap_share, "ratio", "of the looks at the power limit"
    yield "power_watts", gpu.power_watts, "watts", "mean power of a GPU"


def _per(value: float | None, seconds: float | None) -> float | None:
    return None if value is None or seconds is None else value / seconds


# Which stored fields (docs/metrics.md) each number was made of, for who checks it with the history endpoints.
SERIES: Mapping[str, tuple[str, ...]] = {
    "requests_running": ("requests_running_count",),
    "requests_waiting": ("requests_waiting_count",),
    "requests_decoding": ("inter_token_latency_seconds",),
    "kv_cache_usage": ("kv_cache_usage_ratio",),
    "preemptions_rate": ("preemptions_total",),
    "output_tokens_rate": ("inter_token_latency_seconds", "ttft_seconds", "generation_tokens_total"),
    "prompt_tokens_rate": ("prompt_tokens_live_total", "prompt_tokens_total"),
    "step_tokens": ("iteration_tokens",),
    "ttft_seconds": ("ttft_seconds",),
    "inter_token_seconds": ("inter_token_latency_seconds",),
    "queue_seconds": ("queue_seconds",),
    "aborted_ratio": ("requests_aborted_total", "requests_finished_total", "requests_failed_total"),
    "running_limit": ("requests_running_count", "requests_waiting_count"),
    "cache_hit_ratio": ("prefix_cache_hits_total", "prefix_cache_queries_total"),
    "cache_turnover_seconds": ("kv_cache_capacity_tokens", "prompt_tokens_live_total"),
    "busy_share": ("iteration_tokens", "inter_token_latency_seconds"),
    "prefill_share": ("iteration_tokens", "inter_token_latency_seconds", "prefill_seconds"),
    "kv_places": ("kv_cache_capacity_tokens", "prompt_length_tokens", "output_length_tokens"),
    "slowed": ("inter_token_latency_seconds",),
    "gpu_utilization_ratio": ("gpu_utilization_ratio",),
    "sm_active_ratio": ("sm_active_ratio",),
    "sm_active_spread": ("sm_active_ratio",),
    "tensor_active_ratio": ("tensor_active_ratio",),
    "dram_active_ratio": ("dram_active_ratio",),
    "link": ("nvlink_transmit_bytes_per_second", "nvlink_receive_bytes_per_second"),
    "link_share": ("nvlink_transmit_bytes_per_second", "nvlink_receive_bytes_per_second"),
    "sm_clock_share": ("sm_clock_megahertz",),
    "thermal_share": ("clock_event_reasons_bits",),
    "power_cap_share": ("clock_event_reasons_bits",),
    "power_watts": ("power_draw_watts",),
}
