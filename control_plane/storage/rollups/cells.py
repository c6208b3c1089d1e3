"""Cells: what is known of one field of many entities, unit of time by unit of time.

A cell is one entity in one unit. Cells of several looks, sources or units are merged here, and nowhere
else; merging gives what the samples themselves would have given, up to the sketch's error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from control_plane.storage.rollups import sketches
from control_plane.storage.rollups.fields import FieldKind
from control_plane.storage.rollups.sketches import Sketch

NO_REASON = -1

# The statistics that a cell holds, by kind; NaN where there is none.
STATISTICS: Mapping[FieldKind, tuple[str, ...]] = {
    FieldKind.GAUGE: ("minimum", "mean", "maximum", "last"),
    FieldKind.STATE: ("last",),
    FieldKind.COUNTER: ("last", "increase", "seconds", "resets", "reset_increase"),
    FieldKind.HISTOGRAM: ("increase", "seconds"),
}

Numbers = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]  # a cell's number in another grid; -1 for none


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """One field of E entities over M units, entity by entity: cell e · M + u; or any list of cells, with `starts_us`.

    A gauge's or state's cell without entries in the sketch was constant: everything known was `minimum`, or `last`.
    """

    kind: FieldKind
    start_us: int
    unit_us: int
    units: int
    entity_ids: npt.NDArray[np.int32]  # (E,), ascending
    samples: npt.NDArray[np.int32]  # (E·M,), rows, known or not
    known: npt.NDArray[np.int32]
    reason: npt.NDArray[np.int16]  # why the last unknown one was unknown; NO_REASON when none was
    statistics: Mapping[str, Numbers] = field(default_factory=dict)
    sketch: Sketch = sketches.EMPTY
    layout_id: int | None = None  # histograms: whose bounds the buckets have
    buckets: npt.NDArray[np.int64] | None = None  # (E·M, B)
    entities: npt.NDArray[np.int32] | None = None  # (E·M,) of nodes and the fleet: how many of theirs were sampled
    # A list: M is 1, and each cell has its own entity, not in order, and its own start.
    starts_us: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def end_us(self) -> int:
        """This will give where the last unit ends."""
        return self.start_us + self.units * self.unit_us

    @property
    def unit_starts_us(self) -> npt.NDArray[np.int64]:
        """This will give each cell's start."""
        if self.starts_us is not None:
            return self.starts_us
        starts = self.start_us + np.arange(self.units, dtype=np.int64) * self.unit_us
        return np.tile(starts, len(self.entity_ids))


def empty(like: Cells, *, start_us: int, units: int, entity_ids: npt.NDArray[np.int32], unit_us: int) -> Cells:
    """This will give a grid of the same field in which there is nothing."""
    count = len(entity_ids) * units
    return replace(
        like,
        start_us=start_us,
        unit_us=unit_us,
        units=units,
        entity_ids=entity_ids,
        samples=np.zeros(count, np.int32),
        known=np.zeros(count, np.int32),
        reason=np.full(count, NO_REASON, np.int16),
        statistics={name: np.full(count, np.nan) for name in STATISTICS[like.kind]},
        sketch=sketches.EMPTY,
        buckets=None if like.buckets is None else np.zeros((count, like.buckets.shape[1]), np.int64),
        entities=None if like.entities is None else np.zeros(count, np.int32),
        starts_us=None,
    )


def without(cells: Cells, gone: npt.NDArray[np.bool_]) -> Cells:
    """This will empty the marked cells."""
    kept = ~gone[cells.sketch.cells]
    return replace(
        cells,
        samples=np.where(gone, 0, cells.samples).astype(np.int32),
        known=np.where(gone, 0, cells.known).astype(np.int32),
        reason=np.where(gone, NO_REASON, cells.reason).astype(np.int16),
        statistics={name: np.where(gone, np.nan, values) for name, values in cells.statistics.items()},
        sketch=Sketch(cells=cells.sketch.cells[kept], bins=cells.sketch.bins[kept], counts=cells.sketch.counts[kept]),
        buckets=None if cells.buckets is None else np.where(gone[:, np.newaxis], 0, cells.buckets),
        entities=None if cells.entities is None else np.where(gone, 0, cells.entities).astype(np.int32),
    )


def places(part: Cells, *, start_us: int, units: int, entity_ids: npt.NDArray[np.int32]) -> Places:
    """This will say where each cell of `part` lies in another grid of the same unit."""
    offset, rest = divmod(part.start_us - start_us, part.unit_us)
    assert rest == 0, "units of rollups begin where the clock's do"
    unit = offset + np.arange(part.units)
    entity = np.searchsorted(entity_ids, part.entity_ids)
    found = entity < len(entity_ids)
    found[found] = entity_ids[entity[found]] == part.entity_ids[found]
    inside = found[:, np.newaxis] & ((unit >= 0) & (unit < units))
    return np.where(inside, entity[:, np.newaxis] * units + unit, -1).ravel()


def laid_out(parts: Sequence[Cells], *, start_us: int, units: int, entity_ids: npt.NDArray[np.int32]) -> Cells:
    """This will lay parts, of which no two have the same cell, onto one grid of the same unit."""
    grid = empty(parts[0], start_us=start_us, units=units, entity_ids=entity_ids, unit_us=parts[0].unit_us)
    return merged([(p, places(p, start_us=start_us, units=units, entity_ids=entity_ids)) for p in parts], into=grid)


def coarser(cells: Cells, factor: int) -> Cells:
    """This will merge each `factor` units into one; there must be a whole number of them."""
    units, rest = divmod(cells.units, factor)
    assert rest == 0
    grid = empty(
        cells, start_us=cells.start_us, units=units, entity_ids=cells.entity_ids, unit_us=cells.unit_us * factor
    )
    return merged([(cells, np.arange(len(cells)) // factor)], into=grid)


def merged(parts: Sequence[tuple[Cells, Places]], *, into: Cells, across_entities: bool = False) -> Cells:
    """This will merge the cells of all parts that fall into the same place of the empty grid `into`.

    Those are of one entity at several times, or across entities of one unit: then the entities add up.
    """
    picked = [(part, np.flatnonzero((part.samples > 0) & (to >= 0)), to) for part, to in parts]
    target = np.concatenate([to[cells] for _, cells, to in picked])
    if not len(target):
        return into
    starts = np.concatenate([part.unit_starts_us[cells] for part, cells, _ in picked])
    order = np.lexsort((starts, target))
    first = np.flatnonzero(np.append(True, np.diff(target[order]) != 0))
    at = target[order][first]
    segments = _Segments(order=order, first=first)

    def column(name: str) -> npt.NDArray[Any]:
        return np.concatenate([getattr(part, name)[cells] for part, cells, _ in picked])

    into.samples[at] = segments.sum(column("samples"))
    into.known[at] = segments.sum(column("known"))
    reason = column("reason")
    into.reason[at] = segments.last(reason, reason != NO_REASON, NO_REASON)
    known = column("known")
    for name, values in into.statistics.items():
        given = np.concatenate([part.statistics[name][cells] for part, cells, _ in picked])
        values[at] = segments.statistic(name, given, known)
    if "mean" in into.statistics:  # rounding must not carry a mean out of its bounds
        into.statistics["mean"][at] = np.clip(
            into.statistics["mean"][at], into.statistics["minimum"][at], into.statistics["maximum"][at]
        )
    if into.buckets is not None:
        given_buckets = np.concatenate([part.buckets[cells] for part, cells, _ in picked if part.buckets is not None])
        into.buckets[at] = np.add.reduceat(given_buckets[order], first, axis=0)
    if into.entities is not None:
        counts = np.concatenate([
            np.ones(len(cells), np.int32) if part.entities is None else part.entities[cells]
            for part, cells, _ in picked
        ])  # fmt: skip
        into.entities[at] = (np.add if across_entities else np.maximum).reduceat(counts[order], first)
    return replace(into, sketch=_merged_sketch(parts, into))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Segments:
    """Values brought into the order of their target and time, and where each target begins."""

    order: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]

    def sum(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.add.reduceat(values[self.order], self.first)

    def last(self, values: npt.NDArray[Any], counts: npt.NDArray[np.bool_], nothing: float) -> npt.NDArray[Any]:
        """The newest of those that count."""
        place = np.where(counts[self.order], np.arange(len(values)), -1)
        newest = np.maximum.reduceat(place, self.first)
        return np.where(newest >= 0, values[self.order][newest], nothing)

    def statistic(self, name: str, values: Numbers, known: npt.NDArray[Any]) -> Numbers:
        has = ~np.isnan(values)
        match name:
            case "minimum":
                return np.fmin.reduceat(values[self.order], self.first)
            case "maximum":
                return np.fmax.reduceat(values[self.order], self.first)
            case "last":
                return self.last(values, has, np.nan).astype(np.float64)
            case "mean":
                weight = np.where(has, known, 0)
                total, weights = self.sum(np.where(has, values, 0) * weight), self.sum(weight)
            case _:  # growth, its seconds, and resets: they add up
                total, weights = self.sum(np.where(has, values, 0)), np.minimum(self.sum(has.astype(np.int64)), 1)
        with np.errstate(invalid="ignore"):
            quotient: Numbers = total.astype(np.float64) / weights
        return quotient


def explicit(cells: Cells) -> Sketch:
    """This will give the sketch with the entries of constant cells, which are otherwise implied."""
    if cells.kind not in (FieldKind.GAUGE, FieldKind.STATE):
        return sketches.EMPTY
    implied = cells.known > 0
    implied[cells.sketch.cells] = False
    constant = np.flatnonzero(implied)
    if cells.kind is FieldKind.GAUGE:
        bins = sketches.bins_of(cells.statistics["minimum"][constant])
    else:
        bins = sketches.states_of(cells.statistics["last"][constant])
    return sketches.summed(
        np.concatenate([cells.sketch.cells, constant]),
        np.concatenate([cells.sketch.bins, bins]),
        np.concatenate([cells.sketch.counts, cells.known[constant]]),
    )


def _merged_sketch(parts: Sequence[tuple[Cells, Places]], into: Cells) -> Sketch:
    if into.kind not in (FieldKind.GAUGE, FieldKind.STATE):
        return sketches.EMPTY
    found = []
    for part, to in parts:
        sketch = explicit(part)
        target = to[sketch.cells]
        kept = target >= 0
        found.append((target[kept], sketch.bins[kept], sketch.counts[kept]))
    whole = sketches.summed(*(np.concatenate([entry[place] for entry in found]) for place in range(3)))
    return implied_left_out(whole, into)


def implied_left_out(sketch: Sketch, cells: Cells) -> Sketch:
    """This will leave out the entries of cells that were constant."""
    if cells.kind is FieldKind.GAUGE:
        varied = cells.statistics["minimum"] != cells.statistics["maximum"]
    else:
        varied = np.bincount(sketch.cells, minlength=len(cells)) > 1
    kept = varied[sketch.cells]
    return Sketch(cells=sketch.cells[kept], bins=sketch.bins[kept], counts=sketch.counts[kept])


def entities_of(cells: Cells, wanted: npt.NDArray[np.int32]) -> Cells:
    """This will give the cells of the entities that are in `wanted`, in ascending order."""
    found = np.intersect1d(cells.entity_ids, wanted).astype(np.int32)
    return laid_out([cells], start_us=cells.start_us, units=cells.units, entity_ids=found)
