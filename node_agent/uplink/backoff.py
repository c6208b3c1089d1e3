"""When to connect again: exponential with full jitter, or when the control plane asked for it."""

from __future__ import annotations

import random

# Full jitter, so that a fleet does not come back in step after an outage
# (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
BASE_SECONDS = 0.5
MOST_SECONDS = 30.0
# What a control plane may ask for. It is told by a program that may be wrong, and the buffer is finite.
MOST_ASKED_SECONDS = 900.0
MOST_ASKED_JITTER_SECONDS = 5.0
# A link that held this long was sound: what comes next is a new outage.
STABLE_SECONDS = 120.0
# 0.5 s doubled seven times exceeds MOST_SECONDS; doubling on without end would overflow a float.
MOST_DOUBLINGS = 7


class Backoff:
    """Counts the failures of one outage and spreads the attempts."""

    def __init__(
        self, jitter: random.Random, *, base_seconds: float = BASE_SECONDS, most_seconds: float = MOST_SECONDS
    ) -> None:
        self._jitter = jitter
        self._base_seconds = base_seconds
        self._most_seconds = most_seconds
        self._failures = 0

    def delay_seconds(self, *, lasted_seconds: float, asked_seconds: float | None) -> float:
        """This will give the wait after a connection that lasted `lasted_seconds`.

        `asked_seconds` is what the control plane asked for, if it did: never less than that (up to
        MOST_ASKED_SECONDS), and never without any wait, so that "0" does not become a hot loop.
        """
        if lasted_seconds > STABLE_SECONDS:
            self._failures = 0
        most = min(self._most_seconds, self._base_seconds * 2.0 ** min(self._failures, MOST_DOUBLINGS))
        self._failures += 1
        if not asked_seconds:
            return self._jitter.uniform(0, most)
        asked = min(asked_seconds, MOST_ASKED_SECONDS)
        return asked + self._jitter.uniform(0, min(asked, MOST_ASKED_JITTER_SECONDS))
