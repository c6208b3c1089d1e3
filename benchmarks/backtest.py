"""Back-tests: forecasts of every bin of a trace, said before it, against what came and against simple forecasts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.autoets import EtsForecasts
from benchmarks.traces import Series
from control_plane.analysis.forecast.forecaster import Forecaster

LEVEL = 0.95
WARM_UP = 10  # bins before the first origin that counts, or a quarter of a shorter trace: nobody forecasts from one bin
EWMA_SHARE = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What was said at each bin about the bins at the horizons."""

    horizons: Sequence[int]  # in bins
    point: Series  # (bins, horizons)
    upper: Series


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One simple forecast beside ours, on the same origins."""

    accuracy: float | None  # its 1 - WAPE
    skill: float | None  # ours: 1 - error / its error
    lead: float | None  # our 1 - WAPE less its
    origins: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How the forecasts at one horizon came out."""

    horizon: int
    origins: int
    accuracy: float | None  # 1 - WAPE; None when nothing came
    bias: float | None
    coverage: float | None
    last: Comparison
    ewma: Comparison
    ets: Comparison | None


def tell(series: Sequence[Series], *, horizons: Sequence[int], bin_seconds: float) -> list[Told]:
    """This will run the forecaster over series of equal length, bin by bin."""
    values = np.stack(series)
    forecaster = Forecaster(horizons=horizons, bin_seconds=bin_seconds, series=len(values), levels=(LEVEL,))
    shape = (len(values), values.shape[1], len(horizons))
    point, upper = np.full(shape, np.nan), np.full(shape, np.nan)
    for index in range(values.shape[1]):
        forecaster.observe(values[:, index])
        point[:, index] = forecaster.point.T
        upper[:, index] = forecaster.upper[0].T
    return [Told(horizons=horizons, point=p, upper=u) for p, u in zip(point, upper, strict=True)]


def first_origin(bins: int) -> int:
    """This will give the first bin whose forecasts count."""
    return min(WARM_UP, bins // 4)


def last_values(values: Series) -> Series:
    """This will give the last known value at each bin; NaN before the first."""
    known = np.where(np.isnan(values), -1, np.arange(len(values)))
    newest = np.maximum.accumulate(known)
    return np.where(newest >= 0, values[newest], np.nan)


def ewma(values: Series) -> Series:
    """This will give an exponentially weighted mean at each bin; what is unknown does not move it."""
    level, out = np.nan, np.empty(len(values))
    for index, value in enumerate(values):
        if not np.isnan(value):
            level = value if np.isnan(level) else level + EWMA_SHARE * (value - level)
        out[index] = level
    return out


def origins_for_ets(values: Series, *, horizons: Sequence[int], most: int) -> list[int]:
    """This will give evenly spread origins that can be judged at the shortest horizon."""
    first, end = first_origin(len(values)), len(values) - min(horizons)
    if end <= first or most < 1:
        return []
    return sorted({round(o) for o in np.linspace(first, end - 1, min(most, end - first))})


def score(values: Series, told: Told, ets: EtsForecasts | None) -> list[Score]:
    """This will judge forecasts of one series."""
    simple = {"last": last_values(values), "ewma": ewma(values)}
    return [_scored(values, told, place, simple, ets) for place in range(len(told.horizons))]


def _scored(values: Series, told: Told, place: int, simple: dict[str, Series], ets: EtsForecasts | None) -> Score:
    horizon = told.horizons[place]
    origins = np.arange(first_origin(len(values)), max(len(values) - horizon, 0))
    origins = origins[~np.isnan(values[origins + horizon]) & ~np.isnan(told.point[origins, place])]
    came, said = values[origins + horizon], told.point[origins, place]
    total = float(came.sum())
    compared = None
    if ets is not None:
        at = np.asarray(ets.origins, dtype=np.int64)
        chosen = np.isin(at, origins)
        compared = _compared(values, told, place, at[chosen], ets.forecasts[chosen, place])
    return Score(
        horizon=horizon,
        origins=len(origins),
        accuracy=_accuracy(said, came),
        bias=float(said.sum() - total) / total if total else None,
        coverage=float(np.mean(came <= told.upper[origins, place])) if len(origins) else None,
        last=_compared(values, told, place, origins, simple["last"][origins]),
        ewma=_compared(values, told, place, origins, simple["ewma"][origins]),
        ets=compared,
    )


def _accuracy(said: Series, came: Series) -> float | None:
    total = float(came.sum())
    return 1.0 - float(np.abs(said - came).sum()) / total if total else None


def _compared(values: Series, told: Told, place: int, origins: NDArray[np.int64], other: Series) -> Comparison:
    came, said = values[origins + told.horizons[place]], told.point[origins, place]
    ours, its = _accuracy(said, came), _accuracy(other, came)
    error, its_error = float(np.abs(said - came).sum()), float(np.abs(other - came).sum())
    return Comparison(
        accuracy=its,
        skill=1.0 - error / its_error if its_error else (0.0 if error == 0 and len(origins) else None),
        lead=None if ours is None or its is None else ours - its,
        origins=len(origins),
    )
