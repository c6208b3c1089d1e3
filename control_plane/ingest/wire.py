"""Protobuf ⇄ our own structures. The only module of the control plane that knows the stubs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from math import inf, isfinite
from typing import Any, Literal

from control_plane.ingest.layout import Layout, RefusedSchema, UnknownTable, WireField, layout_of
from control_plane.model.configuration import NodeConfiguration
from control_plane.model.entity import EntityKind
from control_plane.model.errors import OptiInfraError
from control_plane.model.event import AdmittedEvent, Severity
from control_plane.model.node import CollectorState, NodeIntroduction
from optiinfra.telemetry.v1 import command_pb2, link_pb2, telemetry_pb2

# Attributes describe one thing to people; a recorded H200's take about 2 KB.
LONGEST_AGE_SECONDS = 1e10  # three centuries: what is older than the agent's machine is no age
MOST_ATTRIBUTE_BYTES = 64 * 1024
MOST_NAME_LENGTH = 512
MOST_EVENT_BYTES = 4096  # an XID with its line of the kernel's log takes 300
_EVENT_KIND = re.compile(r"[a-z][a-z0-9_]{0,63}")
HIGHEST_SEQ = 1 << 62  # far beyond any stream's life, and a Postgres bigint still counts on from there

_TYPES = {
    telemetry_pb2.VALUE_TYPE_F32: "f32",
    telemetry_pb2.VALUE_TYPE_F64: "f64",
    telemetry_pb2.VALUE_TYPE_HISTOGRAM: "histogram",
}

_OUTCOMES = {
    number: name.removeprefix("COLLECTOR_OUTCOME_").lower() for name, number in telemetry_pb2.CollectorOutcome.items()
}


class RefusedMessage(OptiInfraError):
    """A message from an agent cannot be used. `cause` is a stable word to count by."""

    def __init__(self, cause: str, detail: str) -> None:
        """`detail` is a sentence that says what was wrong and what is accepted."""
        super().__init__(detail)
        self.cause = cause


class ForeignSchema(RefusedMessage):
    """A schema that is well-formed as far as we can tell, but of a newer agent; its rows cannot be read."""


def clean_text(text: str, most: int = MOST_NAME_LENGTH) -> str:
    """This will drop control characters, which Postgres or a terminal would choke on, and cut to `most`."""
    if text.isprintable():  # nearly always, and cheaper to ask than to rebuild
        return text[:most]
    return "".join(c for c in text if c.isprintable())[:most]


def _clean_json(value: Any, depth: int = 0) -> Any:
    if depth > 8:  # deeper than any description of a device
        raise RefusedMessage("bad_attributes", "attributes are nested more than 8 deep")
    match value:
        case float() if not isfinite(value):  # 1e999 is JSON, but no number that a database takes
            raise RefusedMessage("bad_attributes", "attributes hold a number that is too large")
        case str():
            return clean_text(value, 4096)
        case dict():
            return {clean_text(k): _clean_json(v, depth + 1) for k, v in value.items()}
        case list():
            return [_clean_json(v, depth + 1) for v in value]
        case _:
            return value


def _not_json(token: str) -> None:
    raise RefusedMessage("bad_attributes", f"attributes hold {token}, which JSON does not have")


def attributes_from(data: bytes) -> Mapping[str, object]:
    """This will read one JSON object. Raises RefusedMessage when it is none, or too large."""
    if len(data) > MOST_ATTRIBUTE_BYTES:
        raise RefusedMessage("bad_attributes", f"attributes have {len(data)} bytes; at most {MOST_ATTRIBUTE_BYTES}")
    try:
        value = json.loads(data or b"{}", parse_constant=_not_json)
    except (ValueError, RecursionError) as error:
        raise RefusedMessage("bad_attributes", "attributes are not JSON") from error
    if not isinstance(value, dict):
        raise RefusedMessage("bad_attributes", "attributes are not a JSON object")
    cleaned = _clean_json(value)
    assert isinstance(cleaned, dict)
    return cleaned


def introduction_from(hello: link_pb2.Hello) -> NodeIntroduction:
    """This will read how an agent introduces itself. Raises RefusedMessage."""
    if not 1 <= len(hello.agent_id) <= 128 or not hello.agent_id.isprintable():
        raise RefusedMessage("bad_hello", "agent_id must have 1 to 128 printable characters")
    if len(hello.epoch) != 16:
        raise RefusedMessage("bad_hello", f"epoch must have 16 bytes, not {len(hello.epoch)}")
    name = clean_text(hello.node_name, 253)  # the longest host name that DNS allows
    if not name:
        raise RefusedMessage("bad_hello", "node_name is empty")
    return NodeIntroduction(
        agent_id=hello.agent_id,
        name=name,
        agent_version=clean_text(hello.agent_version, 64),
        replayed=hello.replayed,
        attributes=attributes_from(hello.attributes_json),
    )


def sampling_interval_seconds(attributes: Mapping[str, object]) -> float | None:
    """This will give the cadence that an agent says it has; None when it says none that makes sense."""
    match attributes.get("sampling_interval_seconds"):
        case bool():
            return None
        case int() | float() as seconds if 0 < seconds < 86_400:
            return float(seconds)
        case _:
            return None


def layout_from(schema: telemetry_pb2.Schema) -> Layout:
    """This will lay out an announced schema. Raises RefusedMessage, and ForeignSchema for a newer agent's."""
    return _layout_from(schema.SerializeToString())


@lru_cache(maxsize=1024)  # a fleet has some dozens; reading the sixty fields of one takes a millisecond
def _layout_from(announced: bytes) -> Layout:
    schema = telemetry_pb2.Schema.FromString(announced)
    foreign = sorted({f.type for f in schema.fields} - _TYPES.keys())
    if foreign:
        raise ForeignSchema("newer_schema", f"a schema has fields of type {foreign[0]}, which is not known here")
    fields = tuple(
        WireField(
            name=clean_text(f.name),
            type=_TYPES[f.type],
            count=f.count,
            bounds=tuple(f.bounds),
        )
        for f in schema.fields
    )
    try:
        return layout_of(clean_text(schema.table), fields)
    except UnknownTable as error:
        raise ForeignSchema("newer_schema", str(error)) from error
    except RefusedSchema as error:
        raise RefusedMessage("bad_schema", str(error)) from error


def entity_kind(number: int) -> EntityKind:
    """This will give the kind with that number. Raises RefusedMessage."""
    try:
        return EntityKind(number)
    except ValueError as error:
        raise RefusedMessage("bad_entity", f"there is no entity kind {number}") from error


def collector_state(report: telemetry_pb2.CollectorReport) -> CollectorState:
    """This will read how a collector's run went. Raises RefusedMessage."""
    if not 0 <= report.duration_seconds < inf:
        raise RefusedMessage("bad_report", f"a collector ran for {report.duration_seconds} seconds")
    return CollectorState(
        collector=clean_text(report.collector, 64),
        outcome=_OUTCOMES.get(report.outcome, "unspecified"),  # or one of a newer agent
        duration_seconds=float(report.duration_seconds),
        detail=clean_text(report.detail, 1000),
        last_success_age_seconds=_age(report, "last_success_age_seconds"),
        last_error=clean_text(report.last_error, 1000),
        last_error_age_seconds=_age(report, "last_error_age_seconds"),
    )


def _age(
    report: telemetry_pb2.CollectorReport, name: Literal["last_success_age_seconds", "last_error_age_seconds"]
) -> float | None:
    """An age that makes no sense is not known: the samples beside it are none the worse."""
    if not report.HasField(name):
        return None
    age = float(getattr(report, name))
    return age if 0 <= age < LONGEST_AGE_SECONDS else None


def event_from(message: telemetry_pb2.Event, *, taken_at_us: int) -> AdmittedEvent:
    """This will read one event; `taken_at_us` is its time by our clock. Raises RefusedMessage."""
    if not _EVENT_KIND.fullmatch(message.kind):
        raise RefusedMessage("bad_event", "an event's kind is a word of at most 64 of a-z, 0-9 and _")
    if len(message.detail_json) > MOST_EVENT_BYTES:
        raise RefusedMessage("bad_event", f"an event has {len(message.detail_json)} bytes; at most {MOST_EVENT_BYTES}")
    return AdmittedEvent(
        taken_at_us=taken_at_us,
        kind=message.kind,
        entity_kind=message.entity_kind if 0 <= message.entity_kind < 1 << 15 else 0,
        entity_key=clean_text(message.entity_key),
        severity=int(message.severity) if int(message.severity) in set(Severity) else 0,
        detail=attributes_from(message.detail_json),
    )


def welcome(
    *,
    protocol: int,
    committed_seq: int,
    window: int,
    max_batch_bytes: int,
    heartbeat_seconds: int,
    version: str,
    configure: link_pb2.Configure | None,
) -> link_pb2.ServerMessage:
    """This will say from which batch to go on, how much may be under way, and how to be configured (None: as it is)."""
    return link_pb2.ServerMessage(
        welcome=link_pb2.Welcome(
            configure=configure,
            protocol=protocol,
            committed_seq=committed_seq,
            window_batches=window,
            max_batch_bytes=max_batch_bytes,
            heartbeat_interval_seconds=heartbeat_seconds,
            server_version=version,
            backlog_lanes=True,
        )
    )


def configure(revision: int, asked: NodeConfiguration, *, whole: bool) -> link_pb2.Configure:
    """This will say how a node is to be configured; not `whole`: its cadence alone."""
    seconds = asked.sampling_interval_seconds
    message = link_pb2.Configure(
        revision=revision,
        sampling_interval_ms=0 if seconds is None else round(seconds * 1000),
        whole_state=whole,
        scrape_targets=asked.scrape_targets,
    )
    if asked.gpu_monitoring_enabled is not None:
        message.gpu_monitoring_enabled = asked.gpu_monitoring_enabled
    if asked.discover_engines is not None:
        message.discover_engines = asked.discover_engines
    return message


def interval_in_force(status: link_pb2.ConfigStatus) -> float | None:
    """This will give the cadence that an agent has now; None when it does not say."""
    return sampling_interval_seconds({"sampling_interval_seconds": status.sampling_interval_ms / 1000})


def in_force_revision(status: link_pb2.ConfigStatus) -> int | None:
    """This will give the revision that holds on an agent; None: its host's own settings alone."""
    return status.in_force_revision if 0 < status.in_force_revision < HIGHEST_SEQ else None


def refusal(code: str, detail: str, retry_after_seconds: int) -> link_pb2.ServerMessage:
    """This will say why a connection is refused, and when to try again. `code` is a RefusalCode's short name."""
    number = link_pb2.RefusalCode.Value(f"REFUSAL_CODE_{code}")
    return link_pb2.ServerMessage(
        refusal=link_pb2.Refusal(code=number, detail=detail, retry_after_seconds=retry_after_seconds)
    )


def serialized(message: link_pb2.ServerMessage | bytes) -> bytes:
    """This will give what goes over the wire."""
    return message if isinstance(message, bytes) else message.SerializeToString()


@lru_cache(maxsize=4096)  # a fleet that began together counts together
def plain_ack(committed_seq: int, window: int) -> bytes:
    """This will acknowledge every batch up to `committed_seq`, none of them refused: nearly all that is ever sent.

    Written by hand; protobuf takes ten times as long for it. The numbers are those of ServerMessage.ack and of Ack.
    """
    body = b"\x08" + _varint(committed_seq) + b"\x10" + _varint(window)
    return b"\x1a" + _varint(len(body)) + body


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def ack(committed_seq: int, window: int, refused: Mapping[int, str]) -> link_pb2.ServerMessage | bytes:
    """This will acknowledge every batch up to `committed_seq`."""
    if not refused and committed_seq > 0 and window > 0:
        return plain_ack(committed_seq, window)
    return link_pb2.ServerMessage(
        ack=link_pb2.Ack(
            committed_seq=committed_seq,
            window_batches=window,
            refused=[link_pb2.RefusedBatch(seq=seq, reason=reason) for seq, reason in sorted(refused.items())],
        )
    )


def heartbeat(*, unix_us: int, monotonic_us: int) -> link_pb2.ServerMessage:
    """This will show an agent that the link is alive."""
    return link_pb2.ServerMessage(
        heartbeat=link_pb2.Heartbeat(clock=link_pb2.ClockReading(unix_us=unix_us, monotonic_us=monotonic_us))
    )


def collect_now(command_id: str, valid_for_seconds: int) -> link_pb2.ServerMessage:
    """This will ask an agent for a sample outside its cadence."""
    return link_pb2.ServerMessage(
        command=command_pb2.Command(
            id=command_id, valid_for_seconds=valid_for_seconds, collect_now=command_pb2.CollectNow()
        )
    )


def release_gpus(command_id: str, valid_for_seconds: int, *, seconds: int) -> link_pb2.ServerMessage:
    """This will ask an agent to let go of its GPUs' driver for a while."""
    verb = command_pb2.ReleaseGpus(seconds=seconds)
    command = command_pb2.Command(id=command_id, valid_for_seconds=valid_for_seconds, release_gpus=verb)
    return link_pb2.ServerMessage(command=command)


def command_outcome(result: command_pb2.CommandResult) -> tuple[str, str]:
    """This will give how a command went: done, refused or failed, and the agent's words."""
    words = {command_pb2.COMMAND_OUTCOME_DONE: "done", command_pb2.COMMAND_OUTCOME_REFUSED: "refused"}
    return words.get(result.outcome, "failed"), clean_text(result.detail)


def drain(reconnect_after_ms: int) -> link_pb2.ServerMessage:
    """This will ask an agent to connect again later: the control plane is going down."""
    return link_pb2.ServerMessage(drain=link_pb2.Drain(reconnect_after_ms=reconnect_after_ms))
