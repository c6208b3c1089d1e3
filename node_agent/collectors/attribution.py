"""Looks up who owns the processes on the GPUs, and what the kubelet gave to whom. The joining is done elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from node_agent.clock import Instant
from node_agent.host.container import live_containers
from node_agent.host.container_names import MOST_LINKS, ContainerName, container_names
from node_agent.host.kubelet import MOST_ALLOCATIONS, Allocatable, KubeletAbsent, KubeletError, Listing, PodResources
from node_agent.host.ownership import Ownership, ProcessFacts, minor_numbers, read_process
from node_agent.model import Collected, Outcome

MOST_PROCESSES = 256  # per node: eight GPUs with an engine's worker each, and room for notebooks
# Pods come and go in seconds; the kubelet's answer costs it a walk over all of them.
KUBELET_SECONDS = 10.0
ALLOCATABLE_SECONDS = 60.0  # what can be given changes when a plugin starts or a GPU breaks
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
        self._pids_left_out: frozenset[int] = frozenset()
        self._asked_at: float | None = None
        self._answered_at = 0.0
        self._listing: Listing | None = None
        self._outcome, self._detail = Outcome.OK, ""
        self._allocatable_at: float | None = None
        self._allocatable: Sequence[Allocatable] | None = None
        self._allocatable_detail = ""
        self._names: Mapping[str, ContainerName] = {}
        self._names_left_out = 0
        self._live: frozenset[str] = frozenset()
        self._minors: Mapping[str, int] = {}
        self.ownership = Ownership()

    @property
    def name(self) -> str:
        """This will give the collector's name, as reports show it."""
        return "attribution"

    def watch(self, pids: Iterable[int]) -> None:
        """This will set which processes to look up from the next run on."""
        wanted = sorted(set(pids))
        self._pids, self._pids_left_out = tuple(wanted[:MOST_PROCESSES]), frozenset(wanted[MOST_PROCESSES:])

    async def collect(self, now: Instant) -> Collected:
        """This will look at the watched processes, and ask the kubelet when that is due."""
        if self._asked_at is None or now.monotonic_seconds - self._asked_at >= self._interval_seconds:
            self._asked_at = now.monotonic_seconds
            await self._ask(now)
        pids, left_out = self._pids, self._pids_left_out
        processes = await asyncio.to_thread(self._look, pids) if pids else {}
        self.ownership = Ownership(
            allocations=None if self._listing is None else self._listing.allocations,
            allocations_detail=self._detail,
            allocations_left_out=0 if self._listing is None else self._listing.left_out,
            allocatable=self._allocatable,
            allocatable_detail=self._allocatable_detail,
            names=self._names,
            live_containers=self._live,
            processes=processes,
            pids_left_out=left_out,
            minor_numbers=self._minors,
        )
        cut = self._cut()
        outcome = Outcome.PARTIAL if cut and self._outcome is Outcome.OK else self._outcome
        return Collected(outcome=outcome, detail="; ".join([self._detail, *cut] if self._detail else cut))

    def _cut(self) -> list[str]:
        """This will say what there is too much of to be looked at."""
        given = 0 if self._listing is None else self._listing.left_out
        counts = (
            (len(self._pids_left_out), f"processes beyond the first {MOST_PROCESSES} are not looked up"),
            (given, f"allocated devices beyond the first {MOST_ALLOCATIONS} are left out"),
            (self._names_left_out, f"containers beyond the first {MOST_LINKS} have no name"),
        )
        return [f"{count} {what}" for count, what in counts if count]

    async def close(self) -> None:
        """This will close the channel to the kubelet."""
        await self._kubelet.close()

    async def _ask(self, now: Instant) -> None:
        try:
            listing = await self._kubelet.list()
        except KubeletAbsent as absent:
            self._listing, self._outcome, self._detail = None, Outcome.ABSENT, str(absent)
            self._allocatable, self._allocatable_at, self._allocatable_detail = None, None, str(absent)
            self._names, self._live, self._minors = {}, frozenset(), {}
        except KubeletError as error:
            self._outcome, self._detail = Outcome.PARTIAL, str(error)
            if now.monotonic_seconds - self._answered_at > KEEP_SECONDS:
                self._listing, self._allocatable, self._allocatable_detail = None, None, str(error)
        else:
            self._listing, self._outcome, self._detail = listing, Outcome.OK, ""
            self._answered_at = now.monotonic_seconds
            await self._ask_what_can_be_given(now)
            await asyncio.to_thread(self._renew)

    async def _ask_what_can_be_given(self, now: Instant) -> None:
        """A kubelet that does not say leaves this unknown, and everything else as it is."""
        at = now.monotonic_seconds
        if self._allocatable_at is not None and at - self._allocatable_at < ALLOCATABLE_SECONDS:
            return
        self._allocatable_at = at
        try:
            self._allocatable, self._allocatable_detail = await self._kubelet.allocatable(), ""
        except (KubeletAbsent, KubeletError) as error:
            self._allocatable, self._allocatable_detail = None, str(error)

    def _renew(self) -> None:
        self._names, self._names_left_out = container_names(self._container_logs_dir)
        self._live = live_containers(self._proc_root)
        self._minors = minor_numbers(self._proc_root)

    def _look(self, pids: Sequence[int]) -> Mapping[int, ProcessFacts | None]:
        return {pid: read_process(self._proc_root, pid) for pid in pids}
