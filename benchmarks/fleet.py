"""Many nodes in one process: real streams, each on a connection of its own, with ticks encoded beforehand.

Run as a process of its own, so that the load and what is loaded do not share an interpreter:
`python -m benchmarks.fleet --server HOST:PORT --nodes 100 --interval 5 --seconds 20`. It says `connected`
when every node is, and at the end prints what was made, acknowledged and refused as JSON. When each batch was
acknowledged, and how long that took, goes into the file that `--acknowledged` names, as pairs of doubles.

A node keeps a tick until it is acknowledged, connects again when its stream ends, and sends what is left: what an
agent does, without its disk.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import resource
import struct
import sys
import time
import uuid
from array import array
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import uvloop

from benchmarks.fleet_host import tick
from benchmarks.fleet_identity import Identities, agent_id
from benchmarks.same_values import Past, ticks_of, varint
from node_agent.clock import SystemClock
from node_agent.uplink import wire
from node_agent.uplink.channel import CHANNEL_OPTIONS
from node_agent.uplink.enrolment import SERVER_NAME
from optiinfra.telemetry.v1 import link_pb2

METHOD = "/optiinfra.telemetry.v1.Link/Connect"
# A connection of its own, as agents have.
OPTIONS = (*CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1))
CONNECT_SECONDS = 30.0
AGAIN_SECONDS = (0.5, 3.0)  # between two attempts, by chance
SETTLE_SECONDS = 60.0  # for what is not acknowledged when the time is over


def batch_message(seq: int, unix_us: int, monotonic_us: int, rest: bytes) -> bytes:
    """This will write an AgentMessage with one batch of one tick; `rest` is the tick without its two stamps."""
    stamped = struct.pack("<Bq", 0x09, unix_us) + struct.pack("<Bq", 0x11, monotonic_us) + rest
    batch = b"\x08" + varint(seq) + b"\x12" + varint(len(stamped)) + stamped
    return b"\x1a" + varint(len(batch)) + batch


@dataclass(slots=True)
class Tally:
    """What the nodes of this process have done."""

    acknowledged: array[float] = field(default_factory=lambda: array("d"))  # pairs: monotonic time, seconds it took
    made: dict[int, int] = field(default_factory=dict)  # by node's number: ticks, and the same for those acknowledged
    done: dict[int, int] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)
    reconnects: int = 0
    until: float = float("inf")  # when to stop making ticks; known when all are connected


@dataclass(frozen=True, slots=True)
class Kept:
    """One tick that is not acknowledged."""

    seq: int
    unix_us: int
    monotonic_us: int
    made_at: float


class Node:
    """One host's stream. It encodes once, and then only stamps."""

    def __init__(
        self, number: int, server: str, identities: Identities | None, tally: Tally, past: Past | None = None
    ) -> None:
        """`identities` hold its certificate; None: plain text. With a `past` it sends that, whose values evolve."""
        self._number = number
        self._server = server
        self._identities = identities
        self._clock = SystemClock()
        self._tally = tally
        self._past = past
        encoder, self._rests = wire.Encoder(), list[bytes]()  # of ticks without their stamps
        for each in ticks_of(number, past) if past else (tick(number, self._clock.now()),):
            announce, message = encoder.encode(each)
            if announce is not None:
                self._announce = link_pb2.AgentMessage(announce=announce).SerializeToString()
            message.ClearField("taken_at_unix_us")
            message.ClearField("taken_at_monotonic_us")
            self._rests.append(message.SerializeToString())
        self._epoch = uuid.uuid4().bytes
        self._kept: deque[Kept] = deque()
        self._seq = self._sent = self._acked = 0
        self._window, self._heartbeat_seconds, self._next_heartbeat = 1, 10.0, 0.0
        self._sending = False
        self._stream: grpc.aio.StreamStreamCall[bytes, link_pb2.ServerMessage] | None = None
        self._room = asyncio.Event()
        self.connected = asyncio.Event()
        tally.made[number] = tally.done[number] = 0

    async def live(self) -> None:
        """This will connect, and connect again after every failure, until cancelled."""
        while True:
            try:
                await self._session()
            except (grpc.aio.AioRpcError, ConnectionError, TimeoutError, asyncio.InvalidStateError):
                self._stream = None
                self._tally.reconnects += 1
                await asyncio.sleep(random.uniform(*AGAIN_SECONDS))

    async def _session(self) -> None:
        async with self._channel() as channel:
            stream: grpc.aio.StreamStreamCall[bytes, link_pb2.ServerMessage] = channel.stream_stream(
                METHOD, response_deserializer=link_pb2.ServerMessage.FromString
            )()
            async with asyncio.timeout(CONNECT_SECONDS):
                await stream.write(self._hello())
                welcome = (await _read(stream)).welcome
                await stream.write(self._announce)
            self._window, self._heartbeat_seconds = welcome.window_batches, welcome.heartbeat_interval_seconds
            self._taken(welcome.committed_seq)
            self._sent = self._acked
            self._stream, self._sending = stream, False
            self.connected.set()
            await self._send_ready()
            try:
                while True:
                    await self._hear(await _read(stream))
            finally:
                self._stream = None

    def _channel(self) -> grpc.aio.Channel:
        if self._identities is None:
            return grpc.aio.insecure_channel(self._server, options=OPTIONS)
        options = (*OPTIONS, ("grpc.ssl_target_name_override", SERVER_NAME))
        return grpc.aio.secure_channel(self._server, self._identities.credentials(self._number), options=options)

    def _hello(self) -> bytes:
        hello = link_pb2.Hello(
            protocol_min=1, protocol_max=1, agent_id=agent_id(self._number), node_name=f"bench-{self._number:05d}",
            epoch=self._epoch, agent_version="bench", clock=wire.clock_reading(self._clock.now()),
            attributes_json=b'{"sampling_interval_seconds":5}',
        )  # fmt: skip
        return link_pb2.AgentMessage(hello=hello).SerializeToString()

    async def _hear(self, message: link_pb2.ServerMessage) -> None:
        if message.HasField("refusal"):
            raise ConnectionError(message.refusal.detail)
        if not message.HasField("ack"):
            return
        for refused in message.ack.refused:
            self._tally.refused[refused.reason] += 1
        self._taken(message.ack.committed_seq)
        self._room.set()
        if self._kept and self._sent < self._seq:
            await self._send_ready()

    def _taken(self, committed_seq: int) -> None:
        now = time.monotonic()
        while self._kept and self._kept[0].seq <= committed_seq:
            made_at = self._kept.popleft().made_at
            self._tally.acknowledged.extend((now, now - made_at))
            self._tally.done[self._number] += 1
        self._acked = max(self._acked, committed_seq)
        self._sent = max(self._sent, self._acked)

    async def _send_ready(self) -> None:
        """This will send what the window has room for. One at a time: gRPC takes one write after the other."""
        if self._sending or self._stream is None:
            return
        self._sending, stream = True, self._stream
        try:
            await self._write_ready(stream)
            if time.monotonic() >= self._next_heartbeat:
                self._next_heartbeat = time.monotonic() + self._heartbeat_seconds
                heartbeat = link_pb2.Heartbeat(clock=wire.clock_reading(self._clock.now()), last_seq=self._seq)
                await stream.write(link_pb2.AgentMessage(heartbeat=heartbeat).SerializeToString())
                await self._write_ready(stream)  # what was made meanwhile found the stream taken
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass  # the reader sees it too, and connects again
        finally:
            if self._stream is stream:
                self._sending = False

    async def _write_ready(self, stream: grpc.aio.StreamStreamCall[bytes, link_pb2.ServerMessage]) -> None:
        while (room := self._window - (self._sent - self._acked)) > 0 and self._sent < self._seq:
            for kept in [k for k in self._kept if k.seq > self._sent][:room]:
                if kept.seq <= self._sent:  # acknowledged meanwhile: another stream had brought it
                    continue
                self._sent = kept.seq
                rest = self._rests[(kept.seq - 1) % len(self._rests)]
                await stream.write(batch_message(kept.seq, kept.unix_us, kept.monotonic_us, rest))

    async def run(self, *, interval_seconds: float, ticks: int | None) -> None:
        """This will make ticks, paced or, at an interval of 0, as fast as they are acknowledged.

        It stops by itself when the time is over: a write that is cancelled takes its stream along.
        """
        if interval_seconds:
            await asyncio.sleep(interval_seconds * random.random())  # hosts do not tick together
        due = time.monotonic()
        while (ticks is None or self._seq < ticks) and time.monotonic() < self._tally.until:
            while not interval_seconds and len(self._kept) >= self._window:
                self._room.clear()
                await self._room.wait()
            now = self._clock.now()
            self._seq += 1
            age_us = wire.unix_us(now) - self._past.at_us(self._seq - 1) if self._past else 0
            stamps = wire.unix_us(now) - age_us, wire.monotonic_us(now) - age_us
            self._kept.append(Kept(self._seq, *stamps, time.monotonic()))
            self._tally.made[self._number] += 1
            await self._send_ready()
            if interval_seconds:
                due += interval_seconds
                await asyncio.sleep(max(0.0, due - time.monotonic()))

    @property
    def is_drained(self) -> bool:
        """This will say whether everything made is acknowledged."""
        return not self._kept


async def _read(stream: grpc.aio.StreamStreamCall[bytes, link_pb2.ServerMessage]) -> link_pb2.ServerMessage:
    message: object = await stream.read()
    if not isinstance(message, link_pb2.ServerMessage):
        raise ConnectionError("the control plane closed the stream")
    if message.HasField("refusal"):
        raise ConnectionError(message.refusal.detail)
    return message


async def _run(arguments: argparse.Namespace) -> Tally:
    tally = Tally()
    identities = Identities.read(arguments.identities) if arguments.identities else None
    servers = arguments.server.split(",")
    past = Past(start_us=arguments.past, ticks=arguments.ticks) if arguments.past else None
    nodes = [
        Node(arguments.first + n, servers[n % len(servers)], identities, tally, past) for n in range(arguments.nodes)
    ]  # fmt: skip
    gc.freeze()
    async with asyncio.TaskGroup() as tasks:
        living, sending = [], []
        for node in nodes:
            living.append(tasks.create_task(node.live()))
            if arguments.interval:  # what is paced begins as it connects; the rest waits for all
                sending.append(tasks.create_task(_paced(node, arguments)))
            await asyncio.sleep(arguments.ramp / len(nodes))
        for node in nodes:
            await node.connected.wait()
        print("connected", flush=True)
        tally.until = time.monotonic() + arguments.seconds
        if not arguments.interval:
            sending = [tasks.create_task(node.run(interval_seconds=0.0, ticks=arguments.ticks)) for node in nodes]
        await asyncio.wait(sending)
        patience = time.monotonic() + SETTLE_SECONDS
        while not all(node.is_drained for node in nodes) and time.monotonic() < patience:
            await asyncio.sleep(0.05)
        for task in living:
            task.cancel()
    return tally


async def _paced(node: Node, arguments: argparse.Namespace) -> None:
    await node.connected.wait()
    await node.run(interval_seconds=arguments.interval, ticks=arguments.ticks)


def raise_descriptor_limit() -> None:
    """This will allow as many connections as the host does: each is a file descriptor."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def main() -> int:
    """This will play the fleet that the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--server", required=True, help="host:port of the agents' door; several, with commas")
    parser.add_argument("--nodes", type=int, required=True)
    parser.add_argument("--first", type=int, default=0, help="number of the first node")
    parser.add_argument("--interval", type=float, default=0.0, help="seconds between ticks; 0: as fast as it goes")
    parser.add_argument("--ticks", type=int, default=None, help="ticks of each node; default: until the time is over")
    parser.add_argument("--seconds", type=float, default=600.0, help="stop this long after all are connected")
    parser.add_argument("--ramp", type=float, default=0.0, help="seconds over which the nodes connect")
    parser.add_argument("--identities", type=Path, default=None, help="file with the nodes' certificates")
    parser.add_argument("--past", type=int, default=0, help="send `--ticks` 5 s apart from this moment on (µs, UTC)")
    parser.add_argument("--acknowledged", type=Path, default=None, help="file for when each batch was acknowledged")
    arguments = parser.parse_args()
    raise_descriptor_limit()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        tally = runner.run(_run(arguments))
    if arguments.acknowledged:
        arguments.acknowledged.write_bytes(tally.acknowledged.tobytes())
    counts = {str(number): [made, tally.done[number]] for number, made in tally.made.items()}
    json.dump({"nodes": counts, "refused": tally.refused, "reconnects": tally.reconnects}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
