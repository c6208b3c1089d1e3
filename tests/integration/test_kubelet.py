"""The kubelet's PodResources over a real Unix socket: whatever it does, the agent says what is known."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from node_agent.collectors.attribution import KEEP_SECONDS, AttributionCollector
from node_agent.host.device_ids import Device
from node_agent.host.kubelet import MOST_BYTES, KubeletAbsent, KubeletError, PodResources
from node_agent.model import Outcome
from optiinfra.kubelet.v1 import podresources_pb2 as pb
from tests.fakes.clock import FakeClock, FakeNodeClock
from tests.fakes.kubelet import Kubelet, listing, serving

GPU = "GPU-d79aa688-b247-151f-5428-f3e2e990b544"


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[PodResources]:
    made = PodResources(tmp_path / "kubelet.sock", timeout_seconds=0.5)
    yield made
    await made.close()


async def test_what_the_kubelet_gave_is_listed(client: PodResources, tmp_path: Path) -> None:
    kubelet = Kubelet()
    kubelet.answer = listing(("team-a", "llm-0", [GPU]))
    async with serving(kubelet, tmp_path / "kubelet.sock"):
        (found,) = (await client.list()).allocations
    assert (found.namespace, found.pod, found.container, found.resource) == (
        "team-a",
        "llm-0",
        "main",
        "nvidia.com/gpu",
    )
    assert found.device == Device(name=GPU, uuid=GPU)


async def test_a_kubelet_that_restarts_with_a_new_socket_is_found_again(client: PodResources, tmp_path: Path) -> None:
    for pod in ("before", "after"):
        kubelet = Kubelet()
        kubelet.answer = listing(("n", pod, [GPU]))
        async with serving(kubelet, tmp_path / "kubelet.sock"):
            assert [a.pod for a in (await client.list()).allocations] == [pod]


async def test_without_a_socket_there_is_no_kubernetes(client: PodResources) -> None:
    with pytest.raises(KubeletAbsent, match="not on Kubernetes"):
        await client.list()


async def test_a_kubelet_that_hangs_is_given_up_at_the_deadline(client: PodResources, tmp_path: Path) -> None:
    kubelet = Kubelet()
    kubelet.hangs = True
    async with serving(kubelet, tmp_path / "kubelet.sock"):
        with pytest.raises(KubeletError, match="DEADLINE_EXCEEDED"):
            await client.list()


async def test_an_answer_beyond_the_limit_is_refused(client: PodResources, tmp_path: Path) -> None:
    kubelet = Kubelet()
    kubelet.answer = pb.ListPodResourcesResponse(pod_resources=[pb.PodResources(name="x" * (MOST_BYTES + 1))])
    async with serving(kubelet, tmp_path / "kubelet.sock"):
        with pytest.raises(KubeletError, match="RESOURCE_EXHAUSTED"):
            await client.list()


async def test_a_refusal_is_said_in_its_words(client: PodResources, tmp_path: Path) -> None:
    kubelet = Kubelet()
    kubelet.refusal = grpc.StatusCode.PERMISSION_DENIED
    async with serving(kubelet, tmp_path / "kubelet.sock"):
        with pytest.raises(KubeletError, match="PERMISSION_DENIED: as the test wants it"):
            await client.list()


async def test_a_kubelet_without_the_api_is_said(client: PodResources, tmp_path: Path) -> None:
    async with serving(None, tmp_path / "kubelet.sock"):
        with pytest.raises(KubeletError, match="UNIMPLEMENTED"):
            await client.list()


async def test_a_failing_kubelet_is_believed_for_a_minute_and_then_unknown(
    client: PodResources, tmp_path: Path
) -> None:
    kubelet, truth = Kubelet(), FakeClock()
    clock = FakeNodeClock(truth)
    kubelet.answer = listing(("n", "p", [GPU]))
    collector = AttributionCollector(client, proc_root=tmp_path, container_logs_dir=tmp_path)
    async with serving(kubelet, tmp_path / "kubelet.sock"):
        assert (await collector.collect(clock.now())).outcome is Outcome.OK
        kubelet.refusal = grpc.StatusCode.INTERNAL
        truth.advance(11)
        assert (await collector.collect(clock.now())).outcome is Outcome.PARTIAL
        assert collector.ownership.allocations is not None
        truth.advance(KEEP_SECONDS)
        await collector.collect(clock.now())
        assert collector.ownership.allocations is None
        assert "INTERNAL" in collector.ownership.allocations_detail


async def test_dynamic_resources_are_gpus_and_other_devices_are_not_gpus(client: PodResources, tmp_path: Path) -> None:
    kubelet = Kubelet()
    claim = pb.DynamicResource(claim_resources=[pb.ClaimResource(driver_name="gpu.nvidia.com", device_name="gpu-0")])
    card = pb.ContainerDevices(resource_name="rdma/hca", device_ids=["mlx5_0"])
    container = pb.ContainerResources(name="c", devices=[card], dynamic_resources=[claim])
    kubelet.answer = pb.ListPodResourcesResponse(
        pod_resources=[pb.PodResources(name="p", namespace="n", containers=[container])]
    )
    async with serving(kubelet, tmp_path / "kubelet.sock"):
        assert [a.device for a in (await client.list()).allocations] == [Device(name="gpu-0", minor_number=0)]


async def test_what_can_be_given_is_asked_for_once_a_minute(client: PodResources, tmp_path: Path) -> None:
    kubelet, truth = Kubelet(), FakeClock()
    clock = FakeNodeClock(truth)
    kubelet.allocatable = pb.AllocatableResourcesResponse(
        devices=[pb.ContainerDevices(resource_name="nvidia.com/gpu", device_ids=[GPU])]
    )
    collector = AttributionCollector(client, proc_root=tmp_path, container_logs_dir=tmp_path)
    async with serving(kubelet, tmp_path / "kubelet.sock"):
        for _ in range(7):
            await collector.collect(clock.now())
            truth.advance(10)
    assert (kubelet.asked, kubelet.asked_allocatable) == (7, 2)
    assert [each.device.uuid for each in collector.ownership.allocatable or ()] == [GPU]


async def test_a_kubelet_that_does_not_say_what_can_be_given_leaves_only_that_unknown(
    client: PodResources, tmp_path: Path
) -> None:
    kubelet = Kubelet()
    kubelet.answer = listing(("n", "p", [GPU]))
    kubelet.allocatable = None
    collector = AttributionCollector(client, proc_root=tmp_path, container_logs_dir=tmp_path)
    async with serving(kubelet, tmp_path / "kubelet.sock"):
        assert (await collector.collect(FakeNodeClock(FakeClock()).now())).outcome is Outcome.OK
    assert [each.pod for each in collector.ownership.allocations or ()] == ["p"]
    assert collector.ownership.allocatable is None
    assert "UNIMPLEMENTED" in collector.ownership.allocatable_detail


async def test_what_is_too_much_is_said_with_its_count(
    client: PodResources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node_agent.host.kubelet.MOST_ALLOCATIONS", 2)
    monkeypatch.setattr("node_agent.host.container_names.MOST_LINKS", 1)
    logs = tmp_path / "containers"
    logs.mkdir()
    for number in range(3):
        (logs / f"p_n_c-{number:064x}.log").touch()
    kubelet = Kubelet()
    kubelet.answer = listing(("n", "p", [GPU, "GPU-1", "GPU-2"]))
    collector = AttributionCollector(client, proc_root=tmp_path, container_logs_dir=logs)
    collector.watch(range(1, 301))
    async with serving(kubelet, tmp_path / "kubelet.sock"):
        said = await collector.collect(FakeNodeClock(FakeClock()).now())
    assert said.outcome is Outcome.PARTIAL
    for part in ("44 processes beyond", "1 allocated devices beyond", "2 containers beyond"):
        assert part in said.detail
    assert collector.ownership.pids_left_out == set(range(257, 301))
