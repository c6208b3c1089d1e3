"""The agent itself: what it costs, whether it keeps its cadence, what it has not delivered yet."""

from __future__ import annotations

from collections.abc import Callable

from node_agent.clock import Instant
from node_agent.collectors.system import NODE
from node_agent.host.own_process import OwnProcess, ProcessUsage
from node_agent.model import Backlog, Cadence, Collected, Outcome, Reason, Sample, Value

_PROCESS_FIELDS = ("cpu_seconds_total", "resident_memory_bytes", "open_files_count", "threads_count")
_BACKLOG_FIELDS = (
    "spool_batches_count", "spool_bytes", "ticks_lost_total", "reconnects_total", "acknowledgement_age_seconds",
)  # fmt: skip


class AgentCollector:
    """Looks at the agent. What it is not told of (an agent that only records has no backlog) is NOT_COLLECTED."""

    def __init__(self) -> None:
        """What it watches is built after it: `watch_cadence` and `watch_backlog` say later where to look."""
        self._process = OwnProcess()
        self._cadence: Callable[[], Cadence] | None = None
        self._backlog: Callable[[], Backlog] | None = None

    @property
    def name(self) -> str:
        """This will give the collector's name, as reports show it."""
        return "agent"

    def watch_cadence(self, look: Callable[[], Cadence]) -> None:
        """This will take the sampler's own figures from `look`."""
        self._cadence = look

    def watch_backlog(self, look: Callable[[], Backlog]) -> None:
        """This will take the spool's and the uplink's figures from `look`."""
        self._backlog = look

    async def collect(self, now: Instant) -> Collected:
        """This will look once. Figures of the cadence are those of the tick before; this one has not ended."""
        usage = self._process.read()
        values = {
            **process_values(usage),
            **cadence_values(self._cadence() if self._cadence else None),
            **backlog_values(self._backlog() if self._backlog else None, now),
        }
        blind = isinstance(usage, Reason)
        return Collected(
            outcome=Outcome.PARTIAL if blind else Outcome.OK,
            detail="the agent's own process cannot be read" if blind else "",
            # No entity: the node is the system collector's to describe, and two descriptions would take turns.
            samples=[Sample(table="agent", entity=NODE, values=values)],
        )

    async def close(self) -> None:
        """This will do nothing: no file stays open between looks."""


def process_values(usage: ProcessUsage | Reason) -> dict[str, Value]:
    """This will give what the process costs, in the catalogue's words."""
    if isinstance(usage, Reason):
        return dict.fromkeys(_PROCESS_FIELDS, usage)
    return {
        "cpu_seconds_total": usage.cpu_seconds_total,
        "resident_memory_bytes": usage.resident_memory_bytes,
        "open_files_count": usage.open_files,
        "threads_count": usage.threads,
    }


def cadence_values(cadence: Cadence | None) -> dict[str, Value]:
    """This will give how well the rhythm is kept, in the catalogue's words."""
    if cadence is None:
        names = ("tick_seconds", "tick_lateness_seconds", "ticks_skipped_total", "collectors_failing_count")
        return dict.fromkeys(names, Reason.NOT_COLLECTED)
    first = Reason.FIRST_SAMPLE
    return {
        "tick_seconds": first if cadence.tick_seconds is None else cadence.tick_seconds,
        "tick_lateness_seconds": cadence.lateness_seconds,
        "ticks_skipped_total": cadence.skipped_total,
        "collectors_failing_count": first if cadence.collectors_failing is None else cadence.collectors_failing,
    }


def backlog_values(backlog: Backlog | None, now: Instant) -> dict[str, Value]:
    """This will give what is not delivered yet, in the catalogue's words."""
    if backlog is None:
        return dict.fromkeys(_BACKLOG_FIELDS, Reason.NOT_COLLECTED)
    age: Value = Reason.FIRST_SAMPLE  # nothing was acknowledged yet
    if backlog.acknowledged_at is not None:
        age = max(0.0, now.monotonic_seconds - backlog.acknowledged_at)
    return {
        "spool_batches_count": backlog.batches,
        "spool_bytes": backlog.bytes,
        "ticks_lost_total": backlog.lost_ticks_total,
        "reconnects_total": backlog.reconnects_total,
        "acknowledgement_age_seconds": age,
    }
