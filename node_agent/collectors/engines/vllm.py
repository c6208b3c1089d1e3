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
    "queue_seconds": Distribution(sources=sources("request_queue_time_seconds")),
    "prefill_seconds": Distribution(sources=sources("request_prefill_time_seconds")),
    "decode_seconds": Distribution(sources=sources("request_decode_time_seconds")),
    "end_to_end_seconds": Distribution(sources=sources("e2e_request_latency_seconds")),
    "prompt_length_tokens": Distribution(sources=sources("request_prompt_tokens")),
    "output_length_tokens": Distribution(sources=sources("request_generation_tokens")),
    "iteration_tokens": Distribution(sources=sources("iteration_tokens_total")),  # a histogram, whatever it is called
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
    health_each_look=True,  # 503 within a second of a worker's death, while /metrics answers 200 for four more
)
