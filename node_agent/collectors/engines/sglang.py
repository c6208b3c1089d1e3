"""SGLang: https://github.com/sgl-project/sglang, python/sglang/srt/observability/metrics_collector.py.

Its server must run with --enable-metrics. Counters appear with their first increment, so a
server that never hit its cache does not expose the hits: they stay unknown, not zero.
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
from node_agent.collectors.exposition import Exposition
from node_agent.model import Reason, Value
from node_agent.untrusted import clean_mapping, clean_value, object_in

# Of the configuration: data-parallel ranks whose attention takes every step together, so that none moves alone.
IN_STEP = "enable_dp_attention"
_HOST_USED, _HOST_TOTAL = "hicache_host_used_tokens", "hicache_host_total_tokens"

# Of /server_info, which also holds the API keys: nothing that is not named here may pass.
_SERVER_FIELDS = (
    "attention_backend",
    "chunked_prefill_size",
    "context_length",
    "cuda_graph_max_bs",
    "device",
    "disable_cuda_graph",
    "disable_radix_cache",
    "disaggregation_mode",
    "dp_size",
    "dtype",
    IN_STEP,
    "enable_hierarchical_cache",
    "enable_mixed_chunk",
    "ep_size",
    "hicache_ratio",
    "hicache_size",
    "kv_cache_dtype",
    "load_format",
    "max_prefill_tokens",
    "max_queued_requests",
    "max_running_requests",
    "max_total_num_tokens",
    "max_total_tokens",
    "mem_fraction_static",
    "model_path",
    "num_continuous_decode_steps",
    "page_size",
    "pp_size",
    "quantization",
    "schedule_conservativeness",
    "schedule_policy",
    "served_model_name",
    "speculative_algorithm",
    "speculative_num_steps",
    "tp_size",
)
_MODEL_FIELDS = ("is_generation", "load_format", "model_path", "model_type", "served_model_name", "weight_version")


def _configuration(answers: Mapping[str, object], exposition: Exposition) -> Configuration:
    """This will gather what /model_info and /server_info say, by allow-list."""
    del exposition  # SGLang's metrics carry no configuration that these do not
    about_model = object_in(answers.get("/model_info"))
    about_server = object_in(answers.get("/server_info") or answers.get("/get_server_info"))
    found = {name: about_model.get(name) for name in _MODEL_FIELDS}
    found.update({name: about_server[name] for name in _SERVER_FIELDS if about_server.get(name) is not None})
    config = clean_mapping(found)
    model = config.get("served_model_name") or config.get("model_path")
    version, longest = clean_value(about_server.get("version")), config.get("context_length")
    return Configuration(
        version=version if isinstance(version, str) else None,
        model=model if isinstance(model, str) else None,
        max_model_len=longest if isinstance(longest, int) and not isinstance(longest, bool) else None,
        config=config,
    )


def _live_tokens(*modes: str) -> Scalar:
    """This will count tokens as the scheduler works on them."""
    return Scalar(sources=sources("realtime_tokens_total", where={"mode": exactly(*modes)}))


def _per_gpu(name: str) -> Scalar:
    """This will read an estimate of work, which stays zero where it is not switched on."""
    return Scalar(sources=sources(name), combine=Combine.MAX, zero_is_off=True)


def _host_usage(exposition: Exposition) -> Value:
    """This will give the use of the hierarchical cache's host memory, of the fullest scheduler."""
    used, total = exposition.series(_HOST_USED), exposition.series(_HOST_TOTAL)
    ratios = [used[labels] / size for labels, size in total.items() if size > 0 and labels in used]
    return max(ratios, default=Reason.NOT_EXPOSED)


# cache_source="total" stands in for the single sources and never beside them, so all may be added up.
_CACHED = Scalar(sources=sources("cached_tokens_total"))
_PROMPT = Scalar(sources=sources("prompt_tokens_total"))

_FIELDS: dict[str, Mapped] = {
    "requests_running_count": Scalar(sources=sources("num_running_reqs")),
    "requests_waiting_count": Scalar(sources=sources("num_queue_reqs")),
    "kv_cache_usage_ratio": Scalar(sources=sources("token_usage"), combine=Combine.MAX),
    "kv_cache_capacity_tokens": Scalar(sources=sources("max_total_num_tokens")),
    "prompt_tokens_total": _PROMPT,
    "generation_tokens_total": Scalar(sources=sources("generation_tokens_total")),
    "prompt_tokens_live_total": _live_tokens("prefill_compute", "prefill_cache"),
    "generation_tokens_live_total": _live_tokens("decode"),
    "prompt_tokens_cached_total": _CACHED,
    "prefix_cache_queries_total": _PROMPT,
    "prefix_cache_hits_total": _CACHED,
    "preemptions_total": Scalar(sources=sources("num_retracted_requests_total")),
    "requests_finished_total": Scalar(sources=sources("num_requests_total")),
    "requests_aborted_total": Scalar(sources=sources("num_aborted_requests_total", "num_aborted_requests")),
    "ttft_seconds": Distribution(sources=sources("time_to_first_token_seconds")),
    # renamed in 0.4.5
    "inter_token_latency_seconds": Distribution(
        sources=sources("inter_token_latency_seconds", "time_per_output_token_seconds")
    ),
    "time_per_output_token_seconds": Distribution(sources=sources("request_time_per_output_token_seconds")),
    # renamed in 0.5.3
    "queue_seconds": Distribution(sources=sources("queue_time_seconds", "queue_time_s")),
    "prefill_seconds": Distribution(
        sources=sources("per_stage_req_latency_seconds", where={"stage": exactly("prefill_forward")})
    ),
    "end_to_end_seconds": Distribution(sources=sources("e2e_request_latency_seconds")),
    "prompt_length_tokens": Distribution(sources=sources("prompt_tokens_histogram")),
    "output_length_tokens": Distribution(sources=sources("generation_tokens_histogram")),
    "requests_running_rank_max_count": Scalar(sources=sources("num_running_reqs"), combine=Combine.MAX),
    "requests_running_rank_min_count": Scalar(sources=sources("num_running_reqs"), combine=Combine.MIN),
    "requests_waiting_deferred_count": Scalar(sources=sources("num_grammar_queue_reqs")),
    "external_prefix_cache_hits_total": Scalar(
        sources=sources("prefill_effective_tokens_total", where={"mode": exactly("host_hit", "storage_hit")})
    ),
    "spec_decode_drafts_total": Scalar(sources=sources("spec_verify_calls_total")),
    "spec_decode_acceptance_ratio": Scalar(sources=sources("spec_accept_rate"), combine=Combine.MAX, zero_is_off=True),
    "lora_adapters_active_count": Scalar(sources=sources("lora_pool_slots_used"), combine=Combine.MAX),
    "lora_adapters_maximum_count": Scalar(sources=sources("lora_pool_slots_total"), combine=Combine.MAX),
    "estimated_flops_per_gpu_total": _per_gpu("estimated_flops_per_gpu_total"),
    "estimated_read_bytes_per_gpu_total": _per_gpu("estimated_read_bytes_per_gpu_total"),
    "estimated_write_bytes_per_gpu_total": _per_gpu("estimated_write_bytes_per_gpu_total"),
    "kv_offload_load_bytes_total": Scalar(sources=sources("load_back_bytes_total")),
    "kv_offload_store_bytes_total": Scalar(sources=sources("hicache_backup_bytes_total")),
    "kv_offload_usage_ratio": Derived(names=(_HOST_USED, _HOST_TOTAL), read=_host_usage),
    "kv_cache_evicted_tokens_total": Scalar(sources=sources("evicted_tokens_total")),
    "prefill_computed_tokens": Distribution(sources=sources("uncached_prompt_tokens_histogram")),
}

SGLANG = Engine(
    name="sglang",
    prefixes=("sglang:", "sglang_"),
    fields=_FIELDS,
    rank_label="dp_rank",
    # Every scheduler of a tensor- or pipeline-parallel group counts the same requests. With data-parallel
    # attention a rank's first scheduler is not tp_rank 0, so the largest copy is taken, not a fixed one.
    copy_labels=frozenset({"tp_rank", "pp_rank", "moe_ep_rank", "pid"}),
    # With priority scheduling the total has priority="" and each priority a series beside it.
    total_labels=frozenset({"priority"}),
    model_label="model_name",
    config_paths=(("/model_info",), ("/server_info", "/get_server_info")),
    configuration=_configuration,
    running_name="num_running_reqs",
    # generation_tokens_total moves when a request ends; the others as the scheduler works. gen_throughput is
    # renewed with every decode report, and a report that repeats every number to its last digit is no report. An
    # idle scheduler writes its zeros within 30 s (_maybe_log_idle_metrics), sooner than anything is called hung.
    progress_names=(
        "num_running_reqs",
        "num_queue_reqs",
        "token_usage",
        "num_used_tokens",
        "gen_throughput",
        "prompt_tokens_total",
        "generation_tokens_total",
        "realtime_tokens_total",
        "forward_execution_seconds_total",
        "gpu_execution_seconds_total",
        "decode_sum_seq_lens",
        "num_retracted_requests_total",
    ),
    health_path=None,  # since 0.5.0 it makes a token, as /health_generate does (sgl-project/sglang 8444)
)
