"""The agent's end of the gRPC door, by hand, and the door it comes to."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc

from control_plane.ingest.listening import start_server, stop_server
from control_plane.ingest.server import LinkService
from control_plane.storage.session import Database
from node_agent.model import Tick
from node_agent.uplink import wire
from node_agent.uplink.wire import Encoder
from optiinfra.telemetry.v1 import link_pb2, link_pb2_grpc, telemetry_pb2
from tests.fakes.clock import FakeClock, FakeNodeClock

INTERVAL_SECONDS = 5


@dataclass
class Link:
    """One agent's stream, by hand: what it sends is what the agent's encoder makes."""

    call: Any
    encoder: Encoder
    seq: int = 0

    async def send(self, ticks: Sequence[Tick]) -> int:
        """This will send one batch of ticks with what they announce, and give its number."""
        messages = []
        for one in ticks:
            announce, message = self.encoder.encode(one)
            if announce is not None:
                await self.call.write(link_pb2.AgentMessage(announce=announce))
            messages.append(message)
        self.seq += 1
        await self.call.write(link_pb2.AgentMessage(batch=telemetry_pb2.Batch(seq=self.seq, ticks=messages)))
        return self.seq

    async def committed(self, seq: int) -> Mapping[int, str]:
        """This will wait until everything up to `seq` is committed, and give what was refused, by number."""
        refused: dict[int, str] = {}
        while True:
            message = await self.call.read()
            assert message is not grpc.aio.EOF
            if message.WhichOneof("body") == "ack":
                refused |= {r.seq: r.reason for r in message.ack.refused}
                if message.ack.committed_seq >= seq:
                    return refused

    async def command(self) -> str:
        """This will wait for a command and give its id."""
        while True:
            message = await self.call.read()
            if message.WhichOneof("body") == "command":
                return str(message.command.id)


@asynccontextmanager
async def linked(address: str, clock: FakeNodeClock, name: str) -> AsyncIterator[Link]:
    """This will connect an agent and hang up at the end."""
    async with grpc.aio.insecure_channel(address) as channel:
        call = link_pb2_grpc.LinkStub(channel).Connect()
        hello = link_pb2.Hello(
            agent_id=f"agent-{name}", node_name=name, epoch=uuid.uuid4().bytes, protocol_min=1, protocol_max=1,
            agent_version="0.1.0", clock=wire.clock_reading(clock.now()),
            attributes_json=json.dumps({"sampling_interval_seconds": INTERVAL_SECONDS, "kernel": "6.8.0"}).encode(),
        )  # fmt: skip
        await call.write(link_pb2.AgentMessage(hello=hello))
        assert (await call.read()).WhichOneof("body") == "welcome"
        yield Link(call=call, encoder=Encoder())
        await call.done_writing()
        while await call.read() is not grpc.aio.EOF:
            pass


@asynccontextmanager
async def ingesting(database: Database, clock: FakeClock) -> AsyncIterator[tuple[LinkService, str]]:
    """This will run ingest as the control plane does, on a free port, and give its address."""
    service = LinkService(database, clock, retention_days=14)
    server, port = await start_server(service, "127.0.0.1:0")
    try:
        async with asyncio.TaskGroup() as tasks:
            writing = tasks.create_task(service.run())
            try:
                yield service, f"127.0.0.1:{port}"
            finally:
                await stop_server(service, server)
                writing.cancel()
    finally:
        service.close()
