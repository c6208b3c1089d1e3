"""The other end of the wire, read by telemetry.proto's words alone: neither the agent's code nor ingest's."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field

from node_agent.model import Reason
from optiinfra.telemetry.v1 import link_pb2, telemetry_pb2

Decoded = float | Reason | tuple[float, ...] | tuple[float, tuple[int, ...]]


@dataclass
class Reader:
    """Reads a stream of announcements and ticks by telemetry.proto alone, without the agent's code."""

    schemas: dict[int, telemetry_pb2.Schema] = field(default_factory=dict)
    entities: dict[int, telemetry_pb2.Entity] = field(default_factory=dict)

    def learn(self, announce: link_pb2.Announce | None) -> None:
        if announce is not None:
            self.schemas |= {schema.id: schema for schema in announce.schemas}
            self.entities |= {entity.id: entity for entity in announce.entities}

    def rows(self, tick: telemetry_pb2.Tick) -> list[tuple[str, str, dict[str, Decoded]]]:
        """Table, entity key and values of each record."""
        found = []
        for rows in tick.rows:
            schema, at = self.schemas[rows.schema_id], 0
            while at < len(rows.records):
                (entity,) = struct.unpack_from("<I", rows.records, at)
                values, at = self._values(schema, rows.records, at + 4)
                found.append((schema.table, self.entities[entity].key, values))
            assert at == len(rows.records), "records are whole"
        return found

    def _values(self, schema: telemetry_pb2.Schema, records: bytes, at: int) -> tuple[dict[str, Decoded], int]:
        values: dict[str, Decoded] = {}
        for spec in schema.fields:
            if spec.type == telemetry_pb2.VALUE_TYPE_HISTOGRAM:
                total = float64(records, at)
                counts = struct.unpack_from(f"<{spec.count}Q", records, at + 8)
                values[spec.name] = total if isinstance(total, Reason) else (total, counts)
                at += 8 + 8 * spec.count
                continue
            read, size = (float32, 4) if spec.type == telemetry_pb2.VALUE_TYPE_F32 else (float64, 8)
            numbers = [read(records, at + size * i) for i in range(spec.count)]
            first = numbers[0]
            if isinstance(first, Reason) or spec.count == 1:
                values[spec.name] = first
            else:
                values[spec.name] = tuple(number for number in numbers if not isinstance(number, Reason))
            at += size * spec.count
        return values, at


def float32(data: bytes, at: int) -> float | Reason:
    (number,) = struct.unpack_from("<f", data, at)
    (bits,) = struct.unpack_from("<I", data, at)
    if not math.isnan(number):
        return float(number)
    assert bits & ~0xFF == 0x7FC00000, "a quiet NaN and nothing but the reason"
    return Reason(bits & 0xFF)


def float64(data: bytes, at: int) -> float | Reason:
    (number,) = struct.unpack_from("<d", data, at)
    (bits,) = struct.unpack_from("<Q", data, at)
    if not math.isnan(number):
        return float(number)
    assert bits & ~0xFF == 0x7FF8000000000000, "a quiet NaN and nothing but the reason"
    return Reason(bits & 0xFF)
