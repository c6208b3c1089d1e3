"""The engines' mappings, against recordings and what the load generator counted."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from node_agent.collectors.engines.mapping import Distribution, Reading, Scalar, read_values
from node_agent.collectors.engines.registry import ENGINES, WANTED, identify
from node_agent.collectors.exposition import read
from node_agent.model import EntityKind, Histogram, Reason, Sample, Value
from optiinfra.catalogue import TABLES

DATA = Path(__file__).parents[2] / "data" / "engines"
NOT_HERE = {"up_flag", "scrape_seconds", "counters_since_unix_seconds"}  # the scrape's own


def reading_of(body: bytes) -> Reading:
    name = identify(body)
    assert name is not None
    return read_values(ENGINES[name], read(body, WANTED[name]))


def recorded(path: str) -> Reading:
    return reading_of((DATA / path).read_bytes())


def summary(folder: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((DATA / folder / "summary.json").read_text())
    return loaded


def number(value: Value) -> float:
    assert isinstance(value, float | int), value
    return value


def grown(after: Value, before: Value) -> Histogram:
    assert isinstance(after, Histogram)
    if isinstance(before, Reason):
        return after
    assert isinstance(before, Histogram)
    counts = tuple(new - old for new, old in zip(after.counts, before.counts, strict=True))
    return Histogram(bounds=after.bounds, counts=counts, sum=after.sum - before.sum)


def bucket_of(histogram: Histogram, share: float) -> tuple[float, float]:
    """Between which bounds the observation lies that `share` of all are below."""
    wanted, seen = share * sum(histogram.counts), 0
    edges = (0.0, *histogram.bounds, math.inf)
    for index, count in enumerate(histogram.counts):
        seen += count
        if seen >= wanted:
            return edges[index], edges[index + 1]
    raise AssertionError("an empty histogram has no quantiles")


@pytest.mark.parametrize("path", sorted(DATA.glob("*/*.prom")), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_recording_gives_every_field_a_value_or_a_reason_that_the_catalogue_takes(path: Path) -> None:
    reading = recorded(str(path.relative_to(DATA)))
    assert set(reading.values) == {spec.name for spec in TABLES["inference"].fields} - NOT_HERE
    Sample(table="inference", entity=(EntityKind.INFERENCE_SERVER, "x"), values=reading.values)
    for name, value in reading.values.items():
        spec = TABLES["inference"].field(name)
        if isinstance(value, Reason):
            assert value is Reason.NOT_EXPOSED, name
        else:
            assert isinstance(value, {"bigint": int, "histogram": Histogram}.get(spec.type, float)), name


def test_the_mappings_name_only_fields_of_the_catalogue() -> None:
    for engine in ENGINES.values():
        table = TABLES[engine.table]
        assert set(engine.fields) <= {spec.name for spec in table.fields}
        for name, mapped in engine.fields.items():
            assert isinstance(mapped, Distribution) == (table.field(name).type == "histogram")


@pytest.mark.parametrize(
    ("folder", "last", "first"),
    [("vllm-healthy", "0050", "0000"), ("vllm-queue-bound", "0053", None), ("sglang-healthy", "0050", "0000")],
)
def test_what_the_server_counted_is_what_the_clients_counted(folder: str, last: str, first: str | None) -> None:
    truth, after = summary(folder), recorded(f"{folder}/{last}.prom")
    before = recorded(f"{folder}/{first}.prom").values if first else {}

    def gained(name: str) -> float:
        return number(after.values[name]) - number(before.get(name, 0))

    seconds = truth["completed"] / truth["rps"]
    assert gained("requests_finished_total") == truth["completed"]
    assert gained("prompt_tokens_total") == pytest.approx(truth["in_tok_s"] * seconds, rel=0.01)
    # the clients counted chunks of the stream, of which some hold two tokens
    assert (
        0.99 * truth["out_tok_s"] * seconds <= gained("generation_tokens_total") <= 1.06 * truth["out_tok_s"] * seconds
    )


@pytest.mark.parametrize(
    ("folder", "last", "first"),
    [("vllm-healthy", "0050", "0000"), ("vllm-queue-bound", "0053", None), ("sglang-healthy", "0050", "0000")],
)
@pytest.mark.parametrize(("field", "key"), [("ttft_seconds", "ttft"), ("end_to_end_seconds", "e2e")])
def test_the_clients_median_lies_in_the_bucket_that_the_servers_median_lies_in(
    folder: str, last: str, first: str | None, field: str, key: str
) -> None:
    before = recorded(f"{folder}/{first}.prom").values[field] if first else Reason.NOT_EXPOSED
    low, high = bucket_of(grown(recorded(f"{folder}/{last}.prom").values[field], before), 0.5)
    # the client also waits for the network and its own loop: a bucket's edge may lie between the two
    assert low * 0.95 <= summary(folder)[key]["p50"] <= high * 1.3


def test_a_full_queue_and_a_full_cache_look_different() -> None:
    queue, cache = recorded("vllm-queue-bound/0030.prom").values, recorded("vllm-kv-bound/0030.prom").values
    assert (queue["requests_running_count"], queue["requests_waiting_count"]) == (2.0, 30.0)
    assert number(queue["kv_cache_usage_ratio"]) < 0.01
    assert queue["preemptions_total"] == 0
    assert (cache["requests_running_count"], cache["requests_waiting_count"]) == (9.0, 39.0)
    assert number(cache["kv_cache_usage_ratio"]) > 0.95
    assert cache["preemptions_total"] == 528
    assert cache["kv_cache_capacity_tokens"] == 128 * 32


def test_data_parallel_ranks_are_added_up_and_counted() -> None:
    values = recorded("vllm-variants/dp2.prom").values
    assert values["ranks_count"] == 2.0
    assert values["requests_finished_total"] == 195
    assert values["prompt_tokens_total"] == 195 * 64
    assert values["kv_cache_capacity_tokens"] == 2 * 1_048_576
    ttft = values["ttft_seconds"]
    assert isinstance(ttft, Histogram)
    assert sum(ttft.counts) == 195
    assert ttft.sum == pytest.approx(2.3229527473449707 + 2.145866632461548)


def test_a_multi_process_exposition_has_no_start_time_and_everything_else() -> None:
    reading = recorded("vllm-variants/api-servers-2.prom")
    assert reading.started_unix_seconds is None
    assert reading.values["requests_finished_total"] == 256
    assert reading.values["ranks_count"] == 1.0


def test_the_start_time_and_the_models_are_read() -> None:
    reading = recorded("vllm-healthy/0050.prom")
    assert reading.started_unix_seconds == 1.79532777176e9
    assert reading.models == ("tiny",)


def test_the_oldest_creation_time_stands_in_for_a_start_time() -> None:
    body = (
        b'vllm:num_requests_running{engine="0"} 1\n'
        b'vllm:prompt_tokens_created{engine="0"} 200\n'
        b'vllm:time_to_first_token_seconds_created{engine="0"} 150\n'
    )
    assert reading_of(body).started_unix_seconds == 150.0


def test_sglang_counts_tokens_live_and_at_the_end_apart() -> None:
    values = recorded("sglang-healthy/0050.prom").values
    assert values["prompt_tokens_total"] == 11 + 10_152  # over is_streaming
    assert values["prompt_tokens_live_total"] == 10_162 + 2
    assert values["generation_tokens_live_total"] == 4_832
    assert values["prefix_cache_queries_total"] == values["prompt_tokens_total"]
    assert values["prefix_cache_hits_total"] == values["prompt_tokens_cached_total"] == 2


def test_a_counter_that_sglang_never_incremented_is_unknown_and_not_zero() -> None:
    values = recorded("sglang-healthy/0000.prom").values
    for name in ("prefix_cache_hits_total", "requests_aborted_total", "preemptions_total", "decode_seconds"):
        assert values[name] is Reason.NOT_EXPOSED


SGLANG_RANK = 'engine_type="unified",model_name="m"'


def test_sglang_tensor_parallel_ranks_count_once_and_data_parallel_ranks_add_up() -> None:
    lines = []
    for data, tensor, running in ((0, 0, 3), (0, 1, 3), (1, 2, 5), (1, 3, 5)):
        rank = f'{SGLANG_RANK},dp_rank="{data}",tp_rank="{tensor}",pp_rank="0",pid="{tensor}"'
        lines += [
            f"sglang:num_running_reqs{{{rank}}} {running}",
            f"sglang:token_usage{{{rank}}} 0.{running}",
            f"sglang:max_total_num_tokens{{{rank}}} 1000",
            f'sglang:realtime_tokens_total{{{rank},mode="decode"}} {running * 100}',
            f'sglang:queue_time_seconds_bucket{{{rank},le="1.0"}} {running}',
            f'sglang:queue_time_seconds_bucket{{{rank},le="+Inf"}} {running}',
            f"sglang:queue_time_seconds_sum{{{rank}}} 0.5",
        ]
    values = reading_of("\n".join(lines).encode()).values
    assert values["ranks_count"] == 2.0
    assert values["requests_running_count"] == 8.0
    assert values["kv_cache_usage_ratio"] == 0.5
    assert values["kv_cache_capacity_tokens"] == 2000
    assert values["generation_tokens_live_total"] == 800
    assert values["queue_seconds"] == Histogram(bounds=(1.0,), counts=(8, 0), sum=1.0)


def test_sglang_priorities_are_parts_of_a_total_and_not_added_to_it() -> None:
    body = (
        f'sglang:num_running_reqs{{{SGLANG_RANK},priority=""}} 7\n'
        f'sglang:num_running_reqs{{{SGLANG_RANK},priority="1"}} 4\n'
        f'sglang:num_running_reqs{{{SGLANG_RANK},priority="2"}} 3\n'
    )
    assert reading_of(body.encode()).values["requests_running_count"] == 7.0


@pytest.mark.parametrize("prefix", ["vllm:", "vllm_", "ray_vllm:", "ray_vllm_"])
def test_every_prefix_of_vllm_reads_the_same(prefix: str) -> None:
    body = f'{prefix}num_requests_running{{engine="0",model_name="m",ReplicaId="r"}} 2\n{prefix}prompt_tokens_total 7\n'
    reading = reading_of(body.encode())
    assert reading.values["requests_running_count"] == 2.0
    assert reading.values["prompt_tokens_total"] == 7
    assert reading.models == ("m",)


@pytest.mark.parametrize(
    ("field", "old", "new"),
    [
        ("kv_cache_usage_ratio", "gpu_cache_usage_perc", "kv_cache_usage_perc"),
        ("prefix_cache_hits_total", "gpu_prefix_cache_hits_total", "prefix_cache_hits_total"),
        ("prefix_cache_queries_total", "gpu_prefix_cache_queries_total", "prefix_cache_queries_total"),
    ],
)
def test_an_old_vllm_name_counts_only_where_the_new_one_is_missing(field: str, old: str, new: str) -> None:
    assert number(reading_of(f"vllm:{old} 1\n".encode()).values[field]) == 1
    assert number(reading_of(f"vllm:{old} 1\nvllm:{new} 0\n".encode()).values[field]) == 0


def test_the_old_name_of_inter_token_latency_is_read() -> None:
    body = b'vllm:time_per_output_token_seconds_bucket{le="+Inf"} 2\nvllm:time_per_output_token_seconds_sum 0.5\n'
    values = reading_of(body).values
    assert values["inter_token_latency_seconds"] == Histogram(bounds=(), counts=(2,), sum=0.5)
    assert values["time_per_output_token_seconds"] is Reason.NOT_EXPOSED


def test_vllm_requests_are_told_apart_by_how_they_ended() -> None:
    ended = {"stop": 1, "length": 2, "abort": 4, "error": 8, "repetition": 16}
    body = "".join(f'vllm:request_success_total{{finished_reason="{reason}"}} {n}\n' for reason, n in ended.items())
    values = reading_of(body.encode()).values
    assert values["requests_finished_total"] == 1 + 2 + 16
    assert values["requests_aborted_total"] == 4
    assert values["requests_failed_total"] == 8


@pytest.mark.parametrize(
    ("labels", "capacity"),
    [
        ('kv_cache_size_tokens="500",num_gpu_blocks="10",block_size="16"', 500),
        ('kv_cache_size_tokens="None",num_gpu_blocks="10",block_size="16"', 160),
        ('num_gpu_blocks="10",block_size="16"', 160),
        ('num_gpu_blocks="None",block_size="16"', Reason.NOT_EXPOSED),
        ('num_gpu_blocks="-1",block_size="16"', Reason.NOT_EXPOSED),
    ],
)
def test_kv_capacity_comes_from_the_cache_configuration(labels: str, capacity: Value) -> None:
    body = f'vllm:cache_config_info{{engine="0",{labels}}} 1\n'
    assert reading_of(body.encode()).values["kv_cache_capacity_tokens"] == capacity


def test_one_rank_of_unknown_capacity_leaves_the_whole_capacity_unknown() -> None:
    body = (
        b'vllm:cache_config_info{engine="0",kv_cache_size_tokens="5"} 1\n'
        b'vllm:cache_config_info{engine="1",kv_cache_size_tokens="None"} 1\n'
    )
    assert reading_of(body).values["kv_cache_capacity_tokens"] is Reason.NOT_EXPOSED


# Names and labels as TGI's documentation has them; the figures are made up, since no recording of it exists.
TGI = b"""
# TYPE tgi_batch_current_size gauge
tgi_batch_current_size 3
tgi_queue_size 4
tgi_batch_max_total_tokens 20000
tgi_request_success{method="generate"} 9
tgi_request_success{method="generate_stream"} 1
tgi_request_failure{err="overloaded"} 2
tgi_request_failure{err="validation"} 3
tgi_request_input_length_bucket{le="10"} 4
tgi_request_input_length_bucket{le="+Inf"} 10
tgi_request_input_length_sum 123
tgi_request_input_length_count 10
tgi_request_generated_tokens_sum 456
tgi_request_duration_bucket{le="0.5"} 10
tgi_request_duration_bucket{le="+Inf"} 10
tgi_request_duration_sum 2.5
"""


def test_tgi_is_read_and_what_it_lacks_is_not_exposed() -> None:
    values = reading_of(TGI).values
    assert values["requests_running_count"] == 3.0
    assert values["requests_waiting_count"] == 4.0
    assert values["kv_cache_capacity_tokens"] == 20_000
    assert values["prompt_tokens_total"] == 123
    assert values["generation_tokens_total"] == 456
    assert values["requests_finished_total"] == 10
    assert values["requests_failed_total"] == 5
    assert values["end_to_end_seconds"] == Histogram(bounds=(0.5,), counts=(10, 0), sum=2.5)
    assert values["prompt_length_tokens"] == Histogram(bounds=(10.0,), counts=(4, 6), sum=123.0)
    assert values["ranks_count"] == 1.0
    for name in ("kv_cache_usage_ratio", "ttft_seconds", "inter_token_latency_seconds", "preemptions_total"):
        assert values[name] is Reason.NOT_EXPOSED


def test_tgi_counters_with_the_suffix_that_others_add_are_read_too() -> None:
    assert reading_of(b"tgi_request_success_total 5\n").values["requests_finished_total"] == 5


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("NaN", Reason.NOT_A_NUMBER),
        ("-1", Reason.OUT_OF_RANGE),
        ("+Inf", Reason.OUT_OF_RANGE),
        ("1e30", Reason.OUT_OF_RANGE),
    ],
)
def test_impossible_numbers_are_reasons(written: str, reason: Reason) -> None:
    assert reading_of(f"vllm:prompt_tokens_total {written}\n".encode()).values["prompt_tokens_total"] is reason


def test_one_rank_that_is_not_a_number_spoils_the_sum() -> None:
    body = b'vllm:num_requests_running{engine="0"} 1\nvllm:num_requests_running{engine="1"} NaN\n'
    assert reading_of(body).values["requests_running_count"] is Reason.NOT_A_NUMBER


def ttft(*lines: str) -> Value:
    body = "\n".join(f"vllm:time_to_first_token_seconds_{line}" for line in lines)
    return reading_of(body.encode()).values["ttft_seconds"]


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (('bucket{le="1"} 3', 'bucket{le="2"} 2', 'bucket{le="+Inf"} 3', "sum 1"), Reason.ERROR),
        (('bucket{le="1"} 1.5', 'bucket{le="+Inf"} 3', "sum 1"), Reason.ERROR),
        (('bucket{le="1"} 1', "sum 1"), Reason.ERROR),
        (('bucket{le="1"} 1', 'bucket{le="+Inf"} 3'), Reason.ERROR),
        (('bucket{le="one"} 1', 'bucket{le="+Inf"} 3', "sum 1"), Reason.ERROR),
        (('bucket{le="1"} -1', 'bucket{le="+Inf"} 3', "sum 1"), Reason.ERROR),
        (('bucket{le="1"} 1', 'bucket{le="+Inf"} +Inf', "sum 1"), Reason.ERROR),
        (('bucket{le="1"} NaN', 'bucket{le="+Inf"} 3', "sum 1"), Reason.NOT_A_NUMBER),
        (('bucket{le="+Inf"} 3', "sum NaN"), Reason.NOT_A_NUMBER),
        (("sum 3", "count 3"), Reason.NOT_EXPOSED),
    ],
)
def test_a_broken_histogram_is_a_reason(lines: tuple[str, ...], reason: Reason) -> None:
    assert ttft(*lines) is reason


def test_ranks_of_unlike_buckets_are_not_added_up() -> None:
    assert (
        ttft(
            'bucket{engine="0",le="1"} 1',
            'bucket{engine="0",le="+Inf"} 1',
            'sum{engine="0"} 1',
            'bucket{engine="1",le="2"} 1',
            'bucket{engine="1",le="+Inf"} 1',
            'sum{engine="1"} 1',
        )
        is Reason.ERROR
    )


@pytest.mark.parametrize(
    ("body", "engine"),
    [
        (b"# HELP vllm:x y\n", "vllm"),
        (b'python_info{a="b"} 1\nsglang:token_usage 1\n', "sglang"),
        (b"tgi_queue_size 1", "tgi"),
        (b"my_vllm:x 1\n", None),
        (b"lmcache_mp_l1_usage_ratio 1\n", "lmcache"),
        (b"lmcache:lmcache_is_healthy 1\nvllm:num_requests_running 1\n", "vllm"),
        (b"<html>vllm:x</html>", None),
        (b"", None),
    ],
)
def test_an_engine_is_known_by_its_metrics_prefix(body: bytes, engine: str | None) -> None:
    assert identify(body) == engine


def test_vllm_says_version_model_and_cache_configuration() -> None:
    exposition = read((DATA / "vllm-healthy/0050.prom").read_bytes(), WANTED["vllm"])
    models = {"data": [{"id": "lora", "parent": "tiny"}, {"id": "tiny", "parent": None, "max_model_len": 4096}]}
    said = ENGINES["vllm"].configuration({"/version": {"version": "0.32.0"}, "/v1/models": models}, exposition)
    assert (said.version, said.model, said.max_model_len) == ("0.32.0", "tiny", 4096)
    assert said.config["block_size"] == 32
    assert said.config["enable_prefix_caching"] is True
    assert said.config["gpu_memory_utilization"] == 0.92
    assert "sliding_window" not in said.config  # the label says None


def test_no_secret_of_sglang_passes() -> None:
    server = {
        "version": "0.5.23",
        "api_key": "sk-1",
        "admin_api_key": "sk-2",
        "ssl_keyfile_password": "pw",
        "tp_size": 2,
        "mem_fraction_static": 0.8,
        "quantization": None,
        "context_length": 4096,
        "served_model_name": "tiny",
        "internal_states": [{"api_key": "sk-3"}],
        "kv_events": {"token": "sk-4"},
    }
    info = {"model_path": "/models/tiny", "is_generation": True, "hf_token": "hf_5"}
    said = ENGINES["sglang"].configuration({"/server_info": server, "/model_info": info}, read(b"", {}))
    assert (said.version, said.model, said.max_model_len) == ("0.5.23", "tiny", 4096)
    assert said.config["tp_size"] == 2
    assert said.config["is_generation"] is True
    assert "quantization" not in said.config
    text = json.dumps(said.config)
    assert not any(secret in text for secret in ("sk-", "pw", "hf_5"))


def test_tgi_says_what_its_info_says() -> None:
    info = {"model_id": "org/model", "version": "3.3.7", "max_total_tokens": 4096, "secret": "x"}
    said = ENGINES["tgi"].configuration({"/info": info}, read(b"", {}))
    assert (said.version, said.model, said.max_model_len) == ("3.3.7", "org/model", 4096)
    assert "secret" not in said.config


@pytest.mark.parametrize("name", sorted(ENGINES))
@pytest.mark.parametrize("answer", [None, [], "text", 5, {"data": "x"}, {"data": [None, {"id": {}}]}, {"version": []}])
def test_nonsense_in_place_of_a_configuration_is_unknown(name: str, answer: object) -> None:
    engine = ENGINES[name]
    answers = {path: answer for paths in engine.config_paths for path in paths}
    said = engine.configuration(answers, read(b"", {}))
    assert (said.version, said.model, said.max_model_len, dict(said.config)) == (None, None, None, {})


def test_an_engines_words_are_cut_and_cleaned() -> None:
    info = {"model_id": "a\x00b\u202ec" + "x" * 10_000, "max_total_tokens": 10**400, "waiting_served_ratio": math.nan}
    said = ENGINES["tgi"].configuration({"/info": info}, read(b"", {}))
    assert said.model == "abc" + "x" * 253
    assert set(said.config) == {"model_id"}


def test_no_engine_is_asked_for_a_path_that_is_not_on_its_list() -> None:
    paths = {path for engine in ENGINES.values() for group in engine.config_paths for path in group}
    assert paths == {
        "/version", "/v1/models", "/model_info", "/server_info", "/get_server_info", "/info", "/status", "/api/status",
    }  # fmt: skip


def test_a_scalar_is_never_mapped_without_a_source() -> None:
    for engine in ENGINES.values():
        assert all(mapped.sources for mapped in engine.fields.values() if isinstance(mapped, Scalar | Distribution))
