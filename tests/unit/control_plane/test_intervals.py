"""Intervals hold the truth about as often as they say, also when values hang together."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from control_plane.statistics import intervals


def independent(n: int, random: np.random.Generator) -> NDArray[np.float64]:
    return random.lognormal(0, 1, n)


def queueing(n: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Waits of which each resembles the one before, as in a queue; the distribution of each is the same lognormal."""
    noise, level = random.normal(size=n), np.empty(n)
    level[0] = noise[0]
    for i in range(1, n):
        level[i] = 0.9 * level[i - 1] + math.sqrt(1 - 0.81) * noise[i]
    return np.asarray(np.exp(level), dtype=np.float64)


@pytest.mark.parametrize("make", [independent, queueing])
@pytest.mark.parametrize("level", [0.5, 0.9, 0.95])
def test_quantiles_lie_within_their_intervals(make: object, level: float) -> None:
    truth = math.exp({0.5: 0.0, 0.9: 1.2815515655, 0.95: 1.6448536270}[level])
    held, runs = 0, 200
    for seed in range(runs):
        found = intervals.quantile(make(2000, np.random.default_rng(seed)), level)  # type: ignore[operator]
        assert found.low is not None
        held += found.low <= truth <= (math.inf if found.high is None else found.high)
    assert held / runs >= (0.92 if make is independent else 0.84)


@pytest.mark.parametrize("make", [independent, queueing])
def test_means_lie_within_their_intervals(make: object) -> None:
    held, runs = 0, 200
    for seed in range(runs):
        found = intervals.mean(make(2000, np.random.default_rng(seed)))  # type: ignore[operator]
        assert found.low is not None
        assert found.high is not None
        held += found.low <= math.exp(0.5) <= found.high
    assert held / runs >= (0.9 if make is independent else 0.8)


@pytest.mark.parametrize(("level", "least"), [(0.9, 36), (0.95, 72), (0.99, 368)])
def test_the_fewest_values_that_bound_a_percentile_on_both_sides(level: float, least: int) -> None:
    random = np.random.default_rng(1)
    assert intervals._ranks(least, level)[1] is not None
    assert intervals._ranks(least - 1, level)[1] is None
    enough = intervals.quantile(random.permutation(np.arange(least - 1, dtype=np.float64)), level)
    assert enough.high is None


def test_more_failures_than_a_percentile_has_room_for_make_it_unknown() -> None:
    values = np.array([0.1] * 90 + [np.inf] * 10)
    np.random.default_rng(1).shuffle(values)
    assert intervals.quantile(values, 0.95).value is None
    assert intervals.quantile(values, 0.5).value == 0.1


def test_nothing_is_known_of_nothing() -> None:
    empty = np.array([], dtype=np.float64)
    assert intervals.quantile(empty, 0.5) == intervals.UNKNOWN
    assert intervals.mean(empty) == intervals.UNKNOWN
    assert intervals.share(np.array([], dtype=np.bool_)) == intervals.UNKNOWN


def test_a_share_of_all_good_ones_is_not_certain() -> None:
    found = intervals.share(np.ones(59, dtype=np.bool_))
    assert found.value == 1
    assert found.low is not None
    assert 0.9 < found.low < 0.95
