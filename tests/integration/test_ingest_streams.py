"""Streams at the door, on a real Postgres: their times, their introductions, and what they may be asked."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import grpc
import pytest

from control_plane.ingest import server
from control_plane.ingest.listening import start_server
from control_plane.model.errors import ConfigurationError
from control_plane.storage import nodes
from control_plane.storage.session import Database
from node_agent.uplink.client import TAKEN_KEY
from optiinfra.telemetry.v1 import link_pb2, link_pb2_grpc, telemetry_pb2
from tests.fakes.clock import FakeClock, FakeNodeClock
from tests.support.ingest import PATIENCE_SECONDS, Agent, ControlPlane, RawAgent, Store, until
from tests.support.streams import gpu_records

# -- time ---------------------------------------------------------------------------------------


async def test_the_latest_table_keeps_the_newest_row_when_an_older_one_arrives_later(
    plane: ControlPlane, clock: FakeClock, store: Store, database: Database
) -> None:
    async with RawAgent(plane, clock) as agent:
        await agent.connect()
        old = agent.stream.tick([(0, gpu_records(100.0))])
        clock.advance(60)
        await agent.send_watts(200.0)
        await agent.acked()
        agent.stream.seq += 1
        await agent.send(batch=telemetry_pb2.Batch(seq=agent.stream.seq, ticks=[old]))
        await agent.acked()
    assert store.watts() == [100.0, 200.0]
    assert store.rows("SELECT power_draw_watts, taken_at FROM gpu_latest") == [(200.0, clock.now())]
    (node,) = await nodes.find(database.engine)
    assert node.status is not None
    assert node.status.taken_at == clock.now()


async def test_a_commit_that_holds_new_and_old_ticks_keeps_the_newest(
    plane: ControlPlane, clock: FakeClock, store: Store
) -> None:
    async with RawAgent(plane, clock) as agent:
        await agent.connect()
        ticks = []
        for watts in (100.0, 300.0, 200.0):
            clock.advance(5)
            ticks.append(agent.stream.tick([(0, gpu_records(watts))]))
        await agent.send(batch=telemetry_pb2.Batch(seq=1, ticks=[ticks[1], ticks[2], ticks[0]]))
        await agent.acked(1)
    assert store.rows("SELECT power_draw_watts FROM gpu_latest") == [(200.0,)]
    assert store.watts() == [100.0, 200.0, 300.0]


async def test_a_sample_older_than_retention_is_refused_and_makes_no_partition(
    plane: ControlPlane, clock: FakeClock, store: Store
) -> None:
    async with RawAgent(plane, clock) as agent:
        await agent.connect()
        await agent.send_watts(1.0)
        await agent.acked()
        old = agent.stream.tick([(0, gpu_records(2.0))])
        clock.advance(15 * 86_400)
        await agent.send(batch=telemetry_pb2.Batch(seq=2, ticks=[old]))
        await agent.acked(2)
        assert "15.0 days old" in agent.refused[2]
    days = {
        name
        for (name,) in store.rows(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE %s", "gpu_sample_2%"
        )
    }
    assert days == {"gpu_sample_20260304"}


@pytest.mark.parametrize("ahead", [-7 * 3600.0, 7 * 3600.0])
async def test_a_node_whose_wall_clock_is_wrong_is_stored_at_the_true_time(
    ahead: float, plane: ControlPlane, clock: FakeClock, store: Store
) -> None:
    async with Agent(plane, clock, node=FakeNodeClock(clock, ahead_seconds=ahead)) as agent:
        agent.sample({"power_draw_watts": 1.0})
        await agent.drained()
    ((taken_at,),) = store.rows("SELECT taken_at FROM gpu_sample")
    assert abs(taken_at - clock.now()) < timedelta(seconds=2)
    assert store.one("SELECT clock_offset_seconds FROM node_status") == pytest.approx(ahead, abs=1)
    assert plane.service.counters.stamps_corrected == 1


async def test_our_clock_may_be_set_back_without_a_sample_being_refused(
    plane: ControlPlane, clock: FakeClock, store: Store
) -> None:
    async with RawAgent(plane, clock) as agent:
        await agent.connect()
        await agent.send_watts(1.0)
        await agent.acked()
        clock.jump(-3600)
        await agent.send_watts(2.0)
        await agent.acked()
        assert agent.refused == {}
    assert store.rows("SELECT power_draw_watts, taken_at FROM gpu_sample ORDER BY taken_at") == [
        (2.0, clock.now()), (1.0, clock.now() + timedelta(hours=1)),
    ]  # fmt: skip


async def test_a_tick_from_the_future_is_stamped_with_its_arrival(
    plane: ControlPlane, clock: FakeClock, store: Store
) -> None:
    async with RawAgent(plane, clock) as agent:
        await agent.connect()
        batch = agent.stream.batch([(0, gpu_records(1.0))])
        batch.ticks[0].taken_at_unix_us += 3_600_000_000
        batch.ticks[0].taken_at_monotonic_us += 3_600_000_000
        await agent.send(batch=batch)
        await agent.acked()
    assert store.rows("SELECT taken_at FROM gpu_sample") == [(clock.now(),)]


async def test_samples_of_two_days_go_to_their_own_partitions(
    plane: ControlPlane, clock: FakeClock, store: Store
) -> None:
    async with Agent(plane, clock) as agent:
        for _ in range(3):
            agent.sample({"power_draw_watts": 1.0})
            clock.advance(86_400)
        await agent.drained()
    found = store.rows("SELECT tableoid::regclass::text FROM gpu_sample ORDER BY taken_at")
    assert found == [("gpu_sample_20260304",), ("gpu_sample_20260305",), ("gpu_sample_20260306",)]


# -- the Hello ----------------------------------------------------------------------------------


async def test_a_call_is_taken_before_anything_is_said(plane: ControlPlane) -> None:
    """What an agent writes before may cost it the status of a gateway that ends the call; link.proto."""
    async with (
        grpc.aio.insecure_channel(plane.address, options=(("grpc.enable_http_proxy", 0),)) as channel,
        asyncio.timeout(PATIENCE_SECONDS),
    ):
        call = link_pb2_grpc.LinkStub(channel).Connect()
        assert (TAKEN_KEY, "1") in tuple(await call.initial_metadata())
        call.cancel()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"epoch": b"short"}, link_pb2.REFUSAL_CODE_INVALID_HELLO),
        ({"agent_id": ""}, link_pb2.REFUSAL_CODE_INVALID_HELLO),
        ({"agent_id": "a\x1b[2Jb"}, link_pb2.REFUSAL_CODE_INVALID_HELLO),
        ({"node_name": "\0\n"}, link_pb2.REFUSAL_CODE_INVALID_HELLO),
        ({"attributes_json": b'{"a": "' + b"x" * 70_000 + b'"}'}, link_pb2.REFUSAL_CODE_INVALID_HELLO),
        ({"attributes_json": b'{"a": 1e999}'}, link_pb2.REFUSAL_CODE_INVALID_HELLO),
        ({"attributes_json": b"not json"}, link_pb2.REFUSAL_CODE_INVALID_HELLO),
        ({"protocol_min": 2, "protocol_max": 3}, link_pb2.REFUSAL_CODE_PROTOCOL),
        ({"protocol_min": 0, "protocol_max": 0}, link_pb2.REFUSAL_CODE_PROTOCOL),
    ],
)
async def test_a_hello_that_cannot_be_accepted_is_refused_in_words(
    changes: dict[str, object], code: int, plane: ControlPlane, clock: FakeClock, store: Store
) -> None:
    async with RawAgent(plane, clock) as agent:
        answer = await agent.ask(hello=agent.hello(**changes))
        assert answer.refusal.code == code
        assert answer.refusal.detail
        assert answer.refusal.retry_after_seconds > 0
        assert await agent.read_or_end() is None
    assert store.rows("SELECT * FROM node") == []


async def test_control_characters_in_names_never_reach_the_database(
    plane: ControlPlane, clock: FakeClock, store: Store
) -> None:
    async with RawAgent(plane, clock) as agent:
        await agent.welcome(
            node_name="no\x00de\x1b", attributes_json=b'{"cpu": "a\\u0000b\\ud800", "sampling_interval_seconds": 1e308}'
        )
    assert store.rows("SELECT name, attributes->>'cpu' FROM node") == [("node", "ab")]


async def test_the_first_message_must_be_a_hello(plane: ControlPlane, clock: FakeClock) -> None:
    async with RawAgent(plane, clock) as agent:
        answer = await agent.ask(heartbeat=link_pb2.Heartbeat())
        assert answer.refusal.code == link_pb2.REFUSAL_CODE_INVALID_HELLO


async def test_an_agent_that_says_nothing_is_told_so(
    plane: ControlPlane, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HELLO_TIMEOUT_SECONDS", 0.05)
    async with RawAgent(plane, clock) as agent:
        assert (await agent.read()).refusal.code == link_pb2.REFUSAL_CODE_INVALID_HELLO


async def test_an_agent_that_falls_silent_is_let_go(
    plane: ControlPlane, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with RawAgent(plane, clock) as agent:
        monkeypatch.setattr(server, "SILENCE_SECONDS", 0.05)
        await agent.connect()
        assert await agent.read_or_end() is None
        assert plane.service.connected_nodes() == frozenset()


async def test_the_same_agent_connecting_again_takes_the_place_of_its_older_connection(
    plane: ControlPlane, clock: FakeClock, store: Store
) -> None:
    async with RawAgent(plane, clock) as older, RawAgent(plane, clock) as newer:
        await older.connect()
        await older.send_watts(1.0)
        await older.acked()
        assert (await newer.connect()).committed_seq == 1
        assert (await older.read()).refusal.code == link_pb2.REFUSAL_CODE_SUPERSEDED
        assert await older.read_or_end() is None
        newer.stream.seq = 1
        await newer.send_watts(2.0)
        await newer.acked()
        assert len(plane.service.connected_nodes()) == 1
        assert plane.service.counters.streams == 1
    assert store.watts() == [1.0, 2.0]


async def test_an_agent_that_leaves_is_no_longer_connected(plane: ControlPlane, clock: FakeClock) -> None:
    async with RawAgent(plane, clock) as agent:
        await agent.connect()
        await agent.settled()
        assert len(plane.service.connected_nodes()) == 1
    await until(lambda: not plane.service.connected_nodes(), "the node counts as gone")
    assert plane.service.counters.streams == 0


async def test_a_port_that_is_taken_is_a_sentence(plane: ControlPlane) -> None:
    with pytest.raises(ConfigurationError, match="--grpc-port"):
        await start_server(plane.service, plane.address)


# -- commands -----------------------------------------------------------------------------------


async def test_collect_now_is_done_when_its_sample_is_committed(
    plane: ControlPlane, clock: FakeClock, store: Store
) -> None:
    async with Agent(plane, clock) as agent:
        await agent.uplink.connected.wait()
        await until(lambda: bool(plane.service.connected_nodes()), "the agent is connected")
        (node_id,) = plane.service.connected_nodes()
        assert await plane.service.collect_now([node_id, 999], 10.0) == {node_id: "committed", 999: "not_connected"}
        assert len(agent.commands) == 1
        assert store.watts() == [1.0]


async def test_collect_now_says_when_no_sample_came(plane: ControlPlane, clock: FakeClock) -> None:
    async with RawAgent(plane, clock) as agent:
        await agent.connect()
        await agent.settled()
        (node_id,) = plane.service.connected_nodes()
        assert await plane.service.collect_now([node_id], 0.02) == {node_id: "timed_out"}
        assert (await agent.read()).command.WhichOneof("verb") == "collect_now"
