"""A real uplink without a sampler, what it may meet in place of a control plane, and how it is waited for."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf import any_pb2, duration_pb2

from node_agent import assembly
from node_agent.clock import Clock, SystemClock
from node_agent.model import Entity, EntityKind, Sample, Tick
from node_agent.spool import Spool
from node_agent.uplink import wire
from node_agent.uplink.backoff import Backoff, Ending
from node_agent.uplink.channel import Door
from node_agent.uplink.client import Identity, Uplink
from node_agent.uplink.frames import Packed
from node_agent.uplink.requests import Handlers
from tests.fakes.link_server import LinkServer, Session

PATIENCE_SECONDS = 20.0  # on a loaded machine; what is waited for comes within milliseconds
IDENTITY = Identity(
    agent_id="11111111-2222-3333-4444-555555555555",
    node_name="node-a",
    agent_version="1.2.3",
    epoch=b"epoch-of-16-byte",
    attributes_json=b"{}",
)
DETAILS = "grpc-status-details-bin"
RETRY_INFO = "type.googleapis.com/google.rpc.RetryInfo"


@dataclass
class Agent:
    """An uplink with a spool, and no sampler: the test says what was seen."""

    spool: Spool[Packed]
    uplink: Uplink
    encoder: wire.Encoder
    asked: list[str]
    running: asyncio.Task[None] | None = None
    appended: int = field(default=0)

    def see(self, count: int = 1, *, disk: str = "sda", padding: int = 0) -> None:
        """Make `count` batches; each has one tick of one disk."""
        for _ in range(count):
            self.appended += 1
            kind = EntityKind.DISK
            tick = Tick(
                taken_at=SystemClock().now(),
                entities=[Entity(kind=kind, key=disk)],
                samples=[Sample(table="disk", entity=(kind, disk), values={"reads_total": self.appended})],
                reports=(),
                command_id="x" * padding,
            )
            assembly.append(self.spool, assembly.encode(self.encoder, tick))


def an_agent(
    port: int,
    *,
    max_bytes: int = 1 << 20,
    ack_timeout_seconds: float = PATIENCE_SECONDS,
    backoff: Backoff | None = None,
    start_spread_seconds: float = 0.0,
    clock: Clock | None = None,
    door: Door | None = None,
) -> Agent:
    """An agent for 127.0.0.1:`port`. Unless told otherwise it comes back within a tenth of a second."""
    spool: Spool[Packed] = Spool(max_bytes=max_bytes)
    encoder = wire.Encoder()
    asked: list[str] = []

    def set_interval(seconds: float) -> str | None:
        asked.append(f"interval {seconds:g}")
        return None

    def collect_now(command_id: str, valid_for_seconds: float) -> str | None:
        asked.append(f"collect {command_id} for {valid_for_seconds:g}")
        return None

    uplink = Uplink(
        f"127.0.0.1:{port}",
        IDENTITY,
        spool,
        clock or SystemClock(),
        everything=encoder.everything,
        handlers=Handlers(collect_now=collect_now, set_interval=set_interval),
        backoff=backoff or Backoff(random.Random(1), base_seconds=0.02, most_seconds=0.1),
        start_spread_seconds=start_spread_seconds,
        ack_timeout_seconds=ack_timeout_seconds,
        door=door,
    )
    return Agent(spool=spool, uplink=uplink, encoder=encoder, asked=asked)


@asynccontextmanager
async def running(one: Agent) -> AsyncIterator[Agent]:
    """Lets it connect, and sees to it that it never gives up."""
    one.running = asyncio.get_running_loop().create_task(one.uplink.run())
    try:
        yield one
        assert not one.running.done(), "nothing that a server or a network does ends the agent"
    finally:
        one.running.cancel()
        with suppress(asyncio.CancelledError):
            await one.running


async def eventually(holds: Callable[[], object], what: str = "") -> None:
    """Waits until something holds."""
    deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
    while not holds():
        assert asyncio.get_running_loop().time() < deadline, f"never came true: {what}"
        await asyncio.sleep(0.005)


async def drained(one: Agent) -> None:
    """Waits until everything that was seen is acknowledged."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        await one.uplink.drained()


def announced(session: Session) -> list[str]:
    """The keys of the entities that a stream announced."""
    return [entity.key for m in session.bodies("announce") for entity in m.announce.entities]


def stored(server: LinkServer) -> list[int]:
    """The numbers of the batches that a control plane took, in the order in which it did."""
    return server.stored.get(IDENTITY.epoch, [])


def retry_info(seconds: float) -> bytes:
    """A google.rpc.Status whose one detail is a RetryInfo (google/rpc/status.proto, error_details.proto)."""
    delay = duration_pb2.Duration(seconds=int(seconds), nanos=round(seconds % 1 * 1e9)).SerializeToString()
    detail = any_pb2.Any(type_url=RETRY_INFO, value=bytes([0x0A, len(delay)]) + delay).SerializeToString()
    return bytes([0x08, grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], 0x1A, len(detail)]) + detail


class Noted(Backoff):
    """The real policy, asked and noted, and not waited for."""

    def __init__(self) -> None:
        super().__init__(random.Random(1))
        self.endings: list[tuple[Ending, float]] = []

    def delay_seconds(self, ending: Ending, *, lasted_seconds: float) -> float:
        self.endings.append((ending, super().delay_seconds(ending, lasted_seconds=lasted_seconds)))
        return 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A status that something gives in place of a control plane."""

    code: grpc.StatusCode
    details: bytes = b""  # grpc-status-details-bin


class Gateway(grpc.GenericRpcHandler):
    """Answers every call with a status, as a proxy or an API gateway does: the answers in turn, the last for ever."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = deque(answers)
        self.asked_at: list[float] = []  # the loop's time

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        self.asked_at.append(asyncio.get_running_loop().time())
        answer = self._answers.popleft() if len(self._answers) > 1 else self._answers[0]
        code, trailing = answer.code, ((DETAILS, answer.details),) if answer.details else ()

        async def refuse(requests: object, context: Any) -> None:
            await context.abort(code, "said the gateway", trailing_metadata=trailing)

        return grpc.stream_stream_rpc_method_handler(refuse)


@asynccontextmanager
async def gateway(*answers: Answer) -> AsyncIterator[tuple[Gateway, int]]:
    """Such a gateway, and its port, which is free again afterwards."""
    handler, server = Gateway(*answers), grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield handler, port
    await server.stop(None)


async def moved(server: LinkServer, port: int) -> None:
    """Starts a control plane again where something else was."""
    await server.stop()
    server.port = port
    await server.start()


def in_range(seconds: Sequence[float], ranges: Sequence[tuple[float, float]]) -> bool:
    """Whether each is within its own range."""
    return all(least <= s <= most for s, (least, most) in zip(seconds, ranges, strict=True))
