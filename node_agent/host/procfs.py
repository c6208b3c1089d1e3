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


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuTimes:
    """Where CPU time went since the machine started, in ticks. Guest time is part of user, as in the kernel."""

    user: int  # with nice
    system: int  # with interrupts
    idle: int
    iowait: int
    steal: int

    @property
    def total(self) -> int:
        """This will give all ticks."""
        return self.user + self.system + self.idle + self.iowait + self.steal

    def since(self, before: CpuTimes) -> CpuTimes:
        """This will give the ticks between two readings; the kernel lets idle and iowait fall, which counts as none."""
        return CpuTimes(
            user=max(0, self.user - before.user),
            system=max(0, self.system - before.system),
            idle=max(0, self.idle - before.idle),
            iowait=max(0, self.iowait - before.iowait),
            steal=max(0, self.steal - before.steal),
        )


def read_cpu_times(root: Path) -> tuple[CpuTimes, Mapping[int, CpuTimes]]:
    """This will read /proc/stat: all CPUs together, and each one that is online by its number."""
    together: CpuTimes | None = None
    cores: dict[int, CpuTimes] = {}
    for line in text_of(root / "stat").splitlines():
        name, *numbers = line.split()
        if not name.startswith("cpu"):
            break  # the cpu lines come first; the interrupt counts after them can be long
        user, nice, system, idle, iowait, irq, softirq, steal = (int(number) for number in numbers[:8])
        times = CpuTimes(user=user + nice, system=system + irq + softirq, idle=idle, iowait=iowait, steal=steal)
        if name == "cpu":
            together = times
        else:
            cores[int(name[3:])] = times
    if together is None:
        raise ValueError("no cpu line")
    return together, cores


def read_memory_bytes(root: Path) -> Mapping[str, int]:
    """This will read /proc/meminfo, in bytes; lines without a unit (huge page counts) are left out."""
    memory: dict[str, int] = {}
    for line in text_of(root / "meminfo").splitlines():
        name, _, rest = line.partition(":")
        amount, _, unit = rest.strip().partition(" ")
        if unit == "kB":
            memory[name] = int(amount) * 1024
    return memory


@dataclass(frozen=True, slots=True, kw_only=True)
class HugePages:
    """Huge pages of the default size (Documentation/admin-guide/mm/hugetlbpage.rst)."""

    total: int
    free: int
    size_bytes: int


def read_huge_pages(root: Path) -> HugePages:
    """This will read /proc/meminfo; NotKept where the kernel has no huge pages."""
    lines = dict(line.split(":", 1) for line in text_of(root / "meminfo").splitlines() if line.startswith("Huge"))
    if "Hugepagesize" not in lines:
        raise NotKept("no huge pages")
    size, _, unit = lines["Hugepagesize"].strip().partition(" ")
    if unit != "kB":
        raise ValueError("a size of huge pages without its unit")
    return HugePages(
        total=int(lines["HugePages_Total"]), free=int(lines["HugePages_Free"]), size_bytes=int(size) * 1024
    )


def read_oom_kills(root: Path) -> int:
    """This will read oom_kill of /proc/vmstat; NotKept before Linux 4.13, which does not count them."""
    for line in text_of(root / "vmstat").splitlines():
        name, _, number = line.partition(" ")
        if name == "oom_kill":
            return int(number)
    raise NotKept("no oom_kill in vmstat")


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


def read_disks(root: Path, sys_root: Path) -> Sequence[DiskCounters]:
    """This will read /proc/diskstats for whole devices that hold data themselves.

    Partitions are not in /sys/block; device mapper, RAID and loop devices are below
    devices/virtual/block, where NVMe multipath heads, which are real, are not.
    """
    block = sys_root / "block"
    known = set(os.listdir(block))  # noqa: PTH208  (one call, names only)
    disks: list[DiskCounters] = []
    for line in text_of(root / "diskstats").splitlines():
        parts = line.split()
        name, counters = parts[2], [int(part) for part in parts[3:13]]
        entry = name.replace("/", "!")  # as sysfs writes it
        if entry not in known or _NOT_A_DISK.match(name) or _is_virtual_or_hidden(block / entry):
            continue
        size = _line_or_none(block / entry / "size")
        disks.append(
            DiskCounters(
                name=name,
                size_bytes=int(size) * _SECTOR_BYTES if size else None,
                model=_line_or_none(block / entry / "device" / "model"),
                reads=counters[0],
                read_bytes=counters[2] * _SECTOR_BYTES,
                writes=counters[4],
                written_bytes=counters[6] * _SECTOR_BYTES,
                busy_seconds=counters[9] / 1000,
            )
        )
    return disks


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
    return path.read_text(encoding="utf-8", errors="replace")


def _line_or_none(path: Path) -> str | None:
    """An attribute in sysfs, or None where a device has no such thing."""
    try:
        return text_of(path).strip() or None
    except OSError:
        return None
