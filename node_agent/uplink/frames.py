"""What the spool holds: serialised once, as it lies on disk and as it goes over the stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import grpc

from optiinfra.telemetry.v1 import link_pb2, telemetry_pb2

Stream = grpc.aio.StreamStreamCall[Any, link_pb2.ServerMessage]

_SERVICE = link_pb2.DESCRIPTOR.services_by_name["Link"]
_CONNECT = f"/{_SERVICE.full_name}/{_SERVICE.methods_by_name['Connect'].name}"
# protobuf.dev/programming-guides/encoding: a field's tag is its number and how its value lies.
_VARINT, _LENGTH_DELIMITED = 0, 2


@dataclass(frozen=True, slots=True)
class Packed:
    """One batch of one tick, and the announcement that comes before it, both serialised."""

    announce: bytes  # a link_pb2.Announce; empty: there is none
    tick: bytes  # a telemetry_pb2.Tick

    @property
    def size_bytes(self) -> int:
        """This will give what it takes, in memory as on disk and on the wire."""
        return len(self.announce) + len(self.tick)


def batch_frame(seq: int, tick: bytes) -> bytes:
    """This will give an AgentMessage with one batch of one serialised tick, without copying through messages."""
    batch = _tagged(telemetry_pb2.Batch.SEQ_FIELD_NUMBER, _VARINT) + _varint(seq)
    batch += _field(telemetry_pb2.Batch.TICKS_FIELD_NUMBER, tick)
    return _field(link_pb2.AgentMessage.BATCH_FIELD_NUMBER, batch)


def announce_frame(announce: bytes) -> bytes:
    """This will give an AgentMessage with a serialised announcement."""
    return _field(link_pb2.AgentMessage.ANNOUNCE_FIELD_NUMBER, announce)


def open_stream(channel: grpc.aio.Channel) -> Stream:
    """This will begin a stream that takes messages and frames alike."""
    connect = channel.stream_stream(
        _CONNECT, request_serializer=_serialised, response_deserializer=link_pb2.ServerMessage.FromString
    )
    return cast(Stream, connect())


def _serialised(message: link_pb2.AgentMessage | bytes) -> bytes:
    return message if isinstance(message, bytes) else message.SerializeToString()


def _field(number: int, payload: bytes) -> bytes:
    return _tagged(number, _LENGTH_DELIMITED) + _varint(len(payload)) + payload


def _tagged(number: int, wire_type: int) -> bytes:
    return _varint(number << 3 | wire_type)


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first, and a bit that says whether more follow."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
