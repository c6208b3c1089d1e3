"""Sketches: counts of values by bin, which can be added up, so that a quantile of a week is one of its samples.

Bins grow in proportion to the value, as in DDSketch (Masson, Rim, Lee: VLDB 2019): a bin's middle is
within RELATIVE_ERROR of everything in it. Quantiles are nearest-rank (percentile_disc in SQL).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# The published default of DDSketch: two digits are what people read off a percentile.
RELATIVE_ERROR = 0.01
LOG_GAMMA = math.log((1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR))
# What is nearer to zero than this counts as zero: below any unit that a field is measured in.
SMALLEST = 1e-9
# Bins of positive numbers begin at 1, of negative ones at -1 downwards; 0 holds zero.
OFFSET = 1 - math.floor(math.log(SMALLEST) / LOG_GAMMA)
# A state of this number or more is counted as this one: no known code or set of bits comes near.
OTHER_STATE = 32_767
_HALF = 32_768

Bins = npt.NDArray[np.int16]


def bins_of(values: npt.NDArray[np.floating]) -> Bins:
    """This will give each number's bin."""
    size = np.abs(values)
    with np.errstate(divide="ignore"):
        bins = np.ceil(np.log(size) / values.dtype.type(LOG_GAMMA)) + OFFSET
    bins[size < SMALLEST] = 0
    signed: Bins = (np.sign(values) * bins).astype(np.int16)
    return signed


def values_of(bins: Bins) -> npt.NDArray[np.float64]:
    """This will give the number that stands for each bin."""
    middle = 2 * np.exp((np.abs(bins).astype(np.float64) - OFFSET) * LOG_GAMMA) / (math.exp(LOG_GAMMA) + 1)
    return np.where(bins == 0, 0.0, np.sign(bins) * middle)


def states_of(values: npt.NDArray[np.floating]) -> Bins:
    """This will give each state's bin: the state itself."""
    states: Bins = np.clip(values, 0, OTHER_STATE).astype(np.int16)
    return states


@dataclass(frozen=True, slots=True, kw_only=True)
class Sketch:
    """Counts of values by cell and bin: one entry for each pair that occurs, ordered by cell, then bin."""

    cells: npt.NDArray[np.int32]
    bins: Bins
    counts: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.cells)


EMPTY = Sketch(cells=np.zeros(0, np.int32), bins=np.zeros(0, np.int16), counts=np.zeros(0, np.int64))


# Counting into a table of all cells and bins is faster than sorting, while that table is not much larger than what is
# counted.
_TABLE_PER_ENTRY, _SMALL_TABLE = 8, 1 << 16


def counted(cells: npt.NDArray[np.integer], bins: Bins) -> Sketch:
    """This will count bins by cell; the two arrays name one value each."""
    if not len(cells):
        return EMPTY
    table = _table(cells, bins)
    if table is not None:
        return table.sketch(np.bincount(table.places, minlength=table.size))
    # Half as many bytes sort in half the time, and there are seldom more cells than fit.
    narrow = int(cells.max()) < 1 << 16
    keys = np.sort(_keys(cells, bins).astype(np.uint32) if narrow else _keys(cells, bins))
    first = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
    return _from_keys(keys[first].astype(np.int64), np.diff(np.append(first, len(keys))))


def summed(cells: npt.NDArray[np.integer], bins: Bins, counts: npt.NDArray[np.integer]) -> Sketch:
    """This will add up entries that fall together."""
    if not len(cells):
        return EMPTY
    table = _table(cells, bins)
    if table is not None:
        return table.sketch(np.bincount(table.places, weights=counts, minlength=table.size))
    keys = _keys(cells, bins)
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    first = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
    return _from_keys(keys[first], np.add.reduceat(counts[order].astype(np.int64), first))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    """A place for each pair of a cell and a bin, cell by cell."""

    lowest: int
    width: int  # bins from the lowest to the highest
    size: int
    places: npt.NDArray[np.int64]

    def sketch(self, counts: npt.NDArray[np.number]) -> Sketch:
        there = np.flatnonzero(counts)
        return Sketch(
            cells=(there // self.width).astype(np.int32),
            bins=(there % self.width + self.lowest).astype(np.int16),
            counts=counts[there].astype(np.int64),
        )


def _table(cells: npt.NDArray[np.integer], bins: Bins) -> _Table | None:
    lowest, highest = int(bins.min()), int(bins.max())
    width = highest - lowest + 1
    size = (int(cells.max()) + 1) * width
    if size > max(_SMALL_TABLE, _TABLE_PER_ENTRY * len(cells)):
        return None
    places = cells.astype(np.int64) * width + (bins.astype(np.int64) - lowest)
    return _Table(lowest=lowest, width=width, size=size, places=places)


def _keys(cells: npt.NDArray[np.integer], bins: Bins) -> npt.NDArray[np.int64]:
    return (cells.astype(np.int64) << 16) | (bins.astype(np.int64) + _HALF)


def _from_keys(keys: npt.NDArray[np.int64], counts: npt.NDArray[np.integer]) -> Sketch:
    return Sketch(
        cells=(keys >> 16).astype(np.int32),
        bins=((keys & 0xFFFF) - _HALF).astype(np.int16),
        counts=counts.astype(np.int64),
    )


def quantile(sketch: Sketch, cell_count: int, share: float) -> tuple[Bins, npt.NDArray[np.bool_]]:
    """This will give the bin of each cell's quantile, and which cells have one."""
    totals = np.bincount(sketch.cells, sketch.counts, cell_count).astype(np.int64)
    known = totals > 0
    if not len(sketch):
        return np.zeros(cell_count, np.int16), known
    running = np.cumsum(sketch.counts)
    before = np.cumsum(totals) - totals
    # Rounding must not push 0.95 · 20 over 19.
    rank = np.maximum(1, np.ceil(np.round(share * totals, 9))).astype(np.int64)
    place = np.minimum(np.searchsorted(running, before + rank), len(running) - 1)
    return np.where(known, sketch.bins[place], 0).astype(np.int16), known
