"""The machine itself: CPU, memory, pressure, limits, disks, file systems, network."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from node_agent.clock import Instant
from node_agent.collectors import system_values as values_of
from node_agent.collectors.system_values import attempt
from node_agent.host import links, procfs
from node_agent.host.identity import node_attributes
from node_agent.host.mounts import Mount, MountReader, Usage, UsageReader
from node_agent.host.own_process import OwnProcess
from node_agent.host.procfs import DiskReader
from node_agent.model import Collected, Entity, EntityKind, Outcome, Reason, Sample, Value

_T = TypeVar("_T")

# The node is one; its identity on the wire comes from the stream, not from this key.
NODE = (EntityKind.NODE, "node")

# More disks, file systems or interfaces than any GPU host has: beyond it something makes them without end.
_LARGEST_GROUP = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What one pass over /proc gave: quick reads of the kernel's memory, all of them in one thread."""

    cpu: procfs.CpuReading | Reason
    memory: procfs.Memory | Reason
    values: Mapping[str, Value]
    disks: Sequence[procfs.DiskCounters] | Reason
    interfaces: Sequence[tuple[Entity, Sample]] | Reason
    ports: Sequence[tuple[Entity, Sample]] | Reason
    mounts: Sequence[Mount] | Reason
    usage: Mapping[str, Usage | Reason]

    def missing(self) -> Iterator[str]:
        """This will name what could not be looked at as a whole."""
        for what, found in (
            ("CPU", self.cpu),
            ("disks", self.disks),
            ("network interfaces", self.interfaces),
            ("InfiniBand ports", self.ports),
            ("file systems", self.mounts),
        ):
            if isinstance(found, Reason):
                yield f"{what}: {found.name.lower().replace('_', ' ')}"


class SystemCollector:
    """Looks at the machine. This will give the node's own sample, and one for each disk, file system and link.

    `proc_root` and `sys_root` are where the machine's /proc and /sys are: /host/proc in a container that mounts it so.
    """

    def __init__(
        self,
        proc_root: Path = Path("/proc"),
        *,
        sys_root: Path = Path("/sys"),
        own_proc_root: Path = Path("/proc"),
        own_sys_root: Path | None = None,
        usage: UsageReader | None = None,
    ) -> None:
        """`own_sys_root` is where our own control group is found: not in the machine's /sys (default: the same)."""
        self._proc_root = proc_root
        self._sys_root = sys_root
        self._own_proc_root = own_proc_root
        self._own_sys_root = own_sys_root or sys_root
        self._usage = usage or UsageReader()
        self._own_process = OwnProcess()
        self._disks = DiskReader()
        self._mounts = MountReader()
        self._attributes: Mapping[str, object] | None = None
        self._cpu_before: procfs.CpuReading | None = None
        system = os.uname()
        self._kernel = {
            "sysname": system.sysname, "release": system.release, "version": system.version, "machine": system.machine
        }  # fmt: skip

    @property
    def name(self) -> str:
        """This will give the collector's name, as reports show it."""
        return "system"

    async def collect(self, now: Instant) -> Collected:
        """This will look once. CPU shares are those of the time since the look before."""
        look = await asyncio.to_thread(self._look, now)
        if self._attributes is None:
            self._attributes = await asyncio.to_thread(node_attributes, self._proc_root)
        entities = [Entity(kind=NODE[0], key=NODE[1], attributes=self._attributes)]
        samples = [Sample(table="host", entity=NODE, values={**self._cpu_values(look.cpu), **look.values})]
        missing = list(look.missing())
        for what, found in (
            ("disks", [values_of.disk(disk) for disk in _known(look.disks)]),
            ("network interfaces", _known(look.interfaces)),
            ("InfiniBand ports", _known(look.ports)),
            ("file systems", _file_systems(_known(look.mounts), look.usage)),
        ):
            if len(found) > _LARGEST_GROUP:
                missing.append(f"{what}: {len(found)} found, the first {_LARGEST_GROUP} sent")
            entities.extend(entity for entity, _ in found[:_LARGEST_GROUP])
            samples.extend(sample for _, sample in found[:_LARGEST_GROUP])
        return Collected(
            outcome=Outcome.PARTIAL if missing else Outcome.OK,
            detail="; ".join(missing),
            entities=entities,
            samples=samples,
            machine=values_of.machine(look.cpu, look.memory, self._kernel),
        )

    async def close(self) -> None:
        """This will do nothing: no file stays open between looks."""

    def _look(self, now: Instant) -> _Look:
        root = self._proc_root
        memory = attempt(lambda: procfs.read_memory(root))
        mounts = attempt(lambda: self._mounts.read(root, self._own_proc_root))
        return _Look(
            cpu=attempt(lambda: procfs.read_cpu_ticks(root)),
            memory=memory,
            values={
                **values_of.load(root),
                **values_of.memory(memory),
                **values_of.huge_pages(memory),
                "oom_kills_total": attempt(lambda: procfs.read_oom_kills(root)),
                **values_of.pressure(root),
                **values_of.limits(self._own_proc_root, self._own_sys_root / "fs" / "cgroup"),
                "uptime_seconds": attempt(lambda: procfs.read_uptime_seconds(root)),
                **values_of.agent(self._own_process.read()),
            },
            disks=attempt(lambda: self._disks.read(root, self._sys_root, now_seconds=now.monotonic_seconds)),
            interfaces=attempt(self._interfaces),
            ports=attempt(self._ports),
            mounts=mounts,
            usage=self._usage.read([m.reachable_at for m in _known(mounts)[:_LARGEST_GROUP] if m.reachable_at]),
        )

    def _interfaces(self) -> Sequence[tuple[Entity, Sample]]:
        """Beyond the largest group no link is looked at: nobody would send it."""
        found = procfs.read_interfaces(self._proc_root)
        looked_at = [
            values_of.interface(one, values_of.link(self._sys_root, one.name)) for one in found[:_LARGEST_GROUP]
        ]
        return looked_at + [values_of.interface(one, {}) for one in found[_LARGEST_GROUP:]]

    def _ports(self) -> Sequence[tuple[Entity, Sample]]:
        """The same of ports: a card with virtual functions shows hundreds."""
        found = links.find_ports(self._sys_root)
        looked_at = [values_of.port(one) for one in found[:_LARGEST_GROUP]]
        return looked_at + [values_of.unread_port(one) for one in found[_LARGEST_GROUP:]]

    def _cpu_values(self, reading: procfs.CpuReading | Reason) -> dict[str, Value]:
        """The baseline changes here, on the loop: an abandoned look, still in its thread, leaves it alone."""
        before, self._cpu_before = self._cpu_before, None if isinstance(reading, Reason) else reading
        return values_of.cpu(reading, before)


def _file_systems(mounts: Sequence[Mount], usage: Mapping[str, Usage | Reason]) -> list[tuple[Entity, Sample]]:
    return [
        values_of.file_system(
            mount,
            # Its device is not mounted in our container; it is for whoever deploys us to show it.
            Reason.NO_PERMISSION if mount.reachable_at is None else usage.get(mount.reachable_at, Reason.NOT_COLLECTED),
        )
        for mount in mounts
    ]


def _known(found: Sequence[_T] | Reason) -> Sequence[_T]:
    return () if isinstance(found, Reason) else found
