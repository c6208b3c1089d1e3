"""The door on a real Postgres: what is acknowledged is stored, once, and what is not stored is said."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest

from control_plane.ingest import admission
from control_plane.model.entity import EntityKind
from control_plane.storage import nodes, readings
from control_plane.storage.session import Database
from node_agent.model import Histogram, Reason
from node_agent.uplink.client import Outgoing
from optiinfra.telemetry.v1 import link_pb2, telemetry_pb2
from tests.fakes.clock import FakeClock
from tests.support.ingest import Agent, ControlPlane, RawAgent, Store, commits_held_back, until
from tests.support.streams import gpu_records, raw_entity, tick, unix_us

GPU = telemetry_pb2.ENTITY_KIND_GPU


async def test_an_event_that_is_sent_twice_is_stored_once(plane: ControlPlane, clock: FakeClock, store: Store) -> None:
    async with RawAgent(plane, clock) as agent:
        await agent.connect()
        batch = agent.stream.batch([(0, gpu_records(100.0))])
        batch.ticks[0].events.add(
            kind="xid", taken_at_unix_us=batch.ticks[0].taken_at_unix_us, severity=3, detail_json=b'{"number":79}'
        )
        for _ in range(2):
            await agent.send(batch=batch)
            await agent.acked(batch.seq)
            await agent.settled()
        await plane.service.writer.drained()
    assert store.rows("SELECT kind, severity, detail FROM event") == [("xid", 3, {"number": 79})]


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
    monkeypatch.setattr(admission, "MAX_BATCH_BYTES", 1000)
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


async def test_histograms_are_stored_with_their_bounds(plane: ControlPlane, clock: FakeClock, store: Store) -> None:
    agent = Agent(plane, clock)
    found = Histogram(bounds=(0.1, 1.0), counts=(1, 2, 3), sum=4.5)
    announce, message = agent.encoder.encode(
        tick(agent.node.now(), {("inference", "http://x"): {"ttft_seconds": found}})
    )
    agent.spool.append(Outgoing(announce=announce, tick=message).packed(), size_bytes=1, taken_at_unix_us=0)
    async with agent:
        await agent.drained()
    ((buckets, total, bounds),) = store.rows(
        "SELECT ttft_seconds_buckets, ttft_seconds_sum, bounds FROM inference_sample "
        "JOIN histogram_layout USING (layout_id)"
    )
    assert (buckets, total, bounds["ttft_seconds"]) == ([1, 2, 3], 4.5, [0.1, 1.0])
