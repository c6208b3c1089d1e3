"""Forecasts look only back, mean the same at any scale, and their bound is exceeded as seldom as promised."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmarks.backtest import score, tell
from benchmarks.traces import read_trace
from control_plane.analysis.forecast.forecaster import Forecaster

TRACES = Path(__file__).parents[3] / "data" / "traces"
HORIZONS = (1, 3, 12)
# Hours of a day are bins here, so that days and weeks of them pass quickly.
values = st.one_of(st.just(np.nan), st.integers(0, 5).map(float), st.floats(0, 1e6), st.floats(0, 1e-90))
series = st.lists(values, min_size=2, max_size=60)


def said(history: list[float], *, horizons: tuple[int, ...] = HORIZONS) -> tuple[NDArray, NDArray]:
    forecaster = Forecaster(horizons=horizons, bin_seconds=3600)
    points, uppers = [], []
    for value in history:
        forecaster.observe([value])
        points.append(forecaster.point[:, 0].copy())
        uppers.append(forecaster.upper[0, :, 0].copy())
    return np.array(points), np.array(uppers)


def daily(days: int, *, seed: int, level: float = 400.0, bins: int = 24) -> list[float]:
    times = np.arange(days * bins)
    mean = level * (1 + 0.8 * np.sin(2 * np.pi * times / bins))
    return [float(v) for v in np.random.default_rng(seed).poisson(mean)]


@settings(max_examples=40, deadline=None)
@given(past=series, future=series, other=series)
def test_the_future_never_changes_a_past_forecast(past: list[float], future: list[float], other: list[float]) -> None:
    points, uppers = said(past + future)
    otherwise, bounds = said(past + other)
    assert np.array_equal(points[: len(past)], otherwise[: len(past)], equal_nan=True)
    assert np.array_equal(uppers[: len(past)], bounds[: len(past)], equal_nan=True)


@settings(max_examples=40, deadline=None)
@given(history=series.filter(lambda h: all(not 0 < v < 1e-80 for v in h)), power=st.integers(-20, 20))
def test_traffic_in_another_unit_has_the_same_forecast_in_that_unit(history: list[float], power: int) -> None:
    points, uppers = said(history)
    scaled, bounds = said([v * 2.0**power for v in history])  # powers of two multiply exactly
    assert np.allclose(scaled, points * 2.0**power, rtol=1e-9, atol=0, equal_nan=True)
    assert np.allclose(bounds, uppers * 2.0**power, rtol=1e-9, atol=0, equal_nan=True)


@settings(max_examples=60, deadline=None)
@given(history=series)
def test_a_bound_is_never_below_its_forecast_nor_either_below_zero(history: list[float]) -> None:
    points, uppers = said(history)
    seen = np.cumsum(~np.isnan(history)) > 0
    assert np.isnan(points[~seen]).all()
    assert np.isfinite(points[seen]).all()
    assert (points[seen] >= 0).all()
    assert (uppers[seen] >= points[seen]).all()


@settings(max_examples=30, deadline=None)
@given(history=st.lists(values, min_size=1, max_size=20), gap=st.integers(1, 10))
def test_what_is_unknown_changes_nothing(history: list[float], gap: int) -> None:
    points, uppers = said(history + [np.nan] * gap)
    at = len(history) - 1
    for later in range(len(history), len(points)):
        assert np.array_equal(points[later], points[at], equal_nan=True)
        assert np.array_equal(uppers[later], uppers[at], equal_nan=True)


@settings(max_examples=20, deadline=None)
@given(pairs=st.lists(st.tuples(values, values), min_size=2, max_size=60))
def test_series_told_together_are_forecast_as_if_alone(pairs: list[tuple[float, float]]) -> None:
    together = Forecaster(horizons=HORIZONS, bin_seconds=3600, series=2)
    for pair in pairs:
        together.observe(pair)
    for index in (0, 1):
        points, uppers = said([pair[index] for pair in pairs])
        assert np.allclose(together.point[:, index], points[-1], rtol=1e-12, equal_nan=True)
        assert np.allclose(together.upper[0, :, index], uppers[-1], rtol=1e-12, equal_nan=True)


@pytest.mark.parametrize("level", [0.0, 7.0])
def test_traffic_that_never_changes_is_forecast_as_it_is(level: float) -> None:
    forecaster = Forecaster(horizons=(1, 5), bin_seconds=60)
    for _ in range(200):
        forecaster.observe([level])
    for forecast in forecaster.forecasts():
        assert forecast.expected == pytest.approx(level, abs=1e-9)
        assert forecast.at_most == pytest.approx(level, rel=0.01, abs=1e-9)
        assert forecast.record.coverage == 1.0
        assert forecast.record.accuracy == (None if level == 0 else pytest.approx(1.0))
        assert forecast.record.skill is None  # the last value was never wrong either


def test_nothing_is_forecast_before_anything_was_seen() -> None:
    forecaster = Forecaster(horizons=(1,), bin_seconds=60)
    assert forecaster.forecasts() == ()
    forecaster.observe([np.nan])
    assert forecaster.forecasts() == ()
    forecaster.observe([3.0])
    (forecast,) = forecaster.forecasts()
    assert forecast.expected == pytest.approx(3.0)
    assert (forecast.record.forecasts, forecast.record.accuracy) == (0, None)


def test_the_record_is_what_a_back_test_gives() -> None:
    history = daily(4, seed=1)
    points, uppers = said(history, horizons=(3,))
    forecaster = Forecaster(horizons=(3,), bin_seconds=3600)
    for value in history:
        forecaster.observe([value])
    came, expected, bound, last = np.array(history[3:]), points[:-3, 0], uppers[:-3, 0], np.array(history[:-3])
    (forecast,) = forecaster.forecasts()
    record = forecast.record
    assert record.forecasts == len(came)
    assert record.accuracy == pytest.approx(1 - np.abs(expected - came).sum() / came.sum())
    assert record.bias == pytest.approx((expected.sum() - came.sum()) / came.sum())
    assert record.coverage == pytest.approx((came <= bound).mean())
    assert record.skill == pytest.approx(1 - np.abs(expected - came).sum() / np.abs(last - came).sum())


def test_a_daily_season_is_learnt() -> None:
    forecaster = Forecaster(horizons=(6,), bin_seconds=3600)
    for value in daily(21, seed=2):
        forecaster.observe([value])
    (forecast,) = forecaster.forecasts()
    assert forecast.record.skill is not None
    assert forecast.record.skill > 0.6


@pytest.mark.parametrize("kind", ["poisson", "walk", "bursts", "drop"])
def test_the_bound_is_exceeded_as_seldom_as_promised(kind: str) -> None:
    chance = np.random.default_rng(3)
    if kind == "poisson":
        history = chance.poisson(20, 3000).astype(float)
    elif kind == "walk":
        history = np.exp(5 + np.cumsum(chance.normal(0, 0.03, 3000)))
    elif kind == "bursts":
        history = chance.poisson(30, 3000) * np.where(chance.random(3000) < 0.03, 8.0, 1.0)
    else:
        history = chance.poisson(np.where(np.arange(3000) < 1500, 200, 20)).astype(float)
    levels = (0.8, 0.95, 0.99)
    forecaster = Forecaster(horizons=(1, 5), bin_seconds=60, levels=levels)
    for value in history:
        forecaster.observe([value])
    for index, level in enumerate(levels):
        for forecast in forecaster.forecasts(level=index):
            assert forecast.level == level
            assert forecast.record.coverage == pytest.approx(level, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "coverage"),
    [("azure2024_conv_1m_3d", True), ("servegen_m_mid_10m", True), ("azure2023_conv_10s", False)],
)
def test_on_real_traffic_no_simple_forecast_is_clearly_better(name: str, coverage: bool) -> None:
    trace = read_trace(TRACES / f"{name}.csv.gz", bin_seconds=60)
    horizons = sorted({max(1, round(m * 60 / trace.bin_seconds)) for m in ((5, 30, 60) if coverage else (5,))})
    (told,) = tell([trace.requests], horizons=horizons, bin_seconds=trace.bin_seconds)
    for scored in score(trace.requests, told, None):
        assert scored.last.lead is not None
        assert scored.ewma.lead is not None
        assert scored.last.lead > -0.005
        assert scored.ewma.lead > -0.005
        if coverage:
            assert scored.coverage == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize("horizons", [(), (0,), (100_001,)])
def test_a_horizon_without_sense_is_refused(horizons: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="horizons must be"):
        Forecaster(horizons=horizons, bin_seconds=60)


@pytest.mark.parametrize("value", [-1.0, np.inf])
def test_a_value_without_sense_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="finite and not negative"):
        Forecaster(horizons=(1,), bin_seconds=60).observe([value])


def test_an_unknown_level_is_refused_and_so_is_a_missing_series() -> None:
    with pytest.raises(ValueError, match="levels"):
        Forecaster(horizons=(1,), bin_seconds=60, levels=(1.0,))
    with pytest.raises(ValueError, match="2 values"):
        Forecaster(horizons=(1,), bin_seconds=60, series=2).observe([1.0])
