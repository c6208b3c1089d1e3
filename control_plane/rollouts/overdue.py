"""Requests that wait for their first token longer than they may while none comes: a server that hangs. Pure.

A histogram of first tokens says nothing of those that do not come. But while it stands still, whatever has arrived
since, and is still under way, has had none. What ended meanwhile is taken off, whether or not it was one of those
(questions for the models' names end without a token), so the number is rather too small than too large.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

# More looks than a limit of an hour has at one look a second.
MOST_LOOKS = 4096


@dataclass(slots=True, kw_only=True)
class Overdue:
    """What waits at one set of servers."""

    limit_seconds: float
    _tokens: float = -1.0
    _still: tuple[int, int] = (0, 0)  # arrived and ended when first tokens stood still
    _arrived: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=MOST_LOOKS))

    def look(self, now: float, *, arrived: int, in_flight: int, first_tokens: float | None) -> float:
        """This will give how many requests surely wait longer than the limit, at the least.

        `arrived` are all that the router ever passed on, and `in_flight` those of them that have not ended.
        `first_tokens` counts all that there ever were; where it is not known now, whatever ends says that the servers
        serve.
        """
        ended = arrived - in_flight
        silent = first_tokens is None and ended == self._still[1]
        if not (silent or first_tokens == self._tokens) or not in_flight or arrived < self._still[0]:
            self._tokens = self._tokens if first_tokens is None else first_tokens
            self._still = (arrived, ended)
            self._arrived.clear()
        self._arrived.append((now, arrived))
        before = [count for at, count in self._arrived if at <= now - self.limit_seconds]
        return float(max(0, min(in_flight, before[-1] - self._still[0] - (ended - self._still[1])))) if before else 0.0
