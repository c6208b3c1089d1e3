"""The machine's readings from a /proc of our own making."""

from __future__ import annotations

import json
import os
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from node_agent.clock import Instant
from node_agent.collectors.system import NODE, SystemCollector
from node_agent.host import mounts
from node_agent.host.identity import node_attributes
from node_agent.host.mounts import MountReader, Usage, UsageReader
from node_agent.model import Collected, EntityKind, Outcome, Reason, Value
from optiinfra.catalogue import TABLES

NOW = Instant(wall=datetime(2026, 1, 1, tzinfo=UTC), monotonic_seconds=1.0)

STAT_BEFORE = """\
cpu  100 0 100 800 0 0 0 0 0 0
cpu0 50 0 50 400 0 0 0 0 0 0
cpu1 50 0 50 400 0 0 0 0 0 0
intr 1 2 3
"""
# Since then 100 ticks: 30 user (10 of them nice), 15 system (5 of them interrupts), 10 iowait, 5 steal, 40 idle.
STAT_AFTER = """\
cpu  120 10 110 840 10 2 3 5 7 7
cpu0 70 10 60 400 0 2 3 5 7 7
cpu1 50 0 50 440 10 0 0 0 0 0
intr 1 2 3
"""
MEMINFO = """\
MemTotal:       1000 kB
MemFree:         100 kB
MemAvailable:    600 kB
Cached:          300 kB
SReclaimable:     50 kB
SwapTotal:       200 kB
SwapFree:        150 kB
HugePages_Total:       0
"""
DISKSTATS = """\
   7       0 loop0 1 1 1 1 1 1 1 1 1 1 1 0 0 0 0 0 0
 259       0 nvme0n1 100 5 2000 30 200 6 4000 40 0 1500 70 0 0 0 0 0 0
 259       1 nvme0n1p1 90 5 1900 30 200 6 4000 40 0 1500 70 0 0 0 0 0 0
 253       0 dm-0 90 5 1900 30 200 6 4000 40 0 1500 70 0 0 0 0 0 0
 259       2 nvme0c0n1 1 1 1 1 1 1 1 1 1 1 1
"""
NET_DEV = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compr
    lo:    1     1    0    0    0     0          0         0        1     1    0    0    0     0       0          0
  eth0: 1000    10    1    2    0     0          0         0     2000    20    3    4    0     0       0          0
vethab12:   5     5    0    0    0     0          0         0        5     5    0    0    0     0       0          0
docker0:    5     5    0    0    0     0          0         0        5     5    0    0    0     0       0          0
"""
MOUNTINFO = """\
22 27 0:21 / /proc rw - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
28 27 254:0 /srv /srv/bind rw - ext4 /dev/vda rw
29 27 254:1 / /data\\040disk rw - xfs /dev/vdb rw
30 27 7:1 / /snap/core ro - squashfs /dev/loop1 ro
31 27 0:50 / /home rw - nfs4 server:/home rw
32 27 0:51 / /var/lib/docker/overlay2/x/merged rw - overlay overlay rw
33 27 254:2 / /var/lib/kubelet/pods/1/volumes/x rw - ext4 /dev/vdc rw
34 27 254:3 / /elsewhere rw - ext4 /dev/vdd rw
"""


class Machine:
    """A folder that looks like the /proc and /sys of a machine."""

    def __init__(self, root: Path) -> None:
        self.proc, self.sys = root / "host" / "proc", root / "sys"
        self.root = root
        self.write("proc/stat", STAT_BEFORE)
        self.write("proc/meminfo", MEMINFO)
        self.write("proc/loadavg", "0.50 1.50 2.50 1/100 999\n")
        self.write("proc/uptime", "1234.56 1000.00\n")
        self.write("proc/diskstats", DISKSTATS)
        self.write("proc/1/net/dev", NET_DEV)
        self.write("proc/1/mountinfo", MOUNTINFO)
        self.write("proc/self/cgroup", "1:name=systemd:/\n0::/agent.slice\n")
        # This process sees the disk 254:0 in one place, and 254:1 in another; not 254:3.
        own = f"27 1 254:0 /x {root} rw - ext4 /dev/vda rw\n28 1 254:1 / {root} rw - xfs /dev/vdb rw\n"
        self.write("proc/self/mountinfo", own)
        self.write("proc/pressure/cpu", "some avg10=25.00 avg60=0 avg300=0 total=3000000\n")
        for resource in ("memory", "io"):
            text = "some avg10=1.00 avg60=0 avg300=0 total=2000000\nfull avg10=0.50 avg60=0 avg300=0 total=1000000\n"
            self.write(f"proc/pressure/{resource}", text)
        for name in ("loop0", "dm-0"):
            (root / "sys" / "devices" / "virtual" / "block" / name).mkdir(parents=True)
        (self.sys / "block").mkdir(parents=True)
        for name in ("loop0", "dm-0"):
            (self.sys / "block" / name).symlink_to(self.sys / "devices" / "virtual" / "block" / name)
        self.write("sys/block/nvme0n1/size", "2048\n")
        self.write("sys/block/nvme0n1/device/model", "A Fast Disk   \n")
        self.write("sys/block/nvme0c0n1/hidden", "1\n")
        self.write("sys/fs/cgroup/agent.slice/memory.max", "max\n")
        self.write("sys/fs/cgroup/agent.slice/memory.current", "4096\n")
        self.write("sys/fs/cgroup/agent.slice/cpu.max", "50000 100000\n")
        self.write("sys/fs/cgroup/agent.slice/cpu.stat", "usage_usec 5\nnr_throttled 1\nthrottled_usec 1500000\n")

    def write(self, path: str, text: str) -> None:
        file = self.root / (f"host/{path}" if path.startswith("proc/") else path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def remove(self, path: str) -> None:
        (self.root / "host" / path).unlink()

    def collector(self, usage: UsageReader | None = None) -> SystemCollector:
        return SystemCollector(self.proc, sys_root=self.sys, own_proc_root=self.proc, usage=usage)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def host(collected: Collected) -> dict[str, Value]:
    (sample,) = (s for s in collected.samples if s.table == "host")
    assert sample.entity == NODE
    return dict(sample.values)


def of_table(collected: Collected, table: str) -> dict[str, dict[str, Value]]:
    return {s.entity[1]: dict(s.values) for s in collected.samples if s.table == table}


async def test_cpu_shares_are_of_the_time_between_two_looks(machine: Machine) -> None:
    collector = machine.collector()
    first = host(await collector.collect(NOW))
    assert first["cpu_busy_ratio"] is Reason.FIRST_SAMPLE
    assert first["cpu_core_busy_ratio"] is Reason.FIRST_SAMPLE
    assert first["cpu_logical_count"] == 2
    machine.write("proc/stat", STAT_AFTER)
    second = host(await collector.collect(NOW))
    assert second["cpu_user_ratio"] == pytest.approx(0.30)
    assert second["cpu_system_ratio"] == pytest.approx(0.15)
    assert second["cpu_iowait_ratio"] == pytest.approx(0.10)
    assert second["cpu_steal_ratio"] == pytest.approx(0.05)
    assert second["cpu_busy_ratio"] == pytest.approx(0.50)
    assert second["cpu_core_busy_ratio"] == (1.0, 0.0)


async def test_two_looks_within_one_tick_are_not_a_number(machine: Machine) -> None:
    collector = machine.collector()
    await collector.collect(NOW)
    second = host(await collector.collect(NOW))
    assert second["cpu_busy_ratio"] is Reason.NOT_A_NUMBER
    assert second["cpu_core_busy_ratio"] is Reason.NOT_A_NUMBER


async def test_a_cpu_that_went_away_restarts_the_shares_of_the_cores(machine: Machine) -> None:
    collector = machine.collector()
    await collector.collect(NOW)
    machine.write("proc/stat", "\n".join(line for line in STAT_AFTER.splitlines() if not line.startswith("cpu1")))
    second = host(await collector.collect(NOW))
    assert second["cpu_core_busy_ratio"] is Reason.FIRST_SAMPLE
    assert second["cpu_busy_ratio"] == pytest.approx(0.50)


async def test_counters_that_fall_never_make_a_share_negative(machine: Machine) -> None:
    collector = machine.collector()
    machine.write("proc/stat", STAT_AFTER)
    await collector.collect(NOW)
    machine.write("proc/stat", STAT_AFTER.replace("cpu  120 10 110 840 10", "cpu  140 10 110 830 5"))
    second = host(await collector.collect(NOW))
    assert second["cpu_busy_ratio"] == 1.0
    assert second["cpu_iowait_ratio"] == 0.0


async def test_memory_and_load_are_in_bytes_and_counts(machine: Machine) -> None:
    values = host(await machine.collector().collect(NOW))
    assert values["memory_total_bytes"] == 1000 * 1024
    assert values["memory_used_bytes"] == 400 * 1024
    assert values["memory_cached_bytes"] == 350 * 1024
    assert values["swap_used_bytes"] == 50 * 1024
    assert (values["load_1m_count"], values["load_15m_count"]) == (0.5, 2.5)
    assert values["uptime_seconds"] == 1234.56


async def test_pressure_is_in_seconds_and_ratios(machine: Machine) -> None:
    values = host(await machine.collector().collect(NOW))
    assert values["pressure_cpu_some_seconds_total"] == 3.0
    assert values["pressure_cpu_some_10s_ratio"] == 0.25
    assert values["pressure_io_full_seconds_total"] == 1.0


async def test_a_kernel_without_pressure_says_unsupported_and_the_rest_is_there(machine: Machine) -> None:
    for resource in ("cpu", "memory", "io"):
        machine.remove(f"proc/pressure/{resource}")
    collected = await machine.collector().collect(NOW)
    values = host(collected)
    assert {v for k, v in values.items() if k.startswith("pressure")} == {Reason.UNSUPPORTED}
    assert values["memory_total_bytes"] == 1000 * 1024
    assert collected.outcome is Outcome.OK


async def test_no_limit_is_unsupported_and_a_limit_is_a_number(machine: Machine) -> None:
    values = host(await machine.collector().collect(NOW))
    assert values["cgroup_memory_limit_bytes"] is Reason.UNSUPPORTED
    assert values["cgroup_memory_used_bytes"] == 4096
    assert values["cgroup_cpu_limit_cores"] == 0.5
    assert values["cgroup_cpu_throttled_seconds_total"] == 1.5


async def test_control_groups_version_1_are_unsupported(machine: Machine) -> None:
    machine.write("proc/self/cgroup", "4:memory:/x\n1:cpu:/\n")
    values = host(await machine.collector().collect(NOW))
    assert {v for k, v in values.items() if k.startswith("cgroup")} == {Reason.UNSUPPORTED}


async def test_a_group_that_is_mounted_under_another_path_is_found_at_the_mount(machine: Machine) -> None:
    machine.write("proc/self/cgroup", "0::/kubepods/pod1/abc\n")
    machine.write("sys/fs/cgroup/memory.max", "1048576\n")
    assert host(await machine.collector().collect(NOW))["cgroup_memory_limit_bytes"] == 1048576


async def test_only_whole_devices_that_hold_data_are_disks(machine: Machine) -> None:
    collected = await machine.collector().collect(NOW)
    assert of_table(collected, "disk") == {
        "nvme0n1": {
            "read_bytes_total": 2000 * 512,
            "written_bytes_total": 4000 * 512,
            "reads_total": 100,
            "writes_total": 200,
            "busy_seconds_total": 1.5,
        }
    }
    (disk,) = (e for e in collected.entities if e.kind is EntityKind.DISK)
    assert disk.attributes == {"model": "A Fast Disk", "size_bytes": 2048 * 512}


async def test_interfaces_of_containers_are_left_out(machine: Machine) -> None:
    network = of_table(await machine.collector().collect(NOW), "network")
    assert set(network) == {"eth0"}
    assert network["eth0"]["received_bytes_total"] == 1000
    assert network["eth0"]["transmit_drops_total"] == 4
    assert network["eth0"]["receive_errors_total"] == 1


async def test_the_networks_of_a_container_never_pass_for_the_machines(machine: Machine) -> None:
    machine.remove("proc/1/net/dev")
    machine.write("proc/self/net/dev", NET_DEV)
    collected = await machine.collector().collect(NOW)
    assert of_table(collected, "network") == {}
    assert collected.outcome is Outcome.PARTIAL
    assert "network interfaces: unsupported" in collected.detail


async def test_local_file_systems_are_sampled_once_each(machine: Machine) -> None:
    found = of_table(await machine.collector().collect(NOW), "filesystem")
    assert set(found) == {"/", "/data disk", "/elsewhere"}
    status = os.statvfs(machine.root)
    assert found["/"]["total_bytes"] == status.f_blocks * status.f_frsize
    assert set(found["/elsewhere"].values()) == {Reason.NO_PERMISSION}


def test_network_file_systems_are_never_touched(machine: Machine) -> None:
    assert {mount.kind for mount in MountReader().read(machine.proc, machine.proc)} == {"ext4", "xfs"}


def test_a_hidden_pid_1_leaves_our_own_mounts(machine: Machine) -> None:
    machine.remove("proc/1/mountinfo")
    assert {mount.point for mount in MountReader().read(machine.proc, machine.proc)} == {str(machine.root)}


def test_a_file_system_that_hangs_does_not_hold_up_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    let_go = threading.Event()
    looks: list[str] = []
    usage = Usage(total_bytes=3, used_bytes=2, available_bytes=1, inodes_total=None, inodes_free=None)

    def statvfs(path: str) -> Usage:
        looks.append(path)
        if path == "/hangs":
            let_go.wait(20)
        return usage

    monkeypatch.setattr(mounts, "_usage", statvfs)
    reader = UsageReader(timeout_seconds=0.05)
    for _ in range(3):
        assert reader.read(["/hangs", "/works"]) == {"/hangs": Reason.TIMED_OUT, "/works": usage}
    assert looks.count("/hangs") == 1, "a thread more with every look"
    let_go.set()
    while reader.read(["/hangs"]) != {"/hangs": usage}:
        assert looks.count("/hangs") <= 2
    assert reader.read([]) == {}


async def test_a_broken_proc_gives_reasons_and_never_raises(tmp_path: Path) -> None:
    collector = SystemCollector(tmp_path / "proc", sys_root=tmp_path / "sys", own_proc_root=tmp_path / "proc")
    collected = await collector.collect(NOW)
    assert collected.outcome is Outcome.PARTIAL
    values = host(collected)
    known = {name for name, value in values.items() if not isinstance(value, Reason)}
    assert known == {"agent_cpu_seconds_total", "agent_resident_memory_bytes"}
    (tmp_path / "proc").mkdir()
    for name in ("stat", "meminfo", "loadavg", "uptime", "diskstats"):
        (tmp_path / "proc" / name).write_text("cpu nonsense: x kB\n")
    values = host(await collector.collect(NOW))
    assert values["cpu_busy_ratio"] is Reason.ERROR
    assert values["load_1m_count"] is Reason.ERROR
    await collector.close()


async def test_every_field_of_the_catalogue_is_given_a_value_or_a_reason(machine: Machine) -> None:
    collected = await machine.collector().collect(NOW)
    for sample in collected.samples:
        assert sample.values.keys() == {field.name for field in TABLES[sample.table].fields}
    assert {e.kind for e in collected.entities} == {s.entity[0] for s in collected.samples}
    assert collected.outcome is Outcome.OK, collected.detail


def test_the_attributes_of_a_container_name_the_machine(machine: Machine) -> None:
    machine.write("proc/cpuinfo", "processor\t: 0\nmodel name\t: A CPU\nprocessor\t: 1\nmodel name\t: A CPU\n")
    machine.write("proc/sys/kernel/random/boot_id", "0000-1111\n")
    (machine.root / "host" / "etc").mkdir()
    (machine.root / "host" / "etc" / "os-release").write_text('NAME="X"\nPRETTY_NAME="An OS 1"\n')
    attributes = node_attributes(machine.proc)
    assert attributes["os"] == "An OS 1"
    assert attributes["cpu_model"] == "A CPU"
    assert attributes["cpu_logical_count"] == 2
    assert attributes["memory_total_bytes"] == 1000 * 1024
    assert attributes["boot_id"] == "0000-1111"
    json.dumps(dict(attributes))


def test_attributes_that_are_not_known_are_left_out(tmp_path: Path) -> None:
    attributes = node_attributes(tmp_path / "proc")
    assert "os" not in attributes
    assert "memory_total_bytes" not in attributes
    assert attributes["kernel"] == os.uname().release
