"""From a GPU to its rank, engine, container and pod, through real processes, sockets and control groups."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from node_agent.attribution.step import AttributionStep
from node_agent.clock import SystemClock
from node_agent.collectors.attribution import AttributionCollector
from node_agent.collectors.engine import EngineCollector
from node_agent.collectors.gpu import GpuCollector
from node_agent.host.cgroup_tree import CgroupTree
from node_agent.host.kubelet import PodResources
from node_agent.host.nvml_protocol import GpuProcess
from node_agent.model import EntityKind, Reason, Tick
from node_agent.sampler import Sampler
from tests.fakes.gpus import h200
from tests.fakes.kubelet import Kubelet, listing, serving
from tests.fakes.nvml import FakeNvml
from tests.support.family import Family, family, groups, version_2_root

CONTAINER = uuid.uuid4().hex + uuid.uuid4().hex
POD_UID = str(uuid.uuid4())
POD_SLICE = f"kubepods-burstable-pod{POD_UID.replace('-', '_')}.slice"


@pytest.fixture
def pod() -> Iterator[Path]:
    """The control group of a container in a pod, as the systemd driver and containerd name them."""
    try:
        with groups(f"optiinfra-test-{os.getpid()}", POD_SLICE, f"cri-containerd-{CONTAINER}.scope") as made:
            yield made[-1]
    except OSError as error:
        pytest.skip(f"NEEDS ROOT AND CONTROL GROUPS VERSION 2 TO BE WRITABLE: {error}")


async def watched(tmp_path: Path, nvml: FakeNvml, *, kubelet: Kubelet | None, ticks: int = 2) -> Tick:
    """What an agent sees on its second look, when it has looked the processes of its first one up."""
    owners = AttributionCollector(PodResources(tmp_path / "kubelet.sock"), container_logs_dir=tmp_path)
    clock = SystemClock()
    sampler = Sampler(
        [
            GpuCollector(nvml, kernel_log=tmp_path / "kmsg"),
            owners,
            EngineCollector(clock=clock, groups=CgroupTree(Path("/proc"), Path("/sys/fs/cgroup"))),
        ],
        clock,
        interval_seconds=60,
        finish=AttributionStep(lambda: owners.ownership, owners.watch),
    )
    seen: list[Tick] = []
    enough = asyncio.Event()

    def keep(tick: Tick) -> None:
        seen.append(tick)
        if len(seen) >= ticks:
            enough.set()
        else:
            sampler.request("again", valid_for_seconds=60)

    async def look() -> None:
        running = asyncio.ensure_future(sampler.run(keep))
        async with asyncio.timeout(60):
            await enough.wait()
        running.cancel()
        await sampler.close()

    if kubelet is None:
        await look()
    else:
        async with serving(kubelet, tmp_path / "kubelet.sock"):
            await look()
    return seen[-1]


def gpus_of(engine: Family) -> FakeNvml:
    """Two GPUs, one for each worker."""
    nvml = FakeNvml(h200(0), h200(1))
    for gpu, pid in zip(nvml.gpus, engine.workers, strict=True):
        gpu.compute_processes = [GpuProcess(pid=pid, used_bytes=7 * 2**30)]
    return nvml


def attributions(tick: Tick) -> list[Any]:
    found = [e.attributes["attribution"] for e in tick.entities if e.kind is EntityKind.GPU]
    json.dumps(found)
    return found


def server(tick: Tick, engine: Family) -> Any:
    (found,) = [e for e in tick.entities if e.kind is EntityKind.INFERENCE_SERVER and e.key == engine.url]
    return found.attributes


async def test_a_gpu_leads_to_its_rank_and_engine_where_there_is_no_kubernetes(tmp_path: Path) -> None:
    with family() as engine:
        tick = await watched(tmp_path, gpus_of(engine), kubelet=None)
        for rank, said in enumerate(attributions(tick)):
            (user,) = said["used_by"]
            assert (user["pid"], user["role"], user["rank"]) == (engine.workers[rank], "worker", {"tp": rank})
            assert (user["server"], user["used_bytes"]) == (engine.url, 7 * 2**30)
            assert said["allocated_to"] is None
            assert "not on Kubernetes" in said["unknown"]["allocated_to"]
        assert {engine.launcher, engine.core, *engine.workers} <= set(server(tick, engine)["pids"])
        assert [gpu["rank"] for gpu in server(tick, engine)["gpus"]] == [{"tp": 0}, {"tp": 1}]


async def test_a_gpu_leads_to_its_rank_engine_container_and_pod(tmp_path: Path, pod: Path) -> None:
    (tmp_path / f"llm-0_team-a_vllm-{CONTAINER}.log").touch()
    kubelet = Kubelet()
    with family(pod) as engine:
        nvml = gpus_of(engine)
        kubelet.answer = listing(("team-a", "llm-0", [gpu.identity.uuid for gpu in nvml.gpus]))
        tick = await watched(tmp_path, nvml, kubelet=kubelet)
        for rank, said in enumerate(attributions(tick)):
            (user,) = said["used_by"]
            assert (user["rank"], user["server"]) == ({"tp": rank}, engine.url)
            assert (user["container_id"], user["pod_uid"]) == (CONTAINER, POD_UID)
            assert (user["namespace"], user["pod"], user["container"]) == ("team-a", "llm-0", "vllm")
            assert said["finding"] == "none"
        found = server(tick, engine)
        assert (found["namespace"], found["pod"], found["pod_uid"]) == ("team-a", "llm-0", POD_UID)
        assert found["cgroup"] == "/" + str(pod.relative_to(version_2_root()))
    (sample,) = [s for s in tick.samples if s.table == "server_cgroup" and s.entity[1] == engine.url]
    used = sample.values["cpu_seconds_total"]
    assert isinstance(used, float)
    assert 0 < used < 600, "four processes started in it"
    assert isinstance(sample.values["pressure_cpu_some_seconds_total"], float | Reason)


async def test_one_that_uses_anothers_gpu_and_one_that_uses_none_are_found(tmp_path: Path, pod: Path) -> None:
    (tmp_path / f"llm-0_team-a_vllm-{CONTAINER}.log").touch()
    kubelet = Kubelet()
    with (
        family(pod) as engine,
        subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as intruder,
    ):
        nvml = gpus_of(engine)
        nvml.gpus[0].compute_processes.append(GpuProcess(pid=intruder.pid, used_bytes=1))
        nvml.gpus[1].compute_processes = []
        kubelet.answer = listing(("team-a", "llm-0", [gpu.identity.uuid for gpu in nvml.gpus]))
        tick = await watched(tmp_path, nvml, kubelet=kubelet)
        intruder.communicate()
    stolen, idle = attributions(tick)
    assert (stolen["finding"], idle["finding"]) == ("used_by_another_than_allocated", "allocated_but_unused")
    assert {user["pod"] for user in stolen["used_by"]} == {"llm-0", None}


_FROM_INSIDE = """
import sys
from pathlib import Path
from node_agent.host.cgroup_tree import CgroupTree
tree = CgroupTree(Path("/proc"), Path(sys.argv[1]), own_root=Path(sys.argv[2]))
print(Path(f"/proc/{sys.argv[3]}/cgroup").read_text().splitlines()[-1])
print(tree.find(int(sys.argv[3])))
"""


def test_a_container_finds_another_containers_group_in_the_machines_tree(tmp_path: Path, pod: Path) -> None:
    """In a cgroup and mount namespace of its own, as containers have, with the machine's tree mounted beside."""
    agent = pod.parent / "cri-containerd-agent.scope"
    agent.mkdir()
    own = tmp_path / "own"
    own.mkdir()
    script = (
        f'echo $$ > {agent}/cgroup.procs && exec unshare --cgroup --mount sh -c \'mount -t cgroup2 none "$1" && '
        'exec "$2" -c "$3" "$4" "$1" "$5"\' sh "$@"'
    )
    try:
        with family(pod) as engine:
            words = (str(own), sys.executable, _FROM_INSIDE, str(version_2_root()), str(engine.launcher))
            done = subprocess.run(
                ["sh", "-c", script, "sh", *words], capture_output=True, text=True, timeout=60, check=False
            )
        if "unshare" in done.stderr:
            pytest.skip(f"NEEDS NAMESPACES OF ITS OWN: {done.stderr.strip()}")
        assert done.returncode == 0, done.stderr
        written, found = done.stdout.splitlines()
        assert written == f"0::/../{pod.name}", "the kernel writes it as seen from the agent's group"
        assert found == str(pod)
    finally:
        agent.rmdir()
