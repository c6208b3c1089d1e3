"""Intervals that hold the true value 95 times in 100, of quantiles, means and shares. Pure.

Requests that follow one another wait in the same queue, so they say less than as many that know nothing of each
other. What n of them are worth is n × (variance if they were independent) ÷ (variance of means of batches of them);
the batches are as long as there are many (√n), the usual choice for batch means in simulation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
_Z = 1.959963984540054  # of the normal distribution, for 95 % on two sides
# Fewer say nothing of how they hang together.
_LEAST_FOR_BATCHES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A value and the interval around it. None: it cannot be said from so few, or from so many failures."""

    value: float | None
    low: float | None
    high: float | None


UNKNOWN = Estimate(value=None, low=None, high=None)


def worth(values: NDArray[np.float64]) -> float:
    """This will say how many independent values these, in order of time, are worth: 1 to their number."""
    count = len(values)
    variance = float(np.var(values)) if count else 0.0
    if count < _LEAST_FOR_BATCHES or variance == 0:
        return float(max(1, count))
    size = math.isqrt(count)
    batches = values[: count // size * size].reshape(-1, size).mean(axis=1)
    of_means = float(np.var(batches, ddof=1)) * size
    return float(np.clip(count * variance / of_means if of_means else count, 1.0, count))


def mean(values: NDArray[np.float64]) -> Estimate:
    """This will estimate the mean of values that are in order of time."""
    if len(values) < 2:
        return UNKNOWN if not len(values) else Estimate(value=float(values[0]), low=None, high=None)
    middle = float(np.mean(values))
    half = _Z * float(np.std(values, ddof=1)) / math.sqrt(worth(values))
    return Estimate(value=middle, low=middle - half, high=middle + half)


def share(hits: NDArray[np.bool_]) -> Estimate:
    """This will estimate how many of all are hits, by Wilson's interval, which never leaves 0..1."""
    if not len(hits):
        return UNKNOWN
    n, rate = worth(hits.astype(np.float64)), float(np.mean(hits))
    return wilson(rate, n)


def wilson(rate: float, n: float) -> Estimate:
    """This will give Wilson's interval of a share that was seen in `n` independent trials."""
    middle = (rate + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z * math.sqrt(rate * (1 - rate) / n + _Z**2 / (4 * n**2)) / (1 + _Z**2 / n)
    return Estimate(value=rate, low=max(0.0, middle - half), high=min(1.0, middle + half))


def quantile(values: NDArray[np.float64], level: float) -> Estimate:
    """This will estimate a quantile of values in order of time; infinity stands for what never came.

    The interval goes from one of the values to another (order statistics), so it supposes no distribution. A bound
    is None when the values are too few for it: 72 independent ones are the least for the 95th percentile.
    """
    count = len(values)
    if not count:
        return UNKNOWN
    ordered = np.sort(values)
    found = float(ordered[min(count, max(1, math.ceil(level * count))) - 1])
    n = max(1, round(worth((values <= found).astype(np.float64))))
    low, high = _ranks(n, level)
    below = None if low is None else float(ordered[max(0, math.floor(low / n * count) - 1)])
    above = None if high is None else float(ordered[min(count, math.ceil(high / n * count)) - 1])
    return Estimate(value=_finite(found), low=_finite(below), high=_finite(above))


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _ranks(n: int, level: float) -> tuple[int | None, int | None]:
    """This will give the ranks (from 1) of `n` ordered values between which the quantile lies; None: beyond all."""
    # log of the binomial's probabilities, by their quotients
    k = np.arange(1, n + 1)
    logs = np.concatenate(([0.0], np.cumsum(np.log((n - k + 1) / k) + math.log(level / (1 - level)))))
    below = np.cumsum(np.exp(logs + n * math.log(1 - level)))  # P(at most k values are under the quantile)
    tail = (1 - CONFIDENCE) / 2
    low = int(np.searchsorted(below, tail, side="right"))
    high = int(np.searchsorted(below, 1 - tail, side="left")) + 1
    return (low if low >= 1 else None), (high if high <= n else None)
