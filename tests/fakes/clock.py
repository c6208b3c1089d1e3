"""Clocks that tests move: the control plane's, and those of nodes, which may lie."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from node_agent.clock import Instant

START = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)


class FakeClock:
    """The control plane's clock, and the truth that nodes' clocks are compared with."""

    def __init__(self, start: datetime = START) -> None:
        """`start` is the wall time at first."""
        self._now = start
        self._monotonic = 1000.0

    def now(self) -> datetime:
        """This will give the wall time."""
        return self._now

    def monotonic(self) -> float:
        """This will give seconds that never go back."""
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """This will let time pass."""
        assert seconds >= 0
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds

    def jump(self, seconds: float) -> None:
        """This will set the wall clock forward or back without time passing."""
        self._now += timedelta(seconds=seconds)


class FakeNodeClock:
    """A node's clock. Time passes with `truth`; the wall clock may be off and may jump."""

    def __init__(self, truth: FakeClock, *, ahead_seconds: float = 0.0, up_seconds: float = 86_400.0) -> None:
        """`ahead_seconds` is how far the wall clock is ahead, `up_seconds` how long the node has run."""
        self._truth = truth
        self._ahead = timedelta(seconds=ahead_seconds)
        self._booted = truth.monotonic() - up_seconds

    def now(self) -> Instant:
        """This will read both clocks together."""
        return Instant(wall=self._truth.now() + self._ahead, monotonic_seconds=self._truth.monotonic() - self._booted)

    def jump(self, seconds: float) -> None:
        """This will set the node's wall clock forward or back without time passing."""
        self._ahead += timedelta(seconds=seconds)
