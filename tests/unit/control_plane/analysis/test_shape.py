"""Trends, seasons and changes are found where they are, and not where they are not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.nvml_recording import FOLDER
from benchmarks.traces import read_trace
from control_plane.analysis.trends.shape import shape_of

HOUR = 3600.0
TRACES = FOLDER.parent / "traces"


def hours(days: int) -> np.ndarray:
    return np.arange(days * 24)


def noise(count: int, seed: int, scale: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, scale, count)


def test_a_daily_season_is_seen_and_does_not_hide_the_trend_nor_make_changes() -> None:
    at = hours(14)
    values = 100 + 2.0 * at / 24 + 30 * np.sin(2 * np.pi * at / 24) + noise(len(at), 1, 2)
    found = shape_of(values, bin_seconds=HOUR)
    assert found.daily_strength is not None
    assert found.daily_strength > 0.95
    assert found.trend is not None
    assert found.trend.per_day == pytest.approx(2.0, abs=0.2)
    assert found.trend.is_clear
    assert found.changes == ()


def test_weekends_are_a_weekly_season() -> None:
    at = hours(28)
    weekend = (at // 24) % 7 >= 5
    values = np.where(weekend, 20.0, 100.0) + noise(len(at), 2, 3)
    found = shape_of(values, bin_seconds=HOUR)
    assert found.weekly_strength is not None
    assert found.weekly_strength > 0.9
    assert (found.daily_strength or 0.0) < 0.2


@pytest.mark.parametrize("seed", range(8))
def test_noise_alone_has_no_trend_season_or_change(seed: int) -> None:
    found = shape_of(50 + noise(24 * 14, seed, 5), bin_seconds=HOUR)
    assert found.trend is not None
    assert abs(found.trend.per_day) < 0.5
    assert (found.daily_strength or 0.0) < 0.2
    assert found.changes == ()


def test_a_step_is_found_where_it_is() -> None:
    values = np.concatenate([np.full(100, 10.0), np.full(60, 25.0)]) + noise(160, 3)
    found = shape_of(values, bin_seconds=HOUR)
    (change,) = found.changes
    assert change.bin == pytest.approx(100, abs=1)
    assert (change.before, change.after) == (pytest.approx(10, abs=1), pytest.approx(25, abs=1))


def test_a_slow_drift_is_no_step() -> None:
    values = np.linspace(0, 100, 24 * 7) + noise(24 * 7, 4, 2)
    found = shape_of(values, bin_seconds=HOUR)
    assert found.changes == ()
    assert found.trend is not None
    assert found.trend.is_clear


def test_what_is_too_short_is_not_described() -> None:
    found = shape_of(np.arange(10.0), bin_seconds=HOUR)
    assert (found.trend, found.daily_strength, found.weekly_strength) == (None, None, None)
    empty = shape_of(np.full(5, np.nan), bin_seconds=HOUR)
    assert (empty.known, empty.mean) == (0, None)


def test_a_real_service_has_its_days() -> None:
    trace = read_trace(TRACES / "azure2024_conv_1m_3d.csv.gz", bin_seconds=300)
    found = shape_of(trace.requests, bin_seconds=300)
    assert found.daily_strength is not None
    assert found.daily_strength > 0.2  # its first day is a Sunday
    assert found.weekly_strength is None  # three days are no two weeks


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.one_of(st.just(float("nan")), st.floats(-1e9, 1e9)), min_size=1, max_size=400),
    st.sampled_from([300.0, HOUR]),
)  # fmt: skip
def test_nothing_is_too_odd_to_describe(values: list[float], width: float) -> None:
    found = shape_of(np.array(values), bin_seconds=width)
    assert found.known == sum(v == v for v in values)
    if found.trend is not None:
        assert found.trend.low <= found.trend.per_day <= found.trend.high
    for change in found.changes:
        assert 0 < change.bin < len(values)
