"""Looks, summed up by GPU and stretch of time: many GPUs at once, in columns that can be added up further."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from control_plane.analysis.utilization.judging import ACTIVITIES, Judged
from control_plane.analysis.utilization.looks import Looks, Numbers
from control_plane.analysis.utilization.summary import roofline
from control_plane.analysis.waste.division import CAUSES, NUMBER, Division
from control_plane.model.use import KEPT_MEANS, Cause

# Rounding of float sums of an hour of seconds.
SLACK_SECONDS = 1e-3


def gpu_cells(
    looks: Looks, judged: Judged, division: Division, *, groups: npt.NDArray[np.int64], paid_seconds: Numbers
) -> Mapping[str, Numbers]:
    """This will sum looks up by group; `paid_seconds` has the wall time of each. A group of -1 counts nowhere.

    Gives the columns of GPU_USE. What no look covers of a group's time had no samples. ValueError when looks cover more
    than is paid.
    """
    count = len(paid_seconds)
    inside = groups >= 0
    at, seconds = groups[inside], (division.busy_seconds + division.rest_seconds)[inside]
    columns = {
        "paid_seconds": paid_seconds,
        "observed_seconds": _sum(at, seconds, count),
        "power_capped_seconds": _sum(at, seconds * judged.power_capped[inside], count),
        "slowed_seconds": _sum(at, seconds * judged.slowed[inside], count),
        "classic_seconds": _sum(at, seconds * judged.weak[inside], count),
        "energy_seconds": _sum(at, seconds * ~np.isnan(division.joules[inside]), count),
    }
    columns |= _uses(division, inside, at, count)
    missing = paid_seconds - columns["observed_seconds"]
    if (missing < -SLACK_SECONDS).any():
        raise ValueError(f"looks cover {-missing.min():g} s more than is paid")
    columns[f"use_{Cause.NO_SAMPLES}_seconds"] += np.maximum(missing, 0.0)
    by_activity = _sums(at, judged.activity[inside], seconds, count, len(ACTIVITIES))
    columns |= {f"activity_{a}_seconds": by_activity[:, code] for code, a in enumerate(ACTIVITIES)}
    made = {"busy_ratio": judged.duty, "roofline_ratio": roofline(looks)}
    for name in KEPT_MEANS:
        values = (made[name] if name in made else looks.column(name))[inside]
        known = ~np.isnan(values)
        columns[f"{name}_sum"] = _sum(at, np.where(known, values, 0.0) * seconds, count)
        columns[f"{name}_seconds"] = _sum(at, seconds * known, count)
    return columns


def _uses(
    division: Division, inside: npt.NDArray[np.bool_], at: npt.NDArray[np.int64], count: int
) -> dict[str, Numbers]:
    whole = (division.busy_seconds + division.rest_seconds)[inside]
    joules = np.nan_to_num(division.joules[inside])
    by_seconds, by_joules = np.zeros((count, len(CAUSES))), np.zeros((count, len(CAUSES)))
    for causes, part in (
        (division.busy_cause[inside], division.busy_seconds[inside]),
        (division.rest_cause[inside], division.rest_seconds[inside]),
    ):
        share = np.divide(part, whole, out=np.zeros_like(whole), where=whole > 0)
        by_seconds += _sums(at, causes, part, count, len(CAUSES))
        by_joules += _sums(at, causes, joules * share, count, len(CAUSES))
    uses = {f"use_{cause}_seconds": by_seconds[:, NUMBER[cause]] for cause in CAUSES}
    return uses | {f"use_{cause}_joules": by_joules[:, NUMBER[cause]] for cause in CAUSES}


def _sum(at: npt.NDArray[np.int64], values: Numbers, count: int) -> Numbers:
    return np.bincount(at, weights=values, minlength=count).astype(np.float64)


def _sums(
    at: npt.NDArray[np.int64], codes: npt.NDArray[np.integer], values: Numbers, count: int, width: int
) -> Numbers:
    flat = np.bincount(at * width + codes, weights=values, minlength=count * width)
    return flat.astype(np.float64).reshape(count, width)
