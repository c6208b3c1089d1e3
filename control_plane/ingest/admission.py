"""What one agent's stream has announced, and whether a batch fits it. No I/O: everything is handed in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from control_plane.ingest.clocks import Arrival, NodeClock
from control_plane.ingest.layout import Layout
from control_plane.ingest.wire import (
    ForeignSchema,
    RefusedMessage,
    attributes_from,
    clean_text,
    collector_state,
    entity_kind,
    event_from,
    layout_from,
)
from control_plane.model.entity import AnnouncedEntity, EntityKind
from control_plane.model.event import AdmittedEvent
from control_plane.model.node import CollectorState
from optiinfra.telemetry.v1 import link_pb2, telemetry_pb2

MAX_BATCH_BYTES = 1024 * 1024
MOST_SCHEMAS = 1024
MOST_ENTITIES = 16_384
MOST_TICKS_PER_BATCH = 600  # ten minutes at 1 s, an hour at 6 s
MOST_REPORTS_PER_TICK = 64  # an agent has some five collectors
MOST_EVENTS_PER_TICK = 256  # an agent sends at most 50 of each collector
OLDEST_EVENT_US = 366 * 86_400_000_000  # an agent may tell late; older than any history is a wrong clock
MOST_ROSTERS = 4096  # a stream has one for each kind of device; a hostile one starts over again
OVERHEAD_BYTES = 256  # of a report or an event, about
KINDS = {kind.name.lower(): kind for kind in EntityKind}
ENTITY = np.dtype("<u4")  # what each record begins with; all that follows comes in fours too


@dataclass(slots=True)
class Roster:
    """Which entities some rows are about, checked once: they are the same tick after tick."""

    local_ids: npt.NDArray[np.uint32]  # the agent's, one per record
    # The database's, and the stream's table of them that they were looked up in; the flush's own.
    entity_ids: npt.NDArray[np.int32] | None = None
    looked_up_in: npt.NDArray[np.int32] | None = None


class AdmittedRows(NamedTuple):
    """Whole records of a known schema about known entities."""

    layout: Layout
    records: bytes
    roster: Roster


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmittedTick:
    """Everything a node saw at one moment, checked."""

    taken_at_us: int
    clock_offset_seconds: float
    clock_corrected: bool  # the node's wall clock was wrong, and the stamp is ours
    rows: Sequence[AdmittedRows]
    collectors: Sequence[CollectorState]
    command_id: str
    events: Sequence[AdmittedEvent] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmittedBatch:
    """A numbered batch, checked and ready to be stored."""

    seq: int
    received_at_us: int
    ticks: Sequence[AdmittedTick]
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """What of an announcement can be used, and why the rest cannot."""

    entities: Sequence[tuple[int, AnnouncedEntity]]  # by the agent's ids
    refused: Sequence[RefusedMessage]
    size_bytes: int


@dataclass(slots=True)
class StreamState:
    """What one connected agent has announced. Entity ids are the agent's own."""

    node_id: int
    clock: NodeClock
    retention_us: int  # older samples have no partition any more
    backlog: bool = False  # what it says of entities is old
    layouts: dict[int, Layout] = field(default_factory=dict)
    entities: dict[int, tuple[EntityKind, str]] = field(default_factory=dict)
    # Schemas that a newer agent may have and we cannot read: their rows are passed over.
    foreign: set[int] = field(default_factory=set)
    rosters: dict[tuple[int, bytes], Roster] = field(default_factory=dict)  # by schema and entity ids
    distinct: set[tuple[int, ...]] = field(default_factory=set)  # rosters that may stand in one tick, by identity

    def announce(self, message: link_pb2.Announce) -> Announcement:
        """This will learn schemas and entities. An entry that is refused does not take the others along."""
        self._forget_rosters()
        announced: list[tuple[int, AnnouncedEntity]] = []
        refused: list[RefusedMessage] = []
        for schema in message.schemas:
            try:
                self._learn_schema(schema)
            except RefusedMessage as error:
                refused.append(error)
        for entity in message.entities:
            try:
                announced.append((entity.id, self._learn_entity(entity)))
            except RefusedMessage as error:
                refused.append(error)
        return Announcement(entities=announced, refused=refused, size_bytes=message.ByteSize())

    def _learn_schema(self, schema: telemetry_pb2.Schema) -> None:
        if len(self.layouts) + len(self.foreign) >= MOST_SCHEMAS and schema.id not in self.layouts:
            raise RefusedMessage("bad_schema", f"more than {MOST_SCHEMAS} schemas on one stream")
        self.layouts.pop(schema.id, None)  # rows of a refused schema must not be read by the one before
        self.foreign.discard(schema.id)
        try:
            self.layouts[schema.id] = layout_from(schema)
        except ForeignSchema:
            self.foreign.add(schema.id)
            raise

    def _learn_entity(self, entity: telemetry_pb2.Entity) -> AnnouncedEntity:
        if entity.id >= MOST_ENTITIES:
            raise RefusedMessage("bad_entity", f"entity ids go to {MOST_ENTITIES - 1}, got {entity.id}")
        key = clean_text(entity.key)
        if not key:
            raise RefusedMessage("bad_entity", "an entity has no key")
        kind = entity_kind(entity.kind)
        known = self.entities.get(entity.id)
        if known is not None and known != (kind, key):
            # Batches of the same commit would be stored under the newer name.
            raise RefusedMessage("bad_entity", f"entity {entity.id} was announced as {known[1]} before, now as {key}")
        attributes = attributes_from(entity.attributes_json)
        self.entities[entity.id] = (kind, key)
        return AnnouncedEntity(node_id=self.node_id, kind=kind, key=key, attributes=attributes, is_old=self.backlog)

    def admit(self, batch: telemetry_pb2.Batch, arrived: Arrival) -> AdmittedBatch:
        """This will check a batch against what was announced. Raises RefusedMessage."""
        if len(batch.ticks) > MOST_TICKS_PER_BATCH:
            raise RefusedMessage("too_large", f"{len(batch.ticks)} ticks in a batch; at most {MOST_TICKS_PER_BATCH}")
        # Of the rows alone: what else there is has bounds of its own, and asking protobuf would encode all of it.
        size = sum([len(rows.records) for tick in batch.ticks for rows in tick.rows])
        if size > MAX_BATCH_BYTES:
            raise RefusedMessage("too_large", f"a batch has {size} bytes; at most {MAX_BATCH_BYTES}")
        ticks = [self._tick(tick, arrived) for tick in batch.ticks]
        size += OVERHEAD_BYTES * sum([1 + len(tick.collectors) + len(tick.events) for tick in ticks])
        return AdmittedBatch(seq=batch.seq, received_at_us=arrived.unix_us, ticks=ticks, size_bytes=size)

    def _tick(self, tick: telemetry_pb2.Tick, arrived: Arrival) -> AdmittedTick:
        stamp = self.clock.stamp(
            node_unix_us=tick.taken_at_unix_us, node_monotonic_us=tick.taken_at_monotonic_us, arrived=arrived
        )
        age_us = arrived.unix_us - stamp.taken_at_us
        if age_us > self.retention_us:
            raise RefusedMessage(
                "too_old",
                f"a sample is {age_us / 86_400e6:.1f} days old; history keeps {self.retention_us / 86_400e6:.0f} days",
            )
        reports = [collector_state(report) for report in _bounded(tick.collectors)]
        rows = [self._rows(rows) for rows in tick.rows if rows.schema_id not in self.foreign]
        self._require_one_row_each(rows)
        return AdmittedTick(
            taken_at_us=stamp.taken_at_us,
            clock_offset_seconds=stamp.clock_offset_seconds,
            clock_corrected=stamp.corrected,
            rows=rows,
            collectors=reports,
            command_id=tick.command_id,
            events=_events(tick, stamp.taken_at_us),
        )

    def _rows(self, rows: telemetry_pb2.Rows) -> AdmittedRows:
        schema_id = rows.schema_id
        layout = self.layouts.get(schema_id)
        if layout is None:
            raise RefusedMessage("unknown_schema", f"schema {schema_id} was not announced on this stream")
        records = rows.records
        if len(records) % layout.record_bytes:
            raise RefusedMessage(
                "truncated",
                f"{len(records)} bytes are not whole records of {layout.record_bytes} bytes "
                f"({layout.table.name}, schema {schema_id})",
            )
        local_ids = np.frombuffer(records, ENTITY)[:: layout.record_bytes // ENTITY.itemsize]
        key = (schema_id, local_ids.tobytes())
        roster = self.rosters.get(key)
        if roster is None:
            self._require_announced(layout, local_ids)
            if len(self.rosters) >= MOST_ROSTERS:
                self._forget_rosters()
            roster = self.rosters[key] = Roster(local_ids.copy())
        return AdmittedRows(layout, records, roster)

    def _require_announced(self, layout: Layout, local_ids: npt.NDArray[np.uint32]) -> None:
        wanted = KINDS[layout.table.entity]
        for local_id in set(local_ids.tolist()):
            kind, _ = self.entities.get(local_id, (None, ""))
            if kind is not wanted:
                raise RefusedMessage(
                    "unknown_entity", f"entity {local_id} was not announced as a {layout.table.entity} on this stream"
                )

    def _require_one_row_each(self, rows: Sequence[AdmittedRows]) -> None:
        """This will refuse a tick that says two things about one entity: each would count."""
        together = tuple([id(some.roster) for some in rows])
        if together in self.distinct:
            return
        seen: set[tuple[str, int]] = set()
        for some in rows:
            for local_id in some.roster.local_ids.tolist():
                if (some.layout.table.name, local_id) in seen:
                    raise RefusedMessage("repeated_row", f"a tick has two {some.layout.table.name} rows of one entity")
                seen.add((some.layout.table.name, local_id))
        if len(self.distinct) < MOST_ROSTERS:
            self.distinct.add(together)

    def _forget_rosters(self) -> None:
        """This will check all anew: another schema may have a number by now."""
        self.rosters.clear()
        self.distinct.clear()


def _bounded(reports: Sequence[telemetry_pb2.CollectorReport]) -> Sequence[telemetry_pb2.CollectorReport]:
    if len(reports) > MOST_REPORTS_PER_TICK:
        raise RefusedMessage("too_large", f"a tick has {len(reports)} collector reports")
    return reports


def _events(tick: telemetry_pb2.Tick, taken_at_us: int) -> list[AdmittedEvent]:
    """This will read a tick's events. Their times keep their distance from the tick's, whatever its clock says."""
    if not tick.events:
        return []
    if len(tick.events) > MOST_EVENTS_PER_TICK:
        raise RefusedMessage("too_large", f"a tick has {len(tick.events)} events; at most {MOST_EVENTS_PER_TICK}")
    return [
        event_from(
            event,
            taken_at_us=taken_at_us - min(max(tick.taken_at_unix_us - event.taken_at_unix_us, 0), OLDEST_EVENT_US),
        )
        for event in tick.events
    ]
