"""Which XIDs are news: the kernel's log and NVML's event set tell of the same faults, each in its own way. Pure.

The log has a time and a process for each line, but may spend several lines on one fault. The event set has
neither, only that something happened since it was asked before. So lines of one process within a second are one
fault, and each event answers one line; a line or an event that finds nothing to answer is news.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta

SAME_FAULT = timedelta(seconds=1)
MOST_KEYS = 1024  # pairs of GPU and XID
MOST_OPEN = 256  # of each: beyond that a storm is counted, if not to the last drop


@dataclass(slots=True)
class _Open:
    """What one source has told of one GPU and XID, and the other has not yet."""

    lines: deque[datetime] = field(default_factory=lambda: deque(maxlen=MOST_OPEN))
    events: deque[tuple[datetime, datetime]] = field(default_factory=lambda: deque(maxlen=MOST_OPEN))
    faults: dict[int | None, datetime] = field(default_factory=dict)  # by process: when its newest fault began


class XidLedger:
    """Remembers what was told. A key is whatever tells one GPU's XID from another."""

    def __init__(self) -> None:
        self._open: dict[object, _Open] = {}

    def line(self, key: object, at: datetime, pid: int | None) -> bool:
        """This will take a line of the log, and say whether it is news."""
        told = self._of(key)
        began = told.faults.get(pid)
        is_same = began is not None and timedelta(0) <= at - began < SAME_FAULT
        if not is_same:
            if len(told.faults) >= MOST_OPEN:
                told.faults.clear()
            told.faults[pid] = at
        for since, until in told.events:
            if since - SAME_FAULT <= at <= until + SAME_FAULT:
                told.events.remove((since, until))
                return False
        told.lines.append(at)
        return not is_same

    def events(self, key: object, since: datetime, until: datetime, count: int) -> int:
        """This will take `count` events that came between two moments, and say how many of them are news."""
        told = self._of(key)
        while told.lines and told.lines[0] < since - SAME_FAULT:
            told.lines.popleft()
        answered = min(count, len(told.lines))
        for _ in range(answered):
            told.lines.popleft()
        told.events.extend([(since, until)] * (count - answered))
        return count - answered

    def _of(self, key: object) -> _Open:
        if key not in self._open and len(self._open) >= MOST_KEYS:
            self._open.clear()
        return self._open.setdefault(key, _Open())
