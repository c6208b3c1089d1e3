"""The kubelet's messages as its own source has them, and ids in the forms that plugins and drivers write."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import given
from hypothesis import strategies as st

from node_agent.host.device_ids import Device, is_gpu, parse_claimed, parse_plugin_id
from node_agent.host.kubelet import Allocatable, Allocation, allocatable_in, listing_of
from optiinfra.kubelet.v1 import podresources_pb2 as pb

DATA = Path(__file__).parents[2] / "data" / "kubelet"
FULL = "GPU-d79aa688-b247-151f-5428-f3e2e990b544"
SHARED = "GPU-11111111-b247-151f-5428-f3e2e990b544"
MIG = "MIG-2ce7a541-c516-5dbc-a76e-26cc100d9b55"

# kubernetes/kubelet, pkg/apis/podresources/v1/api.proto, commit 63b3249724f7d89a8aa48f9acb3811f193c9aa68:
# every field of the messages that we know, with its number and type.
UPSTREAM: dict[str, dict[str, tuple[int, str]]] = {
    "ListPodResourcesRequest": {},
    "ListPodResourcesResponse": {"pod_resources": (1, "repeated PodResources")},
    "AllocatableResourcesRequest": {},
    "AllocatableResourcesResponse": {
        "devices": (1, "repeated ContainerDevices"),
        "cpu_ids": (2, "repeated int64"),
        "memory": (3, "repeated ContainerMemory"),
    },
    "PodResources": {
        "name": (1, "string"),
        "namespace": (2, "string"),
        "containers": (3, "repeated ContainerResources"),
        "cpu_ids": (4, "repeated int64"),
        "memory": (5, "repeated ContainerMemory"),
    },
    "ContainerResources": {
        "name": (1, "string"),
        "devices": (2, "repeated ContainerDevices"),
        "cpu_ids": (3, "repeated int64"),
        "memory": (4, "repeated ContainerMemory"),
        "dynamic_resources": (5, "repeated DynamicResource"),
    },
    "ContainerDevices": {
        "resource_name": (1, "string"),
        "device_ids": (2, "repeated string"),
        "topology": (3, "TopologyInfo"),
    },
    "TopologyInfo": {"nodes": (1, "repeated NUMANode")},
    "NUMANode": {"ID": (1, "int64")},
    "DynamicResource": {
        "claim_name": (2, "string"),
        "claim_namespace": (3, "string"),
        "claim_resources": (4, "repeated ClaimResource"),
    },
    "ClaimResource": {
        "cdi_devices": (1, "repeated CDIDevice"),
        "driver_name": (2, "string"),
        "pool_name": (3, "string"),
        "device_name": (4, "string"),
        "share_id": (5, "optional string"),
    },
    "CDIDevice": {"name": (1, "string")},
}
_SCALARS = {FieldDescriptor.TYPE_STRING: "string", FieldDescriptor.TYPE_INT64: "int64"}


def _type(field: FieldDescriptor) -> str:
    name = field.message_type.name if field.message_type else _SCALARS[field.type]
    if field.is_repeated:
        return f"repeated {name}"
    return f"optional {name}" if field.containing_oneof is not None else name


def test_our_messages_are_the_kubelets() -> None:
    assert set(pb.DESCRIPTOR.message_types_by_name) == UPSTREAM.keys()
    for message in pb.DESCRIPTOR.message_types_by_name.values():
        ours = {field.name: (field.number, _type(field)) for field in message.fields}
        assert ours.items() <= UPSTREAM[message.name].items(), message.name
    methods = pb.DESCRIPTOR.services_by_name["PodResourcesLister"].methods
    assert pb.DESCRIPTOR.package == "v1"
    assert {m.name: (m.input_type.name, m.output_type.name) for m in methods} == {
        "List": ("ListPodResourcesRequest", "ListPodResourcesResponse"),
        "GetAllocatableResources": ("AllocatableResourcesRequest", "AllocatableResourcesResponse"),
    }


def test_bytes_that_the_kubelets_own_messages_made_say_what_was_given_to_whom() -> None:
    said = listing_of(pb.ListPodResourcesResponse.FromString((DATA / "list.bin").read_bytes()))
    assert said.left_out == 0
    assert said.allocations == [
        Allocation(
            pod="llm-0",
            namespace="team-a",
            container="vllm",
            resource="nvidia.com/gpu",
            device=Device(name=FULL, uuid=FULL),
            numa_nodes=(1,),
        ),
        Allocation(
            pod="notebook",
            namespace="team-b",
            container="main",
            resource="nvidia.com/gpu.shared",
            device=Device(name=SHARED, uuid=SHARED),
            shares=2,
            numa_nodes=(0, 1),
        ),
        Allocation(
            pod="notebook",
            namespace="team-b",
            container="main",
            resource="nvidia.com/mig-1g.10gb",
            device=Device(name=MIG, uuid=MIG),
        ),
        Allocation(
            pod="claimed-0",
            namespace="team-c",
            container="main",
            resource="gpu.nvidia.com",
            device=Device(name="gpu-3", minor_number=3),
            shares=1,
            claim="team-c/one-gpu",
        ),
    ], "neither the network card nor the channel of a compute domain is a GPU"


def test_bytes_that_the_kubelets_own_messages_made_say_what_can_be_given() -> None:
    said = allocatable_in(pb.AllocatableResourcesResponse.FromString((DATA / "allocatable.bin").read_bytes()))
    assert said == [
        Allocatable(resource="nvidia.com/gpu", device=Device(name=FULL, uuid=FULL), numa_nodes=(1,)),
        Allocatable(resource="nvidia.com/gpu.shared", device=Device(name=SHARED, uuid=SHARED), shares=2),
    ]


def test_what_is_beyond_the_limit_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node_agent.host.kubelet.MOST_ALLOCATIONS", 1)
    said = listing_of(pb.ListPodResourcesResponse.FromString((DATA / "list.bin").read_bytes()))
    assert [each.pod for each in said.allocations] == ["llm-0"]
    assert said.left_out == 4  # two shares, an instance, a claimed GPU


@pytest.mark.parametrize(
    ("text", "device", "share"),
    [
        (FULL, Device(name=FULL, uuid=FULL), ""),
        (f"{FULL}::3", Device(name=FULL, uuid=FULL), "3"),
        (MIG, Device(name=MIG, uuid=MIG), ""),
        (f"{MIG}::7", Device(name=MIG, uuid=MIG), "7"),
        (
            f"MIG-{FULL}/3/0",
            Device(name=f"MIG-{FULL}/3/0", uuid=f"MIG-{FULL}/3/0", gpu_uuid=FULL, gpu_instance_id=3),
            "",
        ),
        ("nvidia0", Device(name="nvidia0", minor_number=0), ""),
        ("nvidia2/gi1", Device(name="nvidia2/gi1", minor_number=2, gpu_instance_id=1), ""),
        ("nvidia2/gi1/vgpu0", Device(name="nvidia2/gi1/vgpu0", minor_number=2, gpu_instance_id=1), "/vgpu0"),
        ("nvidia7/vgpu1", Device(name="nvidia7/vgpu1", minor_number=7), "/vgpu1"),
        ("all", Device(name="all"), ""),  # the plugin in WSL: any GPU may be meant
        ("tegra", Device(name="tegra"), ""),
    ],
)
def test_a_plugins_id_is_read_in_each_of_its_forms(text: str, device: Device, share: str) -> None:
    assert parse_plugin_id(text) == (device, share)


@pytest.mark.parametrize(
    ("name", "cdi", "device"),
    [
        ("gpu-0", (), Device(name="gpu-0", minor_number=0)),
        ("gpu-0-mig-1g12gb-19-4", (), Device(name="gpu-0-mig-1g12gb-19-4", minor_number=0, is_some_instance=True)),
        (
            "gpu-1-mig-19-0-1",
            (),
            Device(name="gpu-1-mig-19-0-1", minor_number=1, is_some_instance=True),
        ),  # before 25.12
        ("gpu-vfio-0", (), Device(name="gpu-vfio-0")),  # a virtual machine's, by index
        ("gpu-0", ("k8s.gpu.nvidia.com/claim=dab5ab50-gpu-0",), Device(name="gpu-0", minor_number=0)),
        ("", (f"nvidia.com/gpu={FULL}",), Device(name="", uuid=FULL)),
        ("x", (f"nvidia.com/gpu={MIG}",), Device(name="x", uuid=MIG)),
    ],
)
def test_a_claimed_device_is_read_in_each_of_its_forms(name: str, cdi: tuple[str, ...], device: Device) -> None:
    assert parse_claimed(name, cdi) == device


@pytest.mark.parametrize(
    ("resource", "device", "expected"),
    [
        ("nvidia.com/gpu", Device(name="all"), True),
        ("nvidia.com/gpu.shared", Device(name="x"), True),
        ("nvidia.com/mig-1g.10gb", Device(name="x"), True),
        ("example.org/fast", Device(name=FULL, uuid=FULL), True),  # the operator renamed it
        ("nvidia.com/resibp59s0", Device(name="0000:3b:00.0"), False),
        ("nvidia.com/gpudirect", Device(name="x"), False),
        ("amd.com/gpu", Device(name="0000:05:00.0"), False),
        ("rdma/hca", Device(name="mlx5_0"), False),
    ],
)
def test_only_gpus_are_gpus(resource: str, device: Device, expected: bool) -> None:
    assert is_gpu(resource, device) is expected


@given(st.text(max_size=200), st.lists(st.text(max_size=80), max_size=3))
def test_no_text_breaks_the_parsers(text: str, cdi: list[str]) -> None:
    device, _ = parse_plugin_id(text)
    claimed = parse_claimed(text, tuple(cdi))
    assert device.uuid is None or device.uuid in text
    assert claimed.minor_number is None or f"gpu-{claimed.minor_number}" in text or "gpu-0" in text
