"""Allocated to, used by, and what the difference says. No pod is ever made up."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node_agent.attribution.join import Attribution, Finding, GpuProcess, Target, attribute
from node_agent.attribution.shown import MOST_SHOWN, shown
from node_agent.attribution.step import AttributionStep
from node_agent.host.container import Place
from node_agent.host.container_names import ContainerName
from node_agent.host.device_ids import Device, parse_claimed, parse_plugin_id
from node_agent.host.kubelet import Allocatable, Allocation
from node_agent.host.ownership import Ownership, ProcessFacts, read_process
from node_agent.model import Entity, EntityKind, Tick
from tests.fakes.clock import FakeClock, FakeNodeClock

UUID = "GPU-0"
IDS = {pod: f"{number:064x}" for number, pod in enumerate("abc")}
NAMES = {IDS[pod]: ContainerName(pod=pod, namespace="ns", container="main") for pod in IDS}


def given_to(*pods: str, uuid: str | None = UUID) -> list[Allocation]:
    device = Device(name=uuid, uuid=uuid) if uuid else Device(name="all")
    return [Allocation(pod=p, namespace="ns", container="main", resource="nvidia.com/gpu", device=device) for p in pods]


def facts(pod: str | None, *, title: str = "python3", named: bool = True) -> ProcessFacts:
    place = Place() if pod is None else Place(container_id=IDS[pod] if named else "f" * 64, pod_uid=f"uid-{pod}")
    return ProcessFacts(place=place, name="python3", title=title, started_ticks=5, resident_bytes=4096, cpu_seconds=1.5)


def judged(
    allocations: list[Allocation] | None, users: dict[int, ProcessFacts | None], *, live: str = "abc"
) -> Attribution:
    ownership = Ownership(
        allocations=allocations,
        allocations_detail="not on Kubernetes",
        names=NAMES,
        live_containers=frozenset(IDS[pod] for pod in live),
        processes=users,
    )
    return attribute([Target(uuid=UUID, processes=[GpuProcess(pid=p) for p in users])], ownership, {})[UUID]


CASES: dict[str, tuple[list[Allocation] | None, dict[int, ProcessFacts | None], Finding]] = {
    "neither given nor used": ([], {}, Finding.NONE),
    "used by its holder": (given_to("a"), {1: facts("a")}, Finding.NONE),
    "given and idle": (given_to("a"), {}, Finding.ALLOCATED_BUT_UNUSED),
    "used by a pod that it was not given to": ([], {1: facts("a")}, Finding.USED_BUT_NOT_ALLOCATED),
    "used by the host": ([], {1: facts(None)}, Finding.USED_BUT_NOT_ALLOCATED),
    "given to one and used by another": (given_to("a"), {1: facts("b")}, Finding.USED_BY_ANOTHER),
    "given to one and used by the host too": (given_to("a"), {1: facts("a"), 2: facts(None)}, Finding.USED_BY_ANOTHER),
    "given to two": (given_to("a", "b"), {1: facts("a")}, Finding.SHARED),
    "used by a pod without a known name": (given_to("a"), {1: facts("b", named=False)}, Finding.UNKNOWN),
    "used by a process that is not in our /proc": (given_to("a"), {1: None}, Finding.UNKNOWN),
    "a device known by its name only": (given_to("a", uuid=None), {}, Finding.UNKNOWN),
    "no Kubernetes, one owner": (None, {1: facts("a")}, Finding.UNKNOWN),
    "no Kubernetes, two owners": (None, {1: facts("a"), 2: facts("b")}, Finding.SHARED),
}


@pytest.mark.parametrize(("allocations", "users", "finding"), CASES.values(), ids=CASES.keys())
def test_the_difference_is_a_finding(
    allocations: list[Allocation] | None, users: dict[int, ProcessFacts | None], finding: Finding
) -> None:
    found = judged(allocations, users)
    assert found.finding is finding
    assert bool(found.detail) == (finding is Finding.UNKNOWN), "unknown says why"


def test_a_pod_that_ended_and_is_still_listed_holds_nothing() -> None:
    found = judged(given_to("a", "b"), {1: facts("b")}, live="b")
    assert found.finding is Finding.NONE
    assert found.allocated_to is not None
    assert [each.ended for each in found.allocated_to] == [True, False]


def test_an_instance_given_to_a_pod_is_the_gpus_too() -> None:
    allocations = given_to("a", uuid="MIG-1")
    targets = [Target(uuid=UUID, instances=frozenset({"MIG-1"})), Target(uuid="MIG-1"), Target(uuid="MIG-2")]
    found = attribute(targets, Ownership(allocations=allocations, names=NAMES), {})
    assert [len(found[uuid].allocated_to or ()) for uuid in (UUID, "MIG-1", "MIG-2")] == [1, 1, 0]


def test_a_minor_number_finds_its_gpu_and_instance() -> None:
    allocation = Allocation(
        pod="a", namespace="ns", container="c", resource="r", device=parse_plugin_id("nvidia2/gi1")[0]
    )
    targets = [
        Target(uuid="GPU-2", minor_number=2),
        Target(uuid="MIG-1", gpu_uuid="GPU-2", minor_number=2, gpu_instance_id=1),
        Target(uuid="MIG-2", gpu_uuid="GPU-2", minor_number=2, gpu_instance_id=2),
        Target(uuid="GPU-3", minor_number=3),
    ]
    found = attribute(targets, Ownership(allocations=[allocation]), {})
    assert {uuid for uuid, each in found.items() if each.allocated_to} == {"GPU-2", "MIG-1"}


def of_gpu(name: str) -> dict[str, Attribution]:
    """Who has GPU 2, its instances 1 and 2, and GPU 3, when one device of that name is given to pod a."""
    device = parse_claimed(name) if name.startswith("gpu-") else parse_plugin_id(name)[0]
    allocation = Allocation(pod="a", namespace="ns", container="c", resource="r", device=device)
    instances = [
        Target(uuid=f"MIG-{n}", gpu_uuid="GPU-2", minor_number=2, gpu_instance_id=n, processes=[]) for n in (1, 2)
    ]
    targets = [
        Target(uuid="GPU-2", minor_number=2, instances=frozenset({"MIG-1", "MIG-2"}), processes=[]),
        *instances,
        Target(uuid="GPU-3", minor_number=3, processes=[]),
    ]
    return attribute(targets, Ownership(allocations=[allocation]), {})


def findings(found: dict[str, Attribution]) -> dict[str, str]:
    return {uuid: each.finding.value for uuid, each in found.items()}


@pytest.mark.parametrize("name", ["gpu-2", "nvidia2", "GPU-2::1"])
def test_a_whole_gpu_that_its_id_names_is_taken_and_no_other(name: str) -> None:
    found = findings(of_gpu(name))
    assert found["GPU-2"] == "allocated_but_unused"
    assert found["GPU-3"] == "none"


@pytest.mark.parametrize("name", ["nvidia2/gi1", "MIG-1", "MIG-GPU-2/1/0"])
def test_an_instance_that_the_id_names_is_the_only_one_taken(name: str) -> None:
    assert findings(of_gpu(name)) == {
        "GPU-2": "allocated_but_unused",
        "MIG-1": "allocated_but_unused",
        "MIG-2": "none",
        "GPU-3": "none",
    }


def test_some_instance_of_a_gpu_leaves_its_instances_unknown_and_other_gpus_known() -> None:
    assert findings(of_gpu("gpu-2-mig-1g12gb-19-4")) == {
        "GPU-2": "allocated_but_unused",
        "MIG-1": "unknown",
        "MIG-2": "unknown",
        "GPU-3": "none",
    }


def test_a_device_that_may_be_any_gpu_leaves_all_free_ones_unknown_until_its_pod_ended() -> None:
    assert set(findings(of_gpu("gpu-vfio-0")).values()) == {"unknown"}
    assert judged(given_to("a", uuid=None), {}, live="b").finding is Finding.NONE


def test_allocations_that_were_left_out_may_be_of_any_gpu() -> None:
    ownership = Ownership(allocations=[], allocations_left_out=7)
    found = attribute([Target(uuid=UUID)], ownership, {})[UUID]
    assert found.finding is Finding.UNKNOWN
    assert "7 allocated devices" in found.detail


def test_how_a_gpu_can_be_given_is_shown_or_why_that_is_unknown() -> None:
    can = Allocatable(resource="nvidia.com/gpu.shared", device=Device(name=UUID, uuid=UUID), shares=4, numa_nodes=(1,))
    targets = [Target(uuid=UUID), Target(uuid="GPU-1")]
    found = {uuid: shown(one) for uuid, one in attribute(targets, Ownership(allocatable=[can]), {}).items()}
    assert found[UUID]["allocatable"] == [
        {"resource": "nvidia.com/gpu.shared", "device": UUID, "shares": 4, "numa_nodes": [1]}
    ]
    assert found["GPU-1"]["allocatable"] == [], "broken, or no plugin's"
    unknown = shown(attribute(targets, Ownership(allocatable_detail="not on Kubernetes"), {})[UUID])
    assert unknown["allocatable"] is None
    assert unknown["unknown"]["allocatable"] == "not on Kubernetes"  # type: ignore[index]


def test_what_is_not_shown_is_counted() -> None:
    users = {pid: facts("a") for pid in range(1, MOST_SHOWN + 4)}
    said = shown(judged(given_to("a"), dict(users)))
    assert len(said["used_by"]) == MOST_SHOWN  # type: ignore[arg-type]
    assert said["left_out"] == {"allocated_to": 0, "used_by": 3, "allocatable": 0, "history": 0}


def test_a_process_beyond_those_that_are_looked_up_says_so() -> None:
    known = Ownership(allocations=given_to("a"), pids_left_out=frozenset({42}))
    done = AttributionStep(lambda: known, lambda pids: None)(tick(FakeNodeClock(FakeClock()), 42))
    said = done.entities[0].attributes["attribution"]
    assert "beyond those that are looked up" in said["finding_detail"]  # type: ignore[index]
    assert said["used_by"][0]["unknown"]["pod"] == "too_many_processes"  # type: ignore[index]


def test_processes_without_a_history_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node_agent.attribution.step.MOST_PROCESSES", 2)
    gpu = Entity(kind=EntityKind.GPU, key=UUID, attributes={"processes": [{"pid": pid} for pid in range(1, 6)]})
    truth = FakeClock()
    known = Ownership(processes={pid: facts(None) for pid in range(1, 6)})
    step = AttributionStep(lambda: known, lambda pids: None)
    for _ in range(2):  # the count stays until the next history is taken
        done = step(Tick(taken_at=FakeNodeClock(truth).now(), entities=[gpu], samples=[], reports=[]))
        assert done.entities[0].attributes["attribution"]["left_out"]["history"] == 3  # type: ignore[index]
        truth.advance(5)


pods = st.lists(st.sampled_from("abc"), max_size=4)
users_of = st.dictionaries(
    st.integers(1, 9),
    st.none() | st.builds(facts, st.none() | st.sampled_from("abc"), named=st.booleans()),
    max_size=5,
)


@given(st.none() | pods, users_of, st.sets(st.sampled_from("abc")), st.booleans())
def test_every_gpu_gets_exactly_one_finding_and_no_pod_is_invented(
    holders: list[str] | None, users: dict[int, ProcessFacts | None], live: set[str], processes_known: bool
) -> None:
    allocations = None if holders is None else given_to(*holders)
    ownership = Ownership(
        allocations=allocations,
        names=NAMES,
        live_containers=frozenset(IDS[pod] for pod in live),
        processes=users,
    )
    targets = [
        Target(uuid=UUID, processes=[GpuProcess(pid=pid) for pid in users] if processes_known else None),
        Target(uuid="GPU-1"),
    ]
    found = attribute(targets, ownership, {})
    assert found.keys() == {UUID, "GPU-1"}
    for each in found.values():
        assert isinstance(each.finding, Finding)
        assert {g.allocation.pod for g in each.allocated_to or ()} <= set(holders or ())
        placed = {f.place.container_id for f in users.values() if f is not None}
        assert {u.named.pod for u in each.used_by or () if u.named} <= {p for p, id_ in IDS.items() if id_ in placed}
        told = shown(each)
        assert {name for name, value in told.items() if value is None} == told["unknown"].keys()  # type: ignore[attr-defined]


def tick(clock: FakeNodeClock, pid: int) -> Tick:
    gpu = Entity(
        kind=EntityKind.GPU,
        key=UUID,
        attributes={"processes": [{"pid": pid, "name": "vllm", "used_bytes": 7}]},
    )
    server = Entity(kind=EntityKind.INFERENCE_SERVER, key="http://127.0.0.1:8000", attributes={"pids": [pid]})
    return Tick(taken_at=clock.now(), entities=[gpu, server], samples=[], reports=[])


def test_a_tick_shows_the_server_and_rank_of_a_process_and_the_gpus_of_a_server() -> None:
    known = Ownership(allocations=given_to("a"), names=NAMES, processes={1: facts("a", title="VLLM::Worker_TP1")})
    done = AttributionStep(lambda: known, lambda pids: None)(tick(FakeNodeClock(FakeClock()), 1))
    gpu, server, process = done.entities
    (user,) = gpu.attributes["attribution"]["used_by"]  # type: ignore[index]
    assert (user["server"], user["rank"], user["pod"], user["used_bytes"]) == (server.key, {"tp": 1}, "a", 7)
    (used,) = server.attributes["gpus"]  # type: ignore[misc]
    assert (used["gpu"], used["rank"], server.attributes["pod"]) == (UUID, {"tp": 1}, "a")
    assert process.key == f"{UUID}/1/5"
    (sample,) = done.samples
    assert sample.values["memory_used_bytes"] == 7


def test_the_history_is_sampled_every_ten_seconds() -> None:
    truth = FakeClock()
    clock = FakeNodeClock(truth)
    known = Ownership(processes={1: facts(None)})
    step = AttributionStep(lambda: known, lambda pids: None)
    counts = []
    for _ in range(5):
        counts.append(len(step(tick(clock, 1)).samples))
        truth.advance(5)
    assert counts == [1, 0, 1, 0, 1]


def test_a_process_is_looked_up_for_the_next_tick_and_until_then_its_owner_is_unknown() -> None:
    watched: list[int] = []
    done = AttributionStep(lambda: Ownership(allocations=given_to("a")), watched.extend)(
        tick(FakeNodeClock(FakeClock()), 42)
    )
    assert watched == [42]
    assert done.entities[0].attributes["attribution"]["finding"] == "unknown"  # type: ignore[index]


def test_this_process_is_read_from_proc() -> None:
    found = read_process(Path("/proc"), os.getpid())
    assert found is not None
    assert found.resident_bytes > 1024 * 1024
    assert found.started_ticks > 0
    assert "\0" not in found.title
