"""Replicas in virtual time: what is started serves after a cold start, what is taken away goes at once, all is paid."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]


@dataclass(slots=True)
class Fleet:
    """Replicas of one service, step by step."""

    ready: int
    cold_start_steps: int
    starting: list[tuple[int, int]] = field(default_factory=list)  # (step from which they serve, how many)
    changes: int = 0

    @property
    def there(self) -> int:
        """This will give all that is paid for."""
        return self.ready + sum(count for _, count in self.starting)

    def begin(self, step: int) -> None:
        """This will let serve what has started."""
        self.ready += sum(count for at, count in self.starting if at <= step)
        self.starting = [(at, count) for at, count in self.starting if at > step]

    def scale(self, target: int, *, step: int) -> None:
        """This will ask for a number of replicas at the end of a step."""
        if target > self.there:
            self.starting.append((step + 1 + self.cold_start_steps, target - self.there))
            self.changes += 1
        elif target < self.there:
            surplus = self.there - max(target, 0)
            while surplus and self.starting:  # the last to be asked for goes first
                at, count = self.starting.pop()
                if count > surplus:
                    self.starting.append((at, count - surplus))
                surplus -= min(count, surplus)
            self.ready -= surplus
            self.changes += 1


def needed(demand: NDArray[np.float64], capacity: float) -> Counts:
    """This will give how many replicas each bin needs, in the unit of one bin's requests."""
    return np.asarray(np.ceil(demand / capacity - 1e-9), dtype=np.int64)


def oracle(need: Counts, *, cold_start_steps: int) -> Counts:
    """This will give the replicas that whoever knows all of the future pays for, step by step.

    The k-th replica is there while k are needed. Between two such times it is kept, or taken away and started again one
    cold start before, whichever is shorter; so each gap costs the lesser of the two, and no plan that serves every bin
    costs less. What the first bin needs is there from the start.
    """
    steps = np.zeros(len(need) + 1, dtype=np.int64)  # by how many the number rises at each step
    for level in range(1, int(need.max(initial=0)) + 1):
        busy = np.flatnonzero(need >= level)
        gaps = np.diff(busy, prepend=-1) - 1
        np.add.at(steps, busy - np.minimum(gaps, cold_start_steps), 1)
        np.add.at(steps, busy + 1, -1)
    return np.asarray(np.cumsum(steps[:-1]))
