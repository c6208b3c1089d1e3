"""Allocated to, used by, and what the difference says. No pod is ever made up."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node_agent.attribution.join import Attribution, Finding, GpuProcess, Target, attribute, shown
from node_agent.attribution.step import AttributionStep
from node_agent.host.container import Place
from node_agent.host.container_names import ContainerName
from node_agent.host.kubelet import Allocation, Device
from node_agent.host.ownership import Ownership, ProcessFacts, read_process
from node_agent.model import Entity, EntityKind, Tick
from tests.fakes.clock import FakeClock, FakeNodeClock

UUID = "GPU-0"
IDS = {pod: f"{number:064x}" for number, pod in enumerate("abc")}
NAMES = {IDS[pod]: ContainerName(pod=pod, namespace="ns", container="main") for pod in IDS}


def given_to(*pods: str, uuid: str | None = UUID) -> list[Allocation]:
    device = Device(uuid=uuid) if uuid else Device(name="gpu-0")
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
        pod="a", namespace="ns", container="c", resource="r", device=Device(minor_number=2, gpu_instance_id=1)
    )
    targets = [
        Target(uuid="GPU-2", minor_number=2),
        Target(uuid="MIG-1", minor_number=2, gpu_instance_id=1),
        Target(uuid="MIG-2", minor_number=2, gpu_instance_id=2),
        Target(uuid="GPU-3", minor_number=3),
    ]
    found = attribute(targets, Ownership(allocations=[allocation]), {})
    assert {uuid for uuid, each in found.items() if each.allocated_to} == {"GPU-2", "MIG-1"}


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
