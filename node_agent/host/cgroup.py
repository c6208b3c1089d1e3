"""The agent's own control group, version 2: what it may use, and what held it back."""

from __future__ import annotations

from pathlib import Path

from node_agent.host.procfs import text_of


class NoLimit(LookupError):
    """There is no such limit: none is set, or nothing here could set one (the root group, version 1)."""


def own_group(own_proc_root: Path, cgroup_root: Path) -> Path:
    """This will find the folder of the control group that this process is in.

    Inside a container the kernel writes paths relative to the container's own group, which is
    what is mounted there; some runtimes write the machine's path and mount only the group itself.
    """
    text = text_of(own_proc_root / "self" / "cgroup")
    for line in text.splitlines():
        if line.startswith("0::"):  # the one line of version 2; others are version 1 hierarchies
            group = cgroup_root / line[3:].lstrip("/")
            return group if group.is_dir() else cgroup_root
    raise NoLimit("control groups version 2 are not in use")


def read_memory_limit_bytes(group: Path) -> int:
    """This will read memory.max; raises NoLimit when it says max."""
    text = _read(group / "memory.max")
    if text == "max":
        raise NoLimit("memory.max is max")
    return int(text)


def read_memory_used_bytes(group: Path) -> int:
    """This will read memory.current."""
    return int(_read(group / "memory.current"))


def read_cpu_limit_cores(group: Path) -> float:
    """This will read cpu.max, quota over period; raises NoLimit when the quota is max."""
    quota, period = _read(group / "cpu.max").split()
    if quota == "max":
        raise NoLimit("cpu.max is max")
    return int(quota) / int(period)


def read_cpu_throttled_seconds(group: Path) -> float:
    """This will read throttled_usec of cpu.stat, which is there only where the cpu controller is."""
    for line in _read(group / "cpu.stat").splitlines():
        name, _, number = line.partition(" ")
        if name == "throttled_usec":
            return int(number) / 1e6
    raise NoLimit("cpu.stat has no throttled_usec")


def _read(path: Path) -> str:
    return text_of(path).strip()
