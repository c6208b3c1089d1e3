"""The only module of the control plane that reads a clock."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Tells the time; tests hand in one that they move themselves."""

    def now(self) -> datetime:
        """This will give the wall time as an aware datetime in UTC; it may jump, so it only stamps."""
        ...

    def monotonic(self) -> float:
        """This will give seconds that never go back; only differences mean something."""
        ...


def thread_seconds() -> float:
    """This will give the CPU time that this thread has used; only differences mean something."""
    return time.thread_time()


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        """This will give the wall time as an aware datetime in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """This will give seconds that never go back."""
        return time.monotonic()
