"""A node whose GPUs and kubelet are fakes, and whose processes and control groups are real: sent to a control plane.

The API's examples of attribution are taken from it:

    optiinfra up --data-dir /tmp/examples --no-local-agent --port 8003
    PYTHONPATH=.:proto/gen python -m tests.experiments.whose_gpus --server 127.0.0.1:8004 --seconds 120
    python scripts/capture_examples.py http://127.0.0.1:8003

GPUs 0 and 2 are an engine's of two ranks, in the pod that has them; GPU 1 was given to a pod that does not use it;
GPU 3 is used by a process that nobody gave it to. Needs root and control groups version 2.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

from node_agent import agent
from node_agent.host.nvml_protocol import GpuProcess
from node_agent.settings import Settings
from optiinfra.kubelet.v1 import podresources_pb2 as pb
from tests.fakes.gpus import h200
from tests.fakes.kubelet import Kubelet, listing, serving
from tests.fakes.nvml import FakeNvml
from tests.support.family import family, groups

GIB = 2**30


def kubelet_of(uuids: list[str]) -> Kubelet:
    """This will give a kubelet that gave two GPUs to one pod and one to another."""
    kubelet = Kubelet()
    kubelet.answer = listing(("team-a", "llm-0", uuids[:3:2]), ("team-b", "train-0", uuids[1:2]))
    devices = [pb.ContainerDevices(resource_name="nvidia.com/gpu", device_ids=[one]) for one in uuids]
    for number, device in enumerate(devices):
        device.topology.nodes.add(ID=number // 2)
    kubelet.allocatable = pb.AllocatableResourcesResponse(devices=devices)
    return kubelet


async def send(settings: Settings, nvml: FakeNvml, kubelet: Kubelet, seconds: float) -> None:
    """This will run the agent for a while, as `optiinfra agent` does but for the driver."""
    agent.PynvmlDriver = lambda: nvml  # type: ignore[assignment,misc,return-value]
    async with serving(kubelet, settings.pod_resources_socket):
        asyncio.get_running_loop().call_later(seconds, os.kill, os.getpid(), signal.SIGTERM)
        await agent.run(settings)


def main() -> None:
    """This will make the node and send what its agent sees."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default="127.0.0.1:8004")
    parser.add_argument("--seconds", type=float, default=120.0)
    arguments = parser.parse_args()
    container, pod = uuid.uuid4().hex * 2, str(uuid.uuid4())
    nvml = FakeNvml(*(h200(index) for index in range(4)))
    uuids = [gpu.identity.uuid for gpu in nvml.gpus]
    scope = (f"kubepods-burstable-pod{pod.replace('-', '_')}.slice", f"cri-containerd-{container}.scope")
    with (
        tempfile.TemporaryDirectory() as folder,
        groups("kubepods-example.slice", *scope) as made,
        family(made[-1]) as engine,
        subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as stranger,
    ):
        for gpu, pid in zip(nvml.gpus, (engine.workers[0], None, engine.workers[1], stranger.pid), strict=True):
            gpu.compute_processes = [] if pid is None else [GpuProcess(pid=pid, used_bytes=60 * GIB)]
        logs = Path(folder) / "containers"
        logs.mkdir()
        (logs / f"llm-0_team-a_main-{container}.log").touch()
        settings = Settings(
            server=arguments.server,
            node_name="gpu-node-1",
            state_dir=Path(folder) / "state",
            pod_resources_socket=Path(folder) / "kubelet.sock",
            container_logs_dir=logs,
        )
        asyncio.run(send(settings, nvml, kubelet_of(uuids), arguments.seconds))
        stranger.kill()


if __name__ == "__main__":
    main()
