"""A control plane of a few lines: it speaks link.proto over a real socket and commits to a list."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import grpc

from optiinfra.telemetry.v1 import link_pb2, link_pb2_grpc

Context = grpc.aio.ServicerContext[link_pb2.AgentMessage, link_pb2.ServerMessage]


@dataclass(slots=True)
class Session:
    """One stream of one agent, and all that came over it."""

    context: Context
    connected_at: float  # the loop's time
    messages: list[link_pb2.AgentMessage] = field(default_factory=list)
    close: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def hello(self) -> link_pb2.Hello:
        """This will give the first message."""
        return self.messages[0].hello

    @property
    def seqs(self) -> list[int]:
        """This will give the numbers of the batches, as they came."""
        return [m.batch.seq for m in self.messages if m.HasField("batch")]

    def bodies(self, *wanted: str) -> list[link_pb2.AgentMessage]:
        """This will give the messages of the wanted kinds, as they came."""
        return [m for m in self.messages if m.WhichOneof("body") in wanted]

    async def send(self, message: link_pb2.ServerMessage) -> None:
        """This will say something that nobody asked for."""
        await self.context.write(message)


class LinkServer(link_pb2_grpc.LinkServicer):
    """Admits everybody; what it does with batches is for the test to say."""

    def __init__(self, **options: int) -> None:
        """`options` are gRPC's own, without their common prefix."""
        self._options = [("grpc.so_reuseport", 0), *((f"grpc.{name}", value) for name, value in options.items())]
        self.sessions: list[Session] = []
        self.refusals: deque[link_pb2.Refusal] = deque()  # for the next connections
        self.acknowledging = True
        self.reading = True
        self.closes_after_welcome = False
        self.tells_of_taking = True  # as control planes do since link.proto asks for it
        self.window = 16
        self.heartbeat_seconds = 10
        self.configure: link_pb2.Configure | None = None
        self.committed: dict[bytes, int] = {}
        self.stored: dict[bytes, list[int]] = {}
        self.lost: dict[bytes, set[int]] = {}
        self.aborts: dict[int, grpc.StatusCode] = {}  # at this batch the stream ends so, once, and it is not stored
        self.on_batch: Callable[[Session, int], None] = lambda _session, _seq: None
        self.port = 0
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """This will listen, always on the same port."""
        self._server = grpc.aio.server(options=self._options)
        link_pb2_grpc.add_LinkServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    async def stop(self) -> None:
        """This will die at once."""
        if self._server is not None:
            for session in self.sessions:
                session.close.set()
            await self._server.stop(0)
            self._server = None

    async def leave(self, grace_seconds: float) -> None:
        """This will end as a server does that is told to: GOAWAY, and time for the streams that stand."""
        assert self._server is not None
        server, self._server = self._server, None
        await server.stop(grace_seconds)

    # The stubs know only servicers that yield; grpc.aio also takes those that read and write.
    async def Connect(self, request_iterator: object, context: Context) -> None:  # type: ignore[override]
        """This will serve one stream."""
        session = Session(context=context, connected_at=asyncio.get_running_loop().time())
        if self.tells_of_taking:
            await context.send_initial_metadata((("optiinfra-link", "1"),))
        hello = await context.read()
        assert isinstance(hello, link_pb2.AgentMessage)
        session.messages.append(hello)
        self.sessions.append(session)
        if self.refusals:
            await session.send(link_pb2.ServerMessage(refusal=self.refusals.popleft()))
            return
        await session.send(link_pb2.ServerMessage(welcome=self._welcome(hello.hello.epoch)))
        if self.closes_after_welcome:
            return
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(self._read(session))
            closing = tasks.create_task(session.close.wait())
            await asyncio.wait((reading, closing), return_when=asyncio.FIRST_COMPLETED)
            reading.cancel()
            closing.cancel()

    async def acknowledge(self, session: Session, seq: int) -> None:
        """This will commit every batch up to `seq`."""
        epoch = session.hello.epoch
        self.committed[epoch] = max(self.committed.get(epoch, 0), seq)
        await session.send(
            link_pb2.ServerMessage(ack=link_pb2.Ack(committed_seq=self.committed[epoch], window_batches=self.window))
        )

    def _welcome(self, epoch: bytes) -> link_pb2.Welcome:
        return link_pb2.Welcome(
            protocol=1,
            committed_seq=self.committed.get(epoch, 0),
            window_batches=self.window,
            heartbeat_interval_seconds=self.heartbeat_seconds,
            server_version="a test",
            configure=self.configure,
        )

    async def _read(self, session: Session) -> None:
        if not self.reading:
            await asyncio.Event().wait()
        while True:
            message: object = await session.context.read()
            if not isinstance(message, link_pb2.AgentMessage):
                return
            session.messages.append(message)
            epoch = session.hello.epoch
            if message.HasField("loss"):
                told = range(message.loss.first_seq, message.loss.last_seq + 1)
                self.lost.setdefault(epoch, set()).update(told)
            if message.HasField("batch"):
                await self._batch(session, message.batch.seq)

    async def _batch(self, session: Session, seq: int) -> None:
        self.on_batch(session, seq)
        if (code := self.aborts.pop(seq, None)) is not None:
            await session.context.abort(code, "said the proxy")
        if not self.acknowledging:
            return
        epoch = session.hello.epoch
        if seq > self.committed.get(epoch, 0):
            self.stored.setdefault(epoch, []).append(seq)
        await self.acknowledge(session, seq)
