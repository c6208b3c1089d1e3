"""The kubelet's PodResources over its Unix socket: which devices it gave to which pod, and which it can give."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import grpc
import grpc.aio

from node_agent.host.device_ids import DRA_DRIVER, Device, is_gpu, parse_claimed, parse_plugin_id
from node_agent.untrusted import clean_text
from optiinfra.kubelet.v1 import podresources_pb2, podresources_pb2_grpc

MOST_BYTES = 16 * 1024 * 1024  # the limit of the kubelet's own client (pkg/kubelet/apis/podresources/client.go)
MOST_ALLOCATIONS = 4096  # 110 pods a node and 16 GPUs with some replicas each are far below
# grpcio sends the escaped socket path as :authority, which strict servers refuse (grpc issue 38142).
_OPTIONS = (("grpc.default_authority", "localhost"), ("grpc.max_receive_message_length", MOST_BYTES))


class KubeletAbsent(LookupError):
    """There is no kubelet here: no socket at that path."""


class KubeletError(Exception):
    """The kubelet is there and did not answer; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """One device that the kubelet gave to one container."""

    pod: str
    namespace: str
    container: str
    resource: str  # nvidia.com/gpu, or the driver of a dynamic resource
    device: Device
    shares: int = 0  # how many replicas of a shared device; 0: the device as a whole
    claim: str = ""  # namespace/name of the claim that a dynamic resource came by
    numa_nodes: tuple[int, ...] = ()  # as the plugin said; none: it did not


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What is given to whom."""

    allocations: Sequence[Allocation]
    left_out: int = 0  # devices beyond what is kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocatable:
    """One healthy device that the kubelet may give to somebody, whether or not somebody has it."""

    resource: str
    device: Device
    shares: int = 0
    numa_nodes: tuple[int, ...] = ()


def listing_of(answer: podresources_pb2.ListPodResourcesResponse) -> Listing:
    """This will give the GPUs in an answer, each device of a container once."""
    shares: dict[Allocation, set[str]] = {}
    left_out = 0
    for pod in answer.pod_resources:
        for container in pod.containers:
            for allocation, share in _allocations(pod, container):
                if allocation not in shares and len(shares) >= MOST_ALLOCATIONS:
                    left_out += 1
                else:
                    shares.setdefault(allocation, set()).add(share)
    allocations = [replace(each, shares=len(said - {""})) for each, said in shares.items()]
    return Listing(allocations=allocations, left_out=left_out)


def _allocations(
    pod: podresources_pb2.PodResources, container: podresources_pb2.ContainerResources
) -> Iterator[tuple[Allocation, str]]:
    """This will give a container's GPUs, each with its share; network cards and CPUs are others' business."""
    bare = partial(
        Allocation, pod=clean_text(pod.name), namespace=clean_text(pod.namespace), container=clean_text(container.name)
    )
    for resource, device, share, numa_nodes in _plugged(container.devices):
        yield bare(resource=resource, device=device, numa_nodes=numa_nodes), share
    for claim in container.dynamic_resources:
        name = f"{clean_text(claim.claim_namespace)}/{clean_text(claim.claim_name)}"
        for given in claim.claim_resources:
            if given.driver_name == DRA_DRIVER:
                device = parse_claimed(given.device_name, tuple(each.name for each in given.cdi_devices))
                yield bare(resource=DRA_DRIVER, device=device, claim=name), clean_text(given.share_id)


def _plugged(
    devices: Iterable[podresources_pb2.ContainerDevices],
) -> Iterator[tuple[str, Device, str, tuple[int, ...]]]:
    for given in devices:
        resource = clean_text(given.resource_name)
        numa_nodes = tuple(sorted({node.ID for node in given.topology.nodes}))
        for device, share in map(parse_plugin_id, given.device_ids):
            if is_gpu(resource, device):
                yield resource, device, share, numa_nodes


def allocatable_in(answer: podresources_pb2.AllocatableResourcesResponse) -> Sequence[Allocatable]:
    """This will give the GPUs that an answer says the kubelet can give, at most as many as allocations are kept."""
    shares: dict[Allocatable, set[str]] = {}
    for resource, device, share, numa_nodes in _plugged(answer.devices):
        one = Allocatable(resource=resource, device=device, numa_nodes=numa_nodes)
        if one in shares or len(shares) < MOST_ALLOCATIONS:
            shares.setdefault(one, set()).add(share)
    return [replace(each, shares=len(said - {""})) for each, said in shares.items()]


class PodResources:
    """One kept channel to the kubelet. A kubelet that restarts makes a new socket: then a new channel is opened."""

    def __init__(self, socket: Path, *, timeout_seconds: float = 2.0) -> None:
        """This will open nothing yet."""
        self._socket = socket
        self._timeout_seconds = timeout_seconds
        self._channel: grpc.aio.Channel | None = None
        self._identity: tuple[int, int] | None = None  # device and inode of the socket behind the channel

    async def list(self) -> Listing:
        """This will ask which devices are given to whom. Raises KubeletAbsent and KubeletError."""
        stub = podresources_pb2_grpc.PodResourcesListerStub(await self._connected())
        async with self._answering():
            answer = await stub.List(podresources_pb2.ListPodResourcesRequest(), timeout=self._timeout_seconds)
        return listing_of(answer)

    async def allocatable(self) -> Sequence[Allocatable]:
        """This will ask which devices can be given, in use or not. Raises KubeletAbsent and KubeletError.

        A kubelet before 1.23 does not know the question. Devices of dynamic resource allocation are not among them.
        """
        stub = podresources_pb2_grpc.PodResourcesListerStub(await self._connected())
        async with self._answering():
            answer = await stub.GetAllocatableResources(
                podresources_pb2.AllocatableResourcesRequest(), timeout=self._timeout_seconds
            )
        return allocatable_in(answer)

    @asynccontextmanager
    async def _answering(self) -> AsyncIterator[None]:
        try:
            yield
        except grpc.aio.AioRpcError as error:
            await self.close()  # a channel that failed waits ever longer before it tries again
            said = clean_text(error.details() or "")
            raise KubeletError(f"the kubelet answers {error.code().name}" + (f": {said}" if said else "")) from error

    async def close(self) -> None:
        """This will close the channel, if there is one."""
        if self._channel is not None:
            channel, self._channel = self._channel, None
            await channel.close()

    async def _connected(self) -> grpc.aio.Channel:
        try:
            found = self._socket.stat()
        except FileNotFoundError as error:
            await self.close()
            raise KubeletAbsent(f"not on Kubernetes: there is no {self._socket}") from error
        except OSError as error:
            raise KubeletError(f"{self._socket} cannot be reached: {error.strerror}") from error
        identity = (found.st_dev, found.st_ino)
        if self._channel is None or identity != self._identity:
            await self.close()
            self._channel = grpc.aio.insecure_channel(f"unix://{self._socket.absolute()}", options=_OPTIONS)
            self._identity = identity
        return self._channel
