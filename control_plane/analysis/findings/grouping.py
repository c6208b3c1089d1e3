"""Adding cells up by what they have in common."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from control_plane.model.use import Cells

Key = TypeVar("Key", bound=Hashable)
# Sums of one group, by column. NaN: nothing of it was known.
Sums = Mapping[str, float]
PEAKS = ("requests_arrived_minute_peak",)


def grouped(cells: Cells, keys: Sequence[Key]) -> dict[Key, Sums]:
    """This will add cells up by key, in the order in which keys first come."""
    places: dict[Key, int] = {}
    at = np.array([places.setdefault(key, len(places)) for key in keys], np.int64)
    count = len(places)
    columns = {}
    for name, values in cells.columns.items():
        known = ~np.isnan(values)
        if name in PEAKS:
            sums = np.full(count, -np.inf)
            np.maximum.at(sums, at[known], values[known])
        else:
            sums = np.bincount(at[known], weights=values[known], minlength=count).astype(np.float64)
        some = np.bincount(at[known], minlength=count) > 0
        columns[name] = np.where(some, sums, np.nan)
    return {key: {name: float(values[place]) for name, values in columns.items()} for key, place in places.items()}


def known(sums: Sums, name: str) -> float | None:
    """This will give a sum, or None when nothing of it was known."""
    value = sums.get(name)
    return None if value is None or np.isnan(value) else value


def mean(sums: Sums, name: str) -> float | None:
    """This will give a mean over the time in which it was known."""
    seconds, total = known(sums, f"{name}_seconds"), known(sums, f"{name}_sum")
    return None if not seconds or total is None else total / seconds


def ratio(part: float | None, whole: float | None) -> float | None:
    """This will divide; None when either is unknown or there was nothing to divide by."""
    return None if part is None or not whole else part / whole
