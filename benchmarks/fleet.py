"""Many nodes in one process: real streams, each on a connection of its own, with ticks encoded beforehand.

Run as a process of its own, so that the load and what is loaded do not share an interpreter:
`python -m benchmarks.fleet --server HOST:PORT --nodes 100 --interval 5 --seconds 20`. It says `connected`
when every node is, and at the end prints when each batch was acknowledged and how long that took.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
import uuid
from collections import deque
from collections.abc import Iterator

import grpc

from node_agent.clock import Instant, SystemClock
from node_agent.model import CollectorReport, Entity, EntityKind, Histogram, Outcome, Sample, Tick, Value
from node_agent.uplink import wire
from optiinfra.catalogue import TABLES, FieldSpec
from optiinfra.telemetry.v1 import link_pb2, telemetry_pb2

METHOD = "/optiinfra.telemetry.v1.Link/Connect"
GPUS, ENGINES, CORES = 8, 2, 64
# vLLM's time to first token has 20 bounds, its other histograms fewer: 12 is their mean.
BOUNDS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
# Values beyond this would be no more telling: counters of a machine that has run for a while.
LARGEST = 1e12


def _value(field: FieldSpec, chance: random.Random) -> Value:
    if field.type == "histogram":
        counts = tuple(chance.randrange(100_000) for _ in range(len(BOUNDS) + 1))
        return Histogram(bounds=BOUNDS, counts=counts, sum=chance.random() * 1e5)
    assert field.minimum is not None
    assert field.maximum is not None
    top = min(field.maximum, LARGEST)
    if field.type == "real[]":
        return tuple(chance.uniform(field.minimum, top) for _ in range(CORES))
    if field.type == "bigint":
        return chance.randrange(int(field.minimum), int(top))
    return chance.uniform(field.minimum, top)


def _entities(node: int) -> Iterator[tuple[str, Entity]]:
    yield "host", Entity(kind=EntityKind.NODE, key="node", attributes={"cpu": "a CPU"})
    for gpu in range(GPUS):
        attributes: dict[str, object] = {"index": gpu, "name": "NVIDIA H100 80GB HBM3"}
        yield "gpu", Entity(kind=EntityKind.GPU, key=f"GPU-{node:06d}-{gpu}", attributes=attributes)
    for engine in range(ENGINES):
        attributes = {"engine": "vllm", "model": "a/model", "state": "up"}
        url = f"http://127.0.0.1:{8000 + engine}"
        yield "inference", Entity(kind=EntityKind.INFERENCE_SERVER, key=url, attributes=attributes)


def tick(node: int, now: Instant) -> Tick:
    """This will make what a host with eight GPUs and two engines sees: some 700 values in 11 rows."""
    chance = random.Random(node)
    named = list(_entities(node))
    return Tick(
        taken_at=now,
        entities=[entity for _, entity in named],
        samples=[
            Sample(
                table=table,
                entity=(entity.kind, entity.key),
                values={field.name: _value(field, chance) for field in TABLES[table].fields},
            )
            for table, entity in named
        ],
        reports=[
            CollectorReport(collector=name, outcome=Outcome.OK, duration_seconds=0.01)
            for name in ("system", "gpu", "engine")
        ],
    )


class Node:
    """One host's stream. It encodes once, and then only stamps."""

    def __init__(self, number: int, server: str, acknowledged: list[tuple[float, float]]) -> None:
        """`acknowledged` takes (monotonic time, seconds it took) of every batch."""
        self._number = number
        self._clock = SystemClock()
        self._acknowledged = acknowledged
        announce, message = wire.Encoder().encode(tick(number, self._clock.now()))
        assert announce is not None
        self._announce, self._message = announce, message
        options = [("grpc.use_local_subchannel_pool", 1)]  # a connection of its own, as agents have
        self._channel = grpc.aio.insecure_channel(server, options=options)
        self._in_flight: deque[tuple[int, float]] = deque()
        self._window, self._seq = 1, 0
        self._room = asyncio.Event()

    async def connect(self) -> None:
        """This will introduce the node and announce what it has."""
        call = self._channel.stream_stream(
            METHOD,
            request_serializer=link_pb2.AgentMessage.SerializeToString,
            response_deserializer=link_pb2.ServerMessage.FromString,
        )
        self._stream = call()
        hello = link_pb2.Hello(
            protocol_min=1, protocol_max=1, agent_id=str(uuid.uuid5(uuid.NAMESPACE_OID, f"bench-{self._number}")),
            node_name=f"bench-{self._number:04d}", epoch=uuid.uuid4().bytes, agent_version="bench",
            clock=wire.clock_reading(self._clock.now()), attributes_json=b'{"sampling_interval_seconds":5}',
        )  # fmt: skip
        await self._stream.write(link_pb2.AgentMessage(hello=hello))
        self._window = (await self._read()).welcome.window_batches
        await self._stream.write(link_pb2.AgentMessage(announce=self._announce))

    async def _read(self) -> link_pb2.ServerMessage:
        message: object = await self._stream.read()
        if not isinstance(message, link_pb2.ServerMessage):
            raise ConnectionError("the control plane closed the stream")
        return message

    async def send(self) -> None:
        """This will send one tick, taken now, when the window has room."""
        while len(self._in_flight) >= self._window:
            self._room.clear()
            await self._room.wait()
        now = self._clock.now()
        self._seq += 1
        self._message.taken_at_unix_us = wire.unix_us(now)
        self._message.taken_at_monotonic_us = wire.monotonic_us(now)
        batch = telemetry_pb2.Batch(seq=self._seq, ticks=[self._message])
        self._in_flight.append((self._seq, time.monotonic()))
        await self._stream.write(link_pb2.AgentMessage(batch=batch))

    async def receive(self) -> None:
        """This will note acknowledgements until cancelled."""
        while True:
            message = await self._read()
            if not message.HasField("ack"):
                continue
            if message.ack.refused:
                raise ValueError(f"refused: {message.ack.refused[0].reason}")
            now = time.monotonic()
            while self._in_flight and self._in_flight[0][0] <= message.ack.committed_seq:
                _, sent = self._in_flight.popleft()
                self._acknowledged.append((now, now - sent))
            self._room.set()

    async def run(self, *, interval_seconds: float, ticks: int | None, until: float) -> None:
        """This will send ticks, paced or, at an interval of 0, as fast as they are acknowledged.

        It stops by itself at `until`: a write that is cancelled takes its stream along.
        """
        if interval_seconds:
            await asyncio.sleep(interval_seconds * random.random())  # hosts do not tick together
        due, sent = time.monotonic(), 0
        while (ticks is None or sent < ticks) and time.monotonic() < until:
            await self.send()
            sent += 1
            if interval_seconds:
                due += interval_seconds
                await asyncio.sleep(max(0.0, due - time.monotonic()))

    @property
    def is_drained(self) -> bool:
        """This will say whether everything sent is acknowledged."""
        return not self._in_flight

    async def close(self) -> None:
        """This will close the connection."""
        await self._channel.close()


async def _run(arguments: argparse.Namespace) -> list[tuple[float, float]]:
    acknowledged: list[tuple[float, float]] = []
    nodes = [Node(arguments.first + n, arguments.server, acknowledged) for n in range(arguments.nodes)]
    for node in nodes:
        await node.connect()
    print("connected", flush=True)
    until = time.monotonic() + arguments.seconds
    async with asyncio.TaskGroup() as tasks:
        receiving = [tasks.create_task(node.receive()) for node in nodes]
        sending = [
            tasks.create_task(node.run(interval_seconds=arguments.interval, ticks=arguments.ticks, until=until))
            for node in nodes
        ]
        await asyncio.wait(sending)
        while not all(node.is_drained for node in nodes):
            await asyncio.sleep(0.01)
        for task in receiving:
            task.cancel()
    for node in nodes:
        await node.close()
    return acknowledged


def main() -> int:
    """This will play the fleet that the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--server", required=True, help="host:port of the agents' door")
    parser.add_argument("--nodes", type=int, required=True)
    parser.add_argument("--first", type=int, default=0, help="number of the first node")
    parser.add_argument("--interval", type=float, default=0.0, help="seconds between ticks; 0: as fast as it goes")
    parser.add_argument("--ticks", type=int, default=None, help="ticks of each node; default: until the time is over")
    parser.add_argument("--seconds", type=float, default=600.0, help="stop sending after this long")
    arguments = parser.parse_args()
    json.dump(asyncio.run(_run(arguments)), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
