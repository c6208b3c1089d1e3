"""A control plane that asks for certificates, and hosts that get theirs by a join token."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest

from control_plane.ingest.authority import Authority
from control_plane.ingest.enrolment import EnrolmentService
from control_plane.ingest.listening import start_server, stop_server
from control_plane.ingest.server import LinkService
from control_plane.storage.session import Database
from node_agent.uplink import enrolment as agents
from node_agent.uplink.backoff import Backoff
from node_agent.uplink.client import Identity, Uplink
from node_agent.uplink.enrolment import CertifiedDoor
from node_agent.uplink.requests import refusing
from optiinfra.telemetry.v1 import enrolment_pb2, enrolment_pb2_grpc, link_pb2, link_pb2_grpc
from tests.fakes.clock import FakeClock, FakeNodeClock
from tests.support.ingest import PATIENCE_SECONDS, Agent

LIFE = timedelta(hours=24)


class RealClock(FakeClock):
    """Certificates are judged by TLS with the machine's own clock: this one starts there."""

    def __init__(self) -> None:
        super().__init__()
        self.advance((datetime.now(UTC) - self.now()).total_seconds())


class Plane:
    """A control plane that asks for certificates."""

    def __init__(self, database: Database, clock: FakeClock, folder: Path) -> None:
        self.database, self.clock = database, clock
        self.authority = Authority.open(folder, clock.now())
        self.enrolment = EnrolmentService(database, clock, self.authority, life=LIFE)
        self.service = LinkService(database, clock, retention_days=14, enrolment=self.enrolment)
        self.port = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def enrolment_address(self) -> str:
        return f"127.0.0.1:{self.enrolment.enrolment_port}"

    async def token(self, *, hours: float = 1, max_uses: int = 1, node_name: str | None = None) -> str:
        made = await self.enrolment.create_token(
            lifetime=timedelta(hours=hours), max_uses=max_uses, node_name=node_name
        )
        return made.token


@asynccontextmanager
async def running(plane: Plane) -> AsyncIterator[Plane]:
    server, plane.port = await start_server(
        plane.service, "127.0.0.1:0", enrolment=plane.enrolment, enrolment_address="127.0.0.1:0"
    )
    writing = asyncio.create_task(plane.service.run())
    yield plane
    await stop_server(plane.service, server)
    writing.cancel()
    with suppress(asyncio.CancelledError):
        await writing
    plane.service.close()


@dataclasses.dataclass
class Host:
    """A host on which an agent may run: its state folder and its token."""

    plane: Plane
    folder: Path
    token: str = ""
    name: str = "host-a"
    agent_id: str = dataclasses.field(default_factory=lambda: str(uuid.uuid4()))

    def door(self) -> CertifiedDoor:
        return CertifiedDoor(
            self.plane.address, self.folder, FakeNodeClock(self.plane.clock),
            agent_id=self.agent_id, node_name=self.name, token=lambda: self.token,
        )  # fmt: skip

    async def enrolled(self) -> agents.Credentials:
        channel = await self.door().open()
        await channel.close()
        kept = agents._load(self.folder)
        assert kept is not None
        return kept

    def agent(self, agent_id: str | None = None) -> Agent:
        agent = Agent(self.plane, self.plane.clock)
        agent.uplink = Uplink(
            self.plane.address,
            Identity(
                agent_id=agent_id or self.agent_id, node_name=self.name, agent_version="0.1",
                epoch=b"epoch-of-sixteen", attributes_json=b"{}",
            ),
            agent.spool, agent.node, everything=agent.encoder.everything, handlers=refusing("no"),
            backoff=Backoff(random.Random(1), base_seconds=0.01, most_seconds=0.05), door=self.door(),
        )  # fmt: skip
        return agent


async def refusal(channel: grpc.aio.Channel, agent_id: str) -> str:
    """This will connect by hand and give why it is refused."""
    async with channel, asyncio.timeout(PATIENCE_SECONDS):
        call = link_pb2_grpc.LinkStub(channel).Connect()
        hello = link_pb2.Hello(
            agent_id=agent_id, node_name="n", epoch=b"e" * 16, protocol_min=1, protocol_max=1, attributes_json=b"{}"
        )
        await call.write(link_pb2.AgentMessage(hello=hello))
        answer = await call.read()
    assert isinstance(answer, link_pb2.ServerMessage)
    assert answer.refusal.code == link_pb2.REFUSAL_CODE_IDENTITY, answer
    return answer.refusal.detail


async def handshake_fails(channel: grpc.aio.Channel) -> None:
    async with channel:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            call = enrolment_pb2_grpc.EnrolmentStub(channel).Renew(enrolment_pb2.RenewRequest(), timeout=5)
            await call
    assert error.value.code() is grpc.StatusCode.UNAVAILABLE
