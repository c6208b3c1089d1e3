"""A season: what past days (or weeks) had at the time that is asked for, against what they had at this time.

The past periods are averaged with falling weights and smoothed over the neighbouring bins, so that one odd day or
minute does not come back a day later.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from control_plane.analysis.forecast.levels import ALPHAS, Array

# Weight of a period against the one after it: some five periods count. On four services, three days to five weeks long,
# it beat yesterday alone by 0.3 to 2 points of accuracy an hour ahead, and no value from 0.5 to 0.9 was far from it.
KEEP = 0.8
HALF_WIDTHS = (3600.0, 900.0)  # seconds to either side that a profile is smoothed over
MOST_RATIO = 10.0  # a profile says at most so many times more, or less, than now


class Season:
    """The profile of one period. Arrays have the series first."""

    __slots__ = (
        "_bin",
        "_halves",
        "_held",
        "_level",
        "_level_weight",
        "_period",
        "_profile",
        "_profile_weight",
        "_recent",
    )

    def __init__(self, series: int, *, period: int, bin_seconds: float) -> None:
        self._period = period
        self._bin = -1
        self._halves = tuple(max(1, round(seconds / bin_seconds)) for seconds in HALF_WIDTHS)
        self._recent: Array = np.full((series, 2 * max(self._halves) + 1), np.nan)
        self._profile: Array = np.zeros((len(self._halves), series, period))
        self._profile_weight: Array = np.zeros((len(self._halves), series, period))
        self._level: Array = np.zeros((series, period, len(ALPHAS)))
        self._level_weight: Array = np.zeros((series, period))
        self._held: Array = np.full((series, len(ALPHAS)), np.nan)

    @property
    def known(self) -> bool:
        """This will say whether a whole period has passed."""
        return self._bin >= self._period

    def observe(self, values: Array, levels: Array) -> None:
        """This will take in one bin, and the levels (see Means) that it led to."""
        self._bin += 1
        self._recent[:, self._bin % self._recent.shape[1]] = values
        for index, half in enumerate(self._halves):
            self._smooth(index, half)
        phase = self._bin % self._period
        known = ~np.isnan(values)
        weight = self._level_weight[:, phase]
        past = np.where(weight[:, None] > 0, self._level[:, phase] / np.maximum(weight, 1e-12)[:, None], np.nan)
        # Of the bin that the levels are from: they stand still where nothing is known, and so does this.
        self._held = np.where(known[:, None], past, self._held)
        self._level[:, phase] = np.where(known[:, None], KEEP * self._level[:, phase] + levels, self._level[:, phase])
        self._level_weight[:, phase] = np.where(known, KEEP * weight + 1, weight)

    def _smooth(self, index: int, half: int) -> None:
        """This will put the mean around the bin `half` ago into the profile: its neighbours are all seen now."""
        centre = self._bin - half
        if centre < 0:
            return
        window = np.arange(max(self._bin - 2 * half, 0), self._bin + 1) % self._recent.shape[1]
        recent = self._recent[:, window]
        known = ~np.isnan(recent)
        count = known.sum(axis=1)
        enough = count > half
        mean = np.where(known, recent, 0.0).sum(axis=1) / np.maximum(count, 1)
        phase = centre % self._period
        profile, weight = self._profile[index, :, phase], self._profile_weight[index, :, phase]
        self._profile[index, :, phase] = np.where(enough, KEEP * profile + mean, profile)
        self._profile_weight[index, :, phase] = np.where(enough, KEEP * weight + 1, weight)

    def ahead(self, horizons: NDArray[np.int64]) -> tuple[Array, Array]:
        """This will give the profile at the horizons, (horizons, series, widths), and the past periods' levels at the
        time that the levels are from, (series, levels); NaN where nothing is known.
        """
        phases = (self._bin + horizons) % self._period
        weight = self._profile_weight[:, :, phases]
        then = np.where(weight > 0, self._profile[:, :, phases] / np.maximum(weight, 1e-12), np.nan)
        return np.asarray(then.transpose(2, 1, 0)), self._held
