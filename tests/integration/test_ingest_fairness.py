"""One node that floods the door: it is read more slowly, and nobody else waits for it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from control_plane.ingest import server, writer
from optiinfra.telemetry.v1 import link_pb2
from tests.fakes.clock import FakeClock
from tests.support.ingest import PATIENCE_SECONDS, ControlPlane, RawAgent, Store, commits_held_back, until
from tests.support.streams import F32, gpu_records, raw_schema

# A record that is worth a commit's attention: 1 KB of fields that nobody knows.
PADDED = raw_schema(1, "gpu", [("power_draw_watts", F32, 1), ("padding", F32, 250)])
RECORD = gpu_records(1.0) + b"\0" * 1000


async def flood(agent: RawAgent, count: int) -> None:
    for _ in range(count):
        await agent.send(batch=agent.stream.batch([(1, RECORD)]))


async def test_a_node_that_floods_is_held_back_by_its_own_bound_and_the_others_go_on(
    plane: ControlPlane, clock: FakeClock, store: Store, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "MOST_STREAM_BYTES", 20_000)
    async with RawAgent(plane, clock) as noisy, RawAgent(plane, clock, agent_id="quiet") as quiet:
        await noisy.connect()
        await noisy.send(announce=link_pb2.Announce(schemas=[PADDED]))
        await quiet.connect()
        await quiet.settled()
        async with commits_held_back(database_url):
            flooding = asyncio.create_task(flood(noisy, 400))
            await until(lambda: plane.service.counters.streams_held_back == 1, "the flood is held back")
            held = plane.service.counters.pending_bytes
            assert held < 20_000 + 2 * 1500
            await quiet.send_watts(5.0)
            await quiet.settled()  # it is read at once
            assert plane.service.counters.pending_bytes > held
        await quiet.acked()
        await flooding
        await noisy.acked(400)
    figures = plane.service.figures()
    assert figures["times_held_back"] > 0
    assert figures["nodes_held_back"] == 1
    assert figures["streams_held_back"] == figures["pending_bytes"] == 0
    assert len(store.watts()) == 401


async def test_a_node_with_nothing_waiting_is_let_in_when_the_others_have_filled_the_memory(
    plane: ControlPlane, clock: FakeClock, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "MOST_PENDING_BYTES", 20_000)
    async with RawAgent(plane, clock) as noisy, RawAgent(plane, clock, agent_id="quiet") as quiet:
        await noisy.connect()
        await noisy.send(announce=link_pb2.Announce(schemas=[PADDED]))
        await quiet.connect()
        await quiet.settled()
        await until(lambda: not plane.service.counters.pending_bytes, "what they announced is stored")
        async with commits_held_back(database_url):
            flooding = asyncio.create_task(flood(noisy, 100))
            await until(lambda: plane.service.counters.streams_held_back == 1, "the memory is full")
            await quiet.send_watts(5.0)
            await quiet.settled()
        await quiet.acked()
        await flooding
        await noisy.acked(100)


async def test_many_streams_are_read_in_bursts_and_nothing_of_them_is_lost(
    plane: ControlPlane, clock: FakeClock, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MANY_STREAMS", 2)
    agents = [RawAgent(plane, clock, agent_id=f"agent-{number}") for number in range(4)]
    async with agents[0], agents[1], agents[2], agents[3]:
        for agent in agents:
            await agent.connect()
        async with asyncio.TaskGroup() as tasks:
            for agent in agents:
                tasks.create_task(agent.send_watts(*(float(n) for n in range(30))))
        for agent in agents:
            await agent.acked(30)
    assert len(store.watts()) == 120


async def test_a_fleet_that_connects_at_once_does_not_wait_for_a_burst_each(
    plane: ControlPlane, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MANY_STREAMS", 1)
    monkeypatch.setattr(server, "GATHERINGS_SHARE", 8000)  # so long a pause that a fleet never comes in one by one
    monkeypatch.setattr(server, "EAGER_SECONDS", 3600)
    agents = [RawAgent(plane, clock, agent_id=f"agent-{number}") for number in range(10)]
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(agents[0])
        await agents[0].connect()
        async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as tasks:
            for agent in agents[1:]:
                await stack.enter_async_context(agent)
                tasks.create_task(agent.connect())
        assert plane.service.counters.streams == len(agents)
