"""Trouble at the door: Postgres or the control plane goes away in the middle, and nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import grpc
import psycopg
import pytest

from control_plane.ingest import writer
from control_plane.ingest.sessions import Call
from optiinfra.telemetry.v1 import link_pb2, telemetry_pb2
from tests.fakes.clock import FakeClock
from tests.support.ingest import Agent, ControlPlane, RawAgent, Store, commits_held_back, until
from tests.support.postgres import PostgresForTests, with_database
from tests.support.streams import F32, gpu_records, raw_entity, raw_schema

GPU = telemetry_pb2.ENTITY_KIND_GPU


# -- trouble with Postgres ----------------------------------------------------------------------


async def test_connections_that_are_cut_in_the_middle_lose_nothing_and_store_nothing_twice(
    plane: ControlPlane, clock: FakeClock, store: Store
) -> None:
    cut = 0
    async with Agent(plane, clock) as agent:
        for number in range(1, 61):
            agent.sample({"power_draw_watts": float(number)})
            clock.advance(1)
            if number % 10 == 0:
                await until(lambda least=number - 5: agent.spool.last_seq - len(agent.spool) >= least, "acks arrive")  # type: ignore[misc]
                cut += store.end_connections()
            await asyncio.sleep(0.002)
        await agent.drained()
    assert cut > 0
    assert store.watts() == [float(n) for n in range(1, 61)]
    assert store.rows("SELECT * FROM sample_loss") == []
    assert plane.service.counters.last_error is None


async def test_a_commit_whose_answer_was_lost_is_not_done_twice(
    plane: ControlPlane, clock: FakeClock, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worst moment: Postgres has committed, and the connection breaks before it says so."""
    flusher = plane.service.writer._flusher
    original = flusher.flush
    broken: list[bool] = []

    def flush_and_break(*arguments: object) -> object:
        outcome = original(*arguments)  # type: ignore[arg-type]
        if not broken:
            broken.append(True)
            raise psycopg.OperationalError("server closed the connection unexpectedly")
        return outcome

    monkeypatch.setattr(flusher, "flush", flush_and_break)
    async with RawAgent(plane, clock) as agent:
        await agent.connect()
        await agent.send_watts(1.0, 2.0)
        await agent.acked()
    assert broken
    assert store.watts() == [1.0, 2.0]
    assert store.rows("SELECT * FROM sample_loss") == []


async def test_an_error_that_is_not_the_data_s_fault_makes_the_data_wait(
    plane: ControlPlane, clock: FakeClock, store: Store
) -> None:
    """A right taken away, a standby, a table that is not there yet: an operator's matter, and no sample is lost."""
    async with RawAgent(plane, clock) as agent:
        await agent.connect()
        store.rows("ALTER TABLE gpu_latest RENAME TO gpu_latest_away")
        await agent.send_watts(1.0, 2.0)
        await until(lambda: plane.service.counters.commit_failures > 2, "the writer tries again")
        assert "gpu_latest" in (plane.service.last_error() or "")
        assert agent.acked_seq == 0
        store.rows("ALTER TABLE gpu_latest_away RENAME TO gpu_latest")
        await agent.acked()
        assert agent.refused == {}
    assert store.watts() == [1.0, 2.0]


async def test_a_node_that_was_deleted_is_introduced_anew_and_holds_nobody_up(
    plane: ControlPlane, clock: FakeClock, store: Store
) -> None:
    async with RawAgent(plane, clock) as deleted, RawAgent(plane, clock, agent_id="good") as good:
        await deleted.connect()
        await good.connect()
        await deleted.settled()
        await good.settled()
        store.rows("DELETE FROM node WHERE agent_id = 'raw-agent'")
        await deleted.send_watts(1.0)
        await deleted.settled()
        await good.send_watts(2.0)
        await good.acked()
        await deleted.settled()
        assert deleted.acked_seq == 0
    async with RawAgent(plane, clock) as again:
        await again.connect()
        await again.send_watts(1.0)
        await again.acked()
    assert store.watts() == [1.0, 2.0]


async def test_a_postgres_that_crashes_in_the_middle_loses_nothing_that_was_acknowledged(
    plane: ControlPlane, clock: FakeClock, store: Store, postgres_server: PostgresForTests
) -> None:
    if postgres_server.embedded is None:
        pytest.skip("an external server is not ours to crash")
    async with Agent(plane, clock) as agent:
        for number in range(1, 31):
            agent.sample({"power_draw_watts": float(number)})
            clock.advance(1)
            await asyncio.sleep(0.005)
            if number == 15:
                await until(lambda: len(agent.spool) < 15, "something is acknowledged")
                # One backend that dies by SIGKILL takes all with it, and Postgres recovers from its log.
                (victim, *_) = store.rows("SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'")
                os.kill(victim[0], signal.SIGKILL)
        await until(lambda: plane.service.counters.commit_failures > 0, "the writer notices")
        await agent.drained()
    assert store.watts() == [float(n) for n in range(1, 31)]
    assert store.rows("SELECT * FROM sample_loss") == []


async def test_while_postgres_is_away_agents_are_told_to_come_back(
    clock: FakeClock, caplog: pytest.LogCaptureFixture, database_url: str
) -> None:
    url = with_database(database_url, "optiinfra_there_is_none")
    async with ControlPlane(url, clock) as plane, RawAgent(plane, clock) as agent:
        answer = await agent.ask(hello=agent.hello())
        assert answer.refusal.code == link_pb2.REFUSAL_CODE_UNAVAILABLE
        assert answer.refusal.retry_after_seconds > 0


async def test_what_is_kept_while_postgres_is_away_is_bounded_and_then_all_committed(
    plane: ControlPlane, clock: FakeClock, store: Store, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "MOST_PENDING_BYTES", 20_000)
    async with RawAgent(plane, clock) as agent:
        await agent.connect()
        padded = raw_schema(1, "gpu", [("power_draw_watts", F32, 1), ("padding", F32, 250)])
        await agent.send(announce=link_pb2.Announce(schemas=[padded]))
        record = gpu_records(1.0) + b"\0" * 1000
        async with commits_held_back(database_url):
            sending = asyncio.create_task(_send_all(agent, [(1, record)], 400))
            limit = lambda: plane.service.counters.pending_bytes >= 20_000  # noqa: E731
            await until(limit, "the bound is reached")
            await until(lambda: store.waiters() > 0, "the writer waits")
            for _ in range(20):
                await asyncio.sleep(0.005)
                assert plane.service.counters.pending_bytes < 20_000 + 1200
        await sending
        await agent.acked(400)
    assert len(store.watts()) == 400
    assert plane.service.counters.pending_bytes == 0


async def _send_all(agent: RawAgent, rows: list[tuple[int, bytes]], count: int) -> None:
    for _ in range(count):
        await agent.send(batch=agent.stream.batch(rows))


async def test_an_announcement_counts_by_its_size_towards_what_is_kept(
    plane: ControlPlane, clock: FakeClock, database_url: str, store: Store
) -> None:
    async with RawAgent(plane, clock) as agent:
        await agent.connect()
        await agent.settled()
        async with commits_held_back(database_url):
            await agent.send_watts(1.0)
            await until(lambda: store.waiters() > 0, "the writer waits")
            await agent.send(announce=link_pb2.Announce(entities=[raw_entity(1, GPU, "big", {"a": "x" * 4000})]))
            await agent.settled()
            assert plane.service.counters.pending_bytes > 4000
        await agent.acked()


# -- restarts of the control plane --------------------------------------------------------------


@pytest.mark.parametrize("orderly", [True, False])
async def test_a_control_plane_that_goes_and_comes_back_has_every_batch_exactly_once(
    orderly: bool, plane: ControlPlane, clock: FakeClock, store: Store
) -> None:
    async with Agent(plane, clock) as agent:
        for turn in range(3):
            for number in range(20):
                agent.sample({"power_draw_watts": float(turn * 20 + number)})
                clock.advance(1)
                await asyncio.sleep(0.001)
            await until(lambda: len(agent.spool) < 20, "something is acknowledged")
            await (plane.stop() if orderly else plane.crash())
            agent.sample({"power_draw_watts": 1000.0 + turn})
            clock.advance(1)
            await plane.start()
        await agent.drained()
    expected = [float(n) for n in range(60)] + [1000.0, 1001.0, 1002.0]
    assert store.watts() == expected
    assert store.rows("SELECT * FROM sample_loss") == []
    assert store.one("SELECT committed_seq FROM ingest_cursor") == 63


async def test_a_control_plane_that_goes_down_commits_and_acknowledges_what_it_has(
    plane: ControlPlane, clock: FakeClock, store: Store
) -> None:
    async with RawAgent(plane, clock) as agent:
        await agent.connect()
        await agent.send_watts(1.0, 2.0, 3.0)
        await agent.settled()
        await plane.stop()
        drained = False
        while (message := await agent.read_or_end()) is not None:
            drained = drained or message.WhichOneof("body") == "drain"
        assert drained
        assert agent.acked_seq == 3
    assert store.watts() == [1.0, 2.0, 3.0]


async def test_a_read_of_a_call_whose_server_has_stopped_is_an_end_and_no_error() -> None:
    """A server that is stopped without grace lets reads fail before it cancels their handlers."""
    reached: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def connect(_: AsyncIterator[link_pb2.AgentMessage], context: Any) -> None:
        reached.set_result(context)
        await asyncio.Event().wait()

    server = grpc.aio.server()
    handler = grpc.stream_stream_rpc_method_handler(connect)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Link", {"Connect": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.stream_stream("/test.Link/Connect")()
        await call.write(b"")
        context = await reached
        await server.stop(grace=None)
        call = Call(context)
        assert await call.read() is None
        with pytest.raises(asyncio.CancelledError):
            call.leave()
