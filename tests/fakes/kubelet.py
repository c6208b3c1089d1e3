"""A kubelet of a few lines: it answers PodResources over a real Unix socket, and misbehaves when told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio

from optiinfra.kubelet.v1 import podresources_pb2 as pb
from optiinfra.kubelet.v1 import podresources_pb2_grpc

Context = grpc.aio.ServicerContext[pb.ListPodResourcesRequest, pb.ListPodResourcesResponse]


def listing(*pods: tuple[str, str, list[str]], resource: str = "nvidia.com/gpu") -> pb.ListPodResourcesResponse:
    """Pods by namespace, name and device ids, each with one container called main."""
    return pb.ListPodResourcesResponse(
        pod_resources=[
            pb.PodResources(
                name=name,
                namespace=namespace,
                containers=[
                    pb.ContainerResources(
                        name="main", devices=[pb.ContainerDevices(resource_name=resource, device_ids=ids)]
                    )
                ],
            )
            for namespace, name, ids in pods
        ]
    )


class Kubelet(podresources_pb2_grpc.PodResourcesListerServicer):
    """What it answers may be changed at any time."""

    def __init__(self) -> None:
        self.answer = listing()
        self.refusal: grpc.StatusCode | None = None
        self.hangs = False
        self.asked = self.asked_allocatable = 0
        self.allocatable: pb.AllocatableResourcesResponse | None = pb.AllocatableResourcesResponse()
        self.authorities: list[str] = []

    async def List(self, request: pb.ListPodResourcesRequest, context: Context) -> pb.ListPodResourcesResponse:
        self.asked += 1
        if self.hangs:
            await asyncio.Event().wait()
        if self.refusal is not None:
            await context.abort(self.refusal, "as the test wants it")
        return self.answer

    async def GetAllocatableResources(
        self,
        request: pb.AllocatableResourcesRequest,
        context: grpc.aio.ServicerContext[pb.AllocatableResourcesRequest, pb.AllocatableResourcesResponse],
    ) -> pb.AllocatableResourcesResponse:
        self.asked_allocatable += 1
        if self.allocatable is None:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not implemented!")
            raise AssertionError  # abort does not return
        return self.allocatable


@asynccontextmanager
async def serving(
    kubelet: podresources_pb2_grpc.PodResourcesListerServicer | None, socket: Path
) -> AsyncIterator[None]:
    """Serves on a fresh socket at that path; without a kubelet, a server that knows no such method."""
    socket.unlink(missing_ok=True)
    server = grpc.aio.server()
    if kubelet is not None:
        podresources_pb2_grpc.add_PodResourcesListerServicer_to_server(kubelet, server)
    server.add_insecure_port(f"unix://{socket}")
    await server.start()
    try:
        yield
    finally:
        await server.stop(None)
        socket.unlink(missing_ok=True)
