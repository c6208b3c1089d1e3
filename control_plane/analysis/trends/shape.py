"""The shape of a series of equal bins: season, trend and changes, each only where the series is long enough for it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from control_plane.statistics.neighbours import alikeness

Numbers = npt.NDArray[np.float64]

DAY_SECONDS, WEEK_SECONDS = 86_400.0, 604_800.0
# A season is what comes again: it takes two of its periods to see one.
LEAST_PERIODS = 2
# Below this a season explains too little of the movement to plan by.
STRONG = 0.3
# Pairs that Theil's estimate looks at; a longer series is thinned.
MOST_POINTS = 400
LEVEL = 0.95
# A change is a step of the level: at least so many bins on each side, and so many noises high.
LEAST_SEGMENT = 6
LEAST_STEP = 3.0
MOST_CHANGES = 10
NORMAL_MAD = 1.4826  # standard deviation over median absolute deviation, of normal noise


@dataclass(frozen=True, slots=True, kw_only=True)
class Slope:
    """Growth per day, with the interval that holds it at LEVEL."""

    per_day: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """This will say whether it grows, or falls, for certain."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A step of the level."""

    bin: int  # the first of the new level
    before: float
    after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a series looks like. None: too short to say."""

    known: int  # bins
    mean: float | None
    trend: Slope | None
    daily_strength: float | None  # 0..1: share of the movement around the trend that comes again every day
    weekly_strength: float | None
    changes: tuple[Change, ...]


def shape_of(values: Numbers, *, bin_seconds: float) -> Shape:
    """This will describe a series; NaN is unknown. The last bin is the newest."""
    known = ~np.isnan(values)
    count = int(known.sum())
    if count == 0:
        return Shape(known=0, mean=None, trend=None, daily_strength=None, weekly_strength=None, changes=())
    daily, profile = _season(values, bin_seconds, DAY_SECONDS)
    weekly, week_profile = _season(values, bin_seconds, WEEK_SECONDS)
    best = week_profile if weekly is not None and weekly > (daily or 0.0) + 0.05 else profile
    calm = values - best if best is not None else values
    changes = tuple(_changes(calm))
    return Shape(
        known=count,
        mean=float(values[known].mean()),
        trend=_slope(calm, bin_seconds),
        daily_strength=daily,
        weekly_strength=weekly,
        changes=changes,
    )


def _season(values: Numbers, bin_seconds: float, period_seconds: float) -> tuple[float | None, Numbers | None]:
    """This will give how strong a season is, and its profile around zero for each bin."""
    period = round(period_seconds / bin_seconds)
    if period < 4 or len(values) < LEAST_PERIODS * period or not np.isclose(period * bin_seconds, period_seconds):
        return None, None
    phase = np.arange(len(values)) % period
    known = ~np.isnan(values)
    times = np.bincount(phase[known], minlength=period)
    if (times < LEAST_PERIODS).mean() > 0.2:  # too much of the period was seen once only
        return None, None
    line = _line(values)
    rest = values - line
    profile = np.bincount(phase[known], weights=rest[known], minlength=period) / np.maximum(times, 1)
    profile = np.where(times > 0, profile, 0.0)
    # What a profile explains of the very bins it was made of is too much by one part in the number of periods.
    explained = rest - profile[phase]
    freedom = max(known.sum() - (times > 0).sum(), 1)
    noise = float(np.nansum(explained**2)) / freedom
    whole = float(np.nanvar(rest))
    strength = 0.0 if whole <= 0 else max(0.0, 1.0 - noise / whole)
    return round(float(strength), 4), profile[phase] if strength >= STRONG else None


def _line(values: Numbers) -> Numbers:
    known = ~np.isnan(values)
    at = np.arange(len(values), dtype=np.float64)
    if known.sum() < 2:
        return np.full(len(values), np.nanmean(values))
    slope, level = np.polyfit(at[known], values[known], 1)
    return np.asarray(level + slope * at)


def _slope(values: Numbers, bin_seconds: float) -> Slope | None:
    """This will give Theil and Sen's slope with Kendall's interval (Sen, JASA 63, 1968): outliers do not move it."""
    at = np.flatnonzero(~np.isnan(values))
    if len(at) < 12 or (at[-1] - at[0]) * bin_seconds < DAY_SECONDS:
        return None
    if len(at) > MOST_POINTS:
        # Means of neighbours, so that noise is not thinned with them.
        groups = np.array_split(at, MOST_POINTS)
        days = np.array([g.mean() for g in groups], np.float64) * bin_seconds / DAY_SECONDS
        level = np.array([values[g].mean() for g in groups], np.float64)
    else:
        days, level = np.asarray(at * bin_seconds / DAY_SECONDS, np.float64), values[at]
    first, second = np.triu_indices(len(days), 1)
    slopes = np.sort((level[second] - level[first]) / (days[second] - days[first]))
    n = len(days)
    # Neighbours are alike: what counts as independent is fewer than the bins.
    alike = alikeness(level - _line(level))
    spread = NormalDist().inv_cdf((1 + LEVEL) / 2) * np.sqrt(
        n * (n - 1) * (2 * n + 5) / 18.0 * (1 + alike) / (1 - alike)
    )
    low = int(np.clip(np.floor((len(slopes) - spread) / 2), 0, len(slopes) - 1))
    high = int(np.clip(np.ceil((len(slopes) + spread) / 2), 0, len(slopes) - 1))
    return Slope(per_day=float(np.median(slopes)), low=float(slopes[low]), high=float(slopes[high]))


def _changes(values: Numbers) -> list[Change]:
    """This will find steps of the level by halving, the clearest first, until none stands out of the noise."""
    at = np.flatnonzero(~np.isnan(values))
    if len(at) < 2 * LEAST_SEGMENT:
        return []
    series = values[at]
    noise = NORMAL_MAD * float(np.median(np.abs(np.diff(series)))) / np.sqrt(2.0)
    noise = max(noise, 1e-9 * max(1.0, float(np.abs(series).max())))
    found: list[int] = []
    stack = [(0, len(series))]
    while stack and len(found) < MOST_CHANGES:
        begin, end = stack.pop()
        cut = _clearest(series[begin:end], noise)
        if cut is not None:
            found.append(begin + cut)
            stack += [(begin, begin + cut), (begin + cut, end)]
    edges = [0, *sorted(found), len(series)]
    means = [float(series[a:b].mean()) for a, b in pairwise(edges)]
    return [
        Change(bin=int(at[edge]), before=means[i], after=means[i + 1])
        for i, edge in enumerate(edges[1:-1])
        if abs(means[i + 1] - means[i]) >= LEAST_STEP * noise
    ]


def _clearest(series: Numbers, noise: float) -> int | None:
    """This will give where one step explains most; None when chance, or a slow drift, would look like that."""
    n = len(series)
    if n < 2 * LEAST_SEGMENT:
        return None
    sums = np.cumsum(series)
    k = np.arange(LEAST_SEGMENT, n - LEAST_SEGMENT + 1)
    before, after = sums[k - 1] / k, (sums[-1] - sums[k - 1]) / (n - k)
    gain = (before - after) ** 2 * k * (n - k) / n
    best = int(np.argmax(gain))
    # Schwarz's criterion, for a position and a level more, threefold since bins are not independent.
    if gain[best] / noise**2 < 6.0 * np.log(n) or abs(before[best] - after[best]) < LEAST_STEP * noise:
        return None
    cut = int(k[best])
    # A drift has no edge: next to the cut the level must change as much as it does altogether.
    near = min(LEAST_SEGMENT, cut, n - cut)
    step = abs(float(np.median(series[cut : cut + near])) - float(np.median(series[cut - near : cut])))
    return cut if step >= 0.5 * abs(before[best] - after[best]) else None
