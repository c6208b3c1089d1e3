"""What ingest has done since it started, for /metrics and /health/detailed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class IngestCounters:
    """Plain counters; only the event loop writes them."""

    streams: int = 0  # connected now
    streams_failed: int = 0  # ended by a mistake of ours
    batches_committed: int = 0
    rows_committed: int = 0
    batches_duplicate: int = 0
    batches_refused: Counter[str] = field(default_factory=Counter)  # by cause
    values_impossible: int = 0
    ticks_lost: int = 0
    stamps_corrected: int = 0  # ticks of nodes whose wall clock was wrong
    commits: int = 0
    commit_seconds: float = 0.0
    commit_failures: int = 0
    pending_bytes: int = 0
    held_back: Counter[int] = field(default_factory=Counter)  # times that a node's stream was not read, by node
    streams_held_back: int = 0  # now
    held_back_seconds: float = 0.0  # of all streams together
    last_error: str | None = None

    def figures(self) -> Mapping[str, float]:
        """This will give the counters by name."""
        return {
            "streams": self.streams,
            "streams_failed": self.streams_failed,
            "batches_committed": self.batches_committed,
            "rows_committed": self.rows_committed,
            "batches_duplicate": self.batches_duplicate,
            "batches_refused": self.batches_refused.total(),
            "values_impossible": self.values_impossible,
            "ticks_lost": self.ticks_lost,
            "stamps_corrected": self.stamps_corrected,
            "commits": self.commits,
            "commit_seconds": self.commit_seconds,
            "commit_failures": self.commit_failures,
            "pending_bytes": self.pending_bytes,
            "times_held_back": self.held_back.total(),
            "nodes_held_back": len(self.held_back),
            "streams_held_back": self.streams_held_back,
            "held_back_seconds": self.held_back_seconds,
        }
