"""The back-test compares like with like, and its program says what it measured and what is missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import backtest, forecast
from benchmarks.autoets import EtsForecasts
from benchmarks.traces import read_trace

TRACES = Path(__file__).parents[2] / "data" / "traces"
HOUR = TRACES / "azure2023_conv_10s.csv.gz"


def test_simple_forecasts_carry_what_they_know_over_what_is_unknown() -> None:
    values = np.array([np.nan, 4.0, np.nan, 8.0])
    assert np.array_equal(backtest.last_values(values), [np.nan, 4, 4, 8], equal_nan=True)
    assert np.array_equal(backtest.ewma(values), [np.nan, 4, 4, 5.2], equal_nan=True)


def test_each_is_judged_on_the_same_bins() -> None:
    values = np.arange(40.0)
    point = np.column_stack([values + 1])
    told = backtest.Told(horizons=(2,), point=point, upper=point + 0.5)
    ets = EtsForecasts(origins=(12, 30, 39), forecasts=np.array([[14.0], [30.0], [99.0]]), failed=0)
    (scored,) = backtest.score(values, told, ets)
    came = values[12:]
    assert scored.origins == 28
    assert scored.accuracy == pytest.approx(1 - 28 / came.sum())  # one off at each
    assert scored.bias == pytest.approx(-28 / came.sum())
    assert scored.coverage == 0.0
    assert scored.last.skill == pytest.approx(0.5)  # the last value is two off
    assert scored.ets is not None
    assert scored.ets.origins == 2  # the third cannot be judged
    assert scored.ets.skill == pytest.approx(0.0)  # 2 off in sum, as we are


def test_bins_that_nobody_counted_are_not_judged() -> None:
    values = np.arange(40.0)
    values[20] = np.nan
    (told,) = backtest.tell([values], horizons=(1,), bin_seconds=60)
    (scored,) = backtest.score(values, told, None)
    assert scored.origins == 40 - 10 - 1 - 1


def test_horizons_are_minutes_rounded_up_to_bins() -> None:
    assert forecast.bins_ahead([5, 30, 60], 60) == [5, 30, 60]
    assert forecast.bins_ahead([5, 10, 25], 600) == [1, 3]
    assert forecast.bins_ahead([0.01], 60) == [1]


def test_the_table_has_all_that_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert forecast.main(["--trace", str(HOUR), "--horizon", "5", "60", "--ets-origins", "0"]) == 0
    out = capsys.readouterr().out
    for part in (
        "1-WAPE",
        "bias",
        "cover 95",
        "skill: last",
        "EWMA",
        "AutoETS",
        "requests",
        "input_tokens",
        "58 bins of 60 s",
    ):
        assert part in out
    assert "AutoETS is missing: left out by --ets-origins 0" in out
    assert "60 minutes: the trace is too short" in out


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("t_s,requests\n0,x\n", "line 2"),
        ("t_s,requests\n", "no rows"),
    ],
)
def test_what_is_no_trace_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, says: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(text)
    assert forecast.main(["--trace", str(path)]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("rows", [1, 2, 5])
@pytest.mark.parametrize("value", [0, 4])
def test_a_trace_of_hardly_anything_has_an_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: int, value: int
) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("t_s,requests\n" + "".join(f"{60 * i},{value}\n" for i in range(rows)))
    assert forecast.main(["--trace", str(path), "--horizon", "1", "10080", "--ets-origins", "0"]) == 0
    assert "too short" in capsys.readouterr().out


def test_traffic_that_is_too_thin_for_the_usual_promise_is_called_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "thin.csv"
    counts = np.random.default_rng(4).poisson(4, 400)
    path.write_text("t_s,requests,output_tokens\n" + "".join(f"{60 * i},{c},\n" for i, c in enumerate(counts)))
    assert forecast.main(["--trace", str(path), "--horizon", "5", "--ets-origins", "0"]) == 0
    out = capsys.readouterr().out
    assert "too thin for 0.85: with Poisson arrivals no one can exceed 0.6" in out
    assert "it takes 28 requests a bin" in out
    assert "output_tokens, 5 minutes: the trace says nothing about them" in out


def test_a_back_test_does_without_an_autoets_that_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    program = tmp_path / "no-autoets"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setattr(forecast.autoets, "PYTHON", program)
    assert forecast.main(["--trace", str(HOUR), "--horizon", "5", "--ets-origins", "10"]) == 0
    said = capsys.readouterr()
    assert "AutoETS is missing: its process ended with 3" in said.err
    assert "0.8" in said.out


def test_the_committed_traces_are_measured_when_no_folder_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(forecast.TRACES_VARIABLE, raising=False)
    monkeypatch.setattr(forecast.autoets, "available", lambda *, set_up: "not in this test")
    monkeypatch.setattr(forecast, "COMMITTED", TRACES / "nowhere")
    result = forecast.measure(quick=True)
    assert result.figures == []
    assert "AutoETS is missing: not in this test." in result.notes


def test_a_committed_trace_reads_as_its_readme_says() -> None:
    assert len(read_trace(HOUR, bin_seconds=10).requests) == 351
