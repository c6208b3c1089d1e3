"""Blocks: how cells lie in a row of the rollup tables, and how they are made of one again.

A row holds one field of E entities over M units, so that what a row costs is shared by many cells. Each
array has E · M elements, entity by entity, or one element that holds for all of them. NaN is unknown.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from control_plane.storage.copying import POSTGRES_EPOCH_US
from control_plane.storage.rollups import sketches
from control_plane.storage.rollups.cells import NO_REASON, STATISTICS, Cells, Numbers, entities_of
from control_plane.storage.rollups.fields import FieldKind
from control_plane.storage.rollups.sketches import Bins, Sketch

# Enough that a row's own bytes do not count, few enough that reading one entity does not read a fleet.
MOST_CELLS = 512
# Of nodes, which are asked for together, and of one unit, which is gathered soon.
MOST_CELLS_TOGETHER = 1024
# Of a field that is the same for all of them: one element does.
MOST_ENTITIES = 1024
# A row holds entities of one stretch of ids, which is as long as a power of two and begins at a multiple of it. So a
# reader knows all places where an entity's rows can begin.
STRETCHES = tuple(1 << power for power in range(MOST_ENTITIES.bit_length()))

QUANTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
# Statistics that are zero as a rule, and then not stored.
_OF_RESETS = ("resets", "reset_increase")
# A quantile's bin where nothing was known; no number has it.
NO_BIN = -32_768

COLUMNS = (
    "start", "first_entity", "last_entity", "layout_id", "field_id", "units", "entity_ids",
    "samples", "known", "reason", "minimum", "mean", "maximum", "p50", "p95", "p99",
    "last", "last_exact", "share", "increase", "seconds", "resets", "reset_increase", "entities", "buckets",
    "sketch",
)  # fmt: skip
# Element types by name: their object id (pg_type.dat), and what numpy calls them.
_ELEMENTS = {
    "smallint": (21, ">i2"), "integer": (23, ">i4"), "bigint": (20, ">i8"), "real": (700, ">f4"),
    "double": (701, ">f8"),
}  # fmt: skip
_ARRAYS = {
    "entity_ids": "integer", "samples": "integer", "known": "integer", "reason": "smallint",
    "minimum": "real", "mean": "real", "maximum": "real", "p50": "smallint", "p95": "smallint", "p99": "smallint",
    "last": "real", "last_exact": "double", "share": "real", "increase": "double", "seconds": "real",
    "resets": "integer", "reset_increase": "double", "entities": "integer", "buckets": "bigint",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldCells:
    """Cells, and the field that they are of."""

    field_id: int
    exact: bool  # the last value needs all the digits of a float8
    cells: Cells


def in_pieces(of: FieldCells) -> Iterable[tuple[FieldCells, int]]:
    """This will cut cells into what one row each may hold, with the length of its stretch of ids.

    Entities without samples are left out.
    """
    cells = of.cells
    has = cells.samples.reshape(-1, cells.units).any(axis=1)
    if not has.all():
        cells = entities_of(cells, cells.entity_ids[has])
    length = _stretch(cells)
    begins = np.flatnonzero(np.diff(cells.entity_ids // length, prepend=-1))
    for begin, end in pairwise([*begins.tolist(), len(cells.entity_ids)]):
        yield replace(of, cells=_slice(cells, begin, end)), length


def _stretch(cells: Cells) -> int:
    """This will give how many entities a row may hold: a power of two."""
    if is_constant(cells):
        return MOST_ENTITIES
    most = MOST_CELLS_TOGETHER if cells.entities is not None or cells.units == 1 else MOST_CELLS
    return 1 << (max(1, most // cells.units).bit_length() - 1)


def is_constant(cells: Cells) -> bool:
    """This will say whether arrays of one element will do for all cells."""
    if len(cells.sketch) or cells.buckets is not None:
        return False
    values: list[npt.NDArray[Any]] = [cells.samples, cells.known, *_statistics(cells).values()]
    return all(len(_shortened(each)) == 1 for each in values)


def _slice(cells: Cells, begin: int, end: int) -> Cells:
    """This will give the cells of the entities in places `begin` to `end`."""
    if begin == 0 and end >= len(cells.entity_ids):
        return cells
    first, last = begin * cells.units, end * cells.units
    entry, entry_end = np.searchsorted(cells.sketch.cells, (first, last))
    return replace(
        cells,
        entity_ids=cells.entity_ids[begin:end],
        samples=cells.samples[first:last],
        known=cells.known[first:last],
        reason=cells.reason[first:last],
        statistics={name: values[first:last] for name, values in cells.statistics.items()},
        sketch=Sketch(
            cells=cells.sketch.cells[entry:entry_end] - np.int32(first),
            bins=cells.sketch.bins[entry:entry_end],
            counts=cells.sketch.counts[entry:entry_end],
        ),
        buckets=None if cells.buckets is None else cells.buckets[first:last],
        entities=None if cells.entities is None else cells.entities[first:last],
    )


def copy_row(of: FieldCells, stretch: int) -> bytes:
    """This will give one row in COPY's binary format, with the columns of COLUMNS; in_pieces gave its `stretch`."""
    cells = of.cells
    first = int(cells.entity_ids[0]) // stretch * stretch
    arrays = _arrays(of)
    fixed = {
        "start": struct.pack(">q", cells.start_us - POSTGRES_EPOCH_US),
        "first_entity": struct.pack(">i", first),
        "last_entity": struct.pack(">i", first + stretch - 1),
        "layout_id": None if cells.layout_id is None else struct.pack(">i", cells.layout_id),
        "field_id": struct.pack(">h", of.field_id),
        "units": struct.pack(">h", cells.units),
    }
    out = [struct.pack(">h", len(COLUMNS))]
    for name in COLUMNS:
        if name in fixed:
            data = fixed[name]
        elif name == "sketch":
            data = sketch_bytes(cells.sketch, len(cells)) if len(cells.sketch) else None
        elif name in arrays:
            data = _array_bytes(arrays[name], _ARRAYS[name])
        else:
            data = None
        out += [struct.pack(">i", -1)] if data is None else [struct.pack(">i", len(data)), data]
    return b"".join(out)


def _arrays(of: FieldCells) -> dict[str, npt.NDArray[Any]]:
    cells = of.cells
    arrays: dict[str, npt.NDArray[Any]] = {"entity_ids": cells.entity_ids, "samples": _shortened(cells.samples)}
    if (cells.known != cells.samples).any():
        arrays["known"] = _shortened(cells.known)
    if (cells.reason != NO_REASON).any():
        arrays["reason"] = _shortened(cells.reason)
    for name, values in _statistics(cells).items():
        if not np.isnan(values).all():
            column = "last_exact" if name == "last" and of.exact else name
            # A counter that did not go back is the rule; no smallint is NaN.
            values = np.nan_to_num(values) if name in _OF_RESETS else values
            if name not in _OF_RESETS or values.any():
                arrays[column] = _shortened(values)
    if cells.entities is not None:
        arrays["entities"] = _shortened(cells.entities)
    if cells.buckets is not None:
        arrays["buckets"] = cells.buckets.ravel()
    if cells.kind is FieldKind.GAUGE and cells.known.any():
        arrays |= {name: _shortened(quantile_bins(cells, share)) for name, share in QUANTILES.items()}
    if cells.kind is FieldKind.STATE and cells.known.any():
        arrays["share"] = _shortened(last_share(cells))
    return arrays


def _statistics(cells: Cells) -> Mapping[str, Numbers]:
    """This will give the statistics as they are stored."""
    increase = cells.statistics.get("increase")
    if cells.kind is not FieldKind.COUNTER or increase is None or np.nan_to_num(increase).any():
        return cells.statistics
    # Over how long a counter of errors did not grow need not be known to the millisecond: they are mostly the same.
    return {**cells.statistics, "seconds": np.round(cells.statistics["seconds"], 1)}


def _shortened(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """This will give one element for many that are all the same."""
    first = values[:1]
    same = np.isnan(values).all() if np.isnan(first).any() else (values == first).all()
    return first if same else values


def _array_bytes(values: npt.NDArray[Any], kind: str) -> bytes:
    oid, dtype = _ELEMENTS[kind]
    out = np.empty(len(values), [("size", ">i4"), ("value", dtype)])
    out["size"] = np.dtype(dtype).itemsize
    out["value"] = values
    return struct.pack(">5i", 1, 0, oid, len(values), 1) + out.tobytes()


def quantile_bins(cells: Cells, share: float) -> Bins:
    """This will give the bin of a gauge's quantile in each cell; NO_BIN where nothing was known."""
    bins, has = sketches.quantile(cells.sketch, len(cells), share)
    constant = (cells.known > 0) & ~has
    out = np.where(has, bins, NO_BIN).astype(np.int16)
    out[constant] = sketches.bins_of(cells.statistics["minimum"][constant])
    return out


def last_share(cells: Cells) -> npt.NDArray[np.float64]:
    """This will give the share of what was known of a state that was its last value; NaN where nothing was."""
    share = np.where(cells.known > 0, 1.0, np.nan)
    entries = cells.sketch
    if len(entries):
        last = np.nan_to_num(cells.statistics["last"])
        is_last = entries.bins == sketches.states_of(last[entries.cells])
        share[entries.cells] = 0
        share[entries.cells[is_last]] = entries.counts[is_last] / cells.known[entries.cells[is_last]]
    return share


SKETCH_HEADER = struct.Struct("<BI")  # bytes of a count, number of entries


def sketch_bytes(sketch: Sketch, cell_count: int) -> bytes:
    """This will write a sketch: how many entries each cell has, the steps from bin to bin in it, and their counts.

    Small steps, most of them alike, and their high bytes by themselves, are what Postgres' own compression can make
    smaller. They are no arrays: the server would send each element by a call of its own.
    """
    lengths = np.bincount(sketch.cells, minlength=cell_count).astype("<u2")
    steps = np.diff(sketch.bins.astype(np.int32), prepend=0)
    begins = _begins(sketch.cells)
    steps[begins] = sketch.bins[begins]
    width = next(size for size in (1, 2, 4) if sketch.counts.max() < 1 << (8 * size))
    return b"".join((
        SKETCH_HEADER.pack(width, len(sketch)),
        lengths.tobytes(),
        steps.astype("<i2").view(np.uint8).reshape(-1, 2).T.tobytes(),
        sketch.counts.astype(f"<u{width}").tobytes(),
    ))  # fmt: skip


def sketch_of_bytes(data: bytes, cell_count: int) -> Sketch:
    """This will read it again."""
    width, entries = SKETCH_HEADER.unpack_from(data)
    lengths = np.frombuffer(data, "<u2", cell_count, SKETCH_HEADER.size)
    at = SKETCH_HEADER.size + 2 * cell_count
    low, high = np.frombuffer(data, np.uint8, 2 * entries, at).reshape(2, entries)
    return decoded_sketch(lengths, low, high, np.frombuffer(data, f"<u{width}", entries, at + 2 * entries))


def decoded_sketch(
    lengths: npt.NDArray[np.integer],
    low: npt.NDArray[np.uint8],
    high: npt.NDArray[np.uint8],
    counts: npt.NDArray[np.integer],
) -> Sketch:
    """This will make a sketch of how many entries each cell has, both bytes of the steps between bins, and counts."""
    steps = (low.astype(np.uint16) | (high.astype(np.uint16) << 8)).view(np.int16).astype(np.int64)
    cells = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    if not len(cells):
        return sketches.EMPTY
    # Each cell's first entry is a bin, not a step: the running sum starts anew there.
    running = np.cumsum(steps)
    begins = _begins(cells)
    offset = np.append(0, running[begins[1:] - 1])
    running -= np.repeat(offset, np.diff(np.append(begins, len(cells))))
    return Sketch(cells=cells, bins=running.astype(np.int16), counts=counts.astype(np.int64))


def _begins(cells: npt.NDArray[np.int32]) -> npt.NDArray[np.intp]:
    return np.flatnonzero(np.append(len(cells) > 0, np.diff(cells) != 0))


def with_resets(kind: FieldKind, statistics: dict[str, Numbers]) -> dict[str, Numbers]:
    """This will give counters the resets that are not stored because there were none."""
    if kind is FieldKind.COUNTER:
        unknown = np.isnan(statistics["increase"])
        for name in _OF_RESETS:
            statistics[name] = np.where(unknown, np.nan, np.nan_to_num(statistics[name]))
    return statistics


def cells_of_row(row: Mapping[str, Any], kind: FieldKind, *, unit_us: int) -> Cells:
    """This will make cells of a row; arrays come as numpy arrays, and what was not selected counts as not there."""
    entity_ids = row["entity_ids"]
    units = int(row["units"])
    count = len(entity_ids) * units

    def spread(name: str, nothing: float, dtype: Any) -> npt.NDArray[Any]:
        values = row.get(name)
        if values is None:
            return np.full(count, nothing, dtype)
        return np.full(count, values[0], dtype) if len(values) == 1 else values.astype(dtype)

    samples = spread("samples", 0, np.int32)
    statistics = {name: spread(name, np.nan, np.float64) for name in STATISTICS[kind]}
    if row.get("last_exact") is not None:
        statistics["last"] = spread("last_exact", np.nan, np.float64)
    buckets = row.get("buckets")
    return Cells(
        kind=kind,
        start_us=row["start"],
        unit_us=unit_us,
        units=units,
        entity_ids=entity_ids,
        samples=samples,
        known=samples if row.get("known") is None else spread("known", 0, np.int32),
        reason=spread("reason", NO_REASON, np.int16),
        statistics=with_resets(kind, statistics),
        sketch=sketches.EMPTY if row.get("sketch") is None else sketch_of_bytes(row["sketch"], count),
        layout_id=row.get("layout_id"),
        buckets=None if buckets is None else buckets.reshape(count, -1).astype(np.int64),
        entities=None if row.get("entities") is None else spread("entities", 0, np.int32),
    )
