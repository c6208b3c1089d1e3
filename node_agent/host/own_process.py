"""The process that we are, from /proc: what it costs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from node_agent.host.procfs import text_of
from node_agent.model import Reason

# Fields of /proc/self/stat behind the name, which may itself hold blanks (proc_pid_stat(5), minus 3).
_USER_TICKS, _SYSTEM_TICKS, _THREADS = 11, 12, 17
_RESIDENT_PAGES = 1  # of /proc/self/statm
_SELF = Path("/proc/self")  # always our own, wherever the machine's /proc is mounted


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessUsage:
    """What a process has used."""

    cpu_seconds_total: float  # in steps of a clock tick, 10 ms
    resident_memory_bytes: int
    open_files: int
    threads: int


class OwnProcess:
    """The process that we are."""

    def __init__(self) -> None:
        self._tick_seconds = 1 / os.sysconf("SC_CLK_TCK")
        self._page_bytes = os.sysconf("SC_PAGE_SIZE")

    def read(self) -> ProcessUsage | Reason:
        """This will give what we have used so far, our children's CPU time excluded."""
        try:
            stat = text_of(_SELF / "stat").rpartition(")")[2].split()
            resident = int(text_of(_SELF / "statm").split()[_RESIDENT_PAGES]) * self._page_bytes
            files = len(os.listdir(_SELF / "fd")) - 1  # noqa: PTH208 - names are enough; one of them is the listing
            return ProcessUsage(
                cpu_seconds_total=(int(stat[_USER_TICKS]) + int(stat[_SYSTEM_TICKS])) * self._tick_seconds,
                resident_memory_bytes=resident,
                open_files=files,
                threads=int(stat[_THREADS]),
            )
        except (OSError, ValueError, IndexError):
            return Reason.ERROR
