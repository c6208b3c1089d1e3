"""However a call ends, and wherever its handler is just then: nothing is left of it, and grpc has nothing to report."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import grpc
import psycopg
import pytest

from control_plane.ingest import listening, server, sessions, writer
from control_plane.ingest.admission import AdmittedBatch, StreamState
from control_plane.ingest.clocks import Arrival
from control_plane.storage import bulk
from optiinfra.telemetry.v1 import link_pb2, telemetry_pb2
from tests.fakes.clock import FakeClock
from tests.fakes.tcp_proxy import TcpProxy
from tests.support.ingest import ControlPlane, RawAgent, Store, commits_held_back, until
from tests.support.streams import F32, gpu_records, raw_schema

# A tick that fills what one stream may have waiting in a few.
PADDED = raw_schema(1, "gpu", [("power_draw_watts", F32, 1), ("padding", F32, 2000)])
RECORD = gpu_records(1.0) + b"\0" * 8000
MOST_STREAM_BYTES = 100_000


class Scene:
    """One agent, and what stands in its way."""

    def __init__(self, plane: ControlPlane, agent: RawAgent, locks: AsyncExitStack, url: str) -> None:
        self.plane = plane
        self.agent = agent
        self.locks = locks
        self.url = url
        self.tasks: list[asyncio.Task[None]] = []

    def goes_on(self, work: Awaitable[Any]) -> None:
        """This will let the agent do something that the end of the call may break."""

        async def done() -> None:
            with suppress(Exception):  # it is the other side that is looked at
                await work

        self.tasks.append(asyncio.create_task(done()))


async def silent(scene: Scene) -> None:
    """Nothing was said yet."""
    scene.goes_on(scene.agent.read_or_end())
    await asyncio.sleep(0.05)


async def at_the_door(scene: Scene) -> None:
    """It has said who it is, and the database does not answer."""
    connection = await scene.locks.enter_async_context(await psycopg.AsyncConnection.connect(scene.url))
    await connection.execute("LOCK TABLE node IN ACCESS EXCLUSIVE MODE")
    await scene.agent.send(hello=scene.agent.hello())
    await until(lambda: Store(scene.url).waiters() > 0, "its introduction waits for the database")


async def being_configured(scene: Scene) -> None:
    """It is welcome, and what it is to be configured to cannot be read."""
    connection = await scene.locks.enter_async_context(await psycopg.AsyncConnection.connect(scene.url))
    await connection.execute("LOCK TABLE node_configuration IN ACCESS EXCLUSIVE MODE")
    await scene.agent.send(hello=scene.agent.hello(takes_configuration=True))
    await until(lambda: Store(scene.url).waiters() > 0, "its configuration waits for the database")


async def quiet(scene: Scene) -> None:
    """It is connected and says nothing."""
    await scene.agent.connect()
    await scene.agent.settled()


async def flooding(scene: Scene) -> None:
    """Messages go both ways."""
    await scene.agent.connect()
    await scene.agent.settled()
    scene.goes_on(scene.agent.send_watts(*map(float, range(1000))))
    scene.goes_on(scene.agent.acked(1000))
    await until(lambda: scene.plane.service.counters.batches_committed > 0, "it is under way")


async def held_back(scene: Scene) -> None:
    """It is not read, because too much of it waits."""
    await scene.agent.connect()
    await scene.agent.send(announce=link_pb2.Announce(schemas=[PADDED]))
    await scene.agent.settled()
    await scene.locks.enter_async_context(commits_held_back(scene.url))

    for _ in range(MOST_STREAM_BYTES // len(RECORD) + 5):  # a few more than are read, and fewer than are under way
        await scene.agent.send(batch=scene.agent.stream.batch([(1, RECORD)]))
    await until(lambda: scene.plane.service.counters.streams_held_back == 1, "it is held back")


async def deaf(scene: Scene) -> None:
    """It reads nothing, so what is sent to it waits."""
    await scene.agent.connect()
    await scene.agent.settled()
    (session,) = scene.plane.service._sessions.values()
    for _ in range(64):
        session.send(link_pb2.ServerMessage(refusal=link_pb2.Refusal(detail="x" * 1_000_000)))
    left = 64
    while len(session.outbox) < left:  # what the two kernels take
        left = len(session.outbox)
        await asyncio.sleep(0.1)
    assert session.outbox, "the rest is not read"


async def the_server_is_killed(scene: Scene, _proxy: TcpProxy) -> None:
    await scene.plane.crash()


async def the_server_goes_down(scene: Scene, _proxy: TcpProxy) -> None:
    await scene.plane.stop()


async def the_agent_cancels(scene: Scene, _proxy: TcpProxy) -> None:
    scene.agent.cancel()


async def the_agent_has_said_all(scene: Scene, _proxy: TcpProxy) -> None:
    for task in scene.tasks:
        task.cancel()
    await scene.agent.close_its_side()


async def the_connection_is_reset(_scene: Scene, proxy: TcpProxy) -> None:
    proxy.cut()


PLACES = (silent, at_the_door, being_configured, quiet, flooding, held_back, deaf)
ENDS = (
    the_server_is_killed, the_server_goes_down, the_agent_cancels, the_agent_has_said_all, the_connection_is_reset
)  # fmt: skip


@asynccontextmanager
async def nothing_reported(caplog: pytest.LogCaptureFixture) -> AsyncIterator[None]:
    """This will fail on whatever asyncio finds at its end, and on whatever our own log calls an error."""
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    with caplog.at_level(logging.WARNING):
        yield
    assert reported == []
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR] == []


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
async def test_a_call_that_ends_leaves_nothing_behind(
    plane: ControlPlane,
    clock: FakeClock,
    database_url: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    place: Callable[[Scene], Awaitable[None]],
    end: Callable[[Scene, TcpProxy], Awaitable[None]],
) -> None:
    monkeypatch.setattr(writer, "MOST_STREAM_BYTES", MOST_STREAM_BYTES)
    monkeypatch.setattr(listening, "DRAIN_SECONDS", 0.3)
    monkeypatch.setattr(listening, "GRACE_SECONDS", 0.1)
    monkeypatch.setattr(sessions, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(server, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(bulk, "PATIENCE_SECONDS", 0.2)
    before = asyncio.all_tasks()
    async with nothing_reported(caplog), TcpProxy(plane.port) as proxy, RawAgent(proxy, clock) as agent:
        async with AsyncExitStack() as locks:
            scene = Scene(plane, agent, locks, database_url)
            await place(scene)
            await end(scene, proxy)
            if end is not the_agent_has_said_all:  # that is read in its turn only
                await until(lambda: not plane.service.counters.streams, "the stream has ended")
                assert plane.service.connected_nodes() == frozenset()
        await until(lambda: not plane.service.counters.streams, "the stream has ended")
        for task in scene.tasks:
            task.cancel()
        await until(lambda: not _named("HandleExceptions") - before, "no handler is left")
    await until(lambda: not _named("rpc_task") - before, "no call is left")  # one that reads nothing is, until it goes
    assert plane.service.connected_nodes() == frozenset()


def _named(name: str) -> set[asyncio.Task[Any]]:
    """The names are those that grpc.aio gives to the task of a handler, and to that of its call."""
    return {task for task in asyncio.all_tasks() if task.get_name().startswith(name)}


async def test_a_mistake_of_ours_ends_its_own_stream_and_is_told_as_ours(
    plane: ControlPlane,
    clock: FakeClock,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    admit = StreamState.admit

    def mistaken(state: StreamState, batch: telemetry_pb2.Batch, arrived: Arrival) -> AdmittedBatch:
        return admit(state, batch, arrived) if state.node_id == 1 else admit(state, batch, None)  # type: ignore[arg-type]

    monkeypatch.setattr(StreamState, "admit", mistaken)
    async with RawAgent(plane, clock) as well, RawAgent(plane, clock, agent_id="other") as other:
        await well.connect()
        await other.connect()
        await other.send_watts(2.0)
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await other.read_or_end()
        assert ended.value.code() is grpc.StatusCode.INTERNAL
        await well.send_watts(1.0)
        await well.acked()
    assert store.watts() == [1.0]
    assert plane.service.counters.streams_failed == 1
    assert "the stream of node 2 ends by a mistake of the control plane" in caplog.text
