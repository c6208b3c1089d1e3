"""The machine's processes, from /proc: who they are, whose children, since when."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

MAX_COMMAND_LINE_BYTES = 65_536  # an engine's has a few hundred; the kernel allows megabytes
_STAT_PARENT = 1  # fields of /proc/<pid>/stat behind the name: man 5 proc_pid_stat, minus 3
_STAT_START = 19


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One process. Its words may hold secrets: nothing may keep or send them unread."""

    pid: int
    parent_pid: int
    name: str  # comm: at most 15 bytes, and processes may rewrite it
    words: tuple[str, ...]  # the command line, which processes may rewrite too
    started_ticks: int  # since boot


def processes(proc_root: str = "/proc") -> Mapping[int, Process]:
    """This will give all processes that can be read, by pid."""
    found: dict[int, Process] = {}
    try:
        names = os.listdir(proc_root)  # noqa: PTH208 - names are all that is wanted of thousands of entries
    except OSError:
        return found
    for name in names:
        if name.isdecimal() and (process := _process(Path(proc_root) / name)) is not None:
            found[process.pid] = process
    return found


def started_unix_seconds(process: Process, proc_root: str = "/proc") -> float | None:
    """This will give when a process started, within a second or so: boot time is stored in seconds."""
    try:
        with (Path(proc_root) / "stat").open(encoding="ascii", errors="replace") as lines:
            boot = next((int(line.split()[1]) for line in lines if line.startswith("btime ")), None)
    except (OSError, ValueError, IndexError):
        return None
    return None if boot is None else boot + process.started_ticks / os.sysconf("SC_CLK_TCK")


def _process(directory: Path) -> Process | None:
    """This will read one process, None when it ended meanwhile or reads as nonsense."""
    try:
        stat = (directory / "stat").read_text(encoding="utf-8", errors="replace")
        with (directory / "cmdline").open("rb") as file:
            line = file.read(MAX_COMMAND_LINE_BYTES).decode("utf-8", "replace")
        name, _, rest = stat.partition("(")[2].rpartition(")")  # a name may itself hold blanks and brackets
        fields = rest.split()
        return Process(
            pid=int(directory.name),
            parent_pid=int(fields[_STAT_PARENT]),
            name=name,
            words=tuple(line.rstrip("\0").split("\0")) if line else (),
            started_ticks=int(fields[_STAT_START]),
        )
    except (OSError, ValueError, IndexError):
        return None
