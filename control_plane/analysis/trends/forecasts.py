"""What will come, as people are told it: expected, at most, how such forecasts came out, and what chance allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from control_plane.analysis.forecast.forecaster import Forecaster
from control_plane.analysis.forecast.thin import best_accuracy, requests_needed
from control_plane.analysis.trends.demand import SERIES, UNITS, Subject
from control_plane.model.finding import Draft
from control_plane.model.forecast import Forecast

KIND = "forecast"
# What is commonly promised of forecasts of demand.
WANTED_ACCURACY = 0.85
# Fewer forecasts that came true or not say nothing about the next.
ENOUGH = 20
COUNTS = ("requests", "requests_busiest_minute")


def drafts(
    forecaster: Forecaster, subjects: Sequence[Subject], *, bin_seconds: float, evidence: Mapping[str, Any],
    kinds: Sequence[str],
) -> list[Draft]:  # fmt: skip
    """This will give what is forecast of each subject of these kinds; its series lie one after the other."""
    out = []
    for place, (kind, name) in enumerate(subjects):
        if kind not in kinds:
            continue
        series = [
            _series(series, forecaster.forecasts(place * len(SERIES) + number), bin_seconds)
            for number, series in enumerate(SERIES)
        ]
        body = {kind: name, "bin_seconds": bin_seconds, "series": series, "evidence": evidence}
        out.append(Draft(kind=KIND, subject_kind=kind, subject=name, body=body))
    return out


def _series(name: str, found: Sequence[Forecast], bin_seconds: float) -> dict[str, Any]:
    unit = UNITS[name] if bin_seconds < 3600 else UNITS[name].replace("5 minutes", "an hour")
    return {
        "series": name,
        "unit": unit,
        "forecasts": [shown(name, forecast) for forecast in found],
        "note": None if found else "nothing of it was counted yet",
        "unknown": {},
    }


def shown(name: str, forecast: Forecast) -> dict[str, Any]:
    """This will show one forecast with its record, and with what its record is worth."""
    record = forecast.record
    ceiling = _ceiling(name, record.mean_per_bin)
    figures = {
        "expected": round(forecast.expected, 3),
        "at_most": round(forecast.at_most, 3),
        "accuracy": _rounded(record.accuracy),
        "bias_ratio": _rounded(record.bias),
        "coverage_ratio": _rounded(record.coverage),
        "skill_over_last_value": _rounded(record.skill),
        "mean_per_bin": None if record.mean_per_bin is None else round(record.mean_per_bin, 3),
        "best_possible_accuracy": _rounded(ceiling),
    }
    why = {
        "accuracy": "nothing_came_yet", "bias_ratio": "nothing_came_yet", "coverage_ratio": "no_forecast_came_due_yet",
        "skill_over_last_value": "the_last_value_was_never_wrong_yet", "mean_per_bin": "no_forecast_came_due_yet",
        "best_possible_accuracy": "of_counts_only" if name not in COUNTS else "no_forecast_came_due_yet",
    }  # fmt: skip
    note = _note(record.forecasts, ceiling)
    return {
        "horizon_seconds": forecast.horizon_seconds,
        "level": forecast.level,
        "forecasts_judged": record.forecasts,
        **figures,
        "note": note,
        "unknown": {n: why[n] for n, value in figures.items() if value is None},
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _ceiling(name: str, mean: float | None) -> float | None:
    """This will give the best accuracy that arrivals at random allow; of tokens nobody can say."""
    if name not in COUNTS or not mean:
        return None
    return best_accuracy([mean])


def _note(judged: int, ceiling: float | None) -> str | None:
    if judged < ENOUGH:
        return f"only {judged} forecasts could be judged so far: do not rely on them"
    if ceiling is not None and ceiling < WANTED_ACCURACY:
        return (
            f"too thin for {WANTED_ACCURACY:g}: with arrivals at random nobody can exceed {ceiling:.2f} in such bins; "
            f"it takes {requests_needed(WANTED_ACCURACY):.0f} a bin"
        )
    return None
