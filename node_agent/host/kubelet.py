"""The kubelet's PodResources over its Unix socket: which devices it gave to which pod."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio

from node_agent.untrusted import clean_text
from optiinfra.kubelet.v1 import podresources_pb2, podresources_pb2_grpc

MOST_BYTES = 16 * 1024 * 1024  # the limit of the kubelet's own client (pkg/kubelet/apis/podresources/client.go)
MOST_ALLOCATIONS = 4096  # 110 pods a node and 16 GPUs with some replicas each are far below
# grpcio sends the escaped socket path as :authority, which strict servers refuse (grpc issue 38142).
_OPTIONS = (("grpc.default_authority", "localhost"), ("grpc.max_receive_message_length", MOST_BYTES))
_UUID = re.compile(r"^(?:GPU|MIG)-[0-9A-Za-z/-]{1,120}$")
_GKE = re.compile(r"^nvidia(\d{1,4})(?:/gi(\d{1,4}))?(?:/vgpu\d{1,4})?$")
_NVIDIA = re.compile(r"(?:^|\.)nvidia\.com(?:/|$)")


class KubeletAbsent(LookupError):
    """There is no kubelet here: no socket at that path."""


class KubeletError(Exception):
    """The kubelet is there and did not answer; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device as a plugin names it: by UUID, by minor number (GKE), or only by a driver's own name (DRA)."""

    uuid: str | None = None
    minor_number: int | None = None
    gpu_instance_id: int | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """One device that the kubelet gave to one container."""

    pod: str
    namespace: str
    container: str
    resource: str  # nvidia.com/gpu, or the driver of a dynamic resource
    device: Device


def parse_device(text: str) -> Device:
    """This will read a device id in any of its forms. Replicas (`::3`) are shares of one device."""
    plain = clean_text(text).partition("::")[0]
    if _UUID.match(plain):
        return Device(uuid=plain)
    found = _GKE.match(plain)
    if found is not None:
        return Device(minor_number=int(found[1]), gpu_instance_id=None if found[2] is None else int(found[2]))
    return Device(name=plain)


def allocations_in(answer: podresources_pb2.ListPodResourcesResponse) -> Sequence[Allocation]:
    """This will give the GPUs in an answer, each device of a container once."""
    found: dict[Allocation, None] = {}
    for pod in answer.pod_resources:
        for container in pod.containers:
            for resource, device in _devices(container):
                if len(found) >= MOST_ALLOCATIONS:
                    return tuple(found)
                allocation = Allocation(
                    pod=clean_text(pod.name),
                    namespace=clean_text(pod.namespace),
                    container=clean_text(container.name),
                    resource=clean_text(resource),
                    device=device,
                )
                found[allocation] = None
    return tuple(found)


def _devices(container: podresources_pb2.ContainerResources) -> Sequence[tuple[str, Device]]:
    """This will give a container's GPUs with the resource each came as; network cards and CPUs are others' business."""
    plugged = [
        (given.resource_name, device)
        for given in container.devices
        for device in map(parse_device, given.device_ids)
        if device.name is None or _NVIDIA.search(given.resource_name)
    ]
    claimed = [
        (resource.driver_name, parse_device(resource.device_name))
        for claim in container.dynamic_resources
        for resource in claim.claim_resources
        if _NVIDIA.search(resource.driver_name)
    ]
    return [*plugged, *claimed]


class PodResources:
    """One kept channel to the kubelet. A kubelet that restarts makes a new socket: then a new channel is opened."""

    def __init__(self, socket: Path, *, timeout_seconds: float = 2.0) -> None:
        """This will open nothing yet."""
        self._socket = socket
        self._timeout_seconds = timeout_seconds
        self._channel: grpc.aio.Channel | None = None
        self._identity: tuple[int, int] | None = None  # device and inode of the socket behind the channel

    async def list(self) -> Sequence[Allocation]:
        """This will ask which devices are given to whom. Raises KubeletAbsent and KubeletError."""
        stub = podresources_pb2_grpc.PodResourcesListerStub(await self._connected())
        try:
            answer = await stub.List(podresources_pb2.ListPodResourcesRequest(), timeout=self._timeout_seconds)
        except grpc.aio.AioRpcError as error:
            await self.close()  # a channel that failed waits ever longer before it tries again
            said = clean_text(error.details() or "")
            raise KubeletError(f"the kubelet answers {error.code().name}" + (f": {said}" if said else "")) from error
        return allocations_in(answer)

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
