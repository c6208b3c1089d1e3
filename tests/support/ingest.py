"""A control plane's door, and the two kinds of agents that knock: the real one, and one that says what a test likes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import grpc
import psycopg

from control_plane.ingest.listening import start_server, stop_server
from control_plane.ingest.server import LinkService
from control_plane.storage.session import Database
from node_agent.commands.configure import Configurator
from node_agent.model import NodeConfiguration, Value
from node_agent.spool import Spool
from node_agent.uplink.backoff import Backoff
from node_agent.uplink.client import Identity, Outgoing, Uplink
from node_agent.uplink.disk import DiskSpool
from node_agent.uplink.frames import Packed
from node_agent.uplink.lane import BacklogLane
from node_agent.uplink.requests import Handlers
from node_agent.uplink.wire import Encoder
from optiinfra.telemetry.v1 import link_pb2, link_pb2_grpc, telemetry_pb2
from tests.fakes.clock import FakeClock, FakeNodeClock
from tests.support.streams import RawStream, gpu_announce, gpu_records, monotonic_us, tick, unix_us

RETENTION_DAYS = 14
PATIENCE_SECONDS = 20.0  # beyond any of these steps on a loaded machine; only a failing test waits so long


async def until(condition: Callable[[], bool], what: str) -> None:
    """This will return once `condition` holds."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not condition():
                await asyncio.sleep(0.005)
    except TimeoutError as error:
        raise AssertionError(f"it did not come to pass that {what}") from error


class ControlPlane:
    """One replica: the gRPC server and the writer behind it, on a database that outlives them."""

    def __init__(self, url: str, clock: FakeClock) -> None:
        """Nothing runs until `start`."""
        self._url = url
        self._clock = clock
        self._port = 0
        self._writing: asyncio.Task[None] | None = None
        self._server: grpc.aio.Server | None = None
        self.service: LinkService

    async def __aenter__(self) -> ControlPlane:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def address(self) -> str:
        """This will give host and port; the port stays the same over restarts."""
        return f"127.0.0.1:{self._port}"

    @property
    def port(self) -> int:
        """This will give the port."""
        return self._port

    async def start(self) -> None:
        """This will listen, on the port of the time before if there was one."""
        self._database = Database(self._url)
        self.service = LinkService(self._database, self._clock, retention_days=RETENTION_DAYS)
        self._server, self._port = await start_server(self.service, self.address)
        self._writing = asyncio.create_task(self.service.run())

    async def stop(self) -> None:
        """This will end in order, as at a SIGTERM."""
        if self._server is None:
            return
        await stop_server(self.service, self._server)
        await self._end()

    async def crash(self) -> None:
        """This will end without committing or telling anybody, as near to a SIGKILL as one process can show."""
        assert self._writing is not None
        self._writing.cancel()
        assert self._server is not None
        await self._server.stop(grace=None)
        await self._end()

    def writer_died(self) -> bool:
        """This will say whether the writer has ended by itself, which it must never do."""
        return self._writing is not None and self._writing.done()

    async def _end(self) -> None:
        assert self._writing is not None
        died = self.writer_died() and not self._writing.cancelled()
        self._writing.cancel()
        with suppress(asyncio.CancelledError):
            await self._writing
        assert not died
        self._writing = self._server = None
        self.service.close()
        await self._database.close()


class Store:
    """Looks into the database, outside the code under test."""

    def __init__(self, url: str) -> None:
        """Each question is its own connection: some tests end all others."""
        self._url = url

    def rows(self, query: str, *arguments: object) -> list[tuple[Any, ...]]:
        """This will run a query and commit."""
        with psycopg.connect(self._url, autocommit=True, options="-c timezone=UTC") as connection:
            cursor = connection.execute(query, arguments)
            return cursor.fetchall() if cursor.description else []

    def one(self, query: str, *arguments: object) -> Any:
        """This will give the only column of the only row."""
        ((value,),) = self.rows(query, *arguments)
        return value

    def watts(self) -> list[float | None]:
        """This will give power_draw_watts of every stored GPU row, smallest first."""
        return [w for (w,) in self.rows("SELECT power_draw_watts FROM gpu_sample ORDER BY power_draw_watts")]

    def end_connections(self) -> int:
        """This will end every other connection to this database and say how many there were."""
        return int(
            self.one(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )
        )

    def waiters(self) -> int:
        """This will give how many wait for a lock."""
        return int(self.one("SELECT count(*) FROM pg_locks WHERE NOT granted"))


@asynccontextmanager
async def commits_held_back(url: str) -> AsyncIterator[None]:
    """This will let nothing be committed: whatever moves a cursor waits until the end."""
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute("LOCK TABLE ingest_cursor IN ACCESS EXCLUSIVE MODE")
        yield


class Door(Protocol):
    """Anything that agents can connect to."""

    @property
    def address(self) -> str:
        """This will give host and port."""
        ...


class RawAgent:
    """A client that writes what a test tells it to."""

    def __init__(
        self,
        plane: Door,
        clock: FakeClock,
        *,
        agent_id: str = "raw-agent",
        epoch: bytes = b"raw-agent--epoch",
        node: FakeNodeClock | None = None,
    ) -> None:
        """`node` is the node's clock; right by default."""
        self.node = node or FakeNodeClock(clock)
        self.stream = RawStream(self.node)
        self._agent_id = agent_id
        self._epoch = epoch
        self._channel = grpc.aio.insecure_channel(plane.address, options=(("grpc.enable_http_proxy", 0),))
        self._call: Any = link_pb2_grpc.LinkStub(self._channel).Connect()
        self.acked_seq = 0
        self.refused: dict[int, str] = {}

    async def __aenter__(self) -> RawAgent:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call.cancel()
        await self._channel.close()

    def cancel(self) -> None:
        """This will give the call up."""
        self._call.cancel()

    async def close_its_side(self) -> None:
        """This will say that nothing more comes."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self._call.done_writing()

    def hello(self, **changes: object) -> link_pb2.Hello:
        """This will give a good Hello with some fields changed."""
        fields: dict[str, Any] = {
            "agent_id": self._agent_id,
            "node_name": "raw-node",
            "epoch": self._epoch,
            "protocol_min": 1,
            "protocol_max": 1,
            "agent_version": "0.1",
            "clock": self.clock_reading(),
            "attributes_json": b'{"sampling_interval_seconds": 5}',
        }
        return link_pb2.Hello(**{**fields, **changes})

    def clock_reading(self) -> link_pb2.ClockReading:
        """This will read the node's clocks."""
        return link_pb2.ClockReading(unix_us=unix_us(self.node), monotonic_us=monotonic_us(self.node))

    async def welcome(self, **changes: object) -> link_pb2.Welcome:
        """This will introduce itself and expect to be welcomed."""
        answer = await self.ask(hello=self.hello(**changes))
        assert answer.WhichOneof("body") == "welcome", answer
        return answer.welcome

    async def connect(self, *entities: telemetry_pb2.Entity) -> link_pb2.Welcome:
        """This will introduce itself and announce GPU 0 with its power draw, and more entities."""
        welcome = await self.welcome()
        announce = gpu_announce()
        announce.entities.extend(entities)
        await self.send(announce=announce)
        return welcome

    async def send(self, **body: object) -> None:
        """This will write one message."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self._call.write(link_pb2.AgentMessage(**body))  # type: ignore[arg-type]

    async def ask(self, **body: object) -> link_pb2.ServerMessage:
        """This will write one message and give the next that comes."""
        await self.send(**body)
        return await self.read()

    async def read(self) -> link_pb2.ServerMessage:
        """This will give the next message."""
        message = await self.read_or_end()
        assert message is not None, "the server ended the stream"
        return message

    async def read_or_end(self) -> link_pb2.ServerMessage | None:
        """This will give the next message; None when the server has ended the stream."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            message = await self._call.read()
        if not isinstance(message, link_pb2.ServerMessage):
            return None
        if message.WhichOneof("body") == "ack":
            self.acked_seq = message.ack.committed_seq
            self.refused |= {refused.seq: refused.reason for refused in message.ack.refused}
        return message

    async def send_watts(self, *watts: float, entity: int = 0) -> int:
        """This will send a batch for each value, a second apart, and give the last one's number."""
        for value in watts:
            await self.send(batch=self.stream.batch([(0, gpu_records(value, entity=entity))]))
        return self.stream.seq

    async def acked(self, seq: int | None = None) -> None:
        """This will wait until everything sent, or everything up to `seq`, is acknowledged."""
        wanted = self.stream.seq if seq is None else seq
        while self.acked_seq < wanted:
            await self.read()

    async def settled(self) -> None:
        """This will wait until the server has read all that was sent: a heartbeat is answered in turn."""
        await self.send(heartbeat=link_pb2.Heartbeat(clock=self.clock_reading()))
        while (await self.read()).WhichOneof("body") != "heartbeat":
            pass


class Agent:
    """The real encoder, spool and uplink; a test takes the samples."""

    def __init__(
        self,
        plane: Door,
        clock: FakeClock,
        *,
        agent_id: str = "agent",
        node: FakeNodeClock | None = None,
        buffer_bytes: int = 1 << 20,
        folder: Path | None = None,
        spool_bytes: int = 1 << 24,
        epoch: bytes | None = None,
        boot_id: str = "boot",
        configurator: Configurator | None = None,
    ) -> None:
        """`node` is the node's clock; right by default. `folder` is where the disk spool is; None for none.

        `configurator` takes what the control plane configures; None: all is taken and nothing done.
        """
        self.node = node or FakeNodeClock(clock)
        self.encoder = Encoder()
        me = Identity(
            agent_id=agent_id,
            node_name=agent_id,
            agent_version="0.1",
            epoch=epoch or agent_id.encode().ljust(16, b".")[-16:],
            attributes_json=b"{}",
        )
        self.disk: DiskSpool | None = None
        self.lane: BacklogLane | None = None
        if folder is not None:
            self.disk = DiskSpool(
                folder,
                self.node,
                epoch=me.epoch,
                boot_id=boot_id,
                max_bytes=spool_bytes,
                max_age_seconds=86_400,
                everything=self.encoder.everything,
            )
            self.disk.recover()
            again = Backoff(random.Random(2), base_seconds=0.01, most_seconds=0.05)
            self.lane = BacklogLane(self.disk, me, self.node, backoff=again, boot_id=boot_id)
        self.spool: Spool[Packed] = Spool(max_bytes=buffer_bytes, store=self.disk)
        self.commands: list[str] = []
        self.uplink = Uplink(
            plane.address,
            me,
            self.spool,
            self.node,
            everything=self.encoder.everything,
            handlers=self._handlers(configurator),
            backoff=Backoff(random.Random(1), base_seconds=0.01, most_seconds=0.05),
            backlog=self.lane,
        )
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Agent:
        self._running = asyncio.create_task(self.uplink.run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._running is not None
        self._running.cancel()
        with suppress(asyncio.CancelledError):
            await self._running

    def sample(self, values: Mapping[str, Value], *, command_id: str = "", keys: Sequence[str] = ("GPU-0",)) -> int:
        """This will take a sample of some GPUs now and give its batch's number."""
        announce, message = self.encoder.encode(
            tick(self.node.now(), {("gpu", key): values for key in keys}, command_id=command_id)
        )
        packed = Outgoing(announce=announce, tick=message).packed()
        return self.spool.append(packed, size_bytes=packed.size_bytes, taken_at_unix_us=message.taken_at_unix_us)

    async def drained(self) -> None:
        """This will wait until the control plane has taken everything."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self.uplink.drained()

    async def all_drained(self) -> None:
        """This will wait until the control plane has taken everything, and what was on disk before."""
        await self.drained()
        lane = self.lane
        assert lane is not None
        await until(lambda: not lane.pending(), "the backlog is brought")

    def killed(self) -> None:
        """This will leave the folder as a SIGKILL does: what was written is there, and nobody holds it."""
        assert self.disk is not None
        self.disk.close()

    def _handlers(self, configurator: Configurator | None) -> Handlers:
        async def take(_asked: NodeConfiguration) -> str | None:
            return None

        return Handlers(
            collect_now=self._collect_now,
            set_interval=configurator.set_interval if configurator else lambda _seconds: None,
            configure=configurator.configure if configurator else take,
            standing=configurator.standing if configurator else lambda: None,
        )

    def _collect_now(self, command_id: str, valid_for_seconds: float) -> str | None:
        self.commands.append(command_id)
        self.sample({"power_draw_watts": 1.0}, command_id=command_id)
        return None
