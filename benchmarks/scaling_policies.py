"""What decides in a replay: the real policy, and the simple ones that it is measured against."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from benchmarks.replicas import Fleet
from control_plane.analysis.forecast.forecaster import Forecaster
from control_plane.decisions.policies import predictive_scaling
from control_plane.model.scaling import NoAction, ScalingLook, ScalingMemory, ScalingRules

LEVEL = 0.95
HPA_TARGET, HPA_TOLERANCE, HPA_DOWN_SECONDS = 0.7, 0.1, 300.0  # Kubernetes' defaults, and the usual target
QUEUE_PER_REPLICA = 5  # waiting requests: llm-d's saturation and KEDA's threshold for vLLM
QUEUE_DOWN_SECONDS = 360.0  # KEDA's cool-down in vLLM's production stack
HEADROOM, HEADROOM_DOWN_SECONDS = 1.2, 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is measured in one interval, in requests/s; `demand` is None when nobody counted."""

    at_seconds: float  # its end
    demand: float | None
    over_capacity_ratio: float | None
    waiting: float  # requests that were not served yet


class Scaler(Protocol):
    """Decides at the end of an interval how many replicas there should be."""

    def wanted(self, seen: Seen, fleet: Fleet) -> int:
        """This will give the number of replicas, the starting ones included."""
        ...


class Predictive:
    """The product's forecaster and policy."""

    def __init__(self, *, capacity: float, rules: ScalingRules, interval_seconds: float) -> None:
        self._capacity, self._rules, self._interval = capacity, rules, interval_seconds
        self._memory = ScalingMemory()
        ahead = rules.cold_start_seconds / interval_seconds
        # The intervals that a replica which is asked for now would serve in first.
        horizons = sorted({math.floor(ahead + 1e-9) + 1, math.ceil(ahead - 1e-9) + 1})
        self._forecaster = Forecaster(horizons=horizons, bin_seconds=interval_seconds, levels=(LEVEL,))

    def wanted(self, seen: Seen, fleet: Fleet) -> int:
        """This will tell the forecaster, and ask the policy."""
        count = np.nan if seen.demand is None else seen.demand * self._interval
        self._forecaster.observe([count])
        forecasts = self._forecaster.forecasts()
        known = bool(forecasts) and seen.demand is not None
        look = ScalingLook(
            at_seconds=seen.at_seconds,
            ready=fleet.ready,
            starting=fleet.there - fleet.ready,
            capacity_per_replica=self._capacity,
            demand=seen.demand,
            over_capacity_ratio=seen.over_capacity_ratio,
            expected=max(f.expected for f in forecasts) / self._interval if known else None,
            at_most=max(f.at_most for f in forecasts) / self._interval if known else None,
        )
        decision, self._memory = predictive_scaling.decide(look, self._rules, self._memory)
        return fleet.there if isinstance(decision, NoAction) else decision.replicas


class _Held:
    """Goes up at once, and down to the most that was wanted in some time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._recent: deque[tuple[float, int]] = deque()

    def held(self, at_seconds: float, wanted: int) -> int:
        """This will give what is to be there."""
        self._recent.append((at_seconds, wanted))
        while self._recent[0][0] <= at_seconds - self._seconds:
            self._recent.popleft()
        return max(replicas for _, replicas in self._recent)


class Static:
    """As many as the busiest bin needs, which nobody knows beforehand."""

    def __init__(self, replicas: int) -> None:
        self._replicas = replicas

    def wanted(self, seen: Seen, fleet: Fleet) -> int:
        """This will give always the same."""
        return self._replicas


class Utilisation:
    """Kubernetes' HorizontalPodAutoscaler on the utilisation of the ready replicas, which is at most 1."""

    def __init__(self, *, capacity: float, minimum: int) -> None:
        self._capacity, self._minimum = capacity, minimum
        self._held = _Held(HPA_DOWN_SECONDS)

    def wanted(self, seen: Seen, fleet: Fleet) -> int:
        """This will give ceil(ready x utilisation / target), or what is there within the tolerance."""
        if seen.demand is None:
            return fleet.there
        busy = min(seen.demand / (fleet.ready * self._capacity), 1.0) if fleet.ready else 1.0
        ratio = busy / HPA_TARGET
        wanted = fleet.there if abs(ratio - 1) <= HPA_TOLERANCE else math.ceil(max(fleet.ready, 1) * ratio - 1e-9)
        return max(self._held.held(seen.at_seconds, wanted), self._minimum)


class Queue:
    """Scales on waiting requests: up to work them off in an interval, down by one where none wait for long."""

    def __init__(self, *, capacity: float, interval_seconds: float, minimum: int) -> None:
        self._served = capacity * interval_seconds
        self._minimum = minimum
        self._quiet_since: float | None = None

    def wanted(self, seen: Seen, fleet: Fleet) -> int:
        """This will give the number of replicas."""
        if seen.demand is None:
            return fleet.there
        if seen.waiting > QUEUE_PER_REPLICA * max(fleet.ready, 1):
            self._quiet_since = None
            return max(fleet.there, fleet.ready + math.ceil(seen.waiting / self._served))
        if seen.waiting > 0 or self._quiet_since is None:
            self._quiet_since = seen.at_seconds
        if seen.at_seconds - self._quiet_since < QUEUE_DOWN_SECONDS:
            return fleet.there
        self._quiet_since = seen.at_seconds
        return max(fleet.there - 1, self._minimum)


class LastValue:
    """The demand of the last interval and a fifth more; down after five minutes."""

    def __init__(self, *, capacity: float, minimum: int) -> None:
        self._capacity, self._minimum = capacity, minimum
        self._held = _Held(HEADROOM_DOWN_SECONDS)

    def wanted(self, seen: Seen, fleet: Fleet) -> int:
        """This will give the number of replicas."""
        if seen.demand is None:
            return fleet.there
        wanted = math.ceil(seen.demand * HEADROOM / self._capacity - 1e-9)
        return max(self._held.held(seen.at_seconds, wanted), self._minimum)
