"""What psutil answers better than a few lines of /proc would: our own process, and cores behind hyperthreads.

It is not used for the machine's counters: where its /proc is (PROCFS_PATH) is a global of the whole
process, and network and mounts it reads as the reader's own, which in a container are not the machine's.
"""

from __future__ import annotations

from dataclasses import dataclass

import psutil

from node_agent.model import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessUsage:
    """What a process has used."""

    cpu_seconds_total: float
    resident_memory_bytes: int
    open_files: int
    threads: int


class OwnProcess:
    """The process that we are."""

    def __init__(self) -> None:
        self._process = psutil.Process()

    def read(self) -> ProcessUsage | Reason:
        """This will give what we have used so far, our children's CPU time excluded."""
        try:
            with self._process.oneshot():
                times = self._process.cpu_times()
                memory = self._process.memory_info()
                open_files, threads = self._process.num_fds(), self._process.num_threads()
        except psutil.Error:
            return Reason.ERROR
        return ProcessUsage(
            cpu_seconds_total=times.user + times.system,
            resident_memory_bytes=memory.rss,
            open_files=open_files,
            threads=threads,
        )


def physical_cpu_count() -> int | None:
    """This will count cores, not hardware threads; None where the kernel does not say."""
    return psutil.cpu_count(logical=False)
