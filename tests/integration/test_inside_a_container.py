"""The machine as seen from namespaces of one's own, as a container has them, with its /proc and /sys mounted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from node_agent.host import procfs
from node_agent.host.ownership import read_process

# Runs inside: what the collectors see of the machine, and what they would see of the container.
_LOOK = """
import asyncio, json, os, sys
from datetime import UTC, datetime
from pathlib import Path
from node_agent.clock import Instant
from node_agent.collectors.system import SystemCollector
from node_agent.host import procfs
from node_agent.host.container import live_containers
from node_agent.host.ownership import read_process
root, pid = Path(sys.argv[1]), int(sys.argv[2])
now = Instant(wall=datetime(2026, 1, 1, tzinfo=UTC), monotonic_seconds=1.0)
seen = asyncio.run(SystemCollector(root / "proc", sys_root=root / "sys", own_sys_root=Path("/sys")).collect(now))
host = next(sample.values for sample in seen.samples if sample.table == "host")
found = read_process(root / "proc", pid)
print(json.dumps({
    "outcome": seen.outcome.name,
    "detail": seen.detail,
    "keys": {kind: sorted(s.entity[1] for s in seen.samples if s.table == kind) for kind in ("disk", "network")},
    "values": {k: v for k, v in host.items() if isinstance(v, int | float)},
    "own_pid": os.getpid(),
    "own_interfaces": [one.name for one in procfs.read_interfaces(Path("/proc"))],
    "started_ticks": found and found.started_ticks,
    "own_sees_it": read_process(Path("/proc"), pid) is not None,
}))
"""
# The machine's trees first, as a runtime mounts them, then the container's own over /proc and /sys.
_ENTER = """
mkdir -p "$1/proc" "$1/sys" && mount --rbind /proc "$1/proc" && mount --rbind /sys "$1/sys" &&
mount -t proc proc /proc && mount -t sysfs sysfs /sys && exec "$2" -c "$3" "$1" "$4"
"""


@pytest.fixture
def inside(tmp_path: Path) -> Any:
    """What an agent in a container of its own sees; of this test's process too."""
    words = ("unshare", "--mount", "--net", "--pid", "--ipc", "--uts", "--cgroup", "--fork", "sh", "-c", _ENTER, "sh")
    done = subprocess.run(
        [*words, str(tmp_path), sys.executable, _LOOK, str(os.getpid())],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    if done.returncode and ("unshare" in done.stderr or "mount" in done.stderr):
        pytest.skip(f"NEEDS ROOT TO MAKE NAMESPACES: {done.stderr.strip()[:200]}")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_machine_is_seen_and_not_the_container(inside: Any) -> None:
    assert inside["own_interfaces"] == [], "the container's network is its own, and has a loopback only"
    assert inside["keys"]["network"] == sorted(one.name for one in procfs.read_interfaces(Path("/proc")))
    disks = procfs.DiskReader().read(Path("/proc"), Path("/sys"), now_seconds=0.0)
    assert inside["keys"]["disk"] == sorted(one.name for one in disks)
    assert inside["values"]["memory_total_bytes"] == procfs.read_memory(Path("/proc")).sizes["MemTotal"]
    assert inside["values"]["cpu_logical_count"] == len(procfs.read_cpu_ticks(Path("/proc")).cores)
    assert "network" not in inside["detail"]


def test_a_process_of_the_machine_is_found_by_its_pid_there(inside: Any) -> None:
    ours = read_process(Path("/proc"), os.getpid())
    assert ours is not None
    assert inside["started_ticks"] == ours.started_ticks
    assert inside["own_pid"] < 10, "in its own namespace pids begin anew"
    assert inside["own_sees_it"] is False or os.getpid() < 10
