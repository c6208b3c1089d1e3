"""The control group of an inference server in the catalogue's words."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from node_agent.collectors.system_values import attempt
from node_agent.host import cgroup
from node_agent.host.cgroup_tree import CgroupTree
from node_agent.model import EntityKind, Reason, Sample, Value
from node_agent.untrusted import clean_text
from optiinfra.catalogue import TABLES

TABLE = "server_cgroup"
_RESOURCES = ("cpu", "memory", "io")
_SHARES = ("some", "full")
_FIELDS = tuple(spec.name for spec in TABLES[TABLE].fields)


def server_cgroup(tree: CgroupTree, url: str, pid: int) -> tuple[str | None, Sample]:
    """This will look at the group of a server's process: its path in the machine's tree and its values."""
    group = attempt(partial(_find, tree, pid))
    if isinstance(group, Reason):
        return None, unread(url, group)
    path = "/" + clean_text(str(group.relative_to(tree.root)))
    return path, _sample(url, {**_cpu(group, tree.root), **_memory(group, tree.root), **_pressure(group)})


def _find(tree: CgroupTree, pid: int) -> Path | Reason:
    try:
        return tree.find(pid)
    except ProcessLookupError:
        return Reason.SERVER_GONE


def unread(url: str, reason: Reason) -> Sample:
    """This will say why nothing is known of a server's group."""
    return _sample(url, dict.fromkeys(_FIELDS, reason))


def _sample(url: str, values: dict[str, Value]) -> Sample:
    return Sample(table=TABLE, entity=(EntityKind.INFERENCE_SERVER, url), values=values)


def _cpu(group: Path, root: Path) -> dict[str, Value]:
    found = attempt(partial(cgroup.read_cpu_stat, group))
    names = ("cpu_seconds_total", "cpu_periods_total", "cpu_throttled_periods_total", "cpu_throttled_seconds_total")
    values: dict[str, Value] = {"cpu_limit_cores": attempt(partial(cgroup.read_cpu_limit_within, group, root))}
    if isinstance(found, Reason):
        return values | dict.fromkeys(names, found)
    said = (found.used_seconds, found.periods, found.throttled_periods, found.throttled_seconds)
    return values | {
        name: Reason.UNSUPPORTED if value is None else value for name, value in zip(names, said, strict=True)
    }


def _memory(group: Path, root: Path) -> dict[str, Value]:
    readers: dict[str, Callable[[], int]] = {
        "memory_limit_bytes": partial(cgroup.read_memory_limit_within, group, root),
        "memory_used_bytes": partial(cgroup.read_memory_used_bytes, group),
        "memory_working_set_bytes": partial(cgroup.read_working_set_bytes, group),
        "oom_kills_total": partial(cgroup.read_oom_kills, group),
    }
    return {name: attempt(read) for name, read in readers.items()}


def _pressure(group: Path) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for resource in _RESOURCES:
        found = attempt(partial(cgroup.read_group_pressure, group, resource))
        for share in _SHARES:
            reading = found if isinstance(found, Reason) else found.get(share, Reason.UNSUPPORTED)
            said: Value = reading if isinstance(reading, Reason) else reading.stalled_seconds_total
            values[f"pressure_{resource}_{share}_seconds_total"] = said
    return values
