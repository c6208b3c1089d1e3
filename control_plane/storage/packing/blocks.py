"""Blocks: samples of one node and hour whose entities were sampled at the same moments, a row for each column.

A node samples its GPUs together, so their moments are kept once. Entities that came or went within the hour, and
samples whose arrays have another length, make blocks of their own.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from control_plane.storage.copying import POSTGRES_EPOCH_US
from control_plane.storage.packing.codec import MOST_PLANES, Encoding, Packed, pack, unpack
from control_plane.storage.rollups.fields import FieldNumbers
from control_plane.storage.sample_rows import NO_SET, SampleRows
from control_plane.storage.samples import COLUMNS as SAMPLE_COLUMNS

HOUR_US = 3_600_000_000
# Samples of one entity in an hour that a smallint can count; beyond (at 0.1 s) they make several blocks.
MOST_SAMPLES = 32_767
MOMENT = "taken_at"
# The width of a column that has one series for all entities of a block: their moments.
SHARED = 0

COLUMNS = (
    "hour", "multiplier", "divisor", "node_id", "field_id", "block", "samples", "width", "encoding",
    "entity_ids", "base", "step", *(f"p{weight}" for weight in range(MOST_PLANES)), "missing",
)  # fmt: skip


@cache
def packed_columns(table: str) -> dict[str, str]:
    """This will give the columns of a sample table that are packed, with their types; the key is in every row."""
    key = ("node_id", "entity_id", MOMENT)
    return {name: kind for name, kind in SAMPLE_COLUMNS[table] if name not in key}


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedRow:
    """One column of one block."""

    hour_us: int
    node_id: int
    field_id: int
    block: int
    width: int  # values in each sample; SHARED: one series for all entities
    entity_ids: npt.NDArray[np.int32]
    packed: Packed


def packed_rows(
    rows: SampleRows, numbers: FieldNumbers, *, hour_us: int, next_block: dict[int, int]
) -> Iterator[PackedRow]:
    """This will pack samples of one hour. `rows` hold every column that has a value, ordered by entity and time.

    `next_block` says, and is told, which number each node's next block gets.
    """
    for node_id, entities in _blocks(rows):
        number = next_block.setdefault(node_id, 0)
        next_block[node_id] = number + 1
        index = np.concatenate([np.arange(begin, end) for begin, end in entities])
        length = len(index) // len(entities)
        moments = PackedRow(
            hour_us=hour_us,
            node_id=node_id,
            field_id=numbers[rows.table, MOMENT],
            block=number,
            width=SHARED,
            entity_ids=rows.entity_ids[[begin for begin, _ in entities]],
            packed=pack((rows.taken_at_us[index[:length]] - hour_us).astype(np.float64)[np.newaxis]),
        )
        yield moments
        for name in packed_columns(rows.table):
            values = rows.columns.get(name)
            if name == "unknown_set_id":
                values = np.where(rows.unknown_set_ids == NO_SET, np.nan, rows.unknown_set_ids.astype(np.float64))
            if values is None or np.isnan(mine := values[index]).all():
                continue
            width = 1 if mine.ndim == 1 else mine.shape[1]
            # (entities, samples, width) → one series for each entity and place
            series = mine.reshape(len(entities), length, width).transpose(0, 2, 1).reshape(-1, length)
            packed = pack(np.ascontiguousarray(series))
            yield replace(moments, field_id=numbers[rows.table, name], width=width, packed=packed)


def _blocks(rows: SampleRows) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """This will group entities by node and moments: node id, and the rows from … to of each entity."""
    if not len(rows):
        return
    begins = np.flatnonzero(np.append(True, np.diff(rows.entity_ids) != 0)).tolist()
    found: dict[tuple[int, bytes], list[tuple[int, int]]] = {}
    assert rows.node_ids is not None
    for begin, end in zip(begins, [*begins[1:], len(rows)], strict=True):
        for part in range(begin, end, MOST_SAMPLES):
            stop = min(end, part + MOST_SAMPLES)
            key = (int(rows.node_ids[part]), rows.taken_at_us[part:stop].tobytes())
            found.setdefault(key, []).append((part, stop))
    for (node_id, _), entities in found.items():
        yield node_id, entities


def copy_row(row: PackedRow) -> bytes:
    """This will give one row in COPY's binary format, with the columns of COLUMNS."""
    packed = row.packed
    fields: list[bytes | None] = [
        struct.pack(">q", row.hour_us - POSTGRES_EPOCH_US),
        struct.pack(">q", packed.multiplier),
        struct.pack(">q", packed.divisor),
        struct.pack(">i", row.node_id),
        *(struct.pack(">h", n) for n in (row.field_id, row.block, packed.length, row.width, packed.encoding)),
        _array(row.entity_ids, 23, ">i4"),
        _array(_shared(packed.base), 20, ">i8"),
        None if packed.step is None else _array(_shared(packed.step), 20, ">i8"),
    ]
    for weight in range(MOST_PLANES):
        plane = packed.planes[weight] if weight < len(packed.planes) else None
        fields.append(plane.tobytes() if plane is not None and plane.any() else None)
    fields.append(None if packed.missing is None else packed.missing.tobytes())
    out = [struct.pack(">h", len(fields))]
    for data in fields:
        out += [struct.pack(">i", -1)] if data is None else [struct.pack(">i", len(data)), data]
    return b"".join(out)


def _shared(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """This will give one element for many that are the same."""
    return values[:1] if (values == values[0]).all() else values


def _array(values: npt.NDArray[Any], oid: int, kind: str) -> bytes:
    out = np.empty(len(values), [("size", ">i4"), ("value", kind)])
    out["size"] = np.dtype(kind).itemsize
    out["value"] = values
    return struct.pack(">5i", 1, 0, oid, len(values), 1) + out.tobytes()


def of_row(row: Mapping[str, Any]) -> PackedRow:
    """This will make a packed row of one from the database; `hour` comes as microseconds since 1970."""
    entity_ids = row["entity_ids"].astype(np.int32)
    base, step, length = row["base"], row["step"], row["samples"]
    planes = [row[f"p{weight}"] for weight in range(MOST_PLANES)]
    series = len(entity_ids) * row["width"] if row["width"] != SHARED else 1
    used = max((weight + 1 for weight, plane in enumerate(planes) if plane is not None), default=0)
    nothing = np.zeros(series * length, np.uint8)
    packed = Packed(
        length=length,
        encoding=Encoding(row["encoding"]),
        multiplier=row["multiplier"],
        divisor=row["divisor"],
        base=np.broadcast_to(base, (series,)),
        step=None if step is None else np.broadcast_to(step, (series,)),
        planes=[nothing if plane is None else np.frombuffer(plane, np.uint8) for plane in planes[:used]],
        missing=None if row["missing"] is None else np.frombuffer(row["missing"], np.uint8),
    )
    return PackedRow(
        hour_us=row["hour"], node_id=row["node_id"], field_id=row["field_id"], block=row["block"],
        width=row["width"], entity_ids=entity_ids, packed=packed,
    )  # fmt: skip


def values_of(row: PackedRow, kind: str, entities: Sequence[int]) -> npt.NDArray[np.floating]:
    """This will give the values of the entities in the given places of a row: (entities · samples[, width])."""
    values = unpack(row.packed, np.dtype(np.float32 if kind in ("real", "real[]") else np.float64))
    if row.width == SHARED:
        return np.tile(values[0], len(entities))
    shaped = values.reshape(len(row.entity_ids), row.width, row.packed.length)[list(entities)]
    if kind.endswith("[]"):
        return shaped.transpose(0, 2, 1).reshape(-1, row.width)
    return shaped.reshape(-1)
