"""Recordings: what an agent sees, written to a file, and played through the real door later.

A recording is a gzip file of messages as they would go over the wire, each preceded by its
length in four little-endian bytes: a Hello first, then Announce and Batch in turn.
"""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from google.protobuf.message import DecodeError

from node_agent.clock import Instant
from node_agent.uplink import wire
from node_agent.uplink.client import Identity, Outgoing
from optiinfra.telemetry.v1 import link_pb2, telemetry_pb2

_LENGTH = struct.Struct("<I")
# One tick of a host with 16 GPUs and 8 engines is about 40 KB.
LARGEST_MESSAGE = 16 * 1024 * 1024


class RecordingError(Exception):
    """A file is no recording, or is damaged; the text says where."""


class Recorder:
    """Writes one recording. Every tick is flushed, so an interrupted recording is good up to there."""

    def __init__(self, path: Path, identity: Identity, now: Instant) -> None:
        """Refuses to overwrite: FileExistsError."""
        self._file = gzip.open(path, "xb", compresslevel=6)  # noqa: SIM115 - closed by __exit__
        hello = link_pb2.Hello(
            agent_id=identity.agent_id,
            node_name=identity.node_name,
            epoch=identity.epoch,
            agent_version=identity.agent_version,
            clock=wire.clock_reading(now),
            attributes_json=identity.attributes_json,
        )
        self._seq = 0
        self._write(link_pb2.AgentMessage(hello=hello))

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, outgoing: Outgoing) -> int:
        """This will append a tick and give its number."""
        if outgoing.announce is not None:
            self._write(link_pb2.AgentMessage(announce=outgoing.announce))
        self._seq += 1
        self._write(link_pb2.AgentMessage(batch=telemetry_pb2.Batch(seq=self._seq, ticks=[outgoing.tick])))
        self._file.flush()
        return self._seq

    def _write(self, message: link_pb2.AgentMessage) -> None:
        data = message.SerializeToString()
        self._file.write(_LENGTH.pack(len(data)) + data)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedTick:
    """One tick of a recording, and when it was taken."""

    unix_us: int
    outgoing: Outgoing


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """A whole recording in memory: an hour at 5 s of an 8-GPU host is some 10 MB."""

    hello: link_pb2.Hello
    ticks: tuple[RecordedTick, ...]

    @property
    def seconds(self) -> float:
        """This will give the time from the first tick to the last."""
        return (self.ticks[-1].unix_us - self.ticks[0].unix_us) / 1e6

    def identity(self, *, epoch: bytes, node_name: str | None) -> Identity:
        """This will say who the replayed node is: plainly a replay, under its own or another name."""
        attributes = json.loads(self.hello.attributes_json or b"{}") | {"replayed_from": self.hello.node_name}
        return Identity(
            agent_id=f"replay-{node_name or ''}-{self.hello.agent_id}"[:128],
            node_name=node_name or self.hello.node_name,
            agent_version=self.hello.agent_version,
            epoch=epoch,
            attributes_json=json.dumps(attributes).encode(),
            replayed=True,
        )


class Announced:
    """What the ticks played so far have announced, for a connection that begins in their midst."""

    def __init__(self) -> None:
        self._schemas: dict[int, telemetry_pb2.Schema] = {}
        self._entities: dict[int, telemetry_pb2.Entity] = {}

    def learn(self, outgoing: Outgoing) -> None:
        """This will add what comes before a tick; what is announced again takes the place of the older."""
        if outgoing.announce is not None:
            self._schemas |= {schema.id: schema for schema in outgoing.announce.schemas}
            self._entities |= {entity.id: entity for entity in outgoing.announce.entities}

    def everything(self) -> link_pb2.Announce:
        """This will give all of it."""
        return link_pb2.Announce(schemas=self._schemas.values(), entities=self._entities.values())


def _messages(path: Path) -> Iterator[link_pb2.AgentMessage]:
    with gzip.open(path, "rb") as file:
        while head := file.read(_LENGTH.size):
            if len(head) < _LENGTH.size:
                return  # the recorder was killed in the middle of a write
            (length,) = _LENGTH.unpack(head)
            if length > LARGEST_MESSAGE:
                raise RecordingError(f"{path} is damaged: a message claims {length} bytes")
            data = file.read(length)
            if len(data) < length:
                return
            yield link_pb2.AgentMessage.FromString(data)


def load(path: Path) -> Recording:
    """This will read a recording. One that was cut short is read up to its last whole tick.

    Raises RecordingError when the file is none, and OSError when it cannot be read.
    """
    hello: link_pb2.Hello | None = None
    ticks: list[RecordedTick] = []
    announce = link_pb2.Announce()
    try:
        for message in _messages(path):
            match message.WhichOneof("body"):
                case "hello":
                    hello = message.hello
                case "announce":
                    announce.MergeFrom(message.announce)
                case "batch":
                    for tick in message.batch.ticks:
                        outgoing = Outgoing(announce=announce if announce.ByteSize() else None, tick=tick)
                        ticks.append(RecordedTick(unix_us=tick.taken_at_unix_us, outgoing=outgoing))
                        announce = link_pb2.Announce()
                case _:
                    pass
    except EOFError:
        pass  # gzip's end is missing: the recorder was killed
    except (gzip.BadGzipFile, zlib.error, DecodeError, UnicodeDecodeError) as error:
        raise RecordingError(f"{path} is no recording of `optiinfra record`") from error
    if hello is None or not ticks:
        raise RecordingError(f"{path} holds no tick; is it a recording of `optiinfra record`?")
    return Recording(hello=hello, ticks=tuple(ticks))
