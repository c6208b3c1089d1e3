"""What the API says of machines and nodes, against what the fleet's machines did."""

from __future__ import annotations

import pytest

from control_plane.storage.session import Database
from tests.fakes.clock import FakeClock, FakeNodeClock
from tests.support import fleet
from tests.support.agent_links import ingesting, linked
from tests.support.fleet import GIB, Row, entity
from tests.support.rest import Api

PATHS = ["/system/cpu", "/system/memory", "/system/disk", "/system/network", "/system/all"]


async def test_cpu_and_memory_are_shown_in_the_units_of_their_names(api: Api) -> None:
    cpu = await api.one("/system/cpu", node="alpha")
    assert (cpu["cpu_busy_ratio"], cpu["cpu_core_busy_ratio"], cpu["cpu_logical_count"]) == (0.25, [0.1, 0.4], 2)
    memory = await api.one("/system/memory", node="alpha")
    assert memory["memory_used_bytes"] == memory["memory_total_bytes"] - memory["memory_available_bytes"] == 16 * GIB
    assert memory["cgroup_memory_limit_bytes"] is None
    assert memory["unknown"] == {"cgroup_memory_limit_bytes": "unsupported"}
    assert memory["age_seconds"] == 2.0


async def test_disks_show_counters_and_their_rates_of_the_last_minute(api: Api) -> None:
    item = await api.one("/system/disk", node="alpha")
    first, silent = item["disks"]
    assert (first["device"], first["read_bytes_total"]) == ("sda", 5_000 * 120)
    assert (first["per_second"]["read_bytes"], first["per_second"]["written_bytes"]) == (1000.0, 2000.0)
    assert (silent["device"], silent["age_seconds"]) == ("sdb", fleet.age_seconds(60))
    assert silent["per_second"]["unknown"]["read_bytes"] == "fewer_than_two_samples"
    assert [f["mount_point"] for f in item["filesystems"]] == ["/", "/data"]
    assert item["filesystems"][0]["used_bytes"] == 100 * GIB
    assert item["filesystems"][0]["unknown"]["inodes_free_count"] == "unsupported"
    assert "per_second" not in item["filesystems"][0]


async def test_a_device_that_was_never_sampled_says_so(api: Api) -> None:
    (disk,) = (await api.one("/system/disk", node="gamma"))["disks"]
    assert disk["device"] == "sdz"
    assert disk["age_seconds"] is None
    assert set(disk["unknown"].values()) == {"never_sampled"}


async def test_interfaces_show_their_rates(api: Api) -> None:
    first, second = (await api.one("/system/network", node="alpha"))["interfaces"]
    assert (first["interface"], first["per_second"]["received_bytes"]) == ("eth0", 100.0)
    assert (second["interface"], second["per_second"]["received_bytes"]) == ("eth1", 0.0)


async def test_everything_is_the_sum_of_the_parts(api: Api) -> None:
    everything = await api.one("/system/all", node="alpha")
    for path in PATHS[:-1]:
        part = await api.one(path, node="alpha")
        assert everything.items() >= {k: v for k, v in part.items() if k != "unknown"}.items()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("limit", [1, 2])
async def test_pages_show_every_machine_exactly_once(api: Api, path: str, limit: int) -> None:
    assert [item["node"] for item in await api.all_pages(path, limit=limit)] == ["alpha", "beta", "gamma"]


async def test_a_node_that_never_sent_a_sample_has_no_machine_to_show(api: Api) -> None:
    assert await api.items("/system/all", node="delta") == []


async def test_history_of_a_machine_gives_rates_of_its_pressure(api: Api) -> None:
    series = await api.one(
        "/system/history", node="alpha", field="pressure_io_some_seconds_total", since="5m", step="1m"
    )
    assert (series["node"], len(series["points"])) == ("alpha", 5)
    assert {point["rate_per_second"] for point in series["points"]} == {0.05}


async def test_one_hosts_many_interfaces_do_not_push_out_anothers(
    empty_api: Api, database: Database, clock: FakeClock
) -> None:
    node = FakeNodeClock(clock)
    many = [f"veth{number}" for number in range(200)]
    async with ingesting(database, clock) as (_, address):
        for name, interfaces in (("crowded", many), ("plain", ["eth0"])):
            rows: list[Row] = [("host", "node", fleet.host(1))]
            # Of the crowded host only the last one is still there: it must be among those shown.
            old = [entity("network", key) for key in interfaces[:-1]]
            rows.append(("network", interfaces[-1], fleet.network(1)))
            async with linked(address, node, name) as link:
                await link.committed(await link.send([fleet.tick(node.now(), old, rows)]))
    crowded, plain = await empty_api.items("/system/network")
    assert len(crowded["interfaces"]) == 64
    assert "veth199" in [i["interface"] for i in crowded["interfaces"]]
    assert [i["interface"] for i in plain["interfaces"]] == ["eth0"]


# -- nodes ----------------------------------------------------------------------------------------


async def test_every_node_is_listed_with_how_far_its_numbers_can_be_relied_on(api: Api) -> None:
    alpha, beta, gamma, delta = await api.items("/nodes")
    assert (alpha["name"], alpha["state"], alpha["age_seconds"], alpha["lag_seconds"]) == ("alpha", "connected", 2, 2)
    assert alpha["sampling_interval_seconds"] == 5.0
    assert (beta["clock_offset_seconds"], beta["lost_ticks"]) == (30.0, len(fleet.LOST_TICKS))
    assert (gamma["refused_batches"], gamma["lost_ticks"]) == (1, 0)
    assert {c["collector"]: c["outcome"] for c in gamma["collectors"]} == {"gpu": "absent", "system": "ok"}
    assert (delta["state"], delta["age_seconds"]) == ("never_sampled", None)
    assert set(delta["unknown"].values()) == {"never_sampled"}
    assert not any(node["streaming"] or node["replayed"] for node in (alpha, beta, gamma, delta))


@pytest.mark.parametrize(("later", "state"), [(0, "connected"), (12, "connected"), (14, "stale"), (299, "gone")])
async def test_a_node_is_stale_after_three_missing_samples_and_gone_after_five_minutes(
    api: Api, clock: FakeClock, later: int, state: str
) -> None:
    clock.advance(later)
    assert (await api.get("/nodes/alpha"))["state"] == state


async def test_a_node_is_found_by_name_and_by_id_with_what_is_on_it(api: Api) -> None:
    beta = await api.get("/nodes/beta")
    assert await api.get(f"/nodes/{beta['node_id']}") == beta
    assert [gpu["gpu"] for gpu in beta["gpus"]] == [fleet.A100]
    assert [server["url"] for server in beta["inference_servers"]] == [fleet.URL]
    assert beta["attributes"]["kernel"] == "6.8.0"
    (loss,) = beta["losses"]
    assert (loss["tick_count"], loss["reason"]) == (10, "the spool was full")


async def test_a_refused_batch_is_shown_with_its_cause(api: Api) -> None:
    (refusal,) = (await api.get("/nodes/gamma"))["refusals"]
    assert (refusal["cause"], refusal["count"]) == ("unknown_schema", 1)
    assert "999" in refusal["last_detail"]


@pytest.mark.parametrize("limit", [1, 2, 3, 4])
async def test_pages_show_every_node_exactly_once(api: Api, limit: int) -> None:
    names = [node["name"] for node in await api.all_pages("/nodes", limit=limit)]
    assert names == ["alpha", "beta", "gamma", "delta"]


async def test_a_number_beyond_64_bits_in_an_agents_description_can_be_shown(
    empty_api: Api, database: Database, clock: FakeClock
) -> None:
    node = FakeNodeClock(clock)
    gpu = entity("gpu", "GPU-odd", serial=10**30, processes=[{"pid": [1]}, "nonsense", {"pid": None}])
    server = entity("inference", fleet.URL, model=["not", "a", "name"], pid="1", pids=[[1], None])
    rows: list[Row] = [("gpu", "GPU-odd", fleet.gpu_0(1)), ("inference", fleet.URL, fleet.vllm_alpha(1))]
    async with ingesting(database, clock) as (_, address), linked(address, node, "odd") as link:
        await link.committed(await link.send([fleet.tick(node.now(), [gpu, server], rows)]))
    assert (await empty_api.get("/nodes/odd"))["gpus"][0]["attributes"]["serial"] == 10**30
    assert (await empty_api.one("/metrics/gpu"))["gpus"] is None
    assert (await empty_api.get("/metrics/throughput"))["models"] == []
