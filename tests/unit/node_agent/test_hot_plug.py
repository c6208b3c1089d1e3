"""Devices that come and go, and counters that fall: nothing is carried over, and no share leaves its range."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from node_agent.clock import Instant
from node_agent.collectors import system_values
from node_agent.collectors.system import SystemCollector
from node_agent.host.procfs import CPU_MODES, CpuReading
from node_agent.model import Reason, Value

NOW = Instant(wall=datetime(2026, 1, 1, tzinfo=UTC), monotonic_seconds=1.0)
HEAD = "Inter-|   Receive\n face |bytes    packets errs drop fifo frame compressed multicast|bytes\n"


def plant(root: Path, *, disks: Mapping[str, int], links: Mapping[str, int], ports: int = 0) -> None:
    """A machine with those disks and links, by what they have read or received."""
    (root / "proc" / "1" / "net").mkdir(parents=True, exist_ok=True)
    numbers = " 0" * 8
    rows = [f"{name}: {value} 0 0 0 0 0 0 0{numbers}" for name, value in links.items()]
    (root / "proc" / "1" / "net" / "dev").write_text(HEAD + "\n".join(rows) + "\n")
    lines = [f"259 {n} {name} 1 0 {value} 0 0 0 0 0 0 0 0\n" for n, (name, value) in enumerate(disks.items())]
    (root / "proc" / "diskstats").write_text("".join(lines))
    for name in disks:
        (root / "sys" / "block" / name).mkdir(parents=True, exist_ok=True)
    for number in range(ports):
        (root / "sys" / "class" / "infiniband" / f"mlx5_{number:03d}" / "ports" / "1").mkdir(
            parents=True, exist_ok=True
        )


async def look(collector: SystemCollector) -> dict[str, dict[str, Value]]:
    seen = await collector.collect(NOW)
    found: dict[str, dict[str, Value]] = {"disk": {}, "network": {}}
    for sample in seen.samples:
        if sample.table == "disk":
            found["disk"][sample.entity[1]] = sample.values["read_bytes_total"]
        if sample.table == "network":
            found["network"][sample.entity[1]] = sample.values["received_bytes_total"]
    return found


async def test_a_device_that_is_unplugged_is_silent_and_starts_anew_when_it_is_back(tmp_path: Path) -> None:
    collector = SystemCollector(tmp_path / "proc", sys_root=tmp_path / "sys", own_proc_root=tmp_path / "proc")
    plant(tmp_path, disks={"nvme0n1": 8, "nvme1n1": 100}, links={"eth0": 5, "ib0": 2**40})
    assert await look(collector) == {
        "disk": {"nvme0n1": 8 * 512, "nvme1n1": 100 * 512},
        "network": {"eth0": 5, "ib0": 2**40},
    }
    plant(tmp_path, disks={"nvme0n1": 9}, links={"eth0": 6})
    assert await look(collector) == {"disk": {"nvme0n1": 9 * 512}, "network": {"eth0": 6}}
    plant(tmp_path, disks={"nvme0n1": 10, "nvme1n1": 0}, links={"eth0": 7, "ib0": 3})
    assert await look(collector) == {"disk": {"nvme0n1": 10 * 512, "nvme1n1": 0}, "network": {"eth0": 7, "ib0": 3}}


async def test_more_ports_than_are_looked_at_are_counted(tmp_path: Path) -> None:
    plant(tmp_path, disks={}, links={}, ports=70)
    seen = await SystemCollector(tmp_path / "proc", sys_root=tmp_path / "sys", own_proc_root=tmp_path / "proc").collect(
        NOW
    )
    assert "InfiniBand ports: 70 found, the first 64 sent" in seen.detail
    assert sum(sample.table == "infiniband" for sample in seen.samples) == 64


times = st.tuples(*[st.integers(0, 2**40)] * len(CPU_MODES))
readings = st.builds(
    CpuReading,
    together=times,
    cores=st.dictionaries(st.integers(0, 3), times, max_size=4),
    booted_unix_seconds=st.none(),
)


@given(readings, readings)
def test_whatever_the_ticks_do_every_share_is_between_nothing_and_all(after: CpuReading, before: CpuReading) -> None:
    said = system_values.cpu(after, before)
    shares = [said[name] for name in ("cpu_user_ratio", "cpu_system_ratio", "cpu_iowait_ratio", "cpu_steal_ratio")]
    numbers = [share for share in shares if isinstance(share, float)]
    assert len(numbers) == 4 or set(shares) == {Reason.NOT_A_NUMBER}
    assert all(0 <= number <= 1 for number in numbers)
    assert sum(numbers) <= 1 + 1e-9
    cores = said["cpu_core_busy_ratio"]
    assert isinstance(cores, Reason) or (isinstance(cores, tuple) and all(0 <= core <= 1 for core in cores))
