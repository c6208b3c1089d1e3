"""GPU instances: what each holds and does, and that nothing of it is laid to the GPU as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from node_agent.attribution.step import AttributionStep
from node_agent.collectors.gpu_health import HEALTH_SECONDS
from node_agent.collectors.gpu_instances import INSTANCE_METRICS
from node_agent.host.device_ids import parse_plugin_id
from node_agent.host.kubelet import Allocation
from node_agent.host.nvml_facts import ComputeInstance, XidEvent
from node_agent.host.nvml_protocol import NvmlRefused
from node_agent.host.ownership import Ownership, ProcessFacts
from node_agent.model import Collected, Entity, EntityKind, Outcome, Reason, Tick, Value
from optiinfra.catalogue import TABLES
from tests.fakes.gpus import a100_mig, h100_mig, h200, l4
from tests.fakes.nvml import FakeNvml
from tests.unit.node_agent.test_gpu_collector import at, collecting, only_values, values_of

EVERY_FIELD = {spec.name for spec in TABLES["gpu_instance"].fields}
GPM_FIELDS = {metric.name.lower() for metric in INSTANCE_METRICS}


def instances_of(collected: Collected) -> dict[object, Entity]:
    kind = EntityKind.GPU_INSTANCE
    return {e.attributes["gpu_instance_id"]: e for e in collected.entities if e.kind is kind}


def values_by_id(collected: Collected) -> dict[object, Mapping[str, Value]]:
    keys = {entity.key: number for number, entity in instances_of(collected).items()}
    return {keys[s.entity[1]]: s.values for s in collected.samples if s.table == "gpu_instance"}


async def test_every_instance_is_described_and_sampled_at_every_tick() -> None:
    gpu = h100_mig()
    async with collecting(FakeNvml(gpu)) as collector:
        first, second = await collector.collect(at(0)), await collector.collect(at(1))
    for collected in (first, second):
        assert collected.outcome is Outcome.OK
        assert set(instances_of(collected)) == {2, 3, 9, 10}
        assert all(values.keys() == EVERY_FIELD for values in values_by_id(collected).values())
    assert {values_by_id(first)[2][name] for name in GPM_FIELDS} == {Reason.FIRST_SAMPLE}
    values = values_by_id(second)[2]
    assert (values["sm_active_ratio"], values["tensor_active_ratio"]) == (0.96313, 0.93491)
    assert values["memory_used_bytes"] == 11091 * 1024 * 1024
    attributes = instances_of(second)[2].attributes
    assert (attributes["gpu"], attributes["profile"], attributes["sm_count"]) == (gpu.identity.uuid, "3g.40gb", 60)
    assert attributes["state"] == "present"
    assert second.entities[0].attributes["gpu_instances_count"] == 4


async def test_what_a_gpu_does_not_tell_in_mig_mode_is_unsupported_and_never_zero() -> None:
    async with collecting(FakeNvml(h100_mig())) as collector:
        await collector.collect(at(0))
        collected = await collector.collect(at(1))
    values = only_values(collected)
    for name in ("gpu_utilization_ratio", "memory_controller_utilization_ratio", "encoder_utilization_ratio",
                 "jpeg_utilization_ratio", "sm_active_ratio"):  # fmt: skip
        assert values[name] is Reason.UNSUPPORTED
    assert (values["power_draw_watts"], values["memory_used_bytes"]) == (79.717, 11125 * 1024 * 1024)


async def test_processes_are_on_the_gpu_and_on_the_instance_that_they_run_on() -> None:
    async with collecting(FakeNvml(h100_mig())) as collector:
        collected = await collector.collect(at(0))
    found = {e.attributes.get("gpu_instance_id"): e.attributes["processes"] for e in collected.entities}
    pids = {
        number: [process["pid"] for process in processes] for number, processes in found.items()
        if isinstance(processes, list)
    }  # fmt: skip
    assert pids == {None: [21180, 21181, 21198], 2: [21180, 21181, 21198], 3: [], 9: [], 10: []}
    assert only_values(collected, "gpu_health")["compute_processes_count"] == 3


async def test_processes_that_may_not_be_seen_are_unknown_on_every_instance() -> None:
    gpu = h100_mig()
    gpu.refusals = {"compute_processes": NvmlRefused(Reason.NO_PERMISSION, "Insufficient Permissions")}
    async with collecting(FakeNvml(gpu)) as collector:
        collected = await collector.collect(at(0))
    assert {entity.attributes["processes"] for entity in collected.entities} == {None}  # type: ignore[comparison-overlap]


async def test_an_a100_tells_the_memory_of_its_instances_and_not_how_busy_they_are() -> None:
    async with collecting(FakeNvml(a100_mig())) as collector:
        await collector.collect(at(0))
        values = values_by_id(await collector.collect(at(1)))[1]
    assert {values[name] for name in GPM_FIELDS} == {Reason.UNSUPPORTED}
    assert values["memory_total_bytes"] == 40192 * 1024 * 1024


@pytest.mark.parametrize("make", [h200, l4])
async def test_a_gpu_without_instances_has_none_and_is_not_troubled(make: object) -> None:
    assert callable(make)
    async with collecting(FakeNvml(make())) as collector:
        collected = await collector.collect(at(0))
    assert (instances_of(collected), collected.outcome) == ({}, Outcome.OK)


async def test_an_instance_that_is_made_under_way_shows_within_ten_seconds() -> None:
    gpu = h100_mig()
    assert not isinstance(gpu.instances, Reason)
    later = gpu.instances.pop()
    async with collecting(FakeNvml(gpu)) as collector:
        await collector.collect(at(0))
        gpu.instances.append(later)
        assert 10 not in instances_of(await collector.collect(at(1)))
        assert 10 in instances_of(await collector.collect(at(HEALTH_SECONDS)))


async def test_an_instance_that_is_destroyed_is_unknown_then_gone_and_then_told_of_no_more() -> None:
    gpu = h100_mig()
    assert not isinstance(gpu.instances, Reason)
    async with collecting(FakeNvml(gpu)) as collector:
        await collector.collect(at(0))
        gpu.instances.pop()
        between = await collector.collect(at(1))
        told = await collector.collect(at(HEALTH_SECONDS))
        after = await collector.collect(at(HEALTH_SECONDS + 1))
    assert set(values_by_id(between)[10].values()) == {Reason.NOT_COLLECTED}
    assert instances_of(told)[10].attributes["state"] == "gone"
    assert 10 not in values_by_id(told)
    assert 10 not in instances_of(after)


async def test_an_instance_that_cannot_be_read_is_looked_for_at_once_and_once() -> None:
    gpu = h100_mig()
    driver = FakeNvml(gpu)
    async with collecting(driver) as collector:
        await collector.collect(at(0))
        gpu.refusals = {"instance_memory": NvmlRefused(Reason.ERROR, "nvmlDeviceGetMemoryInfo: Invalid Argument")}
        for second in range(1, 9):
            collected = await collector.collect(at(second))
    assert driver.asked.count("instances") == 2
    assert collected.outcome is Outcome.PARTIAL


async def test_another_instance_with_the_same_id_begins_anew() -> None:
    gpu = h100_mig()
    assert not isinstance(gpu.instances, Reason)
    async with collecting(FakeNvml(gpu)) as collector:
        await collector.collect(at(0))
        old = gpu.instances[0]
        other = ComputeInstance(uuid="MIG-another", compute_instance_id=0, sm_count=60)
        old.facts = replace(old.facts, compute_instances=(other,))
        collected = await collector.collect(at(HEALTH_SECONDS))
    states = {e.key: e.attributes["state"] for e in collected.entities if e.attributes.get("gpu_instance_id") == 2}
    assert states == {"MIG-another": "present", "MIG-71000000-0000-5000-8000-000000000002": "gone"}
    fresh = {s.entity[1]: s.values for s in collected.samples if s.table == "gpu_instance"}["MIG-another"]
    assert fresh["sm_active_ratio"] is Reason.FIRST_SAMPLE


async def test_the_instances_of_a_gpu_that_is_lost_are_lost_with_it() -> None:
    driver = FakeNvml(h200(0), h100_mig(1))
    async with collecting(driver) as collector:
        await collector.collect(at(0))
        driver.gpus[1].is_lost = True
        collected = await collector.collect(at(1))
    assert all(set(values.values()) == {Reason.DEVICE_LOST} for values in values_by_id(collected).values())
    assert len(values_by_id(collected)) == 4
    assert collected.detail.count("is lost") == 1
    assert [event.kind for event in collected.events] == ["gpu_lost"]
    assert len(values_of(collected)) == 2


async def test_an_xid_names_the_instance_that_it_struck() -> None:
    driver = FakeNvml(h100_mig())
    async with collecting(driver) as collector:
        await collector.collect(at(0))
        driver.xids = [XidEvent(index=0, number=31, gpu_instance_id=2)]
        (event,) = (await collector.collect(at(1))).events
    assert (event.entity, event.detail["gpu_instance_id"]) == ((EntityKind.GPU, driver.gpus[0].identity.uuid), 2)


# -- whose it is ----------------------------------------------------------------------------------


def attributed(collected: Collected, ownership: Ownership) -> Tick:
    step = AttributionStep(lambda: ownership, lambda _: None)
    tick = Tick(taken_at=at(0), entities=collected.entities, samples=collected.samples, reports=[])
    return step(tick)


async def test_a_process_on_an_instance_is_paid_for_once() -> None:
    async with collecting(FakeNvml(h100_mig())) as collector:
        collected = await collector.collect(at(0))
    facts: dict[int, ProcessFacts | None] = dict.fromkeys((21180, 21181, 21198))
    tick = attributed(collected, Ownership(processes=facts))
    people = [entity for entity in tick.entities if entity.kind is EntityKind.GPU_PROCESS]
    assert [person.attributes["pid"] for person in people] == [21180, 21181, 21198]
    instance = instances_of(collected)[2]
    assert {person.attributes["gpu"] for person in people} == {instance.attributes["gpu"]}
    assert {person.attributes["gpu_instance"] for person in people} == {instance.key}
    samples = [sample for sample in tick.samples if sample.table == "gpu_process"]
    assert {sample.values["sm_utilization_ratio"] for sample in samples} == {Reason.UNSUPPORTED}
    assert sum(
        int(s.values["memory_used_bytes"]) for s in samples if isinstance(s.values["memory_used_bytes"], int)
    ) == ((2296 + 1272 + 7484) * 1024 * 1024)


async def test_a_part_of_an_instance_that_was_given_away_is_the_instances() -> None:
    gpu = h100_mig()
    assert not isinstance(gpu.instances, Reason)
    first = gpu.instances[0]
    parts = tuple(
        ComputeInstance(uuid=f"MIG-0000000{n}-0000-5000-8000-000000000000", compute_instance_id=n) for n in (1, 2)
    )
    first.facts = replace(first.facts, compute_instances=parts)
    async with collecting(FakeNvml(gpu)) as collector:
        collected = await collector.collect(at(0))
    given = Allocation(
        pod="p",
        namespace="ns",
        container="c",
        resource="nvidia.com/mig-3g.40gb",
        device=parse_plugin_id(parts[1].uuid)[0],
    )
    tick = attributed(collected, Ownership(allocations=[given]))
    shown = {e.key: e.attributes["attribution"] for e in tick.entities if "attribution" in e.attributes}
    to = {key: [each["pod"] for each in said["allocated_to"]] for key, said in shown.items() if isinstance(said, dict)}
    assert {key for key, pods in to.items() if pods} == {gpu.identity.uuid, parts[0].uuid}
