"""Chance has a floor: what no forecast of thin traffic can go below."""

from __future__ import annotations

import numpy as np
import pytest

from control_plane.analysis.forecast.thin import best_accuracy, chance_error, requests_needed


@pytest.mark.parametrize("mean", [0.0, 0.3, 0.69, 1.5, 10.0, 99.9, 100.0, 3000.0])
def test_the_floor_is_what_the_best_single_guess_misses_poisson_numbers_by(mean: float) -> None:
    drawn = np.random.default_rng(0).poisson(mean, 400_000)
    assert chance_error(mean) == pytest.approx(np.abs(drawn - np.median(drawn)).mean(), rel=0.01, abs=1e-12)


def test_traffic_of_fewer_than_28_requests_a_bin_cannot_be_forecast_to_85_percent() -> None:
    needed = requests_needed(0.85)
    assert 27 < needed < 29
    assert best_accuracy([needed]) == pytest.approx(0.85, abs=1e-4)
    assert requests_needed(0.95) > 8 * needed


def test_without_traffic_there_is_no_accuracy_and_below_0_7_requests_none_is_possible() -> None:
    assert best_accuracy([]) is None
    assert best_accuracy([0.0]) is None
    assert best_accuracy([0.5, 0.1]) == pytest.approx(0.0, abs=1e-12)


def test_the_busy_hours_count_for_more() -> None:
    busy, quiet = best_accuracy([1000.0]), best_accuracy([10.0])
    both = best_accuracy([1000.0, 10.0])
    assert busy is not None
    assert quiet is not None
    assert both is not None
    assert quiet < (busy + quiet) / 2 < both < busy


@pytest.mark.parametrize("accuracy", [-0.1, 1.0])
def test_an_accuracy_without_sense_is_refused(accuracy: float) -> None:
    with pytest.raises(ValueError, match="accuracy"):
        requests_needed(accuracy)
