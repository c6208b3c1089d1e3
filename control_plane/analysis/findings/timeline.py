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
    """This will give GPUs by class, watts, requests and tokens in each step."""
    bins = len(facts.starts_us)
    together = max(1, -(-bins // MOST_STEPS))
    steps = -(-bins // together)
    cells = facts.gpu_cells
    at = np.minimum(np.searchsorted(facts.starts_us, cells.starts_us), max(bins - 1, 0)) // together
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
            values = facts.demand.values[list(facts.demand.subjects).index(FLEET), number]
            padded = np.append(values, np.full(steps * together - bins, np.nan)).reshape(steps, together)
            sums = np.where(np.isnan(padded).all(axis=1), np.nan, np.nansum(padded, axis=1))
            demanded[name] = [None if np.isnan(v) else round(float(v), 2) for v in sums]
    origin = int(facts.starts_us[0]) if bins else 0
    body = {
        "step_seconds": length,
        "at": [
            facts.since + timedelta(seconds=(int(facts.starts_us[n * together]) - origin) / SECOND_US)
            for n in range(steps)
        ],
        "gpus_by_class": {name: [round(float(v), 4) for v in values] for name, values in classes.items()},
        "watts": [round(float(v), 1) for v in joules / length],
        "demand": demanded,
    }
    return Draft(kind=KIND, subject_kind="fleet", subject="fleet", body=body)
