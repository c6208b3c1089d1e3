"""The door on a real Postgres: what is acknowledged is stored, once, and what is not stored is said."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import grpc
import psycopg
import pytest

from control_plane.ingest import server, wire, writer
from control_plane.ingest.server import start_server
from control_plane.model.entity import EntityKind
from control_plane.model.errors import ConfigurationError
from control_plane.storage import nodes, readings
from control_plane.storage.session import Database
from node_agent.model import Histogram, Reason
from node_agent.uplink.client import Outgoing
from optiinfra.telemetry.v1 import link_pb2, telemetry_pb2
from tests.fakes.clock import FakeClock, FakeNodeClock
from tests.support.ingest import Agent, ControlPlane, RawAgent, Store, commits_held_back, until
from tests.support.postgres import PostgresForTests, with_database
from tests.support.streams import F32, gpu_records, raw_entity, raw_schema, tick, unix_us

GPU = telemetry_pb2.ENTITY_KIND_GPU


@pytest.fixture(autouse=True)
def _quick_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "GATHER_SECONDS", 0.01)
    monkeypatch.setattr(writer, "RETRY_SECONDS", (0.02,))
    later = wire.drain
    monkeypatch.setattr(wire, "drain", lambda reconnect_after_ms: later(reconnect_after_ms // 5))


@pytest.fixture(autouse=True)
def _no_unexpected_errors(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever a peer does, grpc must never have to report an error of our handler."""
    yield
    for phase in ("setup", "call"):
        assert [r.message for r in caplog.get_records(phase) if r.name.startswith("grpc")] == []


@pytest.fixture
async def plane(database_url: str, clock: FakeClock) -> AsyncIterator[ControlPlane]:
    async with ControlPlane(database_url, clock) as plane:
        yield plane


@pytest.fixture
def store(database_url: str) -> Store:
    return Store(database_url)


# -- once, and only after the commit ------------------------------------------------------------


async def test_a_batch_is_visible_when_its_acknowledgement_arrives(
    plane: ControlPlane, clock: FakeClock, store: Store
) -> None:
    async with RawAgent(plane, clock) as agent:
        welcome = await agent.connect()
        assert (welcome.committed_seq, welcome.protocol) == (0, 1)
        for watts in (100.0, 200.0, 300.0):
            clock.advance(5)
            await agent.send_watts(watts)
            await agent.acked()
            assert store.watts()[-1] == watts
    assert store.watts() == [100.0, 200.0, 300.0]


async def test_nothing_is_acknowledged_before_it_is_committed(
    plane: ControlPlane, clock: FakeClock, store: Store, database_url: str
) -> None:
    async with RawAgent(plane, clock) as agent:
        await agent.connect()
        async with commits_held_back(database_url):
            await agent.send_watts(100.0)
            await until(lambda: store.waiters() > 0, "the writer waits")
            await agent.settled()
            assert agent.acked_seq == 0
            assert store.watts() == []
        await agent.acked()
        assert store.watts() == [100.0]


async def test_every_value_reads_back_as_the_agent_saw_it(
    plane: ControlPlane, clock: FakeClock, database: Database
) -> None:
    async with Agent(plane, clock) as agent:
        agent.sample(
            {"power_draw_watts": 321.5, "memory_used_bytes": 2**40 + 1, "sm_active_ratio": Reason.NO_PERMISSION}
        )
        await agent.drained()
    cache = readings.Dictionaries(database.engine)
    ((entity, reading),) = await readings.latest(
        database.engine, cache, "gpu", readings.Selection(kind=EntityKind.GPU), limit=10
    )
    assert (entity.key, entity.node_name, entity.attributes) == ("GPU-0", "agent", {"name": "GPU-0"})
    assert reading is not None
    assert reading.taken_at == clock.now()
    assert (reading.values["power_draw_watts"], reading.values["memory_used_bytes"]) == (321.5, 2**40 + 1)
    assert reading.unknown["sm_active_ratio"] == "no_permission"
    assert reading.unknown["energy_joules_total"] == "not_collected"
    assert reading.values["energy_joules_total"] is None


async def test_a_batch_that_is_sent_twice_counts_once(plane: ControlPlane, clock: FakeClock, store: Store) -> None:
    async with RawAgent(plane, clock) as agent:
        await agent.connect()
        batch = agent.stream.batch([(0, gpu_records(100.0))])
        for _ in range(3):
            await agent.send(batch=batch)
        await agent.send_watts(200.0)
        await agent.acked()
    assert store.watts() == [100.0, 200.0]
    assert plane.service.counters.batches_duplicate == 2


async def test_a_batch_that_is_sent_again_on_a_new_connection_counts_once(
    plane: ControlPlane, clock: FakeClock, store: Store
) -> None:
    async with RawAgent(plane, clock) as first:
        await first.connect()
        await first.send_watts(100.0, 200.0)
        await first.acked()
    async with RawAgent(plane, clock) as second:
        assert (await second.connect()).committed_seq == 2
        await second.send_watts(100.0, 200.0, 300.0)
        await second.acked()
    assert store.watts() == [100.0, 200.0, 300.0]


async def test_a_batch_that_reaches_two_replicas_counts_once(
    plane: ControlPlane, clock: FakeClock, store: Store, database_url: str
) -> None:
    async with (
        ControlPlane(database_url, clock) as other,
        RawAgent(plane, clock) as first,
        RawAgent(other, clock) as second,
    ):
        await first.connect()
        await second.connect()
        async with commits_held_back(database_url):  # both have all of it before either commits
            await first.send_watts(100.0, 200.0, 300.0)
            await second.send_watts(100.0, 200.0, 300.0, 400.0)
            await until(lambda: store.waiters() == 2, "both replicas wait for the cursor")
        await asyncio.gather(first.acked(), second.acked())
    assert store.watts() == [100.0, 200.0, 300.0, 400.0]
    assert store.rows("SELECT * FROM sample_loss") == []


async def test_a_new_epoch_is_numbered_from_one(plane: ControlPlane, clock: FakeClock, store: Store) -> None:
    for epoch in (b"first------epoch", b"second-----epoch"):
        async with RawAgent(plane, clock, epoch=epoch) as agent:
            assert (await agent.connect()).committed_seq == 0
            await agent.send_watts(100.0)
            await agent.acked()
    assert store.watts() == [100.0, 100.0]
    assert store.one("SELECT count(*) FROM node") == 1


async def test_many_agents_share_commits_and_each_gets_its_own_rows(
    plane: ControlPlane, clock: FakeClock, store: Store
) -> None:
    agents = [Agent(plane, clock, agent_id=f"agent-{n}") for n in range(8)]
    async with AsyncExitStack() as stack:
        for agent in agents:
            await stack.enter_async_context(agent)
        for step in range(5):
            clock.advance(1)
            for number, agent in enumerate(agents):
                agent.sample({"power_draw_watts": 100.0 * number + step}, keys=("GPU-0", "GPU-1"))
        for agent in agents:
            await agent.drained()
    found = store.rows(
        "SELECT n.name, array_agg(s.power_draw_watts ORDER BY s.power_draw_watts) FROM gpu_sample s "
        "JOIN entity e USING (entity_id) JOIN node n ON n.node_id = e.node_id AND n.node_id = s.node_id "
        "GROUP BY n.name ORDER BY n.name"
    )
    assert found == [(f"agent-{n}", [100.0 * n + s for s in range(5) for _ in range(2)]) for n in range(8)]


# -- what is missing is known -------------------------------------------------------------------


async def test_a_gap_that_nobody_explained_becomes_a_row(plane: ControlPlane, clock: FakeClock, store: Store) -> None:
    async with RawAgent(plane, clock) as agent:
        await agent.connect()
        await agent.send_watts(100.0)
        agent.stream.seq = 4
        await agent.send_watts(500.0)
        await agent.acked(5)
    assert store.rows("SELECT first_seq, last_seq, tick_count FROM sample_loss") == [(2, 4, None)]


async def test_a_reported_loss_is_stored_once_however_often_it_is_told(
    plane: ControlPlane, clock: FakeClock, store: Store, database: Database
) -> None:
    async with RawAgent(plane, clock) as agent:
        await agent.connect()
        at = unix_us(agent.node)
        loss = link_pb2.Loss(
            first_seq=1,
            last_seq=3,
            first_taken_at_unix_us=at,
            last_taken_at_unix_us=at + 10,
            tick_count=3,
            reason="full\0",
        )
        await agent.send(loss=loss)
        await agent.send(loss=loss)
        await agent.acked(3)
        await agent.send(loss=loss)
        agent.stream.seq = 3
        await agent.send_watts(400.0)
        await agent.acked()
    ((first, last, ticks, reason, taken),) = store.rows(
        "SELECT first_seq, last_seq, tick_count, reason, first_taken_at FROM sample_loss"
    )
    assert (first, last, ticks, reason, taken) == (1, 3, 3, "full", clock.now())
    (node,) = await nodes.find(database.engine)
    assert node.lost_ticks == 3


async def test_what_a_full_buffer_dropped_is_stored_as_lost(
    plane: ControlPlane, clock: FakeClock, store: Store
) -> None:
    agent = Agent(plane, clock, buffer_bytes=3000)
    for number in range(30):  # the control plane is away
        agent.sample({"power_draw_watts": float(number)})
        clock.advance(1)
    kept = len(agent.spool)
    assert 0 < kept < 30
    async with agent:
        await agent.drained()
    assert store.watts() == [float(n) for n in range(30 - kept, 30)]
    assert store.rows("SELECT first_seq, last_seq, tick_count FROM sample_loss") == [(1, 30 - kept, 30 - kept)]


@pytest.mark.parametrize(
    ("first", "last", "at"), [(0, 3, 0), (3, 2, 0), (1, 2**64 - 1, 0), (1, 2, 2**63 - 1), (1, 2, -(2**63))]
)
async def test_a_loss_that_makes_no_sense_is_refused_and_the_stream_goes_on(
    first: int, last: int, at: int, plane: ControlPlane, clock: FakeClock, store: Store
) -> None:
    async with RawAgent(plane, clock) as agent:
        await agent.connect()
        await agent.send(
            loss=link_pb2.Loss(first_seq=first, last_seq=last, first_taken_at_unix_us=at, tick_count=2**63)
        )
        await agent.send_watts(100.0)
        await agent.acked()
    assert store.watts() == [100.0]
    assert store.rows("SELECT cause, count FROM ingest_refusal") == [("bad_sequence", 1)]


# -- what is refused is said and counted --------------------------------------------------------


async def test_a_batch_that_cannot_be_read_is_refused_with_its_reason_and_the_stream_goes_on(
    plane: ControlPlane, clock: FakeClock, store: Store, database: Database
) -> None:
    async with RawAgent(plane, clock) as agent:
        await agent.connect()
        await agent.send_watts(100.0)
        await agent.send(batch=agent.stream.batch([(0, b"torn")]))
        await agent.send(batch=agent.stream.batch([(9, gpu_records(1.0))]))
        await agent.send(batch=agent.stream.batch([(0, gpu_records(1.0, entity=50))]))
        await agent.send_watts(500.0)
        await agent.acked()
        assert agent.refused.keys() == {2, 3, 4}
        assert "not whole records" in agent.refused[2]
        assert "schema 9 was not announced" in agent.refused[3]
        assert "entity 50 was not announced" in agent.refused[4]
    assert store.watts() == [100.0, 500.0]
    assert store.rows("SELECT cause, count FROM ingest_refusal ORDER BY cause") == [
        ("truncated", 1), ("unknown_entity", 1), ("unknown_schema", 1),
    ]  # fmt: skip
    assert store.rows("SELECT * FROM sample_loss") == []
    (node,) = await nodes.find(database.engine)
    assert node.refused_batches == 3
    assert plane.service.counters.batches_refused.total() == 3


async def test_a_batch_that_postgres_refuses_does_not_take_others_down(
    plane: ControlPlane, clock: FakeClock, store: Store, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.rows("ALTER TABLE gpu_sample ADD CHECK (power_draw_watts <> 666)")
    async with RawAgent(plane, clock) as good, RawAgent(plane, clock, agent_id="bad") as bad:
        await good.connect()
        await bad.connect()
        async with commits_held_back(database_url):
            await good.send_watts(1.0)
            await until(lambda: store.waiters() > 0, "the writer waits, and the rest gathers for one commit")
            await bad.send_watts(10.0, 666.0, 30.0)
            await good.send_watts(2.0, 3.0)
            await bad.settled()
            await good.settled()
        await asyncio.gather(good.acked(), bad.acked())
        assert good.refused == {}
        assert bad.refused.keys() == {2}
        assert "CheckViolation" in bad.refused[2]
    assert store.watts() == [1.0, 2.0, 3.0, 10.0, 30.0]
    assert store.rows("SELECT cause, count FROM ingest_refusal") == [("unstorable", 1)]


@pytest.mark.parametrize("seq", [0, 2**62, 2**63, 2**64 - 1])
async def test_a_batch_with_an_impossible_number_is_refused_and_blocks_nobody(
    seq: int, plane: ControlPlane, clock: FakeClock, store: Store
) -> None:
    async with RawAgent(plane, clock) as hostile, RawAgent(plane, clock, agent_id="good") as good:
        await hostile.connect()
        await good.connect()
        await hostile.send(batch=telemetry_pb2.Batch(seq=seq, ticks=[hostile.stream.tick([(0, b"torn")])]))
        await hostile.send(batch=telemetry_pb2.Batch(seq=seq, ticks=[hostile.stream.tick([(0, gpu_records(1.0))])]))
        await hostile.settled()
        await good.send_watts(5.0)
        await good.acked()
        await hostile.send_watts(7.0)
        await hostile.acked()
    assert store.watts() == [5.0, 7.0]
    assert sum(count for (count,) in store.rows("SELECT count FROM ingest_refusal")) == 2


async def test_an_entity_that_cannot_be_stored_takes_neither_its_neighbours_nor_the_writer_along(
    plane: ControlPlane, clock: FakeClock, store: Store
) -> None:
    store.rows("ALTER TABLE entity ADD CHECK (key <> 'cursed')")
    async with RawAgent(plane, clock) as hostile, RawAgent(plane, clock, agent_id="good") as good:
        await hostile.connect()
        await good.connect()
        await hostile.send(announce=link_pb2.Announce(entities=[raw_entity(5000, GPU, "cursed")]))
        await hostile.send_watts(1.0, entity=5000)
        await hostile.send_watts(2.0)
        await hostile.acked()
        assert hostile.refused.keys() == {1}
        assert "announcement could not be stored" in hostile.refused[1]
        await good.send_watts(3.0)
        await good.acked()
    assert store.watts() == [2.0, 3.0]
    assert store.one("SELECT count(*) FROM gpu_sample WHERE entity_id < 0") == 0


async def test_attributes_that_are_no_json_for_postgres_are_refused_at_the_door(
    plane: ControlPlane, clock: FakeClock, store: Store
) -> None:
    async with RawAgent(plane, clock) as agent:
        await agent.connect(raw_entity(1, GPU, "GPU-1", b'{"a": 1e999}'), raw_entity(2, GPU, "GPU-2"))
        await agent.send_watts(1.0, entity=2)
        await agent.acked()
    assert store.rows("SELECT cause FROM ingest_refusal") == [("bad_attributes",)]
    assert store.rows("SELECT key FROM entity ORDER BY key") == [("GPU-0",), ("GPU-2",)]


async def test_an_impossible_value_is_stored_as_unknown_and_counted(
    plane: ControlPlane, clock: FakeClock, store: Store
) -> None:
    async with RawAgent(plane, clock) as agent:
        await agent.connect()
        await agent.send_watts(-5.0)
        await agent.acked()
    ((watts, reasons),) = store.rows(
        "SELECT power_draw_watts, reasons FROM gpu_sample JOIN unknown_set USING (unknown_set_id)"
    )
    assert watts is None
    assert reasons["power_draw_watts"] == "out_of_range"
    assert reasons["sm_active_ratio"] == "not_sent"
    assert plane.service.counters.values_impossible == 1


async def test_an_unexpected_message_is_counted_and_the_stream_goes_on(
    plane: ControlPlane, clock: FakeClock, store: Store
) -> None:
    async with RawAgent(plane, clock) as agent:
        await agent.connect()
        await agent.send(hello=agent.hello())
        await agent.send()
        await agent.send_watts(1.0)
        await agent.acked()
    assert store.rows("SELECT cause, count FROM ingest_refusal") == [("unexpected", 1)]


async def test_a_batch_that_is_too_large_is_refused(
    plane: ControlPlane, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MAX_BATCH_BYTES", 1000)
    async with RawAgent(plane, clock) as agent:
        await agent.connect()
        await agent.send(batch=agent.stream.batch([(0, b"x" * 1001)]))
        await agent.acked()
        assert "at most 1000" in agent.refused[1]


async def test_bytes_that_are_no_protobuf_are_refused_like_any_other_message(
    plane: ControlPlane, clock: FakeClock, store: Store
) -> None:
    async with grpc.aio.insecure_channel(plane.address) as channel, RawAgent(plane, clock) as agent:
        call: Any = channel.stream_stream("/optiinfra.telemetry.v1.Link/Connect")()
        await call.write(b"\xff\xff\xff\xff")
        answer = link_pb2.ServerMessage.FromString(await call.read())
        assert answer.refusal.code == link_pb2.REFUSAL_CODE_INVALID_HELLO
        call = channel.stream_stream("/optiinfra.telemetry.v1.Link/Connect")()
        await call.write(link_pb2.AgentMessage(hello=agent.hello()).SerializeToString())
        assert link_pb2.ServerMessage.FromString(await call.read()).HasField("welcome")
        await call.write(b"\xff\xff\xff\xff")
        await call.write(link_pb2.AgentMessage(heartbeat=link_pb2.Heartbeat()).SerializeToString())
        assert link_pb2.ServerMessage.FromString(await call.read()).HasField("heartbeat")
        await until(lambda: bool(store.rows("SELECT * FROM ingest_refusal")), "the refusal is counted")
    assert store.rows("SELECT cause, count FROM ingest_refusal") == [("undecodable", 1)]


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


async def test_histograms_are_stored_with_their_bounds(plane: ControlPlane, clock: FakeClock, store: Store) -> None:
    agent = Agent(plane, clock)
    found = Histogram(bounds=(0.1, 1.0), counts=(1, 2, 3), sum=4.5)
    announce, message = agent.encoder.encode(
        tick(agent.node.now(), {("inference", "http://x"): {"ttft_seconds": found}})
    )
    agent.spool.append(Outgoing(announce=announce, tick=message), size_bytes=1, taken_at_unix_us=0)
    async with agent:
        await agent.drained()
    ((buckets, total, bounds),) = store.rows(
        "SELECT ttft_seconds_buckets, ttft_seconds_sum, bounds FROM inference_sample "
        "JOIN histogram_layout USING (layout_id)"
    )
    assert (buckets, total, bounds["ttft_seconds"]) == ([1, 2, 3], 4.5, [0.1, 1.0])
