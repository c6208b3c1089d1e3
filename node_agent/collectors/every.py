"""What is not done at every tick."""

from __future__ import annotations

from node_agent.clock import Instant

# Ticks stray from their grid by milliseconds: what is due at the tenth must not slip to the eleventh.
STRAY_SECONDS = 0.1


class Every:
    """Says at which ticks something is due. The first is one of them."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._due_at: float | None = None

    def is_due(self, now: Instant) -> bool:
        """This will say whether it is time, and if so wait anew."""
        if self._due_at is not None and now.monotonic_seconds < self._due_at - STRAY_SECONDS:
            return False
        self._due_at = now.monotonic_seconds + self._seconds
        return True

    def at_once(self) -> None:
        """This will make it due at the next tick."""
        self._due_at = None
