"""Neighbours that are alike are known by it."""

from __future__ import annotations

import numpy as np
import pytest

from control_plane.statistics.neighbours import MOST, alikeness


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_a_series_with_memory_shows_how_much(share: float) -> None:
    chance = np.random.default_rng(3)
    series = np.zeros(20_000)
    for n in range(1, len(series)):
        series[n] = share * series[n - 1] + chance.normal()
    assert alikeness(series) == pytest.approx(share, abs=0.02)


def test_what_swings_or_stands_still_is_not_alike_and_nothing_is_wholly() -> None:
    assert alikeness(np.array([1.0, -1.0] * 10)) == 0.0
    assert alikeness(np.zeros(5)) == 0.0
    assert alikeness(np.array([2.0])) == 0.0
    assert alikeness(np.ones(10_000)) == MOST
