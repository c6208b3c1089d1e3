"""Whose GPUs are, over REST: everything from the agent's join to the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from control_plane.ingest.server import LinkService
from control_plane.storage.session import Database
from node_agent.attribution.step import AttributionStep
from node_agent.host.container import Place
from node_agent.host.container_names import ContainerName
from node_agent.host.device_ids import Device
from node_agent.host.kubelet import Allocatable, Allocation
from node_agent.host.ownership import Ownership, ProcessFacts
from node_agent.model import Entity, EntityKind, Reason, Sample, Tick, Value
from optiinfra.catalogue import TABLES
from tests.fakes.clock import FakeClock, FakeNodeClock
from tests.support.agent_links import ingesting, linked
from tests.support.fleet import before
from tests.support.rest import Api, client_of, context_of

METRICS = ["/metrics/latency", "/metrics/throughput", "/metrics/gpu", "/metrics/tokens", "/metrics/memory"]
IDS = {"a/llm": "aa" * 32, "b/job": "bb" * 32, "b/llm": "cc" * 32}
POD_UIDS = {"a/llm": "uid-a", "b/job": "uid-b", "b/llm": "uid-c"}
CGROUP: dict[str, Value] = {
    "cpu_limit_cores": 4.0, "memory_limit_bytes": Reason.UNSUPPORTED, "memory_used_bytes": 5 * 2**30,
    "memory_working_set_bytes": 3 * 2**30,
}  # fmt: skip


def given(uuid: str, pod: str) -> Allocation:
    namespace, _, name = pod.partition("/")
    return Allocation(
        pod=name, namespace=namespace, container="main", resource="nvidia.com/gpu", device=Device(name=uuid, uuid=uuid),
        numa_nodes=(1,),
    )  # fmt: skip


def facts(pod: str | None, title: str) -> ProcessFacts:
    place = Place(unit="ssh.service") if pod is None else Place(container_id=IDS[pod], pod_uid=POD_UIDS[pod])
    return ProcessFacts(
        place=place, name="python3", title=title, started_ticks=7, resident_bytes=2**30, cpu_seconds=12.5
    )


def gpu(uuid: str, index: int, pids: Sequence[int] | None) -> Entity:
    processes = None if pids is None else [{"pid": pid, "name": "python3", "used_bytes": 2**31} for pid in pids]
    return Entity(kind=EntityKind.GPU, key=uuid, attributes={"index": index, "name": "H200", "processes": processes})


def server(url: str, pid: int) -> Entity:
    attributes = {
        "engine": "vllm", "model": "m", "state": "up", "pid": pid, "pids": [pid],
        "cgroup": f"/{pid}.scope", "cgroup_status": "found",
    }  # fmt: skip
    return Entity(kind=EntityKind.INFERENCE_SERVER, key=url, attributes=attributes)


# What each node's kubelet gave to whom, and which processes are on its GPUs.
NODES: Mapping[str, tuple[Ownership, Sequence[Entity]]] = {
    "one": (
        Ownership(
            allocations=[given("GPU-0", "a/llm"), given("GPU-1", "b/job"), given("GPU-2", "b/llm")],
            allocatable=[
                Allocatable(resource="nvidia.com/gpu", device=Device(name=uuid, uuid=uuid), numa_nodes=(1,))
                for uuid in ("GPU-0", "GPU-1", "GPU-2", "GPU-3")
            ],
            names={
                IDS[pod]: ContainerName(
                    namespace=pod.partition("/")[0], pod=pod.partition("/")[2], container="main"
                )
                for pod in IDS
            },
            live_containers=frozenset(IDS.values()),
            processes={
                10: facts("a/llm", "VLLM::Worker_TP0"), 12: facts("b/llm", "VLLM::Worker_TP1"),
                13: facts(None, "nvtop"), 14: facts(None, "python3"),
            },
        ),
        [
            gpu("GPU-0", 0, [10]), gpu("GPU-1", 1, []), gpu("GPU-2", 2, [12, 13]), gpu("GPU-3", 3, [14]),
            gpu("GPU-4", 4, []), server("http://127.0.0.1:8000", 10), server("http://127.0.0.1:8001", 12),
        ],
    ),
    "two": (Ownership(allocations_detail="not on Kubernetes"), [gpu("GPU-5", 0, [20]), gpu("GPU-6", 1, None)]),
}  # fmt: skip
FINDINGS = {
    "GPU-0": "none",
    "GPU-1": "allocated_but_unused",
    "GPU-2": "used_by_another_than_allocated",
    "GPU-3": "used_but_not_allocated",
    "GPU-4": "none",
    "GPU-5": "unknown",
    "GPU-6": "unknown",
    "GPU-7": "unknown",  # of an agent that does not attribute
}


async def play(database: Database, clock: FakeClock) -> None:
    async with ingesting(database, clock) as (_, address):
        node = FakeNodeClock(clock)
        for name, (ownership, entities) in NODES.items():
            step = AttributionStep(lambda ownership=ownership: ownership, lambda _: None)  # type: ignore[misc]
            samples = [Sample(table="gpu", entity=(e.kind, e.key), values={}) for e in entities if e.kind.name == "GPU"]
            groups = [e for e in entities if e.kind is EntityKind.INFERENCE_SERVER]
            async with linked(address, node, name) as link:
                ticks = []
                for age in (12, 2):
                    values = CGROUP | {"cpu_seconds_total": 100.0 - 3 * age, "oom_kills_total": 0}
                    rows = [Sample(table="server_cgroup", entity=(e.kind, e.key), values=values) for e in groups]
                    rows += [Sample(table="inference", entity=(e.kind, e.key), values={"up_flag": 1}) for e in groups]
                    taken_at = before(node.now(), age)
                    ticks.append(
                        step(Tick(taken_at=taken_at, entities=entities, samples=[*samples, *rows], reports=[]))
                    )
                await link.committed(await link.send(ticks))
        async with linked(address, node, "old") as link:
            silent = Tick(taken_at=before(node.now(), 2), entities=[gpu("GPU-7", 0, None)], samples=[], reports=[])
            await link.committed(await link.send([silent]))


@pytest.fixture
async def api(database: Database, clock: FakeClock) -> Any:
    await play(database, clock)
    service = LinkService(database, clock, retention_days=14)
    async with client_of(context_of(database, clock, service)) as client:
        yield client
    service.close()


async def named(api: Api, **asked: Any) -> list[str]:
    return [item["gpu"] for item in await api.items("/gpu/attribution", **asked)]


async def test_each_gpu_shows_its_holders_its_users_and_what_the_difference_says(api: Api) -> None:
    body = await api.get("/gpu/attribution")
    found = {item["gpu"]: item["attribution"] for item in body["items"]}
    assert {uuid: said["finding"] for uuid, said in found.items()} == FINDINGS
    (holder,), (user,) = found["GPU-0"]["allocated_to"], found["GPU-0"]["used_by"]
    assert (holder["namespace"], holder["pod"], holder["container"], holder["numa_nodes"]) == ("a", "llm", "main", [1])
    assert (user["namespace"], user["pod"], user["rank"]) == ("a", "llm", {"tp": 0})
    assert user["server"] == "http://127.0.0.1:8000"
    assert [one["resource"] for one in found["GPU-3"]["allocatable"]] == ["nvidia.com/gpu"]
    assert found["GPU-4"]["allocatable"] == []
    assert found["GPU-3"]["used_by"][0]["unit"] == "ssh.service"
    assert found["GPU-5"]["unknown"]["allocated_to"] == "not on Kubernetes"
    assert found["GPU-7"]["unknown"]["used_by"] == "not_sent"


async def test_beside_a_process_stands_what_was_last_sampled_of_it(api: Api, clock: FakeClock) -> None:
    item = await api.one("/gpu/attribution", gpu="GPU-0")
    (user,) = item["attribution"]["used_by"]
    sample = user["sample"]
    assert (sample["age_seconds"], sample["memory_used_bytes"], sample["host_cpu_seconds_total"]) == (2.0, 2**31, 12.5)
    assert sample["unknown"] == {"sm_utilization_ratio": "not_collected"}
    clock.advance(60)
    (user,) = (await api.one("/gpu/attribution", gpu="GPU-0"))["attribution"]["used_by"]
    assert user["sample"]["memory_used_bytes"] is None
    assert user["sample"]["unknown"]["memory_used_bytes"] == "no_recent_sample"


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"finding": "allocated_but_unused"}, ["GPU-1"]),
        ({"finding": ["none", "used_but_not_allocated"]}, ["GPU-0", "GPU-3", "GPU-4"]),
        ({"finding": "unknown"}, ["GPU-5", "GPU-6", "GPU-7"]),
        ({"namespace": "b"}, ["GPU-1", "GPU-2"]),
        ({"pod": "llm"}, ["GPU-0", "GPU-2"]),
        ({"namespace": ["a", "b"], "pod": "llm"}, ["GPU-0", "GPU-2"]),
        ({"namespace": "b", "pod": "llm"}, ["GPU-2"]),
        ({"namespace": "a", "pod": "job"}, []),  # both are there, but not together
        ({"namespace": "b", "finding": "allocated_but_unused", "node": "one"}, ["GPU-1"]),
        ({"node": "two"}, ["GPU-5", "GPU-6"]),
        ({"namespace": 'x") || (true'}, []),
    ],
)
async def test_gpus_are_narrowed_by_finding_and_by_whose_they_are(
    api: Api, asked: dict[str, Any], expected: list[str]
) -> None:
    assert await named(api, **asked) == expected


async def test_findings_are_counted_by_node_and_over_the_fleet_on_every_page(api: Api) -> None:
    assert [item["gpu"] for item in await api.all_pages("/gpu/attribution", limit=3)] == list(FINDINGS)
    first = await api.get("/gpu/attribution", limit=1)
    assert first["fleet"]["gpus"] == 8
    assert first["fleet"]["findings"] == {
        "none": 2, "allocated_but_unused": 1, "used_but_not_allocated": 1, "used_by_another_than_allocated": 1,
        "shared": 0, "unknown": 3,
    }  # fmt: skip
    assert {node["node"]: node["gpus"] for node in first["nodes"]} == {"one": 5, "two": 2, "old": 1}
    narrowed = await api.get("/gpu/attribution", namespace="b")
    assert narrowed["fleet"]["findings"]["used_by_another_than_allocated"] == 1
    assert narrowed["fleet"]["gpus"] == 2


async def test_a_node_counts_its_findings_and_says_that_nothing_is_left_out(api: Api) -> None:
    node = await api.get("/nodes/one")
    assert node["gpu_findings"]["gpus"] == 5
    assert node["gpu_findings"]["findings"]["used_but_not_allocated"] == 1
    assert node["left_out"] == {"gpus": 0, "inference_servers": 0}


async def test_a_node_with_more_devices_than_are_shown_says_how_many(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("control_plane.api.resources.nodes.MOST_DEVICES", 1)
    node = await api.get("/nodes/one")
    assert (len(node["gpus"]), node["left_out"]) == (1, {"gpus": 4, "inference_servers": 1})


@pytest.mark.parametrize("path", ["/inference/servers", *METRICS])
async def test_servers_are_narrowed_by_the_namespace_and_pod_that_they_run_in(api: Api, path: str) -> None:
    first, second = "http://127.0.0.1:8000", "http://127.0.0.1:8001"

    async def urls(**asked: Any) -> list[str]:
        return [item["url"] for item in await api.items(path, **asked)]

    assert await urls() == [first, second]
    assert await urls(namespace="a") == [first]
    assert await urls(namespace=["a", "b"]) == [first, second]
    assert await urls(pod="llm") == [first, second]
    assert await urls(namespace="b", pod="llm") == [second]
    assert await urls(namespace="b", pod="job") == []
    assert await urls(namespace="nobody's") == []
    assert await urls(pod="job", node="one") == []


async def test_a_server_shows_its_control_group_and_how_fast_its_counters_grow(api: Api) -> None:
    first = (await api.items("/inference/servers", pod="llm", namespace="a"))[0]
    assert (first["cgroup"]["path"], first["cgroup"]["status"]) == ("/10.scope", "found")
    assert (first["cgroup"]["cpu_limit_cores"], first["cgroup"]["memory_used_bytes"]) == (4.0, 5 * 2**30)
    assert first["cgroup"]["unknown"]["memory_limit_bytes"] == "unsupported"
    one = (await api.get(f"/inference/servers/{first['server_id']}"))["cgroup"]
    assert (one["per_second"]["cpu_seconds"], one["per_second"]["oom_kills"]) == (3.0, 0.0)
    assert one["per_second"]["unknown"]["cpu_throttled_seconds"]
    (series,) = await api.items("/metrics/history", field="cpu_seconds_total", server=first["server_id"], since="1m")
    assert {point["rate_per_second"] for point in series["points"]} >= {3.0}


async def test_a_server_of_an_agent_that_looks_at_no_group_says_so(database: Database, clock: FakeClock) -> None:
    bare = Entity(kind=EntityKind.INFERENCE_SERVER, key="http://x", attributes={"state": "up"})
    async with ingesting(database, clock) as (service, address):
        async with linked(address, FakeNodeClock(clock), "old") as link:
            await link.committed(
                await link.send([Tick(taken_at=FakeNodeClock(clock).now(), entities=[bare], samples=[], reports=[])])
            )
        async with client_of(context_of(database, clock, service)) as api:
            shown = await api.one("/inference/servers")
    assert shown["cgroup"]["unknown"]["path"] == shown["cgroup"]["unknown"]["status"] == "not_sent"
    assert shown["cgroup"]["unknown"]["cpu_limit_cores"] == "never_sampled"


async def test_a_server_on_a_host_of_version_1_has_one_reason_for_all_that_is_unknown(
    database: Database, clock: FakeClock
) -> None:
    attributes = {"state": "up", "cgroup": None, "cgroup_status": "cgroup_v1_host"}
    bare = Entity(kind=EntityKind.INFERENCE_SERVER, key="http://x", attributes=attributes)
    values = dict.fromkeys((spec.name for spec in TABLES["server_cgroup"].fields), Reason.UNSUPPORTED)
    rows = [Sample(table="server_cgroup", entity=(bare.kind, bare.key), values=values)]
    async with ingesting(database, clock) as (service, address):
        async with linked(address, FakeNodeClock(clock), "old") as link:
            await link.committed(
                await link.send([Tick(taken_at=FakeNodeClock(clock).now(), entities=[bare], samples=rows, reports=[])])
            )
        async with client_of(context_of(database, clock, service)) as api:
            shown = await api.one("/inference/servers")
            one = await api.get(f"/inference/servers/{shown['server_id']}")
    for group in (shown["cgroup"], one["cgroup"], one["cgroup"]["per_second"]):
        assert set(group["unknown"].values()) == {"cgroup_v1_host"}
    assert (shown["cgroup"]["status"], shown["cgroup"]["path"]) == ("cgroup_v1_host", None)
