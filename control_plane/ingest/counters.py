"""What ingest has done since it started, for /metrics and /health/detailed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class IngestCounters:
    """Plain counters; only the event loop writes them."""

    streams: int = 0  # connected now
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
    last_error: str | None = None
