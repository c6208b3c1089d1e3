"""What the API says of inference servers, against every request that the fleet's servers saw."""

from __future__ import annotations

import statistics
from typing import Any

import pytest

from control_plane.catalogue.tables import list_prices
from control_plane.storage.session import Database
from node_agent.model import Reason, Value
from optiinfra.catalogue import TABLES
from tests.fakes.clock import FakeClock, FakeNodeClock
from tests.support import fleet
from tests.support.agent_links import ingesting, linked
from tests.support.fleet import GONE_URL, GPU_0, LLAMA, QWEN, QWEN_URL, RESTART_TICK, SGLANG_URL, URL, entity
from tests.support.rest import Api

METRICS = ["/metrics/latency", "/metrics/throughput", "/metrics/gpu", "/metrics/tokens", "/metrics/memory"]
# Ticks whose observations lie in the default window: the one before it is where the counters stood at first.
WINDOW_TICKS = fleet.ticks_within(300)


async def _by_node(api: Api, path: str, **parameters: Any) -> dict[str, Any]:
    """The llama servers by node: their URLs are the same."""
    return {item["node"]: item for item in await api.items(path, model=LLAMA, **parameters)}


def _truth(server: str) -> list[float]:
    """Every time to first token that was seen in the default window; what a restart swallowed nobody saw."""
    return [value for k in WINDOW_TICKS for value in fleet.ttft(server, k)]


def _quantile(observations: list[float], share: float) -> float:
    return sorted(observations)[max(0, -(-int(share * 100) * len(observations) // 100) - 1)]


# -- servers --------------------------------------------------------------------------------------


async def test_every_server_is_listed_with_its_state_and_load(api: Api) -> None:
    found = {(item["node"], item["url"]): item for item in await api.items("/inference/servers")}
    assert found.keys() == {
        ("alpha", URL), ("alpha", GONE_URL), ("beta", URL), ("gamma", SGLANG_URL), ("gamma", QWEN_URL),
    }  # fmt: skip
    server = found["alpha", URL]
    assert (server["engine"], server["model"], server["version"]) == ("vllm", LLAMA, "0.11.0")
    assert (server["state"], server["age_seconds"]) == ("up", 2.0)
    assert (server["load"]["requests_running_count"], server["load"]["kv_cache_usage_ratio"]) == (3, 0.25)
    gone = found["alpha", GONE_URL]
    assert (gone["state"], gone["load"]["requests_running_count"]) == ("gone", None)
    assert gone["load"]["unknown"]["requests_running_count"] == "server_gone"


async def test_an_id_names_one_server_even_where_others_have_the_same_url(api: Api) -> None:
    for server in await api.items("/inference/servers"):
        one = await api.get(f"/inference/servers/{server['server_id']}")
        assert (one["server_id"], one["node"], one["url"]) == (server["server_id"], server["node"], server["url"])
        for path in ("/inference/servers", *METRICS):
            assert (await api.one(path, server=server["server_id"]))["server_id"] == server["server_id"]


async def test_a_url_names_every_server_that_has_it(api: Api) -> None:
    assert [item["node"] for item in await api.items("/inference/servers", server=URL)] == ["alpha", "beta"]
    assert [item["node"] for item in await api.items("/inference/servers", server=URL, node="beta")] == ["beta"]


async def test_one_server_shows_its_counters_too(api: Api) -> None:
    alpha = (await _by_node(api, "/inference/servers"))["alpha"]
    shown = await api.get(f"/inference/servers/{alpha['server_id']}")
    assert shown["load"]["generation_tokens_total"] == 400_000 + 250 * 120
    assert shown["load"]["requests_failed_total"] is None
    assert shown["load"]["unknown"]["requests_failed_total"] == "not_exposed"


@pytest.mark.parametrize("path", ["/inference/servers", *METRICS])
@pytest.mark.parametrize("limit", [1, 2, 5])
async def test_pages_show_every_server_exactly_once(api: Api, path: str, limit: int) -> None:
    shown = [(item["node"], item["url"]) for item in await api.all_pages(path, limit=limit)]
    assert sorted(shown) == sorted(
        [("alpha", URL), ("alpha", GONE_URL), ("beta", URL), ("gamma", SGLANG_URL), ("gamma", QWEN_URL)]
    )


@pytest.mark.parametrize("path", ["/inference/servers", *METRICS])
async def test_filters_narrow_to_what_was_named(api: Api, path: str) -> None:
    assert {item["url"] for item in await api.items(path, model=QWEN)} == {SGLANG_URL, QWEN_URL}
    assert {item["url"] for item in await api.items(path, node="alpha")} == {URL, GONE_URL}
    assert await api.items(path, node="gamma", server=GONE_URL) == []


# -- latency --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "share"), [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)])
@pytest.mark.parametrize("node", ["alpha", "beta"])
async def test_a_servers_quantiles_hold_the_truth_between_their_bounds(
    api: Api, node: str, name: str, share: float
) -> None:
    shown = (await _by_node(api, "/metrics/latency"))[node]["ttft_seconds"]
    truth = _truth(node)
    assert shown["count"] == len(truth)
    assert shown["mean"] == pytest.approx(sum(truth) / len(truth), rel=1e-4)
    assert shown[name]["low"] < _quantile(truth, share) <= (shown[name]["high"] or float("inf"))


@pytest.mark.parametrize(("name", "share"), [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)])
async def test_quantiles_over_replicas_are_those_of_all_their_observations(api: Api, name: str, share: float) -> None:
    body = await api.get("/metrics/latency", model=LLAMA)
    (model,) = body["models"]
    truth = _truth("alpha") + _truth("beta")
    assert (model["model"], model["servers"], model["ttft_seconds"]["count"]) == (LLAMA, 2, len(truth))
    assert model["ttft_seconds"][name]["low"] < _quantile(truth, share)
    assert _quantile(truth, share) <= (model["ttft_seconds"][name]["high"] or float("inf"))


async def test_replicas_whose_buckets_differ_are_not_merged(api: Api) -> None:
    (model,) = (await api.get("/metrics/latency", model=QWEN))["models"]
    assert model["ttft_seconds"] is None
    assert model["unknown"]["ttft_seconds"] == "bucket_bounds_differ"
    for item in await api.items("/metrics/latency", model=QWEN):
        assert item["ttft_seconds"]["count"] == 4 * len(WINDOW_TICKS)


async def test_a_histogram_that_an_engine_does_not_have_is_unknown(api: Api) -> None:
    alpha = (await _by_node(api, "/metrics/latency"))["alpha"]
    assert alpha["decode_seconds"] is None
    assert alpha["unknown"]["decode_seconds"] == "not_exposed"


async def test_a_server_that_was_gone_all_the_time_has_no_samples(api: Api) -> None:
    item = await api.one("/metrics/latency", server=GONE_URL)
    assert item["ttft_seconds"] is None
    assert item["unknown"]["ttft_seconds"] == "no_samples"
    throughput = await api.one("/metrics/throughput", server=GONE_URL)
    assert (throughput["output_tokens_per_second"], throughput["covered_seconds"]) == (None, 0.0)


# -- throughput -----------------------------------------------------------------------------------


async def test_throughput_is_the_growth_of_the_counters_per_second(api: Api) -> None:
    alpha = (await _by_node(api, "/metrics/throughput"))["alpha"]
    assert alpha["requests_per_second"] == 1.0
    assert alpha["prompt_tokens_per_second"] == 100.0
    assert alpha["output_tokens_per_second"] == 50.0
    assert alpha["covered_seconds"] == 300.0  # from tick 60, just before the window, to tick 120
    assert alpha["evidence"]["numbers"]["growth"]["generation_tokens_total"] == 15_000


async def test_throughput_is_per_gpu_and_per_joule_where_the_gpus_are_known(api: Api) -> None:
    alpha = (await _by_node(api, "/metrics/throughput"))["alpha"]
    assert alpha["output_tokens_per_second_per_gpu"] == 50.0
    assert alpha["output_tokens_per_joule"] == 0.1  # 50 tokens/s on 500 W
    listed = statistics.median(p.usd_per_gpu_hour for p in list_prices() if p.gpu == "H200")
    assert alpha["output_tokens_per_usd"] == pytest.approx(50.0 * 3600 / listed, rel=1e-6)
    assert alpha["unknown"] == {}
    sglang = await api.one("/metrics/throughput", server=SGLANG_URL)
    assert sglang["unknown"]["output_tokens_per_joule"] == "gpus_of_server_unknown"


async def test_a_restart_in_the_window_neither_falls_below_zero_nor_counts_twice(api: Api) -> None:
    beta = (await _by_node(api, "/metrics/throughput"))["beta"]
    run_1 = 5 * (RESTART_TICK - 1 - 60)  # from the look before the window to the last before the restart
    run_2 = 5 * (120 - RESTART_TICK) + fleet.SINCE_RESTART_SECONDS
    assert beta["covered_seconds"] == run_1 + run_2
    assert beta["evidence"]["numbers"]["growth"]["generation_tokens_total"] == 30 * (run_1 + run_2)
    assert beta["output_tokens_per_second"] == 30.0


async def test_failed_scrapes_leave_no_hole_in_what_was_counted(api: Api) -> None:
    beta = (await _by_node(api, "/metrics/throughput", since="2m"))["beta"]
    assert beta["output_tokens_per_second"] == 30.0
    ends_inside = (await _by_node(api, "/metrics/throughput", since="2m", until="90s"))["beta"]
    assert ends_inside["output_tokens_per_second"] == 30.0


async def test_counters_that_run_live_are_preferred_to_those_that_wait_for_a_requests_end(api: Api) -> None:
    sglang = await api.one("/metrics/throughput", server=SGLANG_URL)
    assert (sglang["prompt_tokens_per_second"], sglang["output_tokens_per_second"]) == (60.0, 40.0)


async def test_a_models_throughput_is_the_sum_and_unknown_when_one_part_is(api: Api) -> None:
    models = {m["model"]: m for m in (await api.get("/metrics/throughput"))["models"]}
    assert models[LLAMA]["output_tokens_per_second"] == 80.0
    assert models[LLAMA]["prompt_tokens_per_second"] is None  # beta does not say
    assert models[LLAMA]["unknown"] == {"prompt_tokens_per_second": "unknown_for_a_server"}
    assert models[QWEN]["output_tokens_per_second"] == 50.0


async def test_a_histogram_that_appears_later_does_not_count_the_counters_twice(
    empty_api: Api, database: Database, clock: FakeClock
) -> None:
    """An engine that was started inside the window shows its histograms with the first request."""
    node = FakeNodeClock(clock)
    began = clock.now().timestamp() - 100
    names = ("ttft_seconds", "inter_token_latency_seconds", "prompt_length_tokens")
    ticks = []
    for age in (90, 60, 30, 0):
        values: dict[str, Value] = fleet.vllm_alpha(3) | {
            "counters_since_unix_seconds": began, "generation_tokens_total": 10 * (100 - age),
        }  # fmt: skip
        if age == 90:
            values |= dict.fromkeys(names, Reason.NOT_EXPOSED)
        server = entity("inference", URL, engine="vllm", model=LLAMA, state="up")
        ticks.append(fleet.tick(fleet.before(node.now(), age), [server], [("inference", URL, values)]))
    async with (
        ingesting(database, clock) as (_, address),
        linked(address, node, "fresh") as link,
    ):
        await link.committed(await link.send(ticks))
    item = await empty_api.one("/metrics/throughput")
    assert item["covered_seconds"] == 100.0
    assert item["evidence"]["numbers"]["growth"]["generation_tokens_total"] == 1000
    assert item["output_tokens_per_second"] == 10.0
    partly = await empty_api.one("/metrics/throughput", since="80s")
    assert partly["output_tokens_per_second"] == 10.0


# -- GPUs behind, tokens, memory ------------------------------------------------------------------


async def test_a_servers_gpus_are_those_on_which_its_processes_hold_memory(api: Api) -> None:
    found = await _by_node(api, "/metrics/gpu")
    assert [gpu["gpu"] for gpu in found["alpha"]["gpus"]] == [GPU_0]
    assert found["alpha"]["gpus"][0]["tensor_active_ratio"] == 0.6
    assert found["alpha"]["load"]["requests_running_count"] == 3
    assert [gpu["gpu"] for gpu in found["beta"]["gpus"]] == [fleet.A100]
    sglang = await api.one("/metrics/gpu", server=SGLANG_URL)
    assert (sglang["gpus"], sglang["unknown"]) == (None, {"gpus": "gpus_of_server_unknown"})


async def test_token_speed_per_request_is_one_over_the_mean_gap(api: Api) -> None:
    alpha = (await _by_node(api, "/metrics/tokens"))["alpha"]
    assert alpha["output_tokens_per_second"] == 50.0
    assert alpha["output_tokens_per_second_per_request"] == pytest.approx(1 / 0.015, rel=1e-4)
    assert alpha["prompt_length_tokens"]["mean"] == 100.0
    assert (alpha["prompt_length_tokens"]["p50"]["low"], alpha["prompt_length_tokens"]["p50"]["high"]) == (64, 128)
    assert alpha["unknown"] == {"output_length_tokens": "not_exposed", "tokens_per_iteration": "not_exposed"}


async def test_a_workload_is_learnt_from_what_servers_counted(api: Api) -> None:
    found = {item["profile_id"]: item for item in await api.items("/test/profiles")}
    learnt = found[f"live:{LLAMA}"]
    assert learnt["load"]["prompt_length"].startswith("counted:")
    assert learnt["load"]["rate"] > 0
    assert "variation" in learnt["not_learnt"]
    alone = {i["profile_id"]: i for i in await api.items("/test/profiles", model=LLAMA, node="alpha", since="5m")}
    assert alone[f"live:{LLAMA}"]["load"]["prefix_tokens"] == 60, "0.6 of 100 tokens were in the cache"


async def test_cache_use_headroom_hits_and_preemptions(api: Api) -> None:
    alpha = (await _by_node(api, "/metrics/memory"))["alpha"]
    assert (alpha["kv_cache_usage_ratio"], alpha["headroom_tokens"]) == (0.25, 75_000)
    assert alpha["prefix_cache_hit_ratio"] == 0.6
    assert alpha["preemptions"] == 6  # at ticks 70, 80 … 120
    assert alpha["unknown"] == {"weights_bytes": "not_exposed"}
    idle = await api.one("/metrics/memory", server=QWEN_URL)
    assert (idle["prefix_cache_hit_ratio"], idle["unknown"]["prefix_cache_hit_ratio"]) == (None, "no_lookups")
    beta = (await _by_node(api, "/metrics/memory"))["beta"]
    assert (beta["preemptions"], beta["unknown"]["preemptions"]) == (None, "not_exposed")


# -- history --------------------------------------------------------------------------------------


async def test_a_histograms_history_splits_the_window_without_losing_an_observation(api: Api) -> None:
    alpha = (await _by_node(api, "/inference/servers"))["alpha"]["server_id"]
    for step, points in (("30s", 10), ("300s", 1), ("7s", 43)):
        body = await api.get("/metrics/history", server=alpha, field="ttft_seconds", since="5m", step=step)
        (series,) = body["items"]
        assert len(series["points"]) == points
        assert sum(point["count"] or 0 for point in series["points"]) == len(_truth("alpha"))


async def test_each_step_of_a_histograms_history_has_its_own_quantiles(api: Api) -> None:
    alpha = (await _by_node(api, "/inference/servers"))["alpha"]["server_id"]
    series = await api.one("/metrics/history", server=alpha, field="ttft_seconds", since="5m", step="60s")
    for number, point in enumerate(series["points"]):
        ticks = [k for k in WINDOW_TICKS if 300 - 60 * (number + 1) < fleet.age_seconds(k) <= 300 - 60 * number]
        truth = [value for k in ticks for value in fleet.ttft("alpha", k)]
        assert point["count"] == len(truth) == 48
        assert point["p95"]["low"] < _quantile(truth, 0.95) <= (point["p95"]["high"] or float("inf"))


async def test_the_step_of_a_restart_counts_the_new_run_from_zero(api: Api) -> None:
    beta = (await _by_node(api, "/inference/servers"))["beta"]["server_id"]
    series = await api.one("/metrics/history", server=beta, field="ttft_seconds", since="5m", step="5s")
    counts = [point["count"] for point in series["points"]]
    assert sum(count or 0 for count in counts) == len(_truth("beta"))
    failed = [point for point in series["points"] if point["count"] is None]
    assert [point["unknown"] for point in failed] == ["no_samples"] * len(fleet.FAILED_SCRAPES)


async def test_the_first_look_at_a_server_that_ran_before_has_no_start_to_count_from(api: Api) -> None:
    alpha = (await _by_node(api, "/inference/servers"))["alpha"]["server_id"]
    series = await api.one("/metrics/history", server=alpha, field="ttft_seconds", since="11m", step="1m")
    assert [point.get("unknown") for point in series["points"]][:2] == ["no_sample_before", None]


async def test_scalars_have_a_history_with_rates(api: Api) -> None:
    alpha = (await _by_node(api, "/inference/servers"))["alpha"]["server_id"]
    series = await api.one("/metrics/history", server=alpha, field="generation_tokens_total", since="5m", step="1m")
    assert [point["rate_per_second"] for point in series["points"]] == [50.0] * 5
    usage = await api.one("/metrics/history", server=alpha, field="kv_cache_usage_ratio", since="5m", step="1m")
    assert [point["mean"] for point in usage["points"]] == [0.25] * 5


@pytest.mark.parametrize("field", ["ttft_seconds", "generation_tokens_total"])
@pytest.mark.parametrize("limit", [1, 13, 1000])
async def test_a_history_never_has_more_points_than_the_limit(api: Api, field: str, limit: int) -> None:
    body = await api.get("/metrics/history", field=field, since="9m", step="1s", limit=limit)
    assert body["resolution_seconds"] == max(1, -(-540 // limit))
    assert len(body["items"]) == 5
    assert all(len(series["points"]) <= limit for series in body["items"])


async def test_histograms_and_scalars_are_two_questions(api: Api) -> None:
    body = await api.refused("/metrics/history", 422, field=["ttft_seconds", "up_flag"])
    assert "two questions" in body["detail"]


@pytest.mark.parametrize("kind", ["histograms", "scalars"])
async def test_a_history_too_large_to_answer_is_refused_with_what_to_do(api: Api, kind: str) -> None:
    fields = [field.name for field in getattr(TABLES["inference"], kind)][:10]
    body = await api.refused("/metrics/history", 422, field=fields, since="3650d", limit=10_000)
    assert "shorter window" in body["detail"] or "longer step" in body["detail"]
