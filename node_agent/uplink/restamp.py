"""Moving recorded ticks in time: their stamps, and the moments among their values."""

from __future__ import annotations

import math
import struct

from node_agent.clock import Instant
from node_agent.uplink import wire
from node_agent.uplink.client import Outgoing
from optiinfra.telemetry.v1 import link_pb2, telemetry_pb2

_MOMENT = struct.Struct("<d")
# A value whose unit is a moment, not a duration: when an engine's counters began at zero.
_MOMENT_SUFFIX = "_unix_seconds"
_ENTITY_BYTES = 4


class Restamper:
    """Moves the ticks of one recording. It must see all of them, in order, since they name earlier schemas."""

    def __init__(self) -> None:
        """The schemas come with the ticks."""
        self._moments: dict[int, tuple[int, tuple[int, ...]]] = {}  # schema: record's size, moments' offsets

    def moved(self, outgoing: Outgoing, *, taken_at_unix_us: int, now: Instant) -> Outgoing:
        """This will give a copy that was taken at another time, on both clocks."""
        if outgoing.announce is not None:
            self._learn(outgoing.announce)
        shift_seconds = (taken_at_unix_us - outgoing.tick.taken_at_unix_us) / 1e6
        tick = telemetry_pb2.Tick()
        tick.CopyFrom(outgoing.tick)
        tick.taken_at_unix_us = taken_at_unix_us
        tick.taken_at_monotonic_us = wire.monotonic_us(now) - (wire.unix_us(now) - taken_at_unix_us)
        for event in tick.events:
            event.taken_at_unix_us += taken_at_unix_us - outgoing.tick.taken_at_unix_us
        for rows in tick.rows:
            size, offsets = self._moments.get(rows.schema_id, (0, ()))
            if offsets and shift_seconds:
                rows.records = _shifted(rows.records, size, offsets, shift_seconds)
        return Outgoing(announce=outgoing.announce, tick=tick)

    def _learn(self, announce: link_pb2.Announce) -> None:
        for schema in announce.schemas:
            position, offsets = _ENTITY_BYTES, []
            for field in schema.fields:
                if field.name.endswith(_MOMENT_SUFFIX) and field.type == telemetry_pb2.VALUE_TYPE_F64:
                    offsets.append(position)
                position += _width(field)
            self._moments[schema.id] = position, tuple(offsets)


def row_bytes(schema: telemetry_pb2.Schema) -> int:
    """This will give the bytes of one record of a schema."""
    return _ENTITY_BYTES + sum(_width(field) for field in schema.fields)


def _width(field: telemetry_pb2.Field) -> int:
    """This will give the bytes that a field takes in a record; telemetry.proto says how they lie."""
    if field.type == telemetry_pb2.VALUE_TYPE_F32:
        return 4 * field.count
    if field.type == telemetry_pb2.VALUE_TYPE_F64:
        return 8 * field.count
    return 8 + 8 * field.count


def _shifted(records: bytes, size: int, offsets: tuple[int, ...], seconds: float) -> bytes:
    moved = bytearray(records)
    for start in range(0, len(moved) - size + 1, size):
        for offset in offsets:
            (moment,) = _MOMENT.unpack_from(moved, start + offset)
            if not math.isnan(moment):  # an unknown one keeps its reason
                _MOMENT.pack_into(moved, start + offset, moment + seconds)
    return bytes(moved)
