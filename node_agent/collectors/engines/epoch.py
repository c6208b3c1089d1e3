"""Since when a server's counters count."""

from __future__ import annotations

from collections.abc import Mapping

from node_agent.model import Histogram, Value
from optiinfra.catalogue import TABLES

_TOLERANCE_SECONDS = 2.0  # start times come from the boot time, which the kernel keeps in whole seconds
_LEAST_STEP_SECONDS = 0.001  # keeps two epochs apart when the wall clock went back between them
_SPECS = (*TABLES["inference"].fields, *TABLES["lmcache"].fields)
_COUNTERS = frozenset(spec.name for spec in _SPECS if spec.is_counter and spec.type != "histogram")
_HISTOGRAMS = frozenset(spec.name for spec in _SPECS if spec.type == "histogram")


class CounterEpoch:
    """Follows one server's counters over restarts.

    In order of trust: the start time that the engine exposes, the oldest creation time of its
    counters, the start of its process, the moment it was first seen. Another start time is a
    new epoch only when it is later: sources that come and go must not look like restarts. A
    counter that fell is one in any case.
    """

    def __init__(self) -> None:
        """This will begin without an epoch."""
        self._since: float | None = None
        self._before: dict[str, float] = {}

    def follow(self, values: Mapping[str, Value], *, declared: float | None, now_unix_seconds: float) -> float:
        """This will take one reading and give the time at which its counters were zero."""
        counters = _counters(values)
        fell = any(value < self._before.get(name, 0) for name, value in counters.items())
        self._before.update(counters)
        self._since = self._next(fell=fell, declared=declared, now_unix_seconds=now_unix_seconds)
        if fell:
            self._before = counters
        return self._since

    def _next(self, *, fell: bool, declared: float | None, now_unix_seconds: float) -> float:
        """This will give the epoch that follows the present one."""
        if self._since is None:
            return now_unix_seconds if declared is None else declared
        if declared is not None and declared > self._since + _TOLERANCE_SECONDS:
            return declared
        return max(now_unix_seconds, self._since + _LEAST_STEP_SECONDS) if fell else self._since


def _counters(values: Mapping[str, Value]) -> dict[str, float]:
    """This will give what can only grow: counters, and the number of observations in each histogram."""
    counters: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, Histogram) and name in _HISTOGRAMS:
            counters[name] = sum(value.counts)
        elif name in _COUNTERS and isinstance(value, float | int):
            counters[name] = value
    return counters
