"""The machine's readings in the catalogue's words: pure but for the reads it is handed or that it tries."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from node_agent.host import cgroup, links, procfs
from node_agent.host.mounts import Mount, Usage
from node_agent.host.own_process import ProcessUsage
from node_agent.model import Entity, EntityKind, Machine, Reason, Sample, Value
from node_agent.untrusted import clean_mapping, clean_text

_T = TypeVar("_T")

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_IDLE, _IOWAIT = procfs.CPU_MODES.index("idle"), procfs.CPU_MODES.index("iowait")
_CPU_SHARES = ("cpu_busy_ratio", "cpu_user_ratio", "cpu_system_ratio", "cpu_iowait_ratio", "cpu_steal_ratio")
_CPU_FIELDS = (*_CPU_SHARES, "cpu_core_busy_ratio", "cpu_logical_count")
_LOAD_FIELDS = ("load_1m_count", "load_5m_count", "load_15m_count")
_MEMORY_FIELDS = (
    "memory_total_bytes",
    "memory_available_bytes",
    "memory_used_bytes",
    "memory_cached_bytes",
    "swap_total_bytes",
    "swap_used_bytes",
)
# "full" means nothing for the CPU of the whole machine: something runs (Documentation/accounting/psi.rst).
_PRESSURE_SHARES = (("cpu", ("some",)), ("memory", ("some", "full")), ("io", ("some", "full")))
_HUGE_PAGE_FIELDS = ("huge_pages_count", "huge_pages_free_count", "huge_page_size_bytes")
_AGENT_FIELDS = ("agent_cpu_seconds_total", "agent_resident_memory_bytes")
_LINK_FIELDS = ("link_up_flag", "link_speed_bytes_per_second", "carrier_changes_total")
_USAGE_FIELDS = ("total_bytes", "used_bytes", "available_bytes", "inodes_total_count", "inodes_free_count")


def attempt(read: Callable[[], _T]) -> _T | Reason:
    """This will give what `read` gives, or the reason why it could not."""
    try:
        return read()
    except (cgroup.NoLimit, procfs.NotKept):
        return Reason.UNSUPPORTED  # the catalogue: unknown when there is none
    except (OSError, ValueError, LookupError) as error:
        return procfs.why_unknown(error)


def cpu(reading: procfs.CpuReading | Reason, before: procfs.CpuReading | None) -> dict[str, Value]:
    """This will give the CPU's shares of the time between two readings."""
    if isinstance(reading, Reason):
        return dict.fromkeys(_CPU_FIELDS, reading)
    cores = reading.cores
    values: dict[str, Value] = dict.fromkeys(_CPU_FIELDS, Reason.FIRST_SAMPLE)
    values["cpu_logical_count"] = len(cores)
    if before is None:
        return values
    values.update(_cpu_shares(procfs.since(reading.together, before.together)))
    if cores.keys() == before.cores.keys():  # a CPU that came or went would move the others to other places
        values["cpu_core_busy_ratio"] = _core_shares([procfs.since(cores[n], before.cores[n]) for n in sorted(cores)])
    return values


def _cpu_shares(spent: procfs.CpuTicks) -> dict[str, Value]:
    total = sum(spent)
    if total == 0:  # two looks within one tick
        return dict.fromkeys(_CPU_SHARES, Reason.NOT_A_NUMBER)
    user, nice, system, idle, iowait, irq, softirq, steal = spent
    return {
        "cpu_busy_ratio": (total - idle - iowait) / total,
        "cpu_user_ratio": (user + nice) / total,
        "cpu_system_ratio": (system + irq + softirq) / total,
        "cpu_iowait_ratio": iowait / total,
        "cpu_steal_ratio": steal / total,
    }


def _core_shares(spent: Sequence[procfs.CpuTicks]) -> Value:
    totals = [sum(core) for core in spent]
    if not all(totals):
        return Reason.NOT_A_NUMBER
    return tuple([(total - core[_IDLE] - core[_IOWAIT]) / total for core, total in zip(spent, totals, strict=True)])


def machine(reading: procfs.CpuReading | Reason, memory: procfs.Memory | Reason, kernel: Mapping[str, str]) -> Machine:
    """This will give the machine in detail; what could not be read is not there."""
    look = None if isinstance(reading, Reason) else reading
    return Machine(
        cpu_ticks=None if look is None else look.cores,
        cpu_modes=procfs.CPU_MODES,
        ticks_per_second=_TICKS_PER_SECOND,
        memory_bytes=None if isinstance(memory, Reason) else memory.sizes,
        booted_unix_seconds=None if look is None else look.booted_unix_seconds,
        kernel=kernel,
    )


def load(root: Path) -> dict[str, Value]:
    """This will give the load averages."""
    means = attempt(lambda: procfs.read_load(root))
    if isinstance(means, Reason):
        return dict.fromkeys(_LOAD_FIELDS, means)
    return dict(zip(_LOAD_FIELDS, means, strict=True))


def memory(read: procfs.Memory | Reason) -> dict[str, Value]:
    """This will give main memory and swap; a line that the kernel does not write makes its values UNSUPPORTED."""
    if isinstance(read, Reason):
        return dict.fromkeys(_MEMORY_FIELDS, read)
    found = read.sizes
    total, available = found.get("MemTotal"), found.get("MemAvailable")
    cached, reclaimable = found.get("Cached"), found.get("SReclaimable")
    swap, swap_free = found.get("SwapTotal"), found.get("SwapFree")
    return {
        "memory_total_bytes": _or_unsupported(total),
        "memory_available_bytes": _or_unsupported(available),
        "memory_used_bytes": _combined(total, available, -1),
        "memory_cached_bytes": _combined(cached, reclaimable, 1),
        "swap_total_bytes": _or_unsupported(swap),
        "swap_used_bytes": _combined(swap, swap_free, -1),
    }


def _or_unsupported(value: int | None) -> Value:
    return Reason.UNSUPPORTED if value is None else value


def _combined(first: int | None, second: int | None, sign: int) -> Value:
    return Reason.UNSUPPORTED if first is None or second is None else first + sign * second


def huge_pages(read: procfs.Memory | Reason) -> dict[str, Value]:
    """This will give what the kernel set aside in huge pages; UNSUPPORTED where it has none."""
    if isinstance(read, Reason):
        return dict.fromkeys(_HUGE_PAGE_FIELDS, read)
    found = (
        read.counts.get("HugePages_Total"), read.counts.get("HugePages_Free"), read.sizes.get("Hugepagesize")
    )  # fmt: skip
    return dict(zip(_HUGE_PAGE_FIELDS, map(_or_unsupported, found), strict=True))


def pressure(root: Path) -> dict[str, Value]:
    """This will give the time that tasks waited for CPU, memory and I/O."""
    values: dict[str, Value] = {}
    for resource, shares in _PRESSURE_SHARES:
        found = attempt(partial(procfs.read_pressure, root, resource))
        for share in shares:
            reading = found if isinstance(found, Reason) else found.get(share, Reason.UNSUPPORTED)
            total: Value = reading if isinstance(reading, Reason) else reading.stalled_seconds_total
            recent: Value = reading if isinstance(reading, Reason) else reading.last_10s_ratio
            values[f"pressure_{resource}_{share}_seconds_total"] = total
            if share == "some":
                values[f"pressure_{resource}_some_10s_ratio"] = recent
    return values


def limits(own_proc_root: Path, cgroup_root: Path) -> dict[str, Value]:
    """This will give the agent's own limits; where none is set, the value is UNSUPPORTED."""
    readers: tuple[tuple[str, Callable[[Path], int | float]], ...] = (
        ("cgroup_memory_limit_bytes", cgroup.read_memory_limit_bytes),
        ("cgroup_memory_used_bytes", cgroup.read_memory_used_bytes),
        ("cgroup_cpu_limit_cores", cgroup.read_cpu_limit_cores),
        ("cgroup_cpu_throttled_seconds_total", cgroup.read_cpu_throttled_seconds),
    )
    group = attempt(lambda: cgroup.own_group(own_proc_root, cgroup_root))
    values: dict[str, Value] = {}
    for name, read in readers:
        values[name] = group if isinstance(group, Reason) else attempt(partial(read, group))
    return values


def agent(usage: ProcessUsage | Reason) -> dict[str, Value]:
    """This will give what we ourselves cost."""
    if isinstance(usage, Reason):
        return dict.fromkeys(_AGENT_FIELDS, usage)
    return {
        "agent_cpu_seconds_total": usage.cpu_seconds_total,
        "agent_resident_memory_bytes": usage.resident_memory_bytes,
    }


def disk(counters: procfs.DiskCounters) -> tuple[Entity, Sample]:
    """This will give one disk and its I/O."""
    key = clean_text(counters.name)
    attributes = clean_mapping({"model": counters.model, "size_bytes": counters.size_bytes})
    values: dict[str, Value] = {
        "read_bytes_total": counters.read_bytes,
        "written_bytes_total": counters.written_bytes,
        "reads_total": counters.reads,
        "writes_total": counters.writes,
        "busy_seconds_total": counters.busy_seconds,
    }
    return _pair(EntityKind.DISK, key, attributes, "disk", values)


def link(sys_root: Path, name: str) -> dict[str, Value]:
    """This will give whether an interface's link is up, and what it can carry."""
    if "/" in name or name.startswith("."):  # the kernel allows neither: it would lead out of the folder
        return dict.fromkeys(_LINK_FIELDS, Reason.ERROR)
    readers = (links.read_is_up, links.read_speed_bytes_per_second, links.read_carrier_changes)
    return {field: attempt(partial(read, sys_root, name)) for field, read in zip(_LINK_FIELDS, readers, strict=True)}


def port(found: links.Port) -> tuple[Entity, Sample]:
    """This will give one InfiniBand or RoCE port; what its device does not count is UNSUPPORTED."""
    values: dict[str, Value] = {
        name: attempt(partial(links.read_port_counter, found, name)) for name in links.PORT_COUNTERS
    }
    values["link_up_flag"] = attempt(lambda: float(links.read_port_is_active(found)))
    values["link_speed_bytes_per_second"] = attempt(lambda: links.read_port_bytes_per_second(found))
    attributes = clean_mapping({"device": found.device, "port": found.number, "link_layer": found.link_layer})
    return _pair(EntityKind.INFINIBAND_PORT, clean_text(found.key), attributes, "infiniband", values)


def unread_port(found: links.Port) -> tuple[Entity, Sample]:
    """This will name a port that nobody looked at."""
    return _pair(EntityKind.INFINIBAND_PORT, clean_text(found.key), {}, "infiniband", {})


def interface(counters: procfs.InterfaceCounters, link_values: Mapping[str, Value]) -> tuple[Entity, Sample]:
    """This will give one network interface, its traffic and its link."""
    values: dict[str, Value] = {
        "received_bytes_total": counters.received_bytes,
        "transmitted_bytes_total": counters.transmitted_bytes,
        "received_packets_total": counters.received_packets,
        "transmitted_packets_total": counters.transmitted_packets,
        "receive_errors_total": counters.receive_errors,
        "transmit_errors_total": counters.transmit_errors,
        "receive_drops_total": counters.receive_drops,
        "transmit_drops_total": counters.transmit_drops,
        **link_values,
    }
    return _pair(EntityKind.NETWORK_INTERFACE, clean_text(counters.name), {}, "network", values)


def file_system(mount: Mount, usage: Usage | Reason) -> tuple[Entity, Sample]:
    """This will give one file system and how full it is."""
    attributes = clean_mapping({"device": mount.device, "type": mount.kind})
    if isinstance(usage, Reason):
        values: dict[str, Value] = dict.fromkeys(_USAGE_FIELDS, usage)
    else:
        values = {
            "total_bytes": usage.total_bytes,
            "used_bytes": usage.used_bytes,
            "available_bytes": usage.available_bytes,
            "inodes_total_count": _or_unsupported(usage.inodes_total),
            "inodes_free_count": _or_unsupported(usage.inodes_free),
        }
    return _pair(EntityKind.FILESYSTEM, clean_text(mount.point), attributes, "filesystem", values)


def _pair(
    kind: EntityKind, key: str, attributes: Mapping[str, object], table: str, values: Mapping[str, Value]
) -> tuple[Entity, Sample]:
    return Entity(kind=kind, key=key, attributes=attributes), Sample(table=table, entity=(kind, key), values=values)
