"""Streams for tests: ticks as an agent takes them, and messages by hand where an agent would never send such."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from control_plane.ingest.admission import AdmittedBatch, StreamState
from control_plane.ingest.clocks import Arrival, NodeClock
from node_agent.clock import Instant
from node_agent.model import CollectorReport, Entity, EntityKind, Outcome, Sample, Tick, Value
from optiinfra.telemetry.v1 import link_pb2, telemetry_pb2
from tests.fakes.clock import FakeClock, FakeNodeClock

DAY_US = 86_400_000_000
KIND_OF_TABLE = {
    "gpu": EntityKind.GPU,
    "gpu_health": EntityKind.GPU,
    "gpu_instance": EntityKind.GPU_INSTANCE,
    "host": EntityKind.NODE,
    "disk": EntityKind.DISK,
    "filesystem": EntityKind.FILESYSTEM,
    "network": EntityKind.NETWORK_INTERFACE,
    "infiniband": EntityKind.INFINIBAND_PORT,
    "agent": EntityKind.NODE,
    "inference": EntityKind.INFERENCE_SERVER,
    "lmcache": EntityKind.CACHE_SERVER,
    "gpu_process": EntityKind.GPU_PROCESS,
    "server_cgroup": EntityKind.INFERENCE_SERVER,
}
F32, F64 = telemetry_pb2.VALUE_TYPE_F32, telemetry_pb2.VALUE_TYPE_F64
HISTOGRAM = telemetry_pb2.VALUE_TYPE_HISTOGRAM


def tick(now: Instant, rows: Mapping[tuple[str, str], Mapping[str, Value]], *, command_id: str = "") -> Tick:
    """This will make a tick of `rows`: (table, entity's key) → values."""
    return Tick(
        taken_at=now,
        entities=[Entity(kind=KIND_OF_TABLE[table], key=key, attributes={"name": key}) for table, key in rows],
        samples=[
            Sample(table=table, entity=(KIND_OF_TABLE[table], key), values=values)
            for (table, key), values in rows.items()
        ],
        reports=[CollectorReport(collector="gpu", outcome=Outcome.OK, duration_seconds=0.01)],
        command_id=command_id,
    )


def arrival(clock: FakeClock) -> Arrival:
    """This will give this moment as a message's arrival."""
    return Arrival(unix_us=round(clock.now().timestamp() * 1e6), monotonic_us=round(clock.monotonic() * 1e6))


def monotonic_us(clock: FakeNodeClock) -> int:
    """This will read a node's monotonic clock as it goes over the wire."""
    return round(clock.now().monotonic_seconds * 1e6)


def unix_us(clock: FakeNodeClock) -> int:
    """This will read a node's wall clock as it goes over the wire."""
    return round(clock.now().wall.timestamp() * 1e6)


def stream_state(clock: FakeClock, node: FakeNodeClock) -> StreamState:
    """This will give the state of a stream right after its Hello."""
    node_clock = NodeClock()
    node_clock.reading(node_monotonic_us=monotonic_us(node), arrived=arrival(clock))
    return StreamState(node_id=7, clock=node_clock, retention_us=14 * DAY_US)


def raw_schema(
    number: int, table: str, fields: Sequence[tuple[str, int, int] | tuple[str, int, int, Sequence[float]]]
) -> telemetry_pb2.Schema:
    """This will make a schema of (name, type, count[, bounds])."""
    schema = telemetry_pb2.Schema(id=number, table=table)
    for name, kind, count, *bounds in fields:
        schema.fields.add(
            name=name, type=telemetry_pb2.ValueType.ValueType(kind), count=count, bounds=bounds[0] if bounds else ()
        )
    return schema


def raw_entity(number: int, kind: int, key: str, attributes: object = None) -> telemetry_pb2.Entity:
    """This will make an entity; `attributes` are bytes as they stand, or become JSON."""
    data = attributes if isinstance(attributes, bytes) else json.dumps(attributes or {}).encode()
    return telemetry_pb2.Entity(id=number, kind=telemetry_pb2.EntityKind.ValueType(kind), key=key, attributes_json=data)


def gpu_announce() -> link_pb2.Announce:
    """This will announce GPU 0 with one field, power_draw_watts, as schema 0."""
    return link_pb2.Announce(
        schemas=[raw_schema(0, "gpu", [("power_draw_watts", F32, 1)])],
        entities=[raw_entity(0, telemetry_pb2.ENTITY_KIND_GPU, "GPU-0")],
    )


def gpu_records(watts: float, *, entity: int = 0) -> bytes:
    """This will make one record of that schema."""
    return struct.pack("<If", entity, watts)


@dataclass
class RawStream:
    """Numbers hand-made batches and stamps them with a node's clock."""

    clock: FakeNodeClock
    seq: int = 0

    def batch(self, rows: Sequence[tuple[int, bytes]], *, seq: int | None = None) -> telemetry_pb2.Batch:
        """This will make the next batch: one tick of (schema id, records)."""
        self.seq = self.seq + 1 if seq is None else seq
        return telemetry_pb2.Batch(seq=self.seq, ticks=[self.tick(rows)])

    def tick(self, rows: Sequence[tuple[int, bytes]]) -> telemetry_pb2.Tick:
        """This will make one tick, taken now."""
        return telemetry_pb2.Tick(
            taken_at_unix_us=unix_us(self.clock),
            taken_at_monotonic_us=monotonic_us(self.clock),
            rows=[telemetry_pb2.Rows(schema_id=schema, records=records) for schema, records in rows],
        )


def through_the_wire(
    state: StreamState, announce: link_pb2.Announce | None, batch: telemetry_pb2.Batch, clock: FakeClock
) -> AdmittedBatch:
    """This will send both as bytes and admit what arrives; nothing of the announcement may be refused."""
    if announce is not None:
        assert not state.announce(link_pb2.Announce.FromString(announce.SerializeToString())).refused
    return state.admit(telemetry_pb2.Batch.FromString(batch.SerializeToString()), arrival(clock))
