"""Replays of recordings, to a control plane that only listens."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path

import pytest

from node_agent import assembly, recordings
from node_agent.clock import SystemClock
from node_agent.model import Entity, EntityKind, Sample, Tick
from node_agent.uplink import wire
from node_agent.uplink.client import Identity
from node_agent.uplink.recording import Recorder, load
from tests.fakes.link_server import LinkServer

IDENTITY = Identity(
    agent_id="11111111-2222-3333-4444-555555555555",
    node_name="node-a",
    agent_version="1.2.3",
    epoch=b"epoch-of-16-byte",
    attributes_json=b"{}",
)


def a_recording(path: Path, *, spacing_seconds: float, count: int) -> None:
    encoder, clock = wire.Encoder(), SystemClock()
    with Recorder(path, IDENTITY, clock.now()) as recorder:
        for number in range(count):
            values = {"reads_total": number}
            tick = Tick(
                taken_at=clock.now(),
                entities=[Entity(kind=EntityKind.DISK, key="sda")],
                samples=[Sample(table="disk", entity=(EntityKind.DISK, "sda"), values=values)],
                reports=(),
            )
            outgoing = assembly.encode(encoder, tick)
            outgoing.tick.taken_at_unix_us = round((1_000_000_000 + number * spacing_seconds) * 1e6)
            recorder.write(outgoing)


@pytest.mark.parametrize(("speed", "least_seconds"), [(0.0, 0.0), (100.0, 0.45)])
async def test_a_replay_keeps_the_spacing_ends_now_and_is_no_faster_than_its_speed_says(
    server: LinkServer, tmp_path: Path, speed: float, least_seconds: float
) -> None:
    a_recording(tmp_path / "r.gz", spacing_seconds=5.0, count=10)
    loop, done = asyncio.get_running_loop(), list[int]()
    started = loop.time()
    count = await recordings.replay(
        load(tmp_path / "r.gz"),
        f"127.0.0.1:{server.port}",
        speed=speed,
        keep_times=False,
        node_name="demo",
        progress=done.append,
    )
    took = loop.time() - started
    (session,) = server.sessions
    taken = [t.taken_at_unix_us for m in session.bodies("batch") for t in m.batch.ticks]
    assert count == 10
    assert done == list(range(1, 11))
    assert took >= least_seconds
    assert {b - a for a, b in pairwise(taken)} == {5_000_000}
    assert abs(taken[-1] / 1e6 - SystemClock().now().wall.timestamp()) < 30  # now, and not 2001
    assert (session.hello.node_name, session.hello.replayed) == ("demo", True)


async def test_a_replay_may_keep_its_times(server: LinkServer, tmp_path: Path) -> None:
    a_recording(tmp_path / "r.gz", spacing_seconds=5.0, count=2)
    recording = load(tmp_path / "r.gz")
    address = f"127.0.0.1:{server.port}"
    await recordings.replay(recording, address, speed=0, keep_times=True, node_name=None, progress=lambda _: None)
    taken = [t.taken_at_unix_us for m in server.sessions[0].bodies("batch") for t in m.batch.ticks]
    assert taken == [1_000_000_000_000_000, 1_000_000_005_000_000]
