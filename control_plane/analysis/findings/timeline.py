"""A window of the fleet in steps: what its GPUs' time went into, and what was asked of its servers. For plots."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np

from control_plane.analysis.trends.demand import FLEET, SERIES
from control_plane.analysis.trends.trends import TrendFacts
from control_plane.analysis.utilization.looks import SECOND_US
from control_plane.model.finding import Draft
from control_plane.model.use import CLASS_OF, Cause, UseClass

KIND = "timeline"
# More steps than a plot has pixels for are merged.
MOST_STEPS = 200


def draft(facts: TrendFacts) -> Draft:
    """This will give GPUs by class, watts, requests and tokens in each step, from the first that is known on."""
    begin = _first_known(facts)
    starts, demand = facts.starts_us[begin:], facts.demand.values[:, :, begin:]
    bins = len(starts)
    together = max(1, -(-bins // MOST_STEPS))
    steps = -(-bins // together)
    cells = facts.gpu_cells
    at = np.minimum(np.searchsorted(starts, cells.starts_us), max(bins - 1, 0)) // together
    length = facts.bin_seconds * together

    def total(name: str) -> Any:
        return np.bincount(at, weights=np.nan_to_num(cells.columns[name]), minlength=steps)

    classes = {
        each.value: sum((total(f"use_{c}_seconds") for c in Cause if CLASS_OF[c] is each), np.zeros(steps)) / length
        for each in UseClass
    }
    joules = sum((total(f"use_{c}_joules") for c in Cause), np.zeros(steps))
    demanded = {}
    for number, name in enumerate(SERIES):
        if FLEET in facts.demand.subjects:
            values = demand[list(facts.demand.subjects).index(FLEET), number]
            padded = np.append(values, np.full(steps * together - bins, np.nan)).reshape(steps, together)
            sums = np.where(np.isnan(padded).all(axis=1), np.nan, np.nansum(padded, axis=1))
            demanded[name] = [None if np.isnan(v) else round(float(v), 2) for v in sums]
    origin = int(facts.starts_us[0]) if len(facts.starts_us) else 0
    body = {
        "step_seconds": length,
        "at": [facts.since + timedelta(seconds=(int(starts[n * together]) - origin) / SECOND_US) for n in range(steps)],
        "gpus_by_class": {name: [round(float(v), 4) for v in values] for name, values in classes.items()},
        "watts": [round(float(v), 1) for v in joules / length],
        "demand": demanded,
    }
    return Draft(kind=KIND, subject_kind="fleet", subject="fleet", body=body)


def _first_known(facts: TrendFacts) -> int:
    """This will give the first bin of which anything is known; all of them when nothing is."""
    known = ~np.isnan(facts.demand.values).all(axis=(0, 1)) if len(facts.demand.subjects) else np.zeros(0, bool)
    firsts = [int(np.argmax(known))] if known.any() else []
    if len(facts.gpu_cells):
        firsts.append(int(np.searchsorted(facts.starts_us, facts.gpu_cells.starts_us.min())))
    return min(firsts, default=0)
