"""Rows of rollups as one list of cells: a question about one entity reads a cell or sixty of each of many rows, and
what is done row by row costs more than all that is done with their numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from control_plane.storage.rollups import sketches
from control_plane.storage.rollups.blocks import SKETCH_HEADER, decoded_sketch, with_resets
from control_plane.storage.rollups.cells import NO_REASON, STATISTICS, Cells
from control_plane.storage.rollups.fields import FieldKind
from control_plane.storage.rollups.sketches import Sketch

Run = tuple[int, int]  # from and to, in places of a row's entities


def listed(
    rows: Sequence[Mapping[str, Any]], kind: FieldKind, *, unit_us: int, wanted: npt.NDArray[np.int32] | None
) -> Cells | None:
    """This will list the cells of rows of one field and layout; None when none of them is wanted.

    `wanted` leaves out what is of other entities. What rows do not have counts as not there.
    """
    picked = [(row, run) for row in rows for run in _runs(row["entity_ids"], wanted)]
    if not picked:
        return None
    counts = [(end - begin) * row["units"] for row, (begin, end) in picked]
    total = sum(counts)

    def column(name: str, nothing: float, dtype: Any) -> npt.NDArray[Any]:
        out = np.full(total, nothing, dtype)
        at = 0
        for (row, (begin, end)), count in zip(picked, counts, strict=True):
            values = row.get(name)
            if values is not None:
                units = row["units"]
                out[at : at + count] = values[0] if len(values) == 1 else values[begin * units : end * units]
            at += count
        return out

    samples = column("samples", 0, np.int32)
    statistics = {name: column(name, np.nan, np.float64) for name in STATISTICS[kind] if _any(rows, name)}
    nothing = np.full(total, np.nan)
    statistics = {name: statistics.get(name, nothing) for name in STATISTICS[kind]}
    if kind is FieldKind.STATE and _any(rows, "last_exact"):
        exact = column("last_exact", np.nan, np.float64)
        statistics["last"] = np.where(np.isnan(exact), statistics["last"], exact)
    known = column("known", -1, np.int32) if _any(rows, "known") else samples
    return Cells(
        kind=kind,
        start_us=0,
        unit_us=unit_us,
        units=1,
        entity_ids=np.concatenate([np.repeat(row["entity_ids"][b:e], row["units"]) for row, (b, e) in picked]),
        samples=samples,
        known=np.where(known < 0, samples, known),
        reason=column("reason", NO_REASON, np.int16),
        statistics=with_resets(kind, statistics),
        sketch=_sketch(picked),
        layout_id=picked[0][0].get("layout_id"),
        buckets=_buckets(picked),
        entities=column("entities", 0, np.int32) if _any(rows, "entities") else None,
        starts_us=np.concatenate([
            np.tile(row["start"] + np.arange(row["units"], dtype=np.int64) * unit_us, e - b) for row, (b, e) in picked
        ]),
    )  # fmt: skip


def _any(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    return any(row.get(name) is not None for row in rows)


def _runs(entity_ids: npt.NDArray[np.int32], wanted: npt.NDArray[np.int32] | None) -> Iterator[Run]:
    """This will give the stretches of a row's entities that are wanted."""
    if wanted is None:
        yield 0, len(entity_ids)
        return
    if len(wanted) == 1:
        place = int(np.searchsorted(entity_ids, wanted[0]))
        if place < len(entity_ids) and entity_ids[place] == wanted[0]:
            yield place, place + 1
        return
    places = np.flatnonzero(np.isin(entity_ids, wanted, assume_unique=True))
    if len(places):
        breaks = np.flatnonzero(np.diff(places) != 1) + 1
        for begin, end in pairwise([0, *breaks.tolist(), len(places)]):
            yield int(places[begin]), int(places[end - 1]) + 1


def _sketch(picked: Sequence[tuple[Mapping[str, Any], Run]]) -> Sketch:
    if not any(row.get("sketch") for row, _ in picked):
        return sketches.EMPTY
    parts: list[tuple[npt.NDArray[Any], ...]] = []
    for row, (begin, end) in picked:
        units, data = row["units"], row.get("sketch")
        first, last = begin * units, end * units
        if not data:
            parts.append((np.zeros(last - first, np.uint16), *(np.zeros(0, np.uint8),) * 3))
            continue
        width, entries = SKETCH_HEADER.unpack_from(data)
        cells = len(row["entity_ids"]) * units
        lengths = np.frombuffer(data, "<u2", cells, SKETCH_HEADER.size)
        at = SKETCH_HEADER.size + 2 * cells
        skipped, mine = int(lengths[:first].sum()), int(lengths[first:last].sum())
        kept = slice(skipped, skipped + mine)
        parts.append((
            lengths[first:last],
            np.frombuffer(data, np.uint8, entries, at)[kept],
            np.frombuffer(data, np.uint8, entries, at + entries)[kept],
            np.frombuffer(data, f"<u{width}", entries, at + 2 * entries)[kept],
        ))  # fmt: skip
    lengths, low, high, counts = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return decoded_sketch(lengths, low, high, counts)


def _buckets(picked: Sequence[tuple[Mapping[str, Any], Run]]) -> npt.NDArray[np.int64] | None:
    if picked[0][0].get("buckets") is None:
        return None
    out = []
    for row, (begin, end) in picked:
        units = row["units"]
        out.append(row["buckets"].reshape(len(row["entity_ids"]) * units, -1)[begin * units : end * units])
    return np.concatenate(out).astype(np.int64)
