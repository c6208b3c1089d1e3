"""How much there will be at most: a bound that is exceeded as seldom as promised, whatever the traffic does.

The bound is forecast + q × scale. The scale is how far forecasts missed lately, partly in proportion to the forecast. q
is tracked: each miss raises it, each hit lowers it, so that hits and misses balance at the promised level without any
assumption about the traffic (quantile tracking: Gibbs and Candès, NeurIPS 2021; Angelopoulos, Candès and Tibshirani,
"Conformal PID Control for Time Series Prediction", NeurIPS 2023).
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

from control_plane.analysis.forecast.levels import Array

# Step of q, in scales, and in proportion once q is above its first value, so that rare bursts are reached soon. The
# coverage of N bins is off by at most about (range of q / RATE) / N.
RATE = 0.1
SHARE = 0.02  # share of the newest error in the scale: some 50 bins
PROPORTIONAL = 0.3  # how much of the scale goes with the forecast; the rest is the same at any load
MOST_SWING = 5.0  # a forecast that is this many times the usual one widens the scale no further
UNSEEN = 0.25  # before any error is known, one is guessed as this share of the forecast
HALF_SEEN = 5.0  # errors at the horizon itself that count as much as those one bin ahead
FATTER_THAN_NORMAL = 1.07  # the first q, against that of normal errors


class Bound:
    """Upper bounds for each level, horizon and series; the first horizon must be one bin."""

    __slots__ = ("_count", "_error", "_first", "_levels", "_quantile", "_root", "_usual")

    def __init__(self, horizons: Array, series: int, levels: tuple[float, ...]) -> None:
        shape = (len(horizons), series)
        self._levels = np.asarray(levels)[:, None, None]
        normal = [NormalDist().inv_cdf(level) * (np.pi / 2) ** 0.5 for level in levels]  # in mean absolute errors
        self._first = FATTER_THAN_NORMAL * np.maximum(normal, 1e-3)[:, None, None]
        self._quantile: Array = np.broadcast_to(self._first, (len(levels), *shape)).copy()
        # Errors of a random walk grow with the root of the horizon.
        self._root = np.sqrt(np.asarray(horizons, dtype=np.float64))[:, None]
        self._count: Array = np.zeros(shape)
        self._error: Array = np.zeros(shape)
        self._usual: Array = np.zeros(shape)

    def judge(self, forecasts: Array, bounds: Array, came: Array) -> None:
        """This will take in forecasts (horizons, series), their bounds (levels, horizons, series) and what came."""
        known = ~np.isnan(came) & ~np.isnan(forecasts)
        share = np.maximum(SHARE, 1.0 / (self._count + 1.0))
        error = np.where(known, np.abs(forecasts - came) - self._error, 0.0)
        self._error += share * error
        self._usual += share * np.where(known, forecasts - self._usual, 0.0)
        self._count += known
        missed = (came > bounds) - (1.0 - self._levels)
        rate = RATE * np.maximum(self._quantile / self._first, 1.0)
        self._quantile = np.maximum(self._quantile + np.where(known, rate * missed, 0.0), 0.0)

    def above(self, forecasts: Array) -> Array:
        """This will give the bounds of these forecasts, never below them."""
        first = self._count[:1]
        guess = (self._error[:1] * self._root * first + UNSEEN * forecasts * 2.0) / (first + 2.0)
        own = self._count / (self._count + HALF_SEEN)
        error = own * self._error + (1 - own) * guess
        usual = own * self._usual + (1 - own) * np.where(first > 0, self._usual[:1], forecasts)
        with np.errstate(over="ignore"):  # an infinite swing is cut below
            swing = np.divide(forecasts, usual, out=np.ones_like(forecasts), where=usual > 0)
        scale = error * (1.0 - PROPORTIONAL + PROPORTIONAL * np.minimum(swing, MOST_SWING))
        return np.asarray(forecasts + self._quantile * scale)
