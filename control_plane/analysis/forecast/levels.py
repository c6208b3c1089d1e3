"""Where a series is now, in many opinions: smoothed means, medians and damped trends.

All arrays have the series first. An unknown value (NaN) leaves a state as it was.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Shares of the newest bin in an exponentially weighted mean: from "repeat the last value" to the mean of 50 bins.
ALPHAS = (1.0, 0.6, 0.35, 0.2, 0.1, 0.05, 0.02)
MEDIAN_WIDTHS = (5, 20, 60)  # bins; bursts do not move a median
# Level share, trend share, damping: Holt's damped trend (Gardner and McKenzie, Management Science 31, 1985).
# The slow ones follow a daily ramp through the noise of single minutes.
TRENDS = (
    (0.2, 0.05, 0.98),
    (0.2, 0.02, 0.998),
    (0.5, 0.2, 0.9),
    (0.7, 0.1, 0.9),
    (0.1, 0.02, 0.998),
    (0.08, 0.01, 0.9995),
)


class Means:
    """Exponentially weighted means; the first bins count alike, as in a plain mean."""

    __slots__ = ("_alphas", "_seen", "value")

    def __init__(self, series: int, alphas: tuple[float, ...] = ALPHAS) -> None:
        self._alphas = np.asarray(alphas)
        self._seen = np.zeros(series)
        self.value: Array = np.zeros((series, len(alphas)))

    def observe(self, values: Array) -> None:
        """This will take in one bin."""
        known = ~np.isnan(values)
        share = np.maximum(self._alphas, 1.0 / (self._seen[:, None] + 1.0))
        self.value += np.where(known[:, None], share * (np.where(known, values, 0.0)[:, None] - self.value), 0.0)
        self._seen += known


class Medians:
    """Medians of the last known values."""

    __slots__ = ("_recent", "_seen", "value")

    def __init__(self, series: int) -> None:
        self._recent = np.full((series, max(MEDIAN_WIDTHS)), np.nan)
        self._seen = np.zeros(series, dtype=np.int64)
        self.value: Array = np.zeros((series, len(MEDIAN_WIDTHS)))

    def observe(self, values: Array) -> None:
        """This will take in one bin."""
        known = ~np.isnan(values)
        self._recent[known, :-1] = self._recent[known, 1:]
        self._recent[known, -1] = values[known]
        self._seen += known
        for index, width in enumerate(MEDIAN_WIDTHS):
            full = self._seen >= width
            if full.all():
                self.value[:, index] = np.median(self._recent[:, -width:], axis=1)
                continue
            for row in range(len(values)):
                if self._seen[row]:
                    self.value[row, index] = np.median(self._recent[row, -min(width, int(self._seen[row])) :])


class Trends:
    """Levels with a damped trend, in several temperaments."""

    __slots__ = ("_alpha", "_beta", "_phi", "_reach", "_seen", "_slope", "_value")

    def __init__(self, series: int, horizons: NDArray[np.int64]) -> None:
        self._alpha, self._beta, self._phi = (np.asarray(column) for column in zip(*TRENDS, strict=True))
        self._seen = np.zeros(series)
        self._value: Array = np.zeros((series, len(TRENDS)))
        self._slope: Array = np.zeros((series, len(TRENDS)))
        # Sum of the damped steps up to each horizon.
        self._reach = self._phi * (1 - self._phi ** horizons[:, None]) / (1 - self._phi)

    def observe(self, values: Array) -> None:
        """This will take in one bin."""
        known = ~np.isnan(values)[:, None]
        share = np.maximum(self._alpha, 1.0 / (self._seen[:, None] + 1.0))
        expected = self._value + self._phi * self._slope
        error = np.where(known, np.nan_to_num(values)[:, None] - expected, 0.0)
        slope = self._phi * self._slope + np.where(self._seen[:, None] >= 2, share * self._beta * error, 0.0)
        self._value = np.where(known, expected + share * error, self._value)
        self._slope = np.where(known, slope, self._slope)
        self._seen += known[:, 0]

    def ahead(self) -> Array:
        """This will give the forecasts, (horizons, series, trends)."""
        return np.asarray(np.maximum(self._value + self._reach[:, None, :] * self._slope, 0.0))
