"""Records of many nodes → blocks of columns, with one numpy pass per layout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from control_plane.ingest.layout import Layout
from control_plane.model.reason import Reason
from control_plane.model.sample import KNOWN, FloatArray, HistogramColumn, IntArray, SampleBlock
from optiinfra.catalogue import FieldSpec

# telemetry.proto: the reason stands in a NaN's low eight bits.
PAYLOAD_MASK = 0xFF
HIGHEST_PAYLOAD = KNOWN - 1


class Piece(NamedTuple):
    """Admitted records of one schema from one tick of one node."""

    layout: Layout
    records: bytes  # whole records
    entity_ids: npt.NDArray[np.int32]  # the database's ids, one per record
    node_id: int
    taken_at_us: int
    received_at_us: int
    clock_offset_seconds: float


def decode(pieces: Sequence[Piece]) -> tuple[list[SampleBlock], int]:
    """This will give the blocks of each layout, and the number of values refused as impossible."""
    groups: dict[Layout, list[Piece]] = {}
    for piece in pieces:
        groups.setdefault(piece.layout, []).append(piece)
    blocks, refused = [], 0
    for layout, group in groups.items():
        for each in (layout, layout.also):
            if each is not None:
                block, impossible = _decode_group(each, group)
                blocks.append(block)
                refused += impossible
    return blocks, refused


def _decode_group(layout: Layout, pieces: Sequence[Piece]) -> tuple[SampleBlock, int]:
    records = np.frombuffer(b"".join([p.records for p in pieces]), layout.dtype)
    counts = [len(p.entity_ids) for p in pieces]
    fields = layout.table.fields
    codes = np.full((len(records), len(fields)), int(Reason.NOT_SENT), np.uint8)
    columns: dict[str, npt.NDArray[np.floating]] = {}
    histograms: dict[str, HistogramColumn] = {}
    refused = 0
    for index, spec in enumerate(fields):
        found = layout.known.get(spec.name)
        if found is None:
            continue
        position, wire = found
        values = records[f"v{position}"]
        if spec.type == "histogram":
            sums = records[f"s{position}"]
            codes[:, index] = _codes(sums)
            histograms[spec.name] = HistogramColumn(bounds=wire.bounds, counts=values.astype(np.int64), sums=sums)
            refused += _refuse(codes[:, index], (values > np.iinfo(np.int64).max).any(axis=1) | np.isinf(sums))
            continue
        if spec.type == "real[]" and values.ndim == 1:  # a machine with one core
            values = values[:, np.newaxis]
        columns[spec.name] = values
        codes[:, index] = _codes(values if values.ndim == 1 else _first_or_nan(values))
        refused += _refuse(codes[:, index], _impossible(values, spec))
    block = SampleBlock(
        table=layout.table,
        node_ids=np.repeat(np.array([p.node_id for p in pieces], np.int32), counts),
        entity_ids=np.concatenate([p.entity_ids for p in pieces]),
        taken_at_us=np.repeat(np.array([p.taken_at_us for p in pieces], np.int64), counts),
        codes=codes,
        columns=columns,
        histograms=histograms,
        extra=_extra(layout, pieces, counts),
    )
    return block, refused


def _extra(layout: Layout, pieces: Sequence[Piece], counts: Sequence[int]) -> dict[str, FloatArray | IntArray]:
    if layout.table.name != "host":
        return {}
    return {
        "received_at": np.repeat(np.array([p.received_at_us for p in pieces], np.int64), counts),
        "clock_offset_seconds": np.repeat(np.array([p.clock_offset_seconds for p in pieces], np.float64), counts),
    }


def _first_or_nan(values: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """This will give what decides about an array: its first value, or NaN (payload 0) when a later one is."""
    first = values[:, 0]
    holes = np.isnan(values[:, 1:]).any(axis=1) & ~np.isnan(first)
    return np.where(holes, values.dtype.type(np.nan), first)


def _codes(values: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """This will give KNOWN where a value is a number, and its NaN's payload where it is not."""
    bits = values.view(f"<u{values.itemsize}") & PAYLOAD_MASK
    payload = np.minimum(bits, HIGHEST_PAYLOAD)
    return np.where(np.isnan(values), payload, KNOWN).astype(np.uint8)


def _impossible(values: npt.NDArray[np.floating], spec: FieldSpec) -> npt.NDArray[np.bool_]:
    """This will mark rows with a value outside the field's range; infinities are outside every range."""
    assert spec.minimum is not None
    assert spec.maximum is not None
    # A float32 of 1 + 1 ulp is rounding, not a lie: compare in the column's own precision.
    outside: npt.NDArray[np.bool_] = (values < values.dtype.type(spec.minimum)) | (
        values > values.dtype.type(spec.maximum)
    )
    return outside if outside.ndim == 1 else np.any(outside, axis=1)


def _refuse(codes: npt.NDArray[np.uint8], impossible: npt.NDArray[np.bool_]) -> int:
    wrong = impossible & (codes == KNOWN)
    codes[wrong] = int(Reason.OUT_OF_RANGE)
    return int(wrong.sum())
