"""Trends as people are told them: of demand and of resources, and what a series is too short to say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from control_plane.analysis.findings.gpu_use import Gpu
from control_plane.analysis.trends.demand import FLEET, SERIES, Demand, Subject
from control_plane.analysis.trends.shape import STRONG, Numbers, Shape, shape_of
from control_plane.analysis.utilization.looks import SECOND_US, Integers
from control_plane.model.finding import Draft
from control_plane.model.use import CLASS_OF, Cause, Cells, Owner, UseClass

KIND = "trend"
# Resource → its unit; a mean over the GPU time of each bin.
RESOURCES: Mapping[str, str] = {
    "gpu_busy": "ratio", "gpu_roofline": "ratio", "gpu_useful": "ratio", "gpu_memory_used": "bytes per GPU",
    "gpu_power": "watts per GPU", "gpus": "GPUs",
}  # fmt: skip
DEMAND_UNITS = {
    "requests": "requests", "requests_busiest_minute": "requests of the busiest minute", "prompt_tokens": "tokens",
    "output_tokens": "tokens",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TrendFacts:
    """What trends are made of: everything by bins of one width."""

    gpu_cells: Cells
    gpus: Mapping[int, Gpu]
    owners: Mapping[int, Owner]
    demand: Demand
    starts_us: Integers
    bin_seconds: float
    since: datetime
    until: datetime


def drafts(facts: TrendFacts) -> list[Draft]:
    """This will describe the fleet, each model and each node."""
    series: dict[Subject, list[tuple[str, str, Numbers]]] = {}
    for place, subject in enumerate(facts.demand.subjects):
        if subject[0] == "server":
            continue
        of = series.setdefault(subject, [])
        of += [
            (name, f"{DEMAND_UNITS[name]} in {_width(facts.bin_seconds)}", facts.demand.values[place, number])
            for number, name in enumerate(SERIES)
        ]
    for subject, found in _resources(facts).items():
        series.setdefault(subject, []).extend((name, RESOURCES[name], values) for name, values in found.items())
    return [_draft(facts, subject, found) for subject, found in series.items()]


def _width(seconds: float) -> str:
    return "an hour" if seconds == 3600 else f"{seconds / 60:g} minutes"


def _resources(facts: TrendFacts) -> dict[Subject, dict[str, Numbers]]:
    cells = facts.gpu_cells
    subjects: dict[Subject, list[int]] = {FLEET: list(range(len(cells)))} if len(cells) else {}
    for row, (gpu_id, owner_id) in enumerate(zip(cells.entity_ids, cells.owner_ids, strict=True)):
        gpu, model = facts.gpus.get(int(gpu_id)), facts.owners[int(owner_id)].model
        if gpu is not None:
            subjects.setdefault(("node", gpu.node), []).append(row)
        if model is not None:
            subjects.setdefault(("model", model), []).append(row)
    at = np.minimum(np.searchsorted(facts.starts_us, cells.starts_us), max(len(facts.starts_us) - 1, 0))
    return {subject: _of(facts, at, np.asarray(rows)) for subject, rows in subjects.items()}


def _of(facts: TrendFacts, at: Integers, rows: Integers) -> dict[str, Numbers]:
    bins, columns = len(facts.starts_us), facts.gpu_cells.columns

    def total(name: str) -> Numbers:
        found = np.bincount(at[rows], weights=np.nan_to_num(columns[name][rows]), minlength=bins)
        return np.asarray(found, np.float64)

    def ratio(part: Numbers, whole: Numbers) -> Numbers:
        return np.asarray(np.divide(part, whole, out=np.full(bins, np.nan), where=whole > 0), np.float64)

    def mean(name: str) -> Numbers:
        return ratio(total(f"{name}_sum"), total(f"{name}_seconds"))

    useful = sum(
        (total(f"use_{cause}_seconds") for cause in Cause if CLASS_OF[cause] is UseClass.USEFUL), np.zeros(bins)
    )
    observed = total("observed_seconds")
    return {
        "gpu_busy": mean("busy_ratio"),
        "gpu_roofline": mean("roofline_ratio"),
        "gpu_useful": ratio(np.asarray(useful, np.float64), observed),
        "gpu_memory_used": mean("memory_used_bytes"),
        "gpu_power": mean("power_draw_watts"),
        "gpus": np.where(total("paid_seconds") > 0, total("paid_seconds") / facts.bin_seconds, np.nan),
    }


def _draft(facts: TrendFacts, subject: Subject, found: Sequence[tuple[str, str, Numbers]]) -> Draft:
    kind, name = subject
    body = {
        kind: name,
        "bin_seconds": facts.bin_seconds,
        "series": [shown(series, unit, values, facts) for series, unit, values in found],
        "evidence": {
            "series": ["busy_ratio", "roofline_ratio", "memory_used_bytes", "power_draw_watts",
                       "requests_finished_total", "generation_tokens_total"],
            "since": facts.since,
            "until": facts.until,
            "numbers": {"bins": len(facts.starts_us)},
        },
    }  # fmt: skip
    return Draft(kind=KIND, subject_kind=kind, subject=name, body=body)


def shown(series: str, unit: str, values: Numbers, facts: TrendFacts) -> dict[str, Any]:
    """This will describe one series in words and numbers."""
    found = shape_of(values, bin_seconds=facts.bin_seconds)
    trend = None if found.trend is None else {
        "per_day": _digits(found.trend.per_day), "low": _digits(found.trend.low), "high": _digits(found.trend.high),
        "level": 0.95, "is_clear": found.trend.is_clear,
    }  # fmt: skip
    figures: dict[str, Any] = {
        "mean": None if found.mean is None else _digits(found.mean),
        "trend": trend,
        "daily_season_strength": found.daily_strength,
        "weekly_season_strength": found.weekly_strength,
    }
    why = {
        "mean": "never_known_in_window", "trend": "less_than_a_day_is_known",
        "daily_season_strength": "less_than_two_days_are_known",
        "weekly_season_strength": "less_than_two_weeks_are_known",
    }  # fmt: skip
    return {
        "series": series,
        "unit": unit,
        "bins_known": found.known,
        **figures,
        "changes": [
            {"at": _moment(facts, change.bin), "before": _digits(change.before), "after": _digits(change.after)}
            for change in found.changes
        ],
        "summary": summary(found),
        "unknown": {name: why[name] for name, value in figures.items() if value is None},
    }


def _moment(facts: TrendFacts, number: int) -> datetime:
    return facts.since + timedelta(seconds=(int(facts.starts_us[number]) - int(facts.starts_us[0])) / SECOND_US)


def _digits(value: float) -> float:
    return float(f"{value:.5g}")


def summary(found: Shape) -> str:
    """This will say in one line what a series does."""
    if found.mean is None:
        return "nothing of it is known"
    parts = []
    if found.trend is None:
        parts.append("too short for a trend")
    elif found.trend.is_clear:
        way = "grows" if found.trend.per_day > 0 else "falls"
        share = f" ({abs(found.trend.per_day / found.mean):.1%} of its mean)" if found.mean else ""
        parts.append(f"{way} by {_digits(abs(found.trend.per_day)):g} a day{share}")
    else:
        parts.append("no clear trend")
    seasons: tuple[tuple[str, Callable[[Shape], float | None]], ...] = (
        ("daily", lambda shape: shape.daily_strength), ("weekly", lambda shape: shape.weekly_strength),
    )  # fmt: skip
    parts += [f"a {name} season" for name, of in seasons if (of(found) or 0.0) >= STRONG]
    if found.changes:
        last = found.changes[-1]
        parts.append(f"last step from {_digits(last.before):g} to {_digits(last.after):g}")
    return "; ".join(parts)
