"""Text Generation Inference: https://github.com/huggingface/text-generation-inference, docs/source/reference.

It has no KV-cache usage, no time to first token and no model label. Its counters carry no
`_total`; some collectors in between add it, so both forms are read.
"""

from __future__ import annotations

from collections.abc import Mapping

from node_agent.collectors.engines.mapping import (
    Combine,
    Configuration,
    Distribution,
    Engine,
    Mapped,
    Scalar,
    exactly,
    sources,
)
from node_agent.collectors.exposition import Exposition
from node_agent.untrusted import clean_mapping, object_in

_INFO_FIELDS = (
    "docker_label",
    "max_batch_size",
    "max_batch_total_tokens",
    "max_best_of",
    "max_client_batch_size",
    "max_concurrent_requests",
    "max_input_tokens",
    "max_total_tokens",
    "model_dtype",
    "model_id",
    "model_pipeline_tag",
    "model_sha",
    "router",
    "sha",
    "validation_workers",
    "version",
    "waiting_served_ratio",
)


def _configuration(answers: Mapping[str, object], exposition: Exposition) -> Configuration:
    """This will gather what /info says, by allow-list."""
    del exposition  # TGI's metrics carry no configuration
    info = object_in(answers.get("/info"))
    config = clean_mapping({name: info.get(name) for name in _INFO_FIELDS})
    version, model = config.pop("version", None), config.get("model_id")
    longest = config.get("max_total_tokens")
    return Configuration(
        version=version if isinstance(version, str) else None,
        model=model if isinstance(model, str) else None,
        max_model_len=longest if isinstance(longest, int) and not isinstance(longest, bool) else None,
        config=config,
    )


def _counter(name: str) -> Scalar:
    """This will read a counter under either form of its name."""
    return Scalar(sources=sources(name, f"{name}_total"))


_FIELDS: dict[str, Mapped] = {
    "requests_running_count": Scalar(sources=sources("batch_current_size")),
    "requests_waiting_count": Scalar(sources=sources("queue_size")),
    "kv_cache_capacity_tokens": Scalar(sources=sources("batch_max_total_tokens")),
    "prompt_tokens_total": Scalar(sources=sources("request_input_length_sum")),
    "generation_tokens_total": Scalar(sources=sources("request_generated_tokens_sum")),
    "requests_finished_total": _counter("request_success"),
    "requests_failed_total": _counter("request_failure"),
    "time_per_output_token_seconds": Distribution(sources=sources("request_mean_time_per_token_duration")),
    "queue_seconds": Distribution(sources=sources("request_queue_duration")),
    "end_to_end_seconds": Distribution(sources=sources("request_duration")),
    "prompt_length_tokens": Distribution(sources=sources("request_input_length")),
    "output_length_tokens": Distribution(sources=sources("request_generated_tokens")),
    "requests_running_rank_max_count": Scalar(sources=sources("batch_current_size"), combine=Combine.MAX),
    "requests_running_rank_min_count": Scalar(sources=sources("batch_current_size"), combine=Combine.MIN),
    "requests_rejected_total": Scalar(
        sources=sources("request_failure", "request_failure_total", where={"err": exactly("overloaded")})
    ),
    "inference_seconds": Distribution(sources=sources("request_inference_duration")),
    "requested_output_tokens": Distribution(sources=sources("request_max_new_tokens")),
}

TGI = Engine(
    name="tgi",
    prefixes=("tgi_",),
    fields=_FIELDS,
    rank_label=None,  # shards are hidden behind one router
    copy_labels=frozenset(),
    total_labels=frozenset(),
    model_label=None,
    config_paths=(("/info",),),
    configuration=_configuration,
    running_name="batch_current_size",
    progress_names=(
        "batch_current_size",
        "batch_current_max_tokens",
        "queue_size",
        "batch_inference_count",
        "batch_inference_count_total",
        "batch_inference_success",
        "batch_inference_success_total",
        "batch_inference_duration_count",
        "batch_forward_duration_count",
        "batch_decode_duration_count",
    ),
    health_path=None,  # runs a prefill, or allocates on the GPU (backends/v3/src/backend.rs)
)
