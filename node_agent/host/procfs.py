"""/proc and /sys/block: what the kernel counts about the machine.

`root` is where the machine's /proc is mounted: /proc itself, or /host/proc inside a container.
Readers raise OSError where the kernel gives nothing, and ValueError where it gives something else
than it documents; `why_unknown` turns both into a Reason. Ticks, sectors and KiB end here.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from node_agent.model import Reason

_READ_BYTES = 65_536
_SECTOR_BYTES = 512  # the unit of diskstats, whatever the device's own (Documentation/admin-guide/iostats.rst)

# Devices that hold no data of their own, or another device's: their I/O is counted there.
_NOT_A_DISK = re.compile(r"(loop|ram|zram|sr|fd|nbd)\d")

# Made by container runtimes, CNI plugins and hypervisors, one or more for each container, or by the kernel
# for traffic that never leaves the machine: their bytes are counted at the interface that carries them out.
_NOT_A_LINK = re.compile(
    r"lo$|(veth|docker|br-|virbr|vnet|tap|tun|cni|cali|flannel|cilium|lxc|lxd|kube-|nodelocaldns|dummy|ifb|sit|ip6tnl|gre)"
)


class NotKept(LookupError):
    """This kernel or driver keeps no such value, or says that it does not know it."""


def why_unknown(error: OSError | ValueError | LookupError) -> Reason:
    """This will say what a failed reading means for its value."""
    if isinstance(error, PermissionError):
        return Reason.NO_PERMISSION
    # A kernel without the feature has no file, or, when it was switched off at boot (psi=0), one that cannot be read.
    if isinstance(error, FileNotFoundError) or (
        isinstance(error, OSError) and error.errno in {errno.EOPNOTSUPP, errno.ENOTDIR}
    ):
        return Reason.UNSUPPORTED
    return Reason.ERROR


# Where CPU time went since the machine started, in ticks, in the order of CPU_MODES. A tuple and no object: a look
# reads one for each core. Guest time is part of user and of nice, as in the kernel.
CpuTicks = tuple[int, ...]
CPU_MODES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")  # proc_stat(5)


def since(after: CpuTicks, before: CpuTicks) -> CpuTicks:
    """This will give the ticks between two readings; the kernel lets idle and iowait fall, which counts as none."""
    return tuple([a - b if a > b else 0 for a, b in zip(after, before, strict=True)])


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuReading:
    """/proc/stat."""

    together: CpuTicks
    cores: Mapping[int, CpuTicks]  # by number, those that are online
    booted_unix_seconds: int | None


def read_cpu_ticks(root: Path) -> CpuReading:
    """This will read where CPU time went, and when the machine was started."""
    together: CpuTicks | None = None
    cores: dict[int, CpuTicks] = {}
    text = text_of(root / "stat")
    for line in text.splitlines():
        if not line.startswith("cpu"):
            break  # the cpu lines come first; the interrupt counts after them can be long
        parts = line.split()
        name, ticks = parts[0], tuple(map(int, parts[1:9]))
        if len(ticks) != len(CPU_MODES):
            raise ValueError("a cpu line with too few numbers")
        if name == "cpu":
            together = ticks
        else:
            cores[int(name[3:])] = ticks
    if together is None:
        raise ValueError("no cpu line")
    booted = text.partition("\nbtime ")[2].partition("\n")[0].strip()
    return CpuReading(together=together, cores=cores, booted_unix_seconds=int(booted) if booted.isdecimal() else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """/proc/meminfo."""

    sizes: Mapping[str, int]  # in bytes
    counts: Mapping[str, int]  # the lines without a unit: huge pages (Documentation/admin-guide/mm/hugetlbpage.rst)


_MEMORY_LINE = re.compile(r"^([^:\n]+):\s+(\d+)( kB)?$", re.MULTILINE)


def read_memory(root: Path) -> Memory:
    """This will read /proc/meminfo."""
    found = _MEMORY_LINE.findall(text_of(root / "meminfo"))
    if not found:
        raise ValueError("no line of memory")
    return Memory(
        sizes={name: int(number) * 1024 for name, number, unit in found if unit},
        counts={name: int(number) for name, number, unit in found if not unit},
    )


def read_oom_kills(root: Path) -> int:
    """This will read oom_kill of /proc/vmstat; NotKept before Linux 4.13, which does not count them."""
    _, found, rest = ("\n" + text_of(root / "vmstat")).partition("\noom_kill ")
    if not found:
        raise NotKept("no oom_kill in vmstat")
    return int(rest.partition("\n")[0])


def read_load(root: Path) -> tuple[float, float, float]:
    """This will read /proc/loadavg: the means over 1, 5 and 15 minutes."""
    one, five, fifteen = text_of(root / "loadavg").split()[:3]
    return float(one), float(five), float(fifteen)


def read_uptime_seconds(root: Path) -> float:
    """This will read how long the machine has been up."""
    return float(text_of(root / "uptime").split()[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Pressure:
    """How long tasks waited for one resource (Documentation/accounting/psi.rst)."""

    stalled_seconds_total: float
    last_10s_ratio: float


def read_pressure(root: Path, resource: str) -> Mapping[str, Pressure]:
    """This will read /proc/pressure/<resource>: "some" task waited, and "full": all of them did."""
    return parse_pressure(text_of(root / "pressure" / resource))


def parse_pressure(text: str) -> Mapping[str, Pressure]:
    """This will read what the kernel says of the machine or of a control group: by "some" and "full"."""
    pressure: dict[str, Pressure] = {}
    for line in text.splitlines():
        share, *pairs = line.split()
        numbers = dict(pair.split("=", 1) for pair in pairs)
        pressure[share] = Pressure(
            stalled_seconds_total=int(numbers["total"]) / 1e6, last_10s_ratio=float(numbers["avg10"]) / 100
        )
    return pressure


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskCounters:
    """One whole block device, and its I/O since the machine started."""

    name: str
    size_bytes: int | None
    model: str | None
    reads: int
    read_bytes: int
    writes: int
    written_bytes: int
    busy_seconds: float


# What a device is changes when it is pulled and another takes its name, or when a volume grows.
_DEVICE_FACTS_SECONDS = 60.0


class DiskReader:
    """Reads what disks did, each time, and what they are, once a minute or when there are others."""

    def __init__(self) -> None:
        """Nothing is read yet."""
        self._devices: tuple[tuple[str, ...], ...] = ()  # major, minor and name, as they were when the facts were read
        self._read_at = 0.0
        self._facts: dict[str, tuple[int | None, str | None]] = {}  # size and model of whole devices with data

    def read(self, root: Path, sys_root: Path, *, now_seconds: float) -> Sequence[DiskCounters]:
        """This will read /proc/diskstats for whole devices that hold data themselves; `now_seconds` is monotonic.

        Partitions are not in /sys/block; device mapper, RAID and loop devices are below
        devices/virtual/block, where NVMe multipath heads, which are real, are not.
        """
        lines = [line.split(None, 13) for line in text_of(root / "diskstats").splitlines()]
        devices = tuple([tuple(parts[:3]) for parts in lines])
        if devices != self._devices or now_seconds - self._read_at >= _DEVICE_FACTS_SECONDS:
            self._facts = _device_facts(sys_root / "block", [parts[2] for parts in lines])
            self._devices, self._read_at = devices, now_seconds
        return [_disk_counters(parts, *self._facts[parts[2]]) for parts in lines if parts[2] in self._facts]


def _device_facts(block: Path, names: Sequence[str]) -> dict[str, tuple[int | None, str | None]]:
    known = set(os.listdir(block))  # noqa: PTH208  (one call, names only)
    facts: dict[str, tuple[int | None, str | None]] = {}
    for name in names:
        entry = name.replace("/", "!")  # as sysfs writes it
        if entry not in known or _NOT_A_DISK.match(name) or _is_virtual_or_hidden(block / entry):
            continue
        size = _line_or_none(block / entry / "size")
        facts[name] = int(size) * _SECTOR_BYTES if size else None, _line_or_none(block / entry / "device" / "model")
    return facts


def _disk_counters(parts: Sequence[str], size_bytes: int | None, model: str | None) -> DiskCounters:
    return DiskCounters(
        name=parts[2],
        size_bytes=size_bytes,
        model=model,
        reads=int(parts[3]),
        read_bytes=int(parts[5]) * _SECTOR_BYTES,
        writes=int(parts[7]),
        written_bytes=int(parts[9]) * _SECTOR_BYTES,
        busy_seconds=int(parts[12]) / 1000,
    )


def _is_virtual_or_hidden(device: Path) -> bool:
    return "/devices/virtual/block/" in os.path.realpath(device) or _line_or_none(device / "hidden") == "1"


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceCounters:
    """One network interface, and its traffic since it came up."""

    name: str
    received_bytes: int
    received_packets: int
    receive_errors: int
    receive_drops: int
    transmitted_bytes: int
    transmitted_packets: int
    transmit_errors: int
    transmit_drops: int


def read_interfaces(root: Path) -> Sequence[InterfaceCounters]:
    """This will read the traffic of the machine's interfaces, without those made for containers.

    /proc/net is the reader's own network namespace: a container's. The machine's is that of pid 1.
    """
    try:
        text = text_of(root / "1" / "net" / "dev")
    except (FileNotFoundError, PermissionError):
        if root != Path("/proc"):
            raise  # a container's own network passed off as the machine's would be worse than nothing
        text = text_of(
            root / "self" / "net" / "dev"
        )  # pid 1 is hidden (hidepid): an ordinary process shares its network
    interfaces: list[InterfaceCounters] = []
    for line in text.splitlines()[2:]:  # two lines of headings
        name, _, rest = line.rpartition(":")
        name = name.strip()
        if _NOT_A_LINK.match(name):
            continue
        numbers = [int(number) for number in rest.split()]
        interfaces.append(
            InterfaceCounters(
                name=name,
                received_bytes=numbers[0],
                received_packets=numbers[1],
                receive_errors=numbers[2],
                receive_drops=numbers[3],
                transmitted_bytes=numbers[8],
                transmitted_packets=numbers[9],
                transmit_errors=numbers[10],
                transmit_drops=numbers[11],
            )
        )
    return interfaces


def text_of(path: Path) -> str:
    """This will give the text of one of the kernel's files, whatever bytes are in it."""
    return bytes_of(path).decode("utf-8", "replace")


def bytes_of(path: Path) -> bytes:
    """This will give the bytes of one of the kernel's files.

    open, read and close, and nothing between: a file object costs three times as much, and a look reads dozens.
    """
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.read(file, _READ_BYTES)
        while part := os.read(file, _READ_BYTES):  # the kernel gives long files by the page
            data += part
        return data
    finally:
        os.close(file)


def _line_or_none(path: Path) -> str | None:
    """An attribute in sysfs, or None where a device has no such thing."""
    try:
        return text_of(path).strip() or None
    except OSError:
        return None
