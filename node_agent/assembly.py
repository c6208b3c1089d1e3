"""What every way to run the agent is put together from."""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import signal
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path

from node_agent import __version__
from node_agent.attribution.step import AttributionStep
from node_agent.clock import Clock, SystemClock
from node_agent.collectors.agent import AgentCollector
from node_agent.collectors.attribution import AttributionCollector
from node_agent.collectors.engine import EngineCollector
from node_agent.collectors.gpu import GpuCollector
from node_agent.collectors.system import SystemCollector
from node_agent.commands.configure import engine_timeout_seconds
from node_agent.host.cgroup_tree import CgroupTree
from node_agent.host.identity import node_attributes
from node_agent.host.kubelet import PodResources
from node_agent.host.nvml import PynvmlDriver
from node_agent.host.topology import read_topology
from node_agent.model import Backlog, Collector, Tick
from node_agent.sampler import Sampler
from node_agent.settings import Settings, SettingsError
from node_agent.spool import Spool
from node_agent.uplink import wire
from node_agent.uplink.backoff import Backoff
from node_agent.uplink.client import Identity, Outgoing
from node_agent.uplink.frames import Packed


def agent_id(state_dir: Path) -> str:
    """This will give the id that this host's agent keeps for ever, making it at the first start.

    Raises SettingsError when the state directory cannot be written.
    """
    path = state_dir / "agent_id"
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            return str(uuid.UUID(path.read_text().strip()))
        made = str(uuid.uuid4())
        unfinished = path.with_suffix(".new")
        unfinished.write_text(made + "\n")
        unfinished.replace(path)  # whole or not at all: half an id would be refused for ever
    except OSError as error:
        raise SettingsError(
            f"state_dir {state_dir} cannot be used: {error.strerror}; choose another with --state-dir"
        ) from error
    except ValueError as error:
        raise SettingsError(f"{path} does not hold a UUID; delete it to enrol as a new node") from error
    return made


def build_gpus(settings: Settings) -> GpuCollector | None:
    """This will build what watches the GPUs; None where that is switched off."""
    return GpuCollector(PynvmlDriver(), proc_root=settings.host_proc) if settings.gpu_monitoring_enabled else None


def build_engines(settings: Settings, clock: Clock | None = None) -> EngineCollector:
    """This will build what watches the inference servers."""
    return EngineCollector(
        clock=clock or SystemClock(),
        timeout_seconds=engine_timeout_seconds(settings.sampling_interval_seconds),
        targets=settings.scrape_targets,
        discover=settings.discover_engines,
        proc_root=str(settings.host_proc),
        groups=CgroupTree(settings.host_proc, settings.host_sys / "fs" / "cgroup"),
    )


def build_sampler(
    settings: Settings,
    gpus: GpuCollector | None,
    *,
    engines: EngineCollector | None = None,
    backlog: Callable[[], Backlog] | None = None,
    clock: Clock | None = None,
) -> Sampler:
    """This will build the collectors that the settings ask for, those that are not given, and what runs them.

    `backlog` says what has not been delivered yet, where something is delivered at all.
    """
    clock, itself = clock or SystemClock(), AgentCollector()
    system = SystemCollector(settings.host_proc, sys_root=settings.host_sys, own_sys_root=Path("/sys"))
    collectors: list[Collector] = [system, itself]
    disabled, finish = [], None
    if gpus is not None:
        owners = AttributionCollector(
            PodResources(settings.pod_resources_socket),
            proc_root=settings.host_proc,
            container_logs_dir=settings.container_logs_dir,
        )
        collectors += [gpus, owners]
        finish = AttributionStep(lambda: owners.ownership, owners.watch)
    else:
        disabled.append("gpu")
    collectors.append(engines or build_engines(settings, clock))
    sampler = Sampler(
        collectors, clock, interval_seconds=settings.sampling_interval_seconds, disabled=disabled, finish=finish
    )
    itself.watch_cadence(lambda: sampler.cadence)
    if backlog is not None:
        itself.watch_backlog(backlog)
    return sampler


def identity(settings: Settings, *, interval_seconds: float) -> Identity:
    """This will say who this agent is and what its cadence is now; the epoch is new in every process."""
    attributes = {**node_attributes(settings.host_proc), **read_topology(settings.host_sys)}
    attributes["sampling_interval_seconds"] = interval_seconds
    attributes["labels"] = settings.labels
    return Identity(
        agent_id=agent_id(settings.state_dir),
        node_name=settings.node_name,
        agent_version=__version__,
        epoch=secrets.token_bytes(16),
        attributes_json=json.dumps(attributes).encode(),
    )


def encode(encoder: wire.Encoder, tick: Tick) -> Outgoing:
    """This will turn a tick into what goes over the wire."""
    announce, message = encoder.encode(tick)
    return Outgoing(announce=announce, tick=message)


def append(spool: Spool[Packed], outgoing: Outgoing) -> None:
    """This will queue a tick for sending."""
    packed = outgoing.packed()
    spool.append(packed, size_bytes=packed.size_bytes, taken_at_unix_us=outgoing.tick.taken_at_unix_us)


def backoff() -> Backoff:
    """This will give how long to wait between tries to connect, differently in every process."""
    return Backoff(random.Random())  # noqa: S311 - spreads reconnects, guards nothing


def stop_signal() -> asyncio.Event:
    """This will give what is set when somebody wants the process to end."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    return stopped


async def within(work: Awaitable[object], seconds: float | None) -> None:
    """This will wait for `work`, and give it up when the time is over."""
    try:
        async with asyncio.timeout(seconds):
            await work
    except TimeoutError:
        pass
