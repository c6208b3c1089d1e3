"""The forecaster: experts, weighted by how they did, with a bound and a record of what it said and what came."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from control_plane.analysis.forecast.bound import Bound
from control_plane.analysis.forecast.experts import EXPERTS, PRIOR, Experts
from control_plane.analysis.forecast.levels import ALPHAS, Array
from control_plane.analysis.forecast.weights import GUARDING, MIXING, Weights
from control_plane.model.forecast import Forecast, ForecastRecord

GUARDS = len(ALPHAS) - 1  # the first so many experts, the plain means, stand beside the mixture; the slowest does not
GUARD_PRIOR = 0.2  # each against the mixture
LEAST_VALUE = 1e-100  # what is less is none: its ratios would not be numbers
MOST_HORIZON = 100_000  # bins; what was said is kept until it can be judged


class Forecaster:
    """Forecasts several series of equal bins, such as a service's requests, input and output tokens.

    Tell it one bin after the other, with NaN for what is unknown; it never sees what it is judged by beforehand.
    """

    __slots__ = (
        "_bin", "_bin_seconds", "_bound", "_experts", "_guarding", "_horizons", "_levels", "_mixing", "_record",
        "_said", "_said_bounds", "_said_experts", "_said_last", "_said_mixture", "_seen", "_wanted",
    )  # fmt: skip

    def __init__(
        self, *, horizons: Sequence[int], bin_seconds: float, series: int = 1, levels: Sequence[float] = (0.95,)
    ) -> None:
        if not horizons or min(horizons) < 1 or max(horizons) > MOST_HORIZON:
            raise ValueError(f"horizons must be from 1 to {MOST_HORIZON} bins, not {list(horizons)}")
        if not levels or not all(0.5 <= level < 1 for level in levels):
            raise ValueError(f"levels must be from 0.5 to below 1, not {list(levels)}")
        every = sorted({1, *horizons})
        count = len(every)
        self._wanted = [every.index(horizon) for horizon in horizons]
        self._horizons = np.asarray(every, dtype=np.int64)
        self._levels = tuple(levels)
        self._bin_seconds = bin_seconds
        self._bin = -1
        self._seen = np.zeros(series, dtype=bool)
        self._experts = Experts(series, self._horizons, bin_seconds=bin_seconds)
        steps = self._horizons.astype(np.float64)
        self._mixing = Weights(steps, series, PRIOR, MIXING)
        self._guarding = Weights(steps, series, np.repeat((1.0, GUARD_PRIOR), (1, GUARDS)), GUARDING)
        self._bound = Bound(steps, series, self._levels)
        self._record = _Record(len(self._levels), count, series)
        kept = every[-1] + 1  # what was said at bin b is at b modulo this
        self._said: Array = np.full((kept, count, series), np.nan)
        self._said_last: Array = np.full((kept, series), np.nan)
        self._said_mixture: Array = np.full((kept, count, series), np.nan)
        self._said_bounds: Array = np.full((kept, len(self._levels), count, series), np.nan)
        self._said_experts: Array = np.full((kept, count, series, EXPERTS), np.nan)

    @property
    def point(self) -> Array:
        """This will give what is expected, (horizons, series); NaN before anything was seen."""
        return np.asarray(self._said[self._bin % len(self._said)][self._wanted])

    @property
    def upper(self) -> Array:
        """This will give the bounds, (levels, horizons, series)."""
        return np.asarray(self._said_bounds[self._bin % len(self._said)][:, self._wanted])

    def observe(self, values: Sequence[float] | Array) -> None:
        """This will take in the next bin of each series: judge what was said about it, and say what is to come."""
        came = np.asarray(values, dtype=np.float64)
        if came.shape != self._seen.shape:
            raise ValueError(f"{len(self._seen)} values are expected, not {came.shape}")
        if np.any(came < 0) or np.any(np.isinf(came)):
            raise ValueError("values must be finite and not negative; NaN is unknown")
        came = np.where(came < LEAST_VALUE, 0.0, came)
        self._bin += 1
        self._judge(came)
        self._seen |= ~np.isnan(came)
        self._experts.observe(came)
        self._say()

    def _judge(self, came: Array) -> None:
        rows = np.arange(len(self._horizons))
        then = (self._bin - self._horizons) % len(self._said)  # rows before the first bin are NaN still
        every = np.broadcast_to(came, (len(rows), len(came)))
        said, bounds = self._said[then, rows], self._said_bounds[then, :, rows].swapaxes(0, 1)
        experts = self._said_experts[then, rows]
        self._mixing.judge(experts, every)
        self._guarding.judge(self._guarded(self._said_mixture[then, rows], experts), every)
        self._bound.judge(said, bounds, every)
        self._record.add(said, bounds, self._said_last[then], every)

    def _say(self) -> None:
        slot = self._bin % len(self._said)
        experts = np.where(self._seen[:, None], self._experts.ahead(), np.nan)
        mixture = _mixed(experts, self._mixing)
        guarded = self._guarded(mixture, experts)
        said = _mixed(guarded, self._guarding)
        self._said[slot] = said
        self._said_last[slot] = np.where(self._seen, self._experts.last, np.nan)
        self._said_mixture[slot] = mixture
        self._said_experts[slot] = experts
        self._said_bounds[slot] = self._bound.above(said)

    @staticmethod
    def _guarded(mixture: Array, experts: Array) -> Array:
        return np.concatenate([mixture[:, :, None], experts[:, :, :GUARDS]], axis=2)

    def forecasts(self, series: int = 0, level: int = 0) -> tuple[Forecast, ...]:
        """This will give the forecasts of one series with their records; none before anything was seen."""
        if self._bin < 0 or not self._seen[series]:
            return ()
        return tuple(
            Forecast(
                horizon_seconds=float(self._horizons[index]) * self._bin_seconds,
                expected=float(self.point[place, series]),
                at_most=float(self.upper[level, place, series]),
                level=self._levels[level],
                record=self._record.of(level, index, series),
            )
            for place, index in enumerate(self._wanted)
        )


def _mixed(forecasts: Array, weights: Weights) -> Array:
    known = ~np.isnan(forecasts)
    mean = (np.where(known, forecasts, 0.0) * weights.now(forecasts)).sum(axis=2)
    return np.where(known.any(axis=2), mean, np.nan)


class _Record:
    """Sums over everything that was said and came true or not."""

    __slots__ = ("_came", "_covered", "_error", "_last_error", "_number", "_said")

    def __init__(self, levels: int, horizons: int, series: int) -> None:
        self._number = np.zeros((horizons, series), dtype=np.int64)
        self._error, self._last_error, self._said, self._came = np.zeros((4, horizons, series))
        self._covered = np.zeros((levels, horizons, series), dtype=np.int64)

    def add(self, said: Array, bounds: Array, last: Array, came: Array) -> None:
        """This will take in forecasts, bounds, the values that were the last ones then, and what came."""
        known = ~np.isnan(said) & ~np.isnan(came)
        self._number += known
        self._error += np.where(known, np.abs(said - came), 0.0)
        self._last_error += np.where(known, np.abs(last - came), 0.0)
        self._said += np.where(known, said, 0.0)
        self._came += np.where(known, came, 0.0)
        self._covered += known & (came <= bounds)

    def of(self, level: int, horizon: int, series: int) -> ForecastRecord:
        """This will give the record of one series at one horizon."""
        at = (horizon, series)
        number, came = int(self._number[at]), float(self._came[at])
        error, last = float(self._error[at]), float(self._last_error[at])
        return ForecastRecord(
            forecasts=number,
            mean_per_bin=came / number if number else None,
            accuracy=1.0 - error / came if came > 0 else None,
            bias=(float(self._said[at]) - came) / came if came > 0 else None,
            coverage=int(self._covered[(level, *at)]) / number if number else None,
            skill=1.0 - error / last if last > 0 else None,
        )
