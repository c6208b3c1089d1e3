"""Metric names as they came and went over the engines' releases, and as ranks and copies carry them."""

from __future__ import annotations

from pathlib import Path

import pytest

from node_agent.collectors.engines.mapping import read_values
from node_agent.collectors.engines.registry import ENGINES, WANTED, identify
from node_agent.collectors.exposition import read
from node_agent.model import Histogram, Reason, Value

DATA = Path(__file__).parents[2] / "data" / "engines"
VARIANTS = DATA / "vllm-variants"


def values_of(body: bytes | str) -> dict[str, Value]:
    raw = body.encode() if isinstance(body, str) else body
    name = identify(raw)
    assert name is not None
    return dict(read_values(ENGINES[name], read(raw, WANTED[name])).values)


def running(values: dict[str, Value]) -> list[Value]:
    return [values[f"requests_running_{name}"] for name in ("count", "rank_max_count", "rank_min_count")]


# Made by hand after the engines' sources: one line, as the release named here exposes it.
SCALARS = [
    ("vllm 0.6", 'vllm:gpu_cache_usage_perc{model_name="m"} 0.5', "kv_cache_usage_ratio", 0.5),
    ("vllm 0.6", 'vllm:cpu_cache_usage_perc{model_name="m"} 0.25', "kv_offload_usage_ratio", 0.25),
    ("vllm 0.6", 'vllm:num_requests_swapped{model_name="m"} 3', "requests_swapped_count", 3.0),
    ("vllm 0.6", 'vllm:spec_decode_draft_acceptance_rate{model_name="m"} 0.7', "spec_decode_acceptance_ratio", 0.7),
    ("vllm 0.8", 'vllm:gpu_prefix_cache_hits_total{engine="0"} 7', "prefix_cache_hits_total", 7),
    ("vllm 0.9", 'vllm:prefix_cache_hits_total{engine="0"} 8', "prefix_cache_hits_total", 8),
    ("vllm 0.11 on Ray", 'ray_vllm_prompt_tokens_total{engine="0",ReplicaId="x"} 9', "prompt_tokens_total", 9),
    ("vllm 0.12", 'vllm:external_prefix_cache_hits_total{engine="0"} 9', "external_prefix_cache_hits_total", 9),
    ("vllm 0.20", 'vllm:kv_offload_total_bytes_total{engine="0",transfer_type="CPU_to_GPU"} 5',
     "kv_offload_load_bytes_total", 5),
    ("vllm 0.28", 'vllm:kv_offload_store_bytes_total{engine="0"} 6', "kv_offload_store_bytes_total", 6),
    ("vllm 0.12", 'vllm:engine_sleep_state{engine="0",sleep_state="weights_offloaded"} 1', "asleep_flag", 1.0),
    ("vllm 0.12", 'vllm:engine_sleep_state{engine="0",sleep_state="awake"} 1', "asleep_flag", Reason.NOT_EXPOSED),
    ("vllm 0.20", 'vllm:lora_requests_info{max_lora="4",running_lora_adapters="a,b",waiting_lora_adapters=""} 1.7e9',
     "lora_adapters_active_count", 2.0),
    ("sglang 0.4", 'sglang:num_aborted_requests{model_name="m"} 2', "requests_aborted_total", 2),
    ("sglang 0.5", 'sglang:num_aborted_requests_total{model_name="m"} 3', "requests_aborted_total", 3),
    ("sglang 0.5", 'sglang:spec_accept_rate{model_name="m"} 0', "spec_decode_acceptance_ratio", Reason.NOT_EXPOSED),
    ("sglang 0.5", 'sglang:evicted_tokens_total{cache_type="RadixCache"} 4', "kv_cache_evicted_tokens_total", 4),
    ("sglang 0.5", 'sglang:prefill_effective_tokens_total{mode="host_hit"} 4', "external_prefix_cache_hits_total", 4),
    ("tgi 3", 'tgi_request_failure{err="overloaded"} 4', "requests_rejected_total", 4),
]  # fmt: skip


@pytest.mark.parametrize(("release", "line", "field", "value"), SCALARS, ids=lambda item: str(item)[:40])
def test_a_name_of_any_release_fills_its_field(release: str, line: str, field: str, value: Value) -> None:
    assert values_of(line + "\n")[field] == value, release


HISTOGRAMS = [
    ("vllm:time_in_queue_requests", "queue_seconds"),
    ("vllm:time_per_output_token_seconds", "inter_token_latency_seconds"),
    ("vllm:inter_token_latency_seconds", "inter_token_latency_seconds"),
    ("sglang:queue_time_s", "queue_seconds"),
    ("sglang:time_per_output_token_seconds", "inter_token_latency_seconds"),
    ("tgi_request_inference_duration", "inference_seconds"),
]


@pytest.mark.parametrize(("name", "field"), HISTOGRAMS)
def test_a_renamed_histogram_fills_its_field(name: str, field: str) -> None:
    body = f'{name}_bucket{{le="1"}} 2\n{name}_bucket{{le="+Inf"}} 3\n{name}_sum 4\n{name}_count 3\n'
    assert values_of(body)[field] == Histogram(bounds=(1.0,), counts=(2, 1), sum=4.0)


def test_while_an_old_and_a_new_name_are_both_exposed_the_new_one_counts_and_nothing_twice() -> None:
    body = 'vllm:gpu_cache_usage_perc{engine="0"} 0.2\nvllm:kv_cache_usage_perc{engine="0"} 0.3\n'
    assert values_of(body)["kv_cache_usage_ratio"] == 0.3
    both = 'vllm:gpu_prefix_cache_hits_total{engine="0"} 5\nvllm:prefix_cache_hits_total{engine="0"} 5\n'
    assert values_of(both)["prefix_cache_hits_total"] == 5


def test_the_fullest_and_the_emptiest_data_parallel_rank_are_told_apart() -> None:
    body = "".join(f'vllm:num_requests_running{{engine="{rank}"}} {n}\n' for rank, n in ((0, 3), (1, 40)))
    values = values_of(body)
    assert running(values) == [43, 40, 3]


def test_tensor_ranks_are_copies_and_neither_added_up_nor_seen_as_imbalance() -> None:
    body = "".join(
        f'sglang:num_running_reqs{{dp_rank="{dp}",tp_rank="{tp}",model_name="m"}} {n}\n'
        for dp, n in ((0, 4), (1, 6)) for tp in (0, 1)
    )  # fmt: skip
    values = values_of(body)
    assert running(values) == [10, 6, 4]
    assert values["ranks_count"] == 2


def test_api_server_processes_are_copies() -> None:
    body = "".join(f'vllm:num_requests_running{{engine="0",model_name="m",pid="{pid}"}} 5\n' for pid in (1, 2))
    assert values_of(body)["requests_running_count"] == 5


def test_a_server_that_refuses_says_how_often() -> None:
    assert values_of((VARIANTS / "admission.prom").read_bytes())["requests_rejected_total"] == 2530


def test_speculation_shows_what_was_drafted_and_that_nothing_was_accepted() -> None:
    values = values_of((VARIANTS / "spec-ngram.prom").read_bytes())
    drafted = [values[f"spec_decode_{name}_total"] for name in ("drafts", "draft_tokens", "accepted_tokens")]
    assert drafted == [106, 315, 0]
    assert values_of((VARIANTS / "dp2.prom").read_bytes())["spec_decode_drafts_total"] is Reason.NOT_EXPOSED


def test_work_that_is_not_estimated_is_unknown_and_not_zero() -> None:
    assert values_of((VARIANTS / "extra-metrics.prom").read_bytes())["estimated_flops_per_gpu_total"] == 2.4079826944e10
    assert values_of((VARIANTS / "dp2.prom").read_bytes())["estimated_flops_per_gpu_total"] is Reason.NOT_EXPOSED


def test_the_lookups_in_a_connectors_cache_are_counted() -> None:
    values = values_of((VARIANTS / "kv-example-connector.prom").read_bytes())
    assert values["external_prefix_cache_queries_total"] == 10220


def test_the_metrics_of_a_server_whose_worker_was_killed_stand_still() -> None:
    looks = [values_of(path.read_bytes()) for path in sorted((DATA / "vllm-faults").glob("after_kill_*.prom"))]
    assert len(looks) == 4
    assert {look["generation_tokens_total"] for look in looks} == {1940}
