"""Looks up who owns the processes on the GPUs, and what the kubelet gave to whom. The joining is done elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from node_agent.clock import Instant
from node_agent.host.container import live_containers
from node_agent.host.container_names import ContainerName, container_names
from node_agent.host.kubelet import Allocation, KubeletAbsent, KubeletError, PodResources
from node_agent.host.ownership import Ownership, ProcessFacts, minor_numbers, read_process
from node_agent.model import Collected, Outcome

MOST_PROCESSES = 256  # per node: eight GPUs with an engine's worker each, and room for notebooks
# Pods come and go in seconds; the kubelet's answer costs it a walk over all of them.
KUBELET_SECONDS = 10.0
# An answer that is older says nothing about now.
KEEP_SECONDS = 60.0


class AttributionCollector:
    """Renews an Ownership. Which pids matter it is told after each tick, so a process is known one tick later."""

    def __init__(
        self,
        kubelet: PodResources,
        *,
        proc_root: Path = Path("/proc"),
        container_logs_dir: Path = Path("/var/log/containers"),
        interval_seconds: float = KUBELET_SECONDS,
    ) -> None:
        """This will open nothing yet."""
        self._kubelet = kubelet
        self._proc_root = proc_root
        self._container_logs_dir = container_logs_dir
        self._interval_seconds = interval_seconds
        self._pids: tuple[int, ...] = ()
        self._asked_at: float | None = None
        self._answered_at = 0.0
        self._allocations: Sequence[Allocation] | None = None
        self._outcome, self._detail = Outcome.OK, ""
        self._names: Mapping[str, ContainerName] = {}
        self._live: frozenset[str] = frozenset()
        self._minors: Mapping[str, int] = {}
        self.ownership = Ownership()

    @property
    def name(self) -> str:
        """This will give the collector's name, as reports show it."""
        return "attribution"

    def watch(self, pids: Iterable[int]) -> None:
        """This will set which processes to look up from the next run on."""
        self._pids = tuple(sorted(set(pids)))[:MOST_PROCESSES]

    async def collect(self, now: Instant) -> Collected:
        """This will look at the watched processes, and ask the kubelet when that is due."""
        if self._asked_at is None or now.monotonic_seconds - self._asked_at >= self._interval_seconds:
            self._asked_at = now.monotonic_seconds
            await self._ask(now)
        processes = await asyncio.to_thread(self._look, self._pids) if self._pids else {}
        self.ownership = Ownership(
            allocations=self._allocations,
            allocations_detail=self._detail,
            names=self._names,
            live_containers=self._live,
            processes=processes,
            minor_numbers=self._minors,
        )
        return Collected(outcome=self._outcome, detail=self._detail)

    async def close(self) -> None:
        """This will close the channel to the kubelet."""
        await self._kubelet.close()

    async def _ask(self, now: Instant) -> None:
        try:
            allocations = await self._kubelet.list()
        except KubeletAbsent as absent:
            self._allocations, self._outcome, self._detail = None, Outcome.ABSENT, str(absent)
            self._names, self._live, self._minors = {}, frozenset(), {}
        except KubeletError as error:
            self._outcome, self._detail = Outcome.PARTIAL, str(error)
            if now.monotonic_seconds - self._answered_at > KEEP_SECONDS:
                self._allocations = None
        else:
            self._allocations, self._outcome, self._detail = allocations, Outcome.OK, ""
            self._answered_at = now.monotonic_seconds
            await asyncio.to_thread(self._renew)

    def _renew(self) -> None:
        self._names = container_names(self._container_logs_dir)
        self._live = live_containers(self._proc_root)
        self._minors = minor_numbers(self._proc_root)

    def _look(self, pids: Sequence[int]) -> Mapping[int, ProcessFacts | None]:
        return {pid: read_process(self._proc_root, pid) for pid in pids}
