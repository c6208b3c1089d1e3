"""Who the processes on the GPUs are, read from the host, and what the kubelet gave to whom."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from node_agent.host.container import Place, read_place
from node_agent.host.container_names import ContainerName
from node_agent.host.kubelet import Allocatable, Allocation
from node_agent.untrusted import clean_text

_MOST_TITLE_BYTES = 4096
# Fields of /proc/<pid>/stat behind the name: man 5 proc_pid_stat, minus 3.
_USER_TICKS, _SYSTEM_TICKS, _STARTED_TICKS, _RESIDENT_PAGES = 11, 12, 19, 21


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessFacts:
    """One process as the host's /proc shows it. Its command line may hold secrets: only the first word is kept."""

    place: Place
    name: str  # comm
    title: str  # the first word of the command line
    started_ticks: int  # since boot; with the pid it names a process for ever
    resident_bytes: int
    cpu_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ownership:
    """What is known of owners at one moment."""

    allocations: Sequence[Allocation] | None = None  # None: unknown, and `allocations_detail` says why
    allocations_detail: str = "the kubelet was not asked yet"
    allocations_left_out: int = 0  # given too, but beyond what is kept
    allocatable: Sequence[Allocatable] | None = None  # None: unknown, and `allocatable_detail` says why
    allocatable_detail: str = "the kubelet was not asked yet"
    names: Mapping[str, ContainerName] = field(default_factory=dict)  # by container id
    live_containers: frozenset[str] = frozenset()
    processes: Mapping[int, ProcessFacts | None] = field(default_factory=dict)  # None: not in our /proc
    pids_left_out: frozenset[int] = frozenset()  # too many to be looked up
    minor_numbers: Mapping[str, int] = field(default_factory=dict)  # by GPU UUID


def read_process(proc_root: Path, pid: int) -> ProcessFacts | None:
    """This will read one process, None when it is not in this /proc or reads as nonsense."""
    folder = proc_root / str(pid)
    place = read_place(proc_root, pid)
    if place is None:
        return None
    try:
        stat = (folder / "stat").read_text(encoding="utf-8", errors="replace")
        with (folder / "cmdline").open("rb") as file:
            line = file.read(_MOST_TITLE_BYTES).decode("utf-8", "replace")
        name, _, rest = stat.partition("(")[2].rpartition(")")  # a name may itself hold blanks and brackets
        fields = rest.split()
        return ProcessFacts(
            place=place,
            name=clean_text(name, limit=64),
            title=clean_text(line.split("\0")[0].partition(" ")[0]),
            started_ticks=int(fields[_STARTED_TICKS]),
            resident_bytes=int(fields[_RESIDENT_PAGES]) * os.sysconf("SC_PAGE_SIZE"),
            cpu_seconds=(int(fields[_USER_TICKS]) + int(fields[_SYSTEM_TICKS])) / os.sysconf("SC_CLK_TCK"),
        )
    except (OSError, ValueError, IndexError):
        return None


def minor_numbers(proc_root: Path) -> Mapping[str, int]:
    """This will give the minor number of each GPU by UUID, as the driver's files in /proc say them."""
    found: dict[str, int] = {}
    for path in sorted((proc_root / "driver" / "nvidia" / "gpus").glob("*/information"))[:64]:
        try:
            text = path.read_text(encoding="utf-8", errors="replace")[:_MOST_TITLE_BYTES]
        except OSError:
            continue
        said = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}
        uuid, minor = said.get("GPU UUID", ""), said.get("Device Minor", "")
        if uuid and minor.isdecimal():
            found[uuid] = int(minor)
    return found
