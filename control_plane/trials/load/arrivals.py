"""When requests are due: a rate over time, and how regularly arrivals follow it. Pure.

An arrival process is a renewal process in "expected arrivals": gaps are drawn there and carried back to seconds
through the integral of the rate. So ramps, steps and recorded rates need no code of their own.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from control_plane.model.errors import InvalidRequest

Seconds = NDArray[np.float64]
# Ten million requests are more than one process sends in a day at its highest rate.
MOST_ARRIVALS = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RateProfile:
    """Requests per second over time, linear between points; two points at one time are a step."""

    points: Sequence[tuple[float, float]]  # (seconds since the start, requests per second)

    def __post_init__(self) -> None:
        """This will refuse what is no rate over time, with InvalidRequest."""
        times = [seconds for seconds, _ in self.points]
        if len(times) < 2 or times[0] != 0 or any(b < a for a, b in itertools.pairwise(times)):
            raise InvalidRequest("a rate over time begins at 0 s and goes forward, with two points at least")
        if not all(np.isfinite(value) and value >= 0 for point in self.points for value in point):
            raise InvalidRequest("rates and times are finite and not negative")
        if times[-1] <= 0:
            raise InvalidRequest("a run lasts longer than 0 s")
        if self.expected > MOST_ARRIVALS:
            raise InvalidRequest(
                f"{self.expected:,.0f} requests are too many for one run; {MOST_ARRIVALS:,} are the most"
            )

    @property
    def seconds(self) -> float:
        """This will give how long it lasts."""
        return self.points[-1][0]

    @property
    def expected(self) -> float:
        """This will give how many requests it asks for."""
        times, rates = np.array(self.points, dtype=np.float64).T
        return float(np.trapezoid(rates, times))

    def at_expected(self, counts: Seconds) -> Seconds:
        """This will give the times at which as many requests as `counts` were expected. `counts` ascend."""
        times, rates = np.array(self.points, dtype=np.float64).T
        spans = np.diff(times)
        grown = np.concatenate(([0.0], np.cumsum((rates[1:] + rates[:-1]) / 2 * spans)))
        # The last segment that begins at or before each count, and is long enough to hold it.
        piece = np.clip(np.searchsorted(grown, counts, side="left") - 1, 0, len(spans) - 1)
        rest, first = counts - grown[piece], rates[piece]
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = np.where(spans[piece] > 0, (rates[piece + 1] - first) / spans[piece], 0.0)
            # slope/2·t² + first·t = rest, in the form that also holds for slope 0.
            root = np.sqrt(np.maximum(first**2 + 2 * slope * rest, 0.0))
            into = np.where(rest > 0, 2 * rest / (first + root), 0.0)
        return np.asarray(times[piece] + np.clip(np.nan_to_num(into), 0.0, spans[piece]), dtype=np.float64)


def constant(rate: float, seconds: float) -> RateProfile:
    """This will keep one rate for some seconds."""
    return RateProfile(points=((0.0, rate), (seconds, rate)))


def ramp(first_rate: float, last_rate: float, seconds: float) -> RateProfile:
    """This will go from one rate to another in a straight line."""
    return RateProfile(points=((0.0, first_rate), (seconds, last_rate)))


def steps(parts: Sequence[tuple[float, float]]) -> RateProfile:
    """This will keep each rate for its seconds, one after the other; `parts` are (rate, seconds)."""
    points: list[tuple[float, float]] = []
    begin = 0.0
    for rate, seconds in parts:
        points += [(begin, rate), (begin + seconds, rate)]
        begin += seconds
    return RateProfile(points=points)


def recorded_rates(counts: Sequence[float], bin_seconds: float, *, scale: float = 1.0) -> RateProfile:
    """This will follow counted requests, bin by bin, `scale` times as many."""
    return steps([(count / bin_seconds * scale, bin_seconds) for count in counts])


def arrivals(profile: RateProfile, *, variation: float, random: np.random.Generator) -> Seconds:
    """This will draw when requests are due: ascending seconds within the profile.

    `variation` is the standard deviation of gaps over their mean: 0 is a metronome, 1 is Poisson, more comes in
    bursts (gaps of a gamma distribution). The count is the profile's, so that what is offered is what was asked for;
    given their number, arrivals of a Poisson process fall exactly like this.
    """
    if not 0 <= variation <= 10:
        raise InvalidRequest("the variation of gaps is between 0 (a metronome) and 10; 1 is Poisson")
    count = round(profile.expected)
    if count == 0:
        raise InvalidRequest(f"{profile.expected:.2g} requests are expected in {profile.seconds:g} s: ask for more")
    if variation == 0:
        places = (np.arange(count) + 0.5) / count
    else:
        shape = 1 / variation**2
        gaps = random.gamma(shape, 1.0, count + 1)
        places = np.cumsum(gaps[:-1]) / np.sum(gaps)
    return profile.at_expected(places * profile.expected)


def replayed(stamps: Sequence[float], *, speed: float = 1.0) -> Seconds:
    """This will repeat recorded arrivals, from the first on, `speed` times as fast."""
    if not len(stamps) or not 0 < speed < 1000:
        raise InvalidRequest("a replay needs arrivals, and a speed above 0")
    sorted_stamps = np.sort(np.asarray(stamps, dtype=np.float64))
    if not np.all(np.isfinite(sorted_stamps)):
        raise InvalidRequest("recorded arrivals are seconds, all of them finite")
    return np.asarray((sorted_stamps - sorted_stamps[0]) / speed, dtype=np.float64)
