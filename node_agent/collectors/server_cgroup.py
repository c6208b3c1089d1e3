"""The control group of an inference server in the catalogue's words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
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


class Status(StrEnum):
    """Whether a server's group can be looked at, as its attribute `cgroup_status` says."""

    FOUND = "found"
    VERSION_1 = "cgroup_v1_host"  # the limits are not where we look, whatever else is
    ROOT_GROUP = "root_group"  # there are none, and nothing is counted
    NOT_MOUNTED = "not_mounted"
    NO_PROCESS = "no_process"  # it runs on another machine, or discovery is off
    SERVER_GONE = "server_gone"
    ERROR = "error"


_BY_REASON = {
    Reason.UNSUPPORTED: Status.ROOT_GROUP,
    Reason.NO_PERMISSION: Status.NOT_MOUNTED,
    Reason.NOT_COLLECTED: Status.NO_PROCESS,
    Reason.SERVER_GONE: Status.SERVER_GONE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerGroup:
    """The group of a server's process."""

    status: Status
    path: str | None  # in the machine's tree
    sample: Sample


def server_cgroup(tree: CgroupTree, url: str, pid: int) -> ServerGroup:
    """This will look at the group of a server's process: its path in the machine's tree and its values."""
    group = attempt(partial(_find, tree, pid))
    if isinstance(group, Reason):
        nothing = unread(url, group)
        is_version_1 = tree.is_version_1 and nothing.status is Status.ROOT_GROUP
        return replace(nothing, status=Status.VERSION_1) if is_version_1 else nothing
    return ServerGroup(
        status=Status.VERSION_1 if tree.is_version_1 else Status.FOUND,
        path="/" + clean_text(str(group.relative_to(tree.root))),
        sample=_sample(url, {**_cpu(group, tree.root), **_memory(group, tree.root), **_pressure(group)}),
    )


def _find(tree: CgroupTree, pid: int) -> Path | Reason:
    try:
        return tree.find(pid)
    except ProcessLookupError:
        return Reason.SERVER_GONE


def unread(url: str, reason: Reason) -> ServerGroup:
    """This will say why nothing is known of a server's group."""
    sample = _sample(url, dict.fromkeys(_FIELDS, reason))
    return ServerGroup(status=_BY_REASON.get(reason, Status.ERROR), path=None, sample=sample)


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
