"""How often somebody may ask: buckets of permissions that fill with time, in this process's memory."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from control_plane.runtime.clock import Clock

MOST_BUCKETS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How fast permissions come, and how many may be saved up."""

    per_second: float
    at_once: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a caller has left."""

    allowed: bool
    left: int  # permissions that are there now
    full_after_seconds: float
    next_after_seconds: float  # 0: now


class Buckets:
    """One bucket for each name, full at first. The one that was not used for longest makes room for a new one."""

    def __init__(self, clock: Clock) -> None:
        """Nobody has asked yet."""
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # what is left, and when that was

    def take(self, name: str, rate: Rate) -> Standing:
        """This will take a permission, or say when there is one again."""
        left, now = self._left(name, rate), self._clock.monotonic()
        allowed = left >= 1
        if allowed:
            left -= 1
        self._buckets[name] = (left, now)
        self._buckets.move_to_end(name)
        while len(self._buckets) > MOST_BUCKETS:
            self._buckets.popitem(last=False)
        return Standing(
            allowed=allowed,
            left=int(left),
            full_after_seconds=(rate.at_once - left) / rate.per_second,
            next_after_seconds=0.0 if left >= 1 else (1 - left) / rate.per_second,
        )

    def wait(self, name: str, rate: Rate) -> float:
        """This will say how long it takes until there is a permission, without taking one; 0: there is one."""
        left = self._left(name, rate)
        return 0.0 if left >= 1 else (1 - left) / rate.per_second

    def _left(self, name: str, rate: Rate) -> float:
        left, at = self._buckets.get(name, (rate.at_once, 0.0))
        return min(rate.at_once, left + (self._clock.monotonic() - at) * rate.per_second)
