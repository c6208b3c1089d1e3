"""The agent's nouns → protobuf. Values become fixed records; what is unknown becomes a NaN that says why."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from node_agent.clock import Instant
from node_agent.model import CollectorReport, Entity, EntityKind, Event, Histogram, Reason, Sample, Tick, Value
from node_agent.untrusted import clean_text
from optiinfra.catalogue import TABLES, FieldSpec
from optiinfra.telemetry.v1 import link_pb2, telemetry_pb2

# telemetry.proto: quiet NaNs whose low bits are free for the reason.
NAN_F32 = 0x7FC0_0000
NAN_F64 = 0x7FF8_0000_0000_0000
LARGEST_F32 = 3.4028234663852886e38
LARGEST_U64 = 2**64 - 1


def unix_us(now: Instant) -> int:
    """This will give the wall time in microseconds since 1970."""
    return round(now.wall.timestamp() * 1_000_000)


def monotonic_us(now: Instant) -> int:
    """This will give the monotonic time in microseconds."""
    return round(now.monotonic_seconds * 1_000_000)


def clock_reading(now: Instant) -> link_pb2.ClockReading:
    """This will give both clocks as they go over the wire."""
    return link_pb2.ClockReading(unix_us=unix_us(now), monotonic_us=monotonic_us(now))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Slot:
    """Where one field lies in a record."""

    spec: FieldSpec
    offset: int
    count: int  # values, for a histogram buckets
    bounds: tuple[float, ...]

    @property
    def is_f32(self) -> bool:
        return self.spec.type in ("real", "real[]")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    schema: telemetry_pb2.Schema
    slots: tuple[_Slot, ...]
    packer: struct.Struct


_Shape = tuple[int, tuple[float, ...]]  # values, histogram bounds


@dataclass(slots=True)
class Encoder:
    """Gives entities and schemas their numbers, and turns ticks into batches. One per epoch."""

    _entities: dict[tuple[EntityKind, str], tuple[int, bytes]] = field(default_factory=dict)
    _layouts: dict[tuple[str, tuple[_Shape, ...]], _Layout] = field(default_factory=dict)
    _shapes: dict[tuple[EntityKind, str, str], _Shape] = field(default_factory=dict)

    def everything(self) -> link_pb2.Announce:
        """This will announce all that has been numbered so far, for a new connection."""
        return link_pb2.Announce(
            schemas=[layout.schema for layout in self._layouts.values()],
            entities=[
                telemetry_pb2.Entity(
                    id=number, kind=telemetry_pb2.EntityKind.ValueType(kind.value), key=key, attributes_json=attributes
                )
                for (kind, key), (number, attributes) in self._entities.items()
            ],
        )

    def encode(self, tick: Tick) -> tuple[link_pb2.Announce | None, telemetry_pb2.Tick]:
        """This will encode a tick, and announce what it names for the first time or what has changed."""
        announced = [entity for e in self._named(tick) if (entity := self._number(e)) is not None]
        schemas: list[telemetry_pb2.Schema] = []
        rows: dict[int, bytearray] = {}
        for sample in tick.samples:
            layout, is_new = self._layout(sample)
            if is_new:
                schemas.append(layout.schema)
            number, _ = self._entities[sample.entity]
            rows.setdefault(layout.schema.id, bytearray()).extend(_record(layout, number, sample.values))
        message = telemetry_pb2.Tick(
            taken_at_unix_us=unix_us(tick.taken_at),
            taken_at_monotonic_us=monotonic_us(tick.taken_at),
            rows=[telemetry_pb2.Rows(schema_id=s, records=bytes(records)) for s, records in rows.items()],
            collectors=[_report(report) for report in tick.reports],
            command_id=tick.command_id,
            events=[_event(event) for event in tick.events],
        )
        if not announced and not schemas:
            return None, message
        return link_pb2.Announce(schemas=schemas, entities=announced), message

    def _named(self, tick: Tick) -> Iterator[Entity]:
        """This will give every entity that the tick describes, then bare ones that it only has samples of."""
        yield from tick.entities
        for sample in tick.samples:
            if sample.entity not in self._entities:
                yield Entity(kind=sample.entity[0], key=sample.entity[1])

    def _number(self, entity: Entity) -> telemetry_pb2.Entity | None:
        attributes = json.dumps(entity.attributes, sort_keys=True, separators=(",", ":")).encode()
        known = self._entities.get((entity.kind, entity.key))
        if known is not None and known[1] == attributes:
            return None
        number = known[0] if known else len(self._entities)
        self._entities[(entity.kind, entity.key)] = (number, attributes)
        return telemetry_pb2.Entity(
            id=number,
            kind=telemetry_pb2.EntityKind.ValueType(entity.kind.value),
            key=entity.key,
            attributes_json=attributes,
        )

    def _layout(self, sample: Sample) -> tuple[_Layout, bool]:
        shapes = tuple(self._shape(sample, spec) for spec in TABLES[sample.table].fields)
        key = (sample.table, shapes)
        known = self._layouts.get(key)
        if known is not None:
            return known, False
        layout = self._layouts[key] = _lay_out(len(self._layouts), sample.table, shapes)
        return layout, True

    def _shape(self, sample: Sample, spec: FieldSpec) -> _Shape:
        """This will give a field's width; one that is unknown now keeps the width it had, so schemas stay few."""
        if spec.type not in ("real[]", "histogram"):
            return 1, ()
        memory = (*sample.entity, spec.name)
        match sample.values.get(spec.name):
            case Histogram(bounds=bounds):
                self._shapes[memory] = len(bounds) + 1, bounds
            case tuple() as values if values:
                self._shapes[memory] = len(values), ()
            case _:
                pass
        return self._shapes.get(memory, (1, ()))


_WIRE_TYPES = {
    "real": telemetry_pb2.VALUE_TYPE_F32,
    "real[]": telemetry_pb2.VALUE_TYPE_F32,
    "double": telemetry_pb2.VALUE_TYPE_F64,
    "bigint": telemetry_pb2.VALUE_TYPE_F64,
    "histogram": telemetry_pb2.VALUE_TYPE_HISTOGRAM,
}


def _lay_out(number: int, table: str, shapes: Sequence[_Shape]) -> _Layout:
    schema = telemetry_pb2.Schema(id=number, table=table)
    slots: list[_Slot] = []
    codes = "<I"
    for spec, (count, bounds) in zip(TABLES[table].fields, shapes, strict=True):
        schema.fields.add(name=spec.name, type=_WIRE_TYPES[spec.type], count=count, bounds=bounds)
        slots.append(_Slot(spec=spec, offset=struct.calcsize(codes), count=count, bounds=bounds))
        if spec.type == "histogram":
            codes += f"d{count}Q"
        else:
            codes += f"{count}{'f' if spec.type in ('real', 'real[]') else 'd'}"
    return _Layout(schema=schema, slots=tuple(slots), packer=struct.Struct(codes))


def _record(layout: _Layout, number: int, values: Mapping[str, Value]) -> bytearray:
    """This will pack one record: numbers first, then the NaNs of what is unknown over their places."""
    packed: list[float] = [number]
    unknown: list[tuple[_Slot, Reason]] = []
    for slot in layout.slots:
        value = _sendable(values.get(slot.spec.name, Reason.NOT_COLLECTED), slot)
        if isinstance(value, Reason):
            unknown.append((slot, value))
            packed.extend([0] * (slot.count + (slot.spec.type == "histogram")))
        else:
            packed.extend(value)
    record = bytearray(layout.packer.pack(*packed))
    for slot, reason in unknown:
        if slot.is_f32:
            struct.pack_into(f"<{slot.count}I", record, slot.offset, *([NAN_F32 | reason.value] * slot.count))
        else:
            struct.pack_into("<Q", record, slot.offset, NAN_F64 | reason.value)
    return record


def _sendable(value: Value, slot: _Slot) -> Iterable[float] | Reason:
    """This will give the numbers of a value as they fit the slot, or why there are none."""
    match value:
        case Reason():
            return value
        case Histogram():
            if slot.spec.type != "histogram" or value.bounds != slot.bounds:
                return Reason.ERROR
            if not _is_finite(value.sum) or any(not 0 <= c <= LARGEST_U64 for c in value.counts):
                return Reason.NOT_A_NUMBER
            return (value.sum, *value.counts)
        case tuple():
            if slot.spec.type != "real[]" or len(value) != slot.count:
                return Reason.ERROR
            if not all(map(_is_finite, value)):
                return Reason.NOT_A_NUMBER
            return Reason.OUT_OF_RANGE if slot.is_f32 and any(abs(v) > LARGEST_F32 for v in value) else value
        case _:
            if slot.count != 1 or slot.spec.type in ("histogram", "real[]"):
                return Reason.ERROR
            if not _is_finite(value):
                return Reason.NOT_A_NUMBER
            return Reason.OUT_OF_RANGE if slot.is_f32 and abs(value) > LARGEST_F32 else (value,)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond every double, which an engine's page may well hold
        return False


def _event(event: Event) -> telemetry_pb2.Event:
    return telemetry_pb2.Event(
        taken_at_unix_us=round(event.taken_at.timestamp() * 1_000_000),
        kind=event.kind,
        entity_kind=telemetry_pb2.EntityKind.ValueType(event.entity[0].value),
        entity_key=event.entity[1],
        severity=telemetry_pb2.EventSeverity.ValueType(event.severity.value),
        detail_json=json.dumps(event.detail, sort_keys=True, separators=(",", ":")).encode(),
    )


def _report(report: CollectorReport) -> telemetry_pb2.CollectorReport:
    return telemetry_pb2.CollectorReport(
        collector=report.collector,
        outcome=telemetry_pb2.CollectorOutcome.ValueType(report.outcome.value),
        duration_seconds=report.duration_seconds,
        last_success_age_seconds=report.last_success_age_seconds,
        last_error=clean_text(report.last_error, limit=1000),
        last_error_age_seconds=report.last_error_age_seconds,
        detail=clean_text(report.detail, limit=1000),  # it may quote a path or a page: protobuf takes only UTF-8
    )
