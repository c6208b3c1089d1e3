"""vLLM: https://github.com/vllm-project/vllm, vllm/v1/metrics/loggers.py.

The prefix-cache counters of versions before 0.9 count blocks, later ones tokens; the names do
not say which, so only their ratio holds for those versions.
"""

from __future__ import annotations

from collections.abc import Mapping

from node_agent.collectors.engines.mapping import (
    Combine,
    Configuration,
    Derived,
    Distribution,
    Engine,
    Mapped,
    Scalar,
    exactly,
    sources,
)
from node_agent.collectors.exposition import Exposition, Labels
from node_agent.model import Reason, Value
from node_agent.untrusted import clean_mapping, clean_value, from_text, object_in

_CACHE_CONFIG = "cache_config_info"
_LORA = "lora_requests_info"
_ASLEEP = {"sleep_state": exactly("weights_offloaded", "discard_all")}

# The labels of cache_config_info that are worth knowing, under the names of the command line's flags.
_CACHE_LABELS = {
    "block_size": "block_size",
    "cache_dtype": "kv_cache_dtype",
    "enable_prefix_caching": "enable_prefix_caching",
    "gpu_memory_utilization": "gpu_memory_utilization",
    "kv_cache_max_concurrency": "kv_cache_max_concurrency",
    "kv_cache_memory_bytes": "kv_cache_memory_bytes",
    "kv_cache_size_tokens": "kv_cache_size_tokens",
    "kv_offloading_backend": "kv_offloading_backend",
    "kv_offloading_size": "kv_offloading_size",
    "num_gpu_blocks": "num_gpu_blocks",
    "num_gpu_blocks_override": "num_gpu_blocks_override",
    "sliding_window": "sliding_window",
}

_FROM_A_CACHE = {"source": exactly("local_cache_hit", "external_kv_transfer")}


def _capacity(exposition: Exposition) -> Value:
    """This will add up the engines' KV-cache sizes; one engine that does not say leaves the sum unknown."""
    by_engine: dict[str, int | None] = {}
    for labels in exposition.series(_CACHE_CONFIG):
        known = dict(labels)
        by_engine[known.get("engine", "")] = _engine_capacity(known)
    if not by_engine or None in by_engine.values():
        return Reason.NOT_EXPOSED
    return sum(size for size in by_engine.values() if size is not None)


def _engine_capacity(labels: Mapping[str, str]) -> int | None:
    """This will give one engine's KV-cache size in tokens.

    Blocks times block size is wrong for models of mixed attention, hence only the second choice.
    """
    size = _whole(labels.get("kv_cache_size_tokens", ""))
    blocks, block_size = _whole(labels.get("num_gpu_blocks", "")), _whole(labels.get("block_size", ""))
    if size is not None:
        return size
    return blocks * block_size if blocks is not None and block_size is not None else None


def _whole(text: str) -> int | None:
    """This will read a whole number, None for anything else."""
    value = from_text(text)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _configuration(answers: Mapping[str, object], exposition: Exposition) -> Configuration:
    """This will gather what /version, /v1/models and cache_config_info say."""
    version = clean_value(object_in(answers.get("/version")).get("version"))
    model = _base_model(answers.get("/v1/models"))
    name, longest = clean_value(model.get("id")), clean_value(model.get("max_model_len"))
    return Configuration(
        version=version if isinstance(version, str) else None,
        model=name if isinstance(name, str) else None,
        max_model_len=longest if isinstance(longest, int) and not isinstance(longest, bool) else None,
        config=_cache_config(exposition.series(_CACHE_CONFIG)),
    )


def _base_model(answer: object) -> Mapping[str, object]:
    """This will find the served model; an entry with a parent is a LoRA adapter."""
    listed = object_in(answer).get("data")
    entries = [object_in(entry) for entry in listed] if isinstance(listed, list) else []
    return next((entry for entry in entries if entry.get("id") and not entry.get("parent")), {})


def _cache_config(series: Mapping[Labels, float]) -> dict[str, str | int | float | bool]:
    """This will read the first engine's cache configuration; ranks of one server share it."""
    labels = dict(min(series, default=()))
    found = {ours: from_text(labels.get(theirs, "")) for theirs, ours in _CACHE_LABELS.items()}
    return clean_mapping(found)


def _finished(*reasons: str) -> Scalar:
    """This will count requests by how they ended."""
    names = ("request_success_total", "request_success")
    return Scalar(sources=sources(*names, where={"finished_reason": exactly(*reasons)}))


def _counter(*names: str) -> Scalar:
    """This will read a counter; Ray's exposition leaves the suffix out."""
    return Scalar(sources=sources(*(form for name in names for form in (f"{name}_total", name))))


def _waiting_for(reason: str) -> Scalar:
    """This will count the waiting requests by what they wait for."""
    return Scalar(sources=sources("num_requests_waiting_by_reason", where={"reason": exactly(reason)}))


def _offloaded(verb: str, direction: str) -> Scalar:
    """This will read the bytes of the native offload, under the name of each direction or the older one of both."""
    new = (f"kv_offload_{verb}_bytes_total", f"kv_offload_{verb}_bytes")
    old = ("kv_offload_total_bytes_total", "kv_offload_total_bytes")
    return Scalar(sources=(*sources(*new), *sources(*old, where={"transfer_type": exactly(direction)})))


def _per_gpu(name: str) -> Scalar:
    """This will read an estimate of work: always exposed, and zero for ever without --enable-mfu-metrics."""
    return Scalar(sources=sources(f"{name}_total", name), combine=Combine.MAX, zero_is_off=True)


def _newest_lora(exposition: Exposition) -> Mapping[str, str]:
    """This will give the labels of the newest lora_requests_info; a series' value is when it was written."""
    written = [(stamp, labels) for labels, stamp in exposition.series(_LORA).items()]
    return dict(max(written)[1]) if written else {}


def _active_adapters(exposition: Exposition) -> Value:
    """This will count the adapters of running requests."""
    labels = _newest_lora(exposition)
    if "running_lora_adapters" not in labels:
        return Reason.NOT_EXPOSED
    return len([name for name in labels["running_lora_adapters"].split(",") if name.strip()])


def _most_adapters(exposition: Exposition) -> Value:
    """This will give how many adapters may run at once."""
    most = _whole(_newest_lora(exposition).get("max_lora", ""))
    return Reason.NOT_EXPOSED if most is None else most


_FIELDS: dict[str, Mapped] = {
    "requests_running_count": Scalar(sources=sources("num_requests_running")),
    "requests_waiting_count": Scalar(sources=sources("num_requests_waiting")),
    # gpu_cache_usage_perc: until 0.11, hidden from 0.11 on (vllm-project/vllm 18354, 29330)
    "kv_cache_usage_ratio": Scalar(sources=sources("kv_cache_usage_perc", "gpu_cache_usage_perc"), combine=Combine.MAX),
    "kv_cache_capacity_tokens": Derived(names=(_CACHE_CONFIG,), read=_capacity),
    "prompt_tokens_total": _counter("prompt_tokens"),
    "generation_tokens_total": _counter("generation_tokens"),
    "prompt_tokens_cached_total": Scalar(
        sources=(
            *sources("prompt_tokens_cached_total", "prompt_tokens_cached"),
            *sources("prompt_tokens_by_source_total", where=_FROM_A_CACHE),
        )
    ),
    "prefix_cache_queries_total": _counter("prefix_cache_queries", "gpu_prefix_cache_queries"),
    "prefix_cache_hits_total": _counter("prefix_cache_hits", "gpu_prefix_cache_hits"),
    "preemptions_total": _counter("num_preemptions"),
    "requests_finished_total": _finished("stop", "length", "repetition"),
    "requests_aborted_total": _finished("abort"),
    "requests_failed_total": _finished("error"),
    "ttft_seconds": Distribution(sources=sources("time_to_first_token_seconds")),
    # renamed in 0.11 (vllm-project/vllm 24110)
    "inter_token_latency_seconds": Distribution(
        sources=sources("inter_token_latency_seconds", "time_per_output_token_seconds")
    ),
    "time_per_output_token_seconds": Distribution(sources=sources("request_time_per_output_token_seconds")),
    "queue_seconds": Distribution(sources=sources("request_queue_time_seconds", "time_in_queue_requests")),
    "prefill_seconds": Distribution(sources=sources("request_prefill_time_seconds")),
    "decode_seconds": Distribution(sources=sources("request_decode_time_seconds")),
    "end_to_end_seconds": Distribution(sources=sources("e2e_request_latency_seconds")),
    "prompt_length_tokens": Distribution(sources=sources("request_prompt_tokens")),
    "output_length_tokens": Distribution(sources=sources("request_generation_tokens")),
    "iteration_tokens": Distribution(sources=sources("iteration_tokens_total")),  # a histogram, whatever it is called
    "requests_running_rank_max_count": Scalar(sources=sources("num_requests_running"), combine=Combine.MAX),
    "requests_running_rank_min_count": Scalar(sources=sources("num_requests_running"), combine=Combine.MIN),
    "requests_waiting_capacity_count": _waiting_for("capacity"),
    "requests_waiting_deferred_count": _waiting_for("deferred"),
    "requests_swapped_count": Scalar(sources=sources("num_requests_swapped")),  # until 0.10, with the V0 engine
    "requests_rejected_total": _counter("admission_rejections"),
    "external_prefix_cache_queries_total": _counter("external_prefix_cache_queries"),
    "external_prefix_cache_hits_total": _counter("external_prefix_cache_hits"),
    "multimodal_cache_queries_total": _counter("mm_cache_queries"),
    "multimodal_cache_hits_total": _counter("mm_cache_hits"),
    "spec_decode_drafts_total": _counter("spec_decode_num_drafts"),
    "spec_decode_draft_tokens_total": _counter("spec_decode_num_draft_tokens"),
    "spec_decode_accepted_tokens_total": _counter("spec_decode_num_accepted_tokens"),
    # until 0.9
    "spec_decode_acceptance_ratio": Scalar(sources=sources("spec_decode_draft_acceptance_rate"), combine=Combine.MAX),
    "asleep_flag": Scalar(sources=sources("engine_sleep_state", where=_ASLEEP), combine=Combine.MAX),
    "lora_adapters_active_count": Derived(names=(_LORA,), read=_active_adapters),
    "lora_adapters_maximum_count": Derived(names=(_LORA,), read=_most_adapters),
    "estimated_flops_per_gpu_total": _per_gpu("estimated_flops_per_gpu"),
    "estimated_read_bytes_per_gpu_total": _per_gpu("estimated_read_bytes_per_gpu"),
    "estimated_write_bytes_per_gpu_total": _per_gpu("estimated_write_bytes_per_gpu"),
    "kv_offload_load_bytes_total": _offloaded("load", "CPU_to_GPU"),
    "kv_offload_store_bytes_total": _offloaded("store", "GPU_to_CPU"),
    "kv_offload_usage_ratio": Scalar(
        sources=sources("kv_offload_cpu_cache_usage_perc", "cpu_cache_usage_perc"), combine=Combine.MAX
    ),
    "inference_seconds": Distribution(sources=sources("request_inference_time_seconds")),
    "requested_output_tokens": Distribution(sources=sources("request_params_max_tokens")),
    "prefill_computed_tokens": Distribution(sources=sources("request_prefill_kv_computed_tokens")),
    "kv_block_lifetime_seconds": Distribution(sources=sources("kv_block_lifetime_seconds")),
    "kv_block_idle_before_eviction_seconds": Distribution(sources=sources("kv_block_idle_before_evict_seconds")),
    "kv_block_reuse_gap_seconds": Distribution(sources=sources("kv_block_reuse_gap_seconds")),
}

VLLM = Engine(
    name="vllm",
    prefixes=("vllm:", "vllm_", "ray_vllm:", "ray_vllm_"),
    fields=_FIELDS,
    rank_label="engine",
    copy_labels=frozenset({"pid"}),
    total_labels=frozenset(),
    model_label="model_name",
    config_paths=(("/version",), ("/v1/models",)),
    configuration=_configuration,
    running_name="num_requests_running",
    # The engine core sends all of these with a step's result; prompts of a chunked prefill move the cache's usage.
    progress_names=(
        "num_requests_running",
        "num_requests_waiting",
        "kv_cache_usage_perc",
        "gpu_cache_usage_perc",
        "prompt_tokens_total",
        "generation_tokens_total",
        "iteration_tokens_total_count",
        "inter_token_latency_seconds_count",
        "time_per_output_token_seconds_count",
        "num_preemptions_total",
    ),
    health_path="/health",  # 503 within a second of a worker's death, while /metrics answers 200 for four more
)
