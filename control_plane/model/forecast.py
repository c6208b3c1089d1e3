"""A forecast as everyone speaks of it: how much, at most how much, and how such forecasts came out so far."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastRecord:
    """How the forecasts of this very series at this very horizon came out, each said before it could be known."""

    forecasts: int  # that can be judged
    mean_per_bin: float | None  # what came
    accuracy: float | None  # 1 - sum of |errors| / sum of what came ("1 - WAPE"); None when nothing came
    bias: float | None  # (sum of forecasts - sum of what came) / the latter
    coverage: float | None  # share that stayed within the upper bound
    skill: float | None  # 1 - error / error of repeating the last value; below 0: worse than that


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What one bin is expected to hold, so far ahead."""

    horizon_seconds: float
    expected: float  # as likely to be too high as too low
    at_most: float  # exceeded in 1 - level of all cases, and never below `expected`
    level: float
    record: ForecastRecord
