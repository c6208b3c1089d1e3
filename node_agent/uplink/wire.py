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
_NUMBERS = (float, int)
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

    name: str
    type: str  # as the catalogue has it
    offset: int
    count: int  # values, for a histogram buckets
    bounds: tuple[float, ...]
    is_f32: bool
    is_plain: bool  # one number, that any finite float of 32 bits fits
    blank: tuple[int, ...]  # what is packed where the value is unknown, before the NaN is put over it


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    schema_id: int
    schema: telemetry_pb2.Schema
    slots: tuple[_Slot, ...]
    packer: struct.Struct


_Shape = tuple[int, tuple[float, ...]]  # values, histogram bounds
_VARIABLE_TYPES = ("real[]", "histogram")
_VARIABLE = {table: [f for f in spec.fields if f.type in _VARIABLE_TYPES] for table, spec in TABLES.items()}


@dataclass(frozen=True, slots=True)
class _Numbered:
    number: int
    attributes: Mapping[str, object]
    serialised: bytes


@dataclass(slots=True)
class Encoder:
    """Gives entities and schemas their numbers, and turns ticks into batches. One per epoch."""

    _entities: dict[tuple[EntityKind, str], _Numbered] = field(default_factory=dict)
    _layouts: dict[tuple[str, tuple[_Shape, ...]], _Layout] = field(default_factory=dict)
    _shapes: dict[tuple[EntityKind, str, str], _Shape] = field(default_factory=dict)

    def everything(self) -> link_pb2.Announce:
        """This will announce all that has been numbered so far, for a new connection."""
        return link_pb2.Announce(
            schemas=[layout.schema for layout in self._layouts.values()],
            entities=[
                telemetry_pb2.Entity(
                    id=known.number,
                    kind=telemetry_pb2.EntityKind.ValueType(kind.value),
                    key=key,
                    attributes_json=known.serialised,
                )
                for (kind, key), known in self._entities.items()
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
            number = self._entities[sample.entity].number
            rows.setdefault(layout.schema_id, bytearray()).extend(_record(layout, number, sample.values))
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
        known = self._entities.get((entity.kind, entity.key))
        if known is not None and known.attributes == entity.attributes:
            return None  # the usual case, and ten times cheaper to see than by serialising it
        attributes = json.dumps(entity.attributes, sort_keys=True, separators=(",", ":")).encode()
        number = known.number if known else len(self._entities)
        self._entities[(entity.kind, entity.key)] = _Numbered(number, entity.attributes, attributes)
        if known is not None and known.serialised == attributes:
            return None
        return telemetry_pb2.Entity(
            id=number,
            kind=telemetry_pb2.EntityKind.ValueType(entity.kind.value),
            key=entity.key,
            attributes_json=attributes,
        )

    def _layout(self, sample: Sample) -> tuple[_Layout, bool]:
        shapes = tuple([self._shape(sample, spec) for spec in _VARIABLE[sample.table]])
        key = (sample.table, shapes)
        known = self._layouts.get(key)
        if known is not None:
            return known, False
        layout = self._layouts[key] = _lay_out(len(self._layouts), sample.table, shapes)
        return layout, True

    def _shape(self, sample: Sample, spec: FieldSpec) -> _Shape:
        """This will give a field's width; one that is unknown now keeps the width it had, so schemas stay few."""
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
    codes, variable = "<I", iter(shapes)
    for spec in TABLES[table].fields:
        count, bounds = next(variable) if spec.type in _VARIABLE_TYPES else (1, ())
        schema.fields.add(name=spec.name, type=_WIRE_TYPES[spec.type], count=count, bounds=bounds)
        is_f32, is_histogram = spec.type in ("real", "real[]"), spec.type == "histogram"
        slots.append(
            _Slot(
                name=spec.name,
                type=spec.type,
                offset=struct.calcsize(codes),
                count=count,
                bounds=bounds,
                is_f32=is_f32,
                is_plain=spec.type not in _VARIABLE_TYPES,
                blank=(0,) * (count + is_histogram),
            )
        )
        codes += f"d{count}Q" if is_histogram else f"{count}{'f' if is_f32 else 'd'}"
    return _Layout(schema_id=number, schema=schema, slots=tuple(slots), packer=struct.Struct(codes))


def _record(layout: _Layout, number: int, values: Mapping[str, Value]) -> bytearray:
    """This will pack one record: numbers first, then the NaNs of what is unknown over their places."""
    packed: list[float] = [number]
    unknown: list[tuple[_Slot, Reason]] = []
    for slot in layout.slots:
        value = values.get(slot.name, Reason.NOT_COLLECTED)
        if type(value) in _NUMBERS and slot.is_plain and -LARGEST_F32 <= value <= LARGEST_F32:  # type: ignore[operator]
            packed.append(value)  # type: ignore[arg-type]  # nearly all of them: no other question to ask
            continue
        sent = _sendable(value, slot)
        if isinstance(sent, Reason):
            unknown.append((slot, sent))
            packed.extend(slot.blank)
        else:
            packed.extend(sent)
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
            if slot.type != "histogram" or value.bounds != slot.bounds:
                return Reason.ERROR
            if not _is_finite(value.sum) or any(not 0 <= c <= LARGEST_U64 for c in value.counts):
                return Reason.NOT_A_NUMBER
            return (value.sum, *value.counts)
        case tuple():
            if slot.type != "real[]" or len(value) != slot.count:
                return Reason.ERROR
            if not all(map(_is_finite, value)):
                return Reason.NOT_A_NUMBER
            return Reason.OUT_OF_RANGE if slot.is_f32 and any(abs(v) > LARGEST_F32 for v in value) else value
        case _:
            if slot.count != 1 or slot.type in ("histogram", "real[]"):
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
