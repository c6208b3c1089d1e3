"""Which records of a damaged file can still be understood: what one of them announced may be what is missing."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

from google.protobuf.message import DecodeError

from node_agent.uplink.restamp import row_bytes
from node_agent.uplink.segment import Record
from optiinfra.telemetry.v1 import link_pb2, telemetry_pb2

_ENTITY = struct.Struct("<I")


def understood(records: Iterable[Record]) -> Iterator[Record]:
    """This will give the records that name only what records before them, and they themselves, announce."""
    row_sizes: dict[int, int] = {}
    entities: set[int] = set()
    for record in records:
        try:
            announce, tick = link_pb2.Announce.FromString(record.announce), telemetry_pb2.Tick.FromString(record.tick)
        except DecodeError:  # its checksum is right: whoever wrote it wrote nonsense
            continue
        row_sizes |= {schema.id: row_bytes(schema) for schema in announce.schemas}
        entities |= {entity.id for entity in announce.entities}
        if all(_is_understood(rows, row_sizes, entities) for rows in tick.rows):
            yield record


def _is_understood(rows: telemetry_pb2.Rows, row_sizes: dict[int, int], entities: set[int]) -> bool:
    size = row_sizes.get(rows.schema_id)
    if size is None:
        return False
    return all(
        _ENTITY.unpack_from(rows.records, start)[0] in entities
        for start in range(0, len(rows.records) - size + 1, size)
    )
