"""What one agent's stream has announced, and whether a batch fits it. No I/O: everything is handed in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from control_plane.ingest.clocks import NodeClock
from control_plane.ingest.layout import Layout
from control_plane.ingest.wire import (
    RefusedMessage,
    attributes_from,
    clean_text,
    collector_state,
    entity_kind,
    layout_from,
)
from control_plane.model.entity import AnnouncedEntity, EntityKind
from control_plane.model.node import CollectorState
from optiinfra.telemetry.v1 import link_pb2, telemetry_pb2

MOST_SCHEMAS = 1024
MOST_ENTITIES = 16_384
MOST_TICKS_PER_BATCH = 600  # ten minutes at 1 s, an hour at 6 s
# A tick may seem to come from the future by what our clock moved since the last heartbeat.
FUTURE_TOLERANCE_US = 5_000_000
KINDS = {kind.name.lower(): kind for kind in EntityKind}


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmittedRows:
    """Whole records of a known schema about known entities."""

    layout: Layout
    records: bytes
    local_ids: npt.NDArray[np.uint32]  # the agent's entity ids, one per record


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmittedTick:
    """Everything a node saw at one moment, checked."""

    taken_at_us: int
    clock_offset_seconds: float
    rows: Sequence[AdmittedRows]
    collectors: Sequence[CollectorState]
    command_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmittedBatch:
    """A numbered batch, checked and ready to be stored."""

    seq: int
    received_at_us: int
    ticks: Sequence[AdmittedTick]
    size_bytes: int


@dataclass(slots=True)
class StreamState:
    """What one connected agent has announced. Entity ids are the agent's own."""

    node_id: int
    clock: NodeClock
    retention_us: int  # older samples have no partition any more
    layouts: dict[int, Layout] = field(default_factory=dict)
    kinds: dict[int, EntityKind] = field(default_factory=dict)

    def announce(self, message: link_pb2.Announce) -> list[tuple[int, AnnouncedEntity]]:
        """This will learn schemas and entities, and give the entities by the agent's ids.

        Raises RefusedMessage; what stood before the refused entry is kept.
        """
        for schema in message.schemas:
            if len(self.layouts) >= MOST_SCHEMAS and schema.id not in self.layouts:
                raise RefusedMessage("bad_schema", f"more than {MOST_SCHEMAS} schemas on one stream")
            self.layouts[schema.id] = layout_from(schema)
        announced = []
        for entity in message.entities:
            if entity.id >= MOST_ENTITIES:
                raise RefusedMessage("bad_entity", f"entity ids go to {MOST_ENTITIES - 1}, got {entity.id}")
            key = clean_text(entity.key)
            if not key:
                raise RefusedMessage("bad_entity", "an entity has no key")
            kind = entity_kind(entity.kind)
            attributes = attributes_from(entity.attributes_json)
            self.kinds[entity.id] = kind
            announced.append(
                (entity.id, AnnouncedEntity(node_id=self.node_id, kind=kind, key=key, attributes=attributes))
            )
        return announced

    def admit(self, batch: telemetry_pb2.Batch, *, received_at_us: int) -> AdmittedBatch:
        """This will check a batch against what was announced. Raises RefusedMessage."""
        if len(batch.ticks) > MOST_TICKS_PER_BATCH:
            raise RefusedMessage("too_large", f"{len(batch.ticks)} ticks in a batch; at most {MOST_TICKS_PER_BATCH}")
        return AdmittedBatch(
            seq=batch.seq,
            received_at_us=received_at_us,
            ticks=[self._tick(tick, received_at_us) for tick in batch.ticks],
            size_bytes=batch.ByteSize(),
        )

    def _tick(self, tick: telemetry_pb2.Tick, received_at_us: int) -> AdmittedTick:
        stamp = self.clock.stamp(node_unix_us=tick.taken_at_unix_us, node_monotonic_us=tick.taken_at_monotonic_us)
        age_us = received_at_us - stamp.taken_at_us
        if age_us < -FUTURE_TOLERANCE_US:
            raise RefusedMessage(
                "future", f"a sample is {-age_us / 1e6:.0f} s in the future by both of the node's clocks"
            )
        if age_us > self.retention_us:
            raise RefusedMessage(
                "too_old",
                f"a sample is {age_us / 86_400e6:.1f} days old; history keeps {self.retention_us / 86_400e6:.0f} days",
            )
        return AdmittedTick(
            taken_at_us=stamp.taken_at_us,
            clock_offset_seconds=stamp.clock_offset_seconds,
            rows=[self._rows(rows) for rows in tick.rows],
            collectors=[collector_state(report) for report in tick.collectors],
            command_id=tick.command_id,
        )

    def _rows(self, rows: telemetry_pb2.Rows) -> AdmittedRows:
        layout = self.layouts.get(rows.schema_id)
        if layout is None:
            raise RefusedMessage("unknown_schema", f"schema {rows.schema_id} was not announced on this stream")
        if len(rows.records) % layout.record_bytes:
            raise RefusedMessage(
                "truncated",
                f"{len(rows.records)} bytes are not whole records of {layout.record_bytes} bytes "
                f"({layout.table.name}, schema {rows.schema_id})",
            )
        local_ids = np.frombuffer(rows.records, layout.dtype)["entity"]
        wanted = KINDS[layout.table.entity]
        for local_id in set(local_ids.tolist()):
            if self.kinds.get(local_id) is not wanted:
                raise RefusedMessage(
                    "unknown_entity", f"entity {local_id} was not announced as a {layout.table.entity} on this stream"
                )
        return AdmittedRows(layout=layout, records=rows.records, local_ids=local_ids)
