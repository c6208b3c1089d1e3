"""Control groups, version 2: the agent's own, and what any of them may use, used, and was held back by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from node_agent.host.procfs import Pressure, parse_pressure, text_of


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


def read_cpu_limit_within(group: Path, root: Path) -> float:
    """This will give the smallest CPU limit of a group and those above it; raises NoLimit when none has one."""
    return min(_limits(group, root, read_cpu_limit_cores))


def read_memory_limit_within(group: Path, root: Path) -> int:
    """This will give the smallest memory limit of a group and those above it; raises NoLimit when none has one."""
    return int(min(_limits(group, root, read_memory_limit_bytes)))


def _limits(group: Path, root: Path, read: Callable[[Path], float]) -> list[float]:
    limits = []
    for folder in (group, *group.parents):
        if folder == root:  # it has no limits of its own
            break
        try:
            limits.append(read(folder))
        except (NoLimit, FileNotFoundError):  # none is set, or that controller is not handed down so far
            continue
    if not limits:
        raise NoLimit("nothing limits it")
    return limits


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuStat:
    """cpu.stat. What only the cpu controller counts is None where that is not handed down to the group."""

    used_seconds: float
    periods: int | None
    throttled_periods: int | None
    throttled_seconds: float | None


def read_cpu_stat(group: Path) -> CpuStat:
    """This will read cpu.stat; raises ValueError when it does not say what was used."""
    said = _numbers(group / "cpu.stat")
    if "usage_usec" not in said:
        raise ValueError("cpu.stat has no usage_usec")
    throttled = said.get("throttled_usec")
    return CpuStat(
        used_seconds=said["usage_usec"] / 1e6,
        periods=said.get("nr_periods"),
        throttled_periods=said.get("nr_throttled"),
        throttled_seconds=None if throttled is None else throttled / 1e6,
    )


def read_working_set_bytes(group: Path) -> int:
    """This will read memory.current less inactive_file, as the kubelet does; cache can be larger for a moment."""
    inactive = _numbers(group / "memory.stat").get("inactive_file")
    if inactive is None:
        raise NoLimit("memory.stat has no inactive_file")
    return max(0, read_memory_used_bytes(group) - inactive)


def read_oom_kills(group: Path) -> int:
    """This will read oom_kill of memory.events: processes of the group and of those below it."""
    kills = _numbers(group / "memory.events").get("oom_kill")
    if kills is None:
        raise NoLimit("memory.events has no oom_kill")
    return kills


def read_group_pressure(group: Path, resource: str) -> Mapping[str, Pressure]:
    """This will read <resource>.pressure."""
    return parse_pressure(_read(group / f"{resource}.pressure"))


def _numbers(path: Path) -> Mapping[str, int]:
    pairs = (line.partition(" ") for line in _read(path).splitlines())
    return {name: int(number) for name, _, number in pairs}


def _read(path: Path) -> str:
    return text_of(path).strip()
