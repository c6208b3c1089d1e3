"""The experts: simple forecasters, each right for some traffic. None is trusted beforehand; see weights.py."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from control_plane.analysis.forecast.levels import ALPHAS, MEDIAN_WIDTHS, TRENDS, Array, Means, Medians, Trends
from control_plane.analysis.forecast.season import HALF_WIDTHS, MOST_RATIO, Season

DAY_SECONDS, WEEK_SECONDS = 86_400.0, 604_800.0
SHORTEST_PERIOD = 4  # bins; a season of fewer has no shape
# Which levels carry a season: "times" where the swing grows with the traffic, "plus" where it does not.
TIMES = tuple(ALPHAS.index(alpha) for alpha in (0.35, 0.1, 0.05))
PLUS = tuple(ALPHAS.index(alpha) for alpha in (1.0, 0.35, 0.1))
SEASONAL = len(HALF_WIDTHS) * (len(TIMES) + len(PLUS))  # experts of one season

FLAT = len(ALPHAS) + len(MEDIAN_WIDTHS)
EXPERTS = FLAT + len(TRENDS) + 2 * SEASONAL
# How much each is believed before it has forecast anything: what assumes more, less. With hardly any history the last
# few values are the safest guess: on a hundred stretches of an hour each, long means lost against them.
PRIOR: Array = np.concatenate((
    (4.0, 3.0, 2.0, 1.0, 0.5, 0.3, 0.2),  # of ALPHAS
    np.repeat((0.3, 0.05, 0.1), (len(MEDIAN_WIDTHS), len(TRENDS), 2 * SEASONAL)),
))  # fmt: skip


class Experts:
    """All experts of several series at several horizons."""

    __slots__ = ("_horizons", "_means", "_medians", "_seasons", "_trends")

    def __init__(self, series: int, horizons: NDArray[np.int64], *, bin_seconds: float) -> None:
        self._horizons = horizons
        self._means = Means(series)
        self._medians = Medians(series)
        self._trends = Trends(series, horizons)
        periods = (round(DAY_SECONDS / bin_seconds), round(WEEK_SECONDS / bin_seconds))
        self._seasons = tuple(
            Season(series, period=period, bin_seconds=bin_seconds) if period >= SHORTEST_PERIOD else None
            for period in periods
        )

    @property
    def last(self) -> Array:
        """This will give each series' last known value, which is the first expert."""
        return self._means.value[:, 0]

    def observe(self, values: Array) -> None:
        """This will take in one bin, NaN where it is unknown."""
        self._means.observe(values)
        self._medians.observe(values)
        self._trends.observe(values)
        for season in self._seasons:
            if season is not None:
                season.observe(values, self._means.value)

    def ahead(self) -> Array:
        """This will give the forecasts (horizons, series, experts); NaN from an expert that does not know yet."""
        count = len(self._horizons)
        flat = np.concatenate([self._means.value, self._medians.value], axis=1)
        parts = [np.broadcast_to(flat, (count, *flat.shape)), self._trends.ahead()]
        parts += [self._seasonal(season) for season in self._seasons]
        return np.concatenate(parts, axis=2)

    def _seasonal(self, season: Season | None) -> Array:
        levels = self._means.value
        if season is None or not season.known:
            return np.full((len(self._horizons), len(levels), SEASONAL), np.nan)
        then, held = season.ahead(self._horizons)
        times = [
            levels[:, TIMES] * _ratio(then[:, :, width, None], held[:, TIMES]) for width in range(len(HALF_WIDTHS))
        ]
        plus = [
            np.maximum(levels[:, PLUS] + (then[:, :, width, None] - held[:, PLUS]), 0.0)
            for width in range(len(HALF_WIDTHS))
        ]
        return np.concatenate(times + plus, axis=2)


def _ratio(then: Array, held: Array) -> Array:
    """This will divide, within what is believed; 1 where nothing was held."""
    with np.errstate(over="ignore"):  # an infinite ratio is cut below
        ratio = np.divide(then, held, out=np.ones(np.broadcast(then, held).shape), where=~(held == 0))
    return np.clip(ratio, 1 / MOST_RATIO, MOST_RATIO)
