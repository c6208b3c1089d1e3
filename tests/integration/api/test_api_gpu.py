"""What the API says of GPUs, against what the fleet's GPUs did."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from control_plane.storage.session import Database
from node_agent.model import EntityKind, Sample, Tick, Value
from tests.fakes.clock import FakeClock, FakeNodeClock
from tests.support import fleet
from tests.support.agent_links import ingesting, linked
from tests.support.fleet import A100, GIB, GPU_0, GPU_1
from tests.support.rest import Api

PHASES = Path(__file__).parents[2] / "data" / "nvml" / "h200-phases.jsonl"


async def test_the_newest_sample_of_every_gpu_is_shown_as_it_was_taken(api: Api) -> None:
    body = await api.get("/gpu/metrics")
    found = {item["gpu"]: item for item in body["items"]}
    assert found.keys() == {GPU_0, GPU_1, A100}
    gpu = found[GPU_0]
    assert (gpu["node"], gpu["index"], gpu["name"]) == ("alpha", 0, "NVIDIA H200")
    assert gpu["taken_at"] == "2026-03-04T11:59:58.000Z"
    assert gpu["age_seconds"] == fleet.LAST_AGE_SECONDS
    assert gpu["power_draw_watts"] == 500.0
    assert gpu["memory_used_bytes"] == 100 * GIB
    assert gpu["tensor_active_ratio"] == 0.6
    assert gpu["energy_joules_total"] == 1000 + 2500 * 120
    assert gpu["unknown"] == {}


async def test_what_a_gpu_cannot_do_is_null_with_the_drivers_reason(api: Api) -> None:
    gpu = await api.one("/gpu/metrics", gpu=A100)
    assert {name: gpu[name] for name in fleet.GPM} == dict.fromkeys(fleet.GPM)
    assert gpu["unknown"] == dict.fromkeys((*fleet.GPM, "energy_joules_total"), "unsupported") | {
        "clock_event_reasons_bits": "no_permission"
    }
    assert gpu["power_draw_watts"] == 300.0


async def test_a_sample_of_a_node_whose_clock_is_ahead_is_as_old_as_it_is(api: Api) -> None:
    assert (await api.one("/gpu/metrics", gpu=A100))["age_seconds"] == pytest.approx(2, abs=0.001)


async def test_a_list_without_gpus_says_why_there_are_none(api: Api) -> None:
    body = await api.get("/gpu/metrics", node="gamma")
    assert body["items"] == []
    absent = {"node": "gamma", "outcome": "absent", "detail": "no NVIDIA driver on this host"}
    assert body["nodes_without"] == [absent]
    everything = (await api.get("/gpu/metrics"))["nodes_without"]
    assert absent in everything
    assert {entry["node"] for entry in everything} == {"beta", "gamma"}


LISTS = ["/gpu/metrics", "/gpu/utilization", "/gpu/temperature", "/gpu/memory", "/gpu/power", "/gpu/health"]


@pytest.mark.parametrize("path", LISTS)
async def test_filters_narrow_to_what_was_named(api: Api, path: str) -> None:
    assert [i["gpu"] for i in await api.items(path, node="alpha")] == [GPU_0, GPU_1]
    assert [i["gpu"] for i in await api.items(path, gpu=[GPU_1, A100])] == [GPU_1, A100]
    assert await api.items(path, gpu=GPU_1, node="beta") == []
    assert [i["gpu"] for i in await api.items(path, node=["alpha", "beta", "alpha"])] == [GPU_0, GPU_1, A100]


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("limit", [1, 2, 3])
async def test_pages_show_every_gpu_exactly_once(api: Api, path: str, limit: int) -> None:
    shown = [item["gpu"] for item in await api.all_pages(path, limit=limit)]
    assert sorted(shown) == sorted([GPU_0, GPU_1, A100])


# -- utilisation ----------------------------------------------------------------------------------


async def test_utilisation_is_the_mean_over_the_window_and_names_what_the_work_was(api: Api) -> None:
    body = await api.get("/gpu/utilization")
    found = {item["gpu"]: item for item in body["items"]}
    first, second, classic = found[GPU_0], found[GPU_1], found[A100]
    assert first["activity_shares"] == {"compute_bound": 1.0}
    assert first["honest_signal"] == "tensor_active_ratio"
    assert first["sm_active_ratio"] == 0.8
    # Samples speak for the time before them: the newest is from shortly before the end.
    assert second["activity_shares"] == pytest.approx({"memory_bound": 0.7, "copying": 0.3}, abs=0.005)
    assert second["observed_ratio"] == pytest.approx(1.0, abs=0.01)
    assert second["activity"] == "memory_bound"
    assert second["dram_active_ratio"] == pytest.approx(0.7 * 0.85, abs=0.005)
    assert second["evidence"]["numbers"]["samples"] == 60
    assert second["signal"] == "gpm"
    assert classic["activity"] == "busy_unspecified"
    assert classic["note"]
    assert classic["signal"] == "nvml_utilization"
    assert classic["unknown"]["sm_active_ratio"] == "never_known_in_window"
    assert (body["since"], body["until"]) == ("2026-03-04T11:55:00.000Z", "2026-03-04T12:00:00.000Z")


async def test_a_summary_says_over_how_many_gpus_each_figure_was_taken(api: Api) -> None:
    body = await api.get("/gpu/utilization")
    second_sm = (0.9 * 42 + 0.01 * 18) / 60
    assert body["fleet"]["gpus"] == 3
    assert body["fleet"]["gpu_utilization_ratio"] == 1.0
    assert body["fleet"]["gpu_utilization_ratio_gpus"] == 3
    assert body["fleet"]["sm_active_ratio_gpus"] == 2
    assert body["fleet"]["sm_active_ratio"] == pytest.approx((0.8 + second_sm) / 2, abs=0.005)
    nodes = {entry["node"]: entry for entry in body["nodes"]}
    assert nodes["beta"]["sm_active_ratio"] is None
    assert nodes["beta"]["unknown"]["sm_active_ratio"] == "no_gpu_knows_it"


async def test_a_window_without_samples_is_unknown_and_not_idle(api: Api) -> None:
    item = await api.one("/gpu/utilization", gpu=GPU_0, since="2h", until="1h")
    assert item["activity"] == "unknown"
    assert item["gpu_utilization_ratio"] is None
    assert item["unknown"]["gpu_utilization_ratio"] == "no_samples"


def _recorded(row: dict[str, float]) -> dict[str, Value]:
    """As gpu_values.py reads it: GPM speaks percent and MiB/s."""
    mib = 1024.0 * 1024.0
    return {
        "gpu_utilization_ratio": row["util_gpu"] / 100,
        "sm_active_ratio": row["sm_util"] / 100,
        "tensor_active_ratio": row["any_tensor_util"] / 100,
        "dram_active_ratio": row["dram_bw_util"] / 100,
        "fp32_active_ratio": row["fp32_util"] / 100,
        "fp64_active_ratio": row["fp64_util"] / 100,
        "pcie_transmit_bytes_per_second": row["pcie_tx_per_sec"] * mib,
        "pcie_receive_bytes_per_second": row["pcie_rx_per_sec"] * mib,
        "nvlink_transmit_bytes_per_second": row["nvlink_total_tx_per_sec"] * mib,
        "nvlink_receive_bytes_per_second": row["nvlink_total_rx_per_sec"] * mib,
    }


EXPECTED = {
    "idle": "idle",
    "bf16_matmul": "compute_bound",
    "mem_copy": "memory_bound",
    "small_kernels_host_bound": "idle",  # the GPU waits for the host 99 % of the time
    "pcie_h2d": "copying",
    "decode_like_gemv": "memory_bound",
    "half_duty": "half_idle",
    "idle_after": "idle",
}


@pytest.fixture
async def recorded(empty_api: Api, database: Database, clock: FakeClock) -> AsyncIterator[Api]:
    """A recorded H200 under known loads, one phase every minute, the last one a minute ago."""
    rows = [json.loads(line) for line in PHASES.read_text().splitlines()]
    node, ticks = FakeNodeClock(clock), []
    for number, row in enumerate(rows):
        at = fleet.before(node.now(), 60.0 * (len(rows) - number))
        sample = Sample(table="gpu", entity=(EntityKind.GPU, "GPU-recorded"), values=_recorded(row))
        ticks.append(Tick(taken_at=at, entities=[], samples=[sample], reports=[fleet.report("gpu")]))
    async with (
        ingesting(database, clock) as (_, address),
        linked(address, node, "h200") as link,
    ):
        await link.committed(await link.send(ticks))
    yield empty_api


async def test_the_recorded_phases_of_a_real_h200_are_told_apart(recorded: Api, clock: FakeClock) -> None:
    shown = {}
    for number, phase in enumerate(EXPECTED):
        taken_at = clock.now() - timedelta(minutes=len(EXPECTED) - number)
        item = await recorded.one(
            "/gpu/utilization",
            since=(taken_at - timedelta(seconds=1)).isoformat(),
            until=(taken_at + timedelta(seconds=1)).isoformat(),
        )
        assert item["evidence"]["numbers"]["samples"] == 1
        shown[phase] = item["activity"]
    assert shown == EXPECTED


async def test_the_classic_figure_alone_would_call_a_copy_full_use(recorded: Api, clock: FakeClock) -> None:
    taken_at = clock.now() - timedelta(minutes=4)  # pcie_h2d
    item = await recorded.one(
        "/gpu/utilization",
        since=(taken_at - timedelta(seconds=1)).isoformat(),
        until=(taken_at + timedelta(seconds=1)).isoformat(),
    )
    assert item["gpu_utilization_ratio"] == 1.0
    assert item["sm_active_ratio"] == 0.0
    assert item["honest_signal"] == "pcie_receive_bytes_per_second"


# -- temperature, memory, power ---------------------------------------------------------------------


async def test_temperature_names_throttle_reasons_and_the_share_of_time_throttled(api: Api) -> None:
    first, second, third = await api.items("/gpu/temperature")
    assert first["clock_event_reasons"] == ["software_power_cap"]
    assert first["throttled_share_of_5m"]["power_cap"] == pytest.approx(0.1)
    assert first["health"]["throttled_power_cap_seconds_total"] == 60.0
    assert second["health"]["unknown"]["throttled_power_cap_seconds_total"] == "never_sampled"
    assert second["clock_event_reasons"] == ["gpu_idle"]
    assert second["unknown"]["temperature_memory_celsius"] == "unsupported"
    assert third["clock_event_reasons"] is None
    assert third["unknown"]["clock_event_reasons"] == "no_permission"


async def test_processes_that_nobody_may_see_are_null_and_not_none(api: Api) -> None:
    first, second, _ = await api.items("/gpu/memory")
    assert first["processes"] == [{"pid": fleet.ALPHA_PID, "name": "VLLM::EngineCore", "used_bytes": 90 * GIB}]
    assert first["memory_free_bytes"] == 40 * GIB
    assert second["processes"] is None
    assert second["unknown"]["processes"] == "not_collected"


async def test_what_is_read_less_often_has_a_time_of_its_own(api: Api, clock: FakeClock) -> None:
    clock.advance(3)
    for path in ("/gpu/metrics", "/gpu/memory"):
        gpu = await api.one(path, gpu=GPU_0)
        assert gpu["health"]["taken_at"] == gpu["taken_at"] == "2026-03-04T11:59:58.000Z"
        assert gpu["health"]["ecc_corrected_aggregate_total"] == 2
        assert gpu["health"]["unknown"].get("fan_speed_ratio") == (None if path == "/gpu/memory" else "unsupported")
    health = await api.one("/gpu/health", gpu=GPU_0)
    assert (health["age_seconds"], health["nvlink_links_active_count"]) == (5.0, 18)
    assert health["unknown"] == {"fan_speed_ratio": "unsupported", "recovery_action": "not_sent"}


async def test_a_gpu_whose_health_was_never_read_is_not_healthy(api: Api) -> None:
    health = await api.one("/gpu/health", gpu=GPU_1)
    assert health["taken_at"] is None
    assert set(health["unknown"].values()) == {"never_sampled"}


async def test_the_history_of_what_moved_is_asked_for_as_before(api: Api) -> None:
    series = await api.one(
        "/gpu/metrics/history", gpu=GPU_0, field="throttled_power_cap_seconds_total", since="5m", step="60s"
    )
    assert {point["rate_per_second"] for point in series["points"]} == {0.1}
    assert [point["samples"] for point in series["points"]] == [6] * 5


async def test_energy_is_the_growth_of_the_counter_over_the_window(api: Api) -> None:
    first, second, third = await api.items("/gpu/power", since="5m")
    assert (first["power_draw_mean_watts"], first["power_draw_peak_watts"]) == (499.5, 640.25)
    assert first["energy_joules"] == 60 * 2500  # ticks 61 to 120, each with what was used since the one before
    assert second["energy_joules"] == 60 * 1250
    assert third["energy_joules"] is None
    assert third["unknown"]["energy_joules"] == "unsupported"
    assert first["energy_cost_usd"] is None
    assert first["unknown"]["energy_cost_usd"] == "no_energy_price_configured"


# -- history --------------------------------------------------------------------------------------


async def test_history_gives_min_mean_max_and_p95_of_each_step(api: Api) -> None:
    body = await api.get("/gpu/metrics/history", gpu=GPU_0, field="temperature_gpu_celsius", since="5m", step="50s")
    assert body["resolution_seconds"] == 50
    (series,) = body["items"]
    assert [p["at"] for p in series["points"]][:2] == ["2026-03-04T11:55:00.000Z", "2026-03-04T11:55:50.000Z"]
    assert len(series["points"]) == 6
    for point in series["points"]:  # ten ticks: every remainder of ten once
        assert (point["min"], point["mean"], point["max"], point["samples"]) == (50, 54.5, 59, 10)
        assert point["p95"] == pytest.approx(58.55)


async def test_a_counters_rate_is_over_the_time_that_its_samples_span(api: Api) -> None:
    """The last step has only just begun: dividing by its whole width would show a fall that never was."""
    body = await api.get("/gpu/metrics/history", gpu=GPU_0, field="energy_joules_total", since="7m", step="110s")
    rates = [p["rate_per_second"] for p in body["items"][0]["points"] if p["samples"]]
    assert rates == [500.0] * len(rates)


@pytest.mark.parametrize("step", ["7s", "60s", "250s"])
async def test_every_rate_of_a_steady_counter_is_the_same_whatever_the_step(api: Api, step: str) -> None:
    series = await api.one("/gpu/metrics/history", gpu=GPU_0, field="energy_joules_total", since="500s", step=step)
    rates = {p["rate_per_second"] for p in series["points"] if p["samples"]}
    assert rates == {500.0}


async def test_the_first_sample_ever_has_no_rate_and_says_so(api: Api) -> None:
    series = await api.one("/gpu/metrics/history", gpu=GPU_0, field="energy_joules_total", since="11m", step="1s")
    first = next(point for point in series["points"] if point["samples"])
    assert first["rate_per_second"] is None
    assert first["unknown"] == "no_sample_before"
    assert first["mean"] == 1000.0


async def test_steps_without_samples_and_without_values_say_which(api: Api) -> None:
    series = await api.one("/gpu/metrics/history", node="beta", field="sm_active_ratio", since="10m", step="10s")
    lost_since, lost_until = fleet.age_seconds(fleet.LOST_TICKS[0]), fleet.age_seconds(fleet.LOST_TICKS[-1])
    reasons = {}
    for number, point in enumerate(series["points"]):
        reasons.setdefault(point["unknown"], set()).add(600 - 10 * number)
    assert reasons.keys() == {"unsupported", "no_samples"}
    assert all(lost_until - 10 < age <= lost_since + 10 for age in reasons["no_samples"])


@pytest.mark.parametrize("limit", [1, 7, 100, 1000])
async def test_a_history_never_has_more_points_than_the_limit_and_says_its_step(api: Api, limit: int) -> None:
    body = await api.get("/gpu/metrics/history", field="power_draw_watts", since="10m", step="1s", limit=limit)
    assert body["resolution_seconds"] == max(1, -(-600 // limit))
    for series in body["items"]:
        assert len(series["points"]) <= limit
        assert sum(point["samples"] for point in series["points"]) >= 110  # of 120: beta's gap


async def test_a_step_wider_than_the_window_is_one_point_as_wide_as_the_window(api: Api) -> None:
    body = await api.get("/gpu/metrics/history", gpu=GPU_0, field="power_draw_watts", since="5m", step="999999999d")
    assert body["resolution_seconds"] == 300
    assert [p["mean"] for p in body["items"][0]["points"]] == [500.0]


async def test_a_history_has_a_series_for_each_gpu_and_field(api: Api) -> None:
    items = await api.items("/gpu/metrics/history", field=["power_draw_watts", "sm_active_ratio"], since="1m")
    assert sorted((i["gpu"], i["field"]) for i in items) == sorted(
        (gpu, field) for gpu in (GPU_0, GPU_1, A100) for field in ("power_draw_watts", "sm_active_ratio")
    )


async def test_few_fields_are_given_to_who_asks_for_few(api: Api) -> None:
    whole = await api.items("/gpu/metrics")
    few = await api.items("/gpu/metrics", field=["power_draw_watts", "sm_active_ratio"])
    assert [item["power_draw_watts"] for item in few] == [item["power_draw_watts"] for item in whole]
    for item in few:
        named = set(item) - {"gpu", "node", "index", "name", "taken_at", "age_seconds", "unknown"}
        assert named == {"power_draw_watts", "sm_active_ratio"}
    refused = await api.refused("/gpu/metrics", 422, field="watts")
    assert refused["detail"].startswith("'watts' is no field of a GPU's sample; known are ")
