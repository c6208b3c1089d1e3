"""The only module of the agent that reads a clock."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Instant:
    """One moment on both clocks: wall time for stamps, monotonic time for durations."""

    wall: datetime  # UTC, the node's clock, which may be wrong and may jump
    monotonic_seconds: float  # since boot, suspend included; only differences mean something


class Clock(Protocol):
    """Tells the time; tests hand in one that they move themselves."""

    def now(self) -> Instant:
        """This will read both clocks together."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> Instant:
        """This will read both clocks together.

        CLOCK_BOOTTIME goes on counting while the machine sleeps, so the age of a buffered
        sample stays right.
        """
        return Instant(wall=datetime.now(UTC), monotonic_seconds=time.clock_gettime(time.CLOCK_BOOTTIME))
