"""What was sampled is committed or reported lost, exactly: over kills, long outages, full disks and torn files."""

from __future__ import annotations

import os
import random
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from control_plane.ingest import wire
from node_agent.uplink import disk
from optiinfra.telemetry.v1 import link_pb2
from tests.fakes.clock import FakeClock, FakeNodeClock
from tests.fakes.tcp_proxy import TcpProxy
from tests.support.ingest import Agent, ControlPlane, Store, until


def sample(agent: Agent, clock: FakeClock, first: int, last: int) -> None:
    """Take the samples `first` to `last`, one a second; the number is the value."""
    for number in range(first, last + 1):
        agent.sample({"power_draw_watts": float(number)})
        clock.advance(1)


def lost(store: Store) -> int:
    return int(store.one("SELECT coalesce(sum(last_seq - first_seq + 1), 0) FROM sample_loss"))


async def test_what_a_killed_process_left_is_sent_by_the_next_one_under_its_own_epoch(
    plane: ControlPlane, clock: FakeClock, store: Store, node: FakeNodeClock, tmp_path: Path
) -> None:
    killed = Agent(plane, clock, node=node, folder=tmp_path, epoch=b"a" * 16)
    sample(killed, clock, 1, 20)
    killed.killed()
    async with Agent(plane, clock, node=node, folder=tmp_path, epoch=b"b" * 16) as agent:
        sample(agent, clock, 21, 25)
        await agent.all_drained()
    assert store.watts() == [float(n) for n in range(1, 26)]
    assert store.rows("SELECT epoch, committed_seq FROM ingest_cursor ORDER BY epoch") == [
        (b"a" * 16, 20),
        (b"b" * 16, 5),
    ]
    assert lost(store) == 0
    assert store.one("SELECT power_draw_watts FROM gpu_latest") == 25.0
    stamps = [s for (s,) in store.rows("SELECT taken_at FROM gpu_sample ORDER BY taken_at")]
    assert all((b - a).total_seconds() == 1 for a, b in pairwise(stamps))


async def test_what_a_kill_tore_off_was_never_sampled_and_the_rest_is_sent(
    plane: ControlPlane, clock: FakeClock, store: Store, node: FakeNodeClock, tmp_path: Path
) -> None:
    killed = Agent(plane, clock, node=node, folder=tmp_path, epoch=b"a" * 16)
    sample(killed, clock, 1, 10)
    killed.killed()
    (segment,) = tmp_path.glob("*.segment")
    os.truncate(segment, segment.stat().st_size - 7)
    async with Agent(plane, clock, node=node, folder=tmp_path, epoch=b"b" * 16) as agent:
        await agent.all_drained()
    assert store.watts() == [float(n) for n in range(1, 10)]


async def test_a_record_that_fails_its_checksum_is_reported_lost(
    plane: ControlPlane, clock: FakeClock, store: Store, node: FakeNodeClock, tmp_path: Path
) -> None:
    killed = Agent(plane, clock, node=node, folder=tmp_path, epoch=b"a" * 16)
    sample(killed, clock, 1, 10)
    killed.killed()
    (segment,) = tmp_path.glob("*.segment")
    data = bytearray(segment.read_bytes())
    data[len(data) * 3 // 4] ^= 1
    segment.write_bytes(data)
    async with Agent(plane, clock, node=node, folder=tmp_path, epoch=b"b" * 16) as agent:
        await agent.all_drained()
    assert len(store.watts()) == 9
    assert lost(store) == 1


@pytest.mark.parametrize("damage", [b"", b"nonsense", b"OISPOOL1" + b"\0" * 200])
async def test_a_file_that_is_no_segment_is_set_aside(
    damage: bytes, plane: ControlPlane, clock: FakeClock, store: Store, tmp_path: Path
) -> None:
    (tmp_path / "000000000007.segment").write_bytes(damage)
    async with Agent(plane, clock, folder=tmp_path) as agent:
        sample(agent, clock, 1, 3)
        await agent.all_drained()
    assert store.watts() == [1.0, 2.0, 3.0]
    assert (tmp_path / "000000000007.damaged").exists()


async def test_after_an_hour_without_a_control_plane_the_newest_sample_is_not_the_last_to_come(
    plane: ControlPlane, clock: FakeClock, store: Store, tmp_path: Path
) -> None:
    agent = Agent(plane, clock, folder=tmp_path)
    sample(agent, clock, 1, 720)
    async with agent:
        await until(lambda: len(agent.spool) == 0, "the outage becomes a backlog")
        sample(agent, clock, 721, 721)
        await agent.drained()
        assert store.one("SELECT power_draw_watts FROM gpu_latest") == 721.0
        assert len(store.watts()) < 721, "the backlog comes beside the live samples, not before them"
        await agent.all_drained()
    assert store.watts() == [float(n) for n in range(1, 722)]
    assert store.one("SELECT power_draw_watts FROM gpu_latest") == 721.0
    assert lost(store) == 0


async def test_what_does_not_fit_on_disk_is_dropped_oldest_first_and_reported_with_its_times(
    plane: ControlPlane, clock: FakeClock, store: Store, tmp_path: Path
) -> None:
    agent = Agent(plane, clock, folder=tmp_path, buffer_bytes=4_000, spool_bytes=40_000)
    sample(agent, clock, 1, 1000)
    async with agent:
        await agent.all_drained()
    watts = store.watts()
    assert 0 < len(watts) < 1000
    assert watts == [float(n) for n in range(1001 - len(watts), 1001)], "the oldest went first"
    assert len(watts) + lost(store) == 1000
    assert store.one("SELECT sum(tick_count) FROM sample_loss") == lost(store)
    assert store.one("SELECT bool_and(first_taken_at <= last_taken_at) FROM sample_loss")


async def test_a_full_disk_is_said_once_and_the_samples_go_on_in_memory_and_later_on_disk_again(
    plane: ControlPlane,
    clock: FakeClock,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    agent = Agent(plane, clock, folder=tmp_path)
    sample(agent, clock, 1, 5)
    whole = disk.write
    monkeypatch.setattr(disk, "write", lambda file, data: whole(file, data[: len(data) // 2]))
    sample(agent, clock, 6, 30)
    monkeypatch.undo()
    sample(agent, clock, 31, 40)
    said = [r.message for r in caplog.records if r.name == disk.__name__]
    assert len(said) == 2
    assert "No space left" in said[0]
    assert said[1] == "samples are kept on disk again"
    async with agent:
        await agent.all_drained()
    assert store.watts() == [float(n) for n in range(1, 41)]


async def test_a_kill_after_a_full_disk_reports_what_was_in_memory_alone(
    plane: ControlPlane,
    clock: FakeClock,
    store: Store,
    node: FakeNodeClock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    killed = Agent(plane, clock, node=node, folder=tmp_path, epoch=b"a" * 16)
    sample(killed, clock, 1, 5)
    whole = disk.write
    monkeypatch.setattr(disk, "write", lambda file, data: whole(file, data[: len(data) // 2]))
    sample(killed, clock, 6, 20)
    monkeypatch.setattr(disk, "write", whole)
    clock.advance(disk.RETRY_SECONDS)
    sample(killed, clock, 21, 25)
    killed.killed()
    async with Agent(plane, clock, node=node, folder=tmp_path, epoch=b"b" * 16) as agent:
        await agent.all_drained()
    assert store.watts() == [float(n) for n in (*range(1, 6), *range(21, 26))]
    assert lost(store) == 15


async def test_a_second_process_leaves_the_folder_to_the_first(
    plane: ControlPlane, clock: FakeClock, store: Store, tmp_path: Path
) -> None:
    first = Agent(plane, clock, agent_id="first", folder=tmp_path)
    sample(first, clock, 1, 3)
    async with Agent(plane, clock, agent_id="second", folder=tmp_path) as second:
        sample(second, clock, 4, 5)
        await second.drained()
    assert store.watts() == [4.0, 5.0]
    first.killed()


async def test_after_a_reboot_the_old_samples_keep_their_wall_time(
    plane: ControlPlane, clock: FakeClock, store: Store, node: FakeNodeClock, tmp_path: Path
) -> None:
    killed = Agent(plane, clock, node=node, folder=tmp_path, epoch=b"a" * 16, boot_id="before")
    taken = clock.now()
    sample(killed, clock, 1, 1)
    killed.killed()
    clock.advance(600)
    rebooted = FakeNodeClock(clock, up_seconds=10)
    async with Agent(plane, clock, node=rebooted, folder=tmp_path, epoch=b"b" * 16, boot_id="after") as agent:
        await agent.all_drained()
    assert store.rows("SELECT taken_at FROM gpu_sample") == [(taken,)]


@pytest.mark.parametrize("jump_seconds", [-86_400.0, 86_400.0 * 30])
async def test_a_wall_clock_that_jumps_loses_nothing(
    jump_seconds: float, plane: ControlPlane, clock: FakeClock, store: Store, tmp_path: Path
) -> None:
    node = FakeNodeClock(clock)
    agent = Agent(plane, clock, folder=tmp_path, node=node, buffer_bytes=4_000)
    sample(agent, clock, 1, 50)
    node.jump(jump_seconds)
    sample(agent, clock, 51, 100)
    async with agent:
        await agent.all_drained()
    assert store.watts() == [float(n) for n in range(1, 101)]
    assert lost(store) == 0


async def test_a_backlog_does_not_change_what_is_known_of_an_entity_now(
    plane: ControlPlane, clock: FakeClock, store: Store, node: FakeNodeClock, tmp_path: Path
) -> None:
    killed = Agent(plane, clock, node=node, folder=tmp_path, epoch=b"a" * 16)
    sample(killed, clock, 1, 2)
    killed.killed()
    async with Agent(plane, clock, node=node, epoch=b"c" * 16) as live:
        sample(live, clock, 3, 3)
        await live.drained()
    store.rows("UPDATE entity SET attributes = '{\"name\": \"now\"}' WHERE key = 'GPU-0'")
    async with Agent(plane, clock, node=node, folder=tmp_path, epoch=b"b" * 16) as agent:
        await agent.all_drained()
    assert store.watts() == [1.0, 2.0, 3.0]
    assert store.one("SELECT attributes->>'name' FROM entity WHERE key = 'GPU-0'") == "now"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
async def test_kills_and_outages_at_random_lose_nothing_unsaid(
    seed: int, plane: ControlPlane, clock: FakeClock, store: Store, node: FakeNodeClock, tmp_path: Path
) -> None:
    chance, number = random.Random(seed), 0
    for life in range(6):
        agent = Agent(plane, clock, node=node, folder=tmp_path, epoch=bytes([life + 1]) * 16, buffer_bytes=4_000)
        for _ in range(chance.randrange(1, 100)):
            number += 1
            sample(agent, clock, number, number)
        if chance.random() < 0.5:
            async with agent:
                sample(agent, clock, number + 1, number + 10)
                number += 10
                await until(lambda agent=agent: agent.uplink.connected.is_set(), "it connects")  # type: ignore[misc]
        agent.killed()
    async with Agent(plane, clock, node=node, folder=tmp_path, epoch=b"z" * 16) as last:
        await last.all_drained()
    assert store.watts() == [float(n) for n in range(1, number + 1)], f"seed {seed}"
    assert lost(store) == 0


async def test_a_control_plane_that_knows_no_backlog_streams_gets_it_before_the_live_samples(
    plane: ControlPlane,
    clock: FakeClock,
    store: Store,
    node: FakeNodeClock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    today = wire.welcome

    def of_the_release_before(**said: Any) -> link_pb2.ServerMessage:
        message = today(**said)
        message.welcome.ClearField("backlog_lanes")
        return message

    monkeypatch.setattr(wire, "welcome", of_the_release_before)
    killed = Agent(plane, clock, node=node, folder=tmp_path, epoch=b"a" * 16)
    sample(killed, clock, 1, 30)
    killed.killed()
    async with Agent(plane, clock, node=node, folder=tmp_path, epoch=b"b" * 16) as agent:
        sample(agent, clock, 31, 40)
        await agent.all_drained()
    assert store.watts() == [float(n) for n in range(1, 41)]
    assert lost(store) == 0


@pytest.mark.parametrize("swallow", [False, True])
async def test_a_network_that_is_cut_or_swallows_while_the_backlog_goes_loses_and_doubles_nothing(
    swallow: bool, plane: ControlPlane, clock: FakeClock, store: Store, tmp_path: Path
) -> None:
    async with TcpProxy(int(plane.address.rpartition(":")[2])) as proxy:
        door = SimpleNamespace(address=f"127.0.0.1:{proxy.port}")
        agent = Agent(door, clock, folder=tmp_path)
        sample(agent, clock, 1, 400)
        async with agent:
            for stored in (1, 50, 150, 250):
                await until(lambda stored=stored: len(store.watts()) >= stored, "some arrived")  # type: ignore[misc]
                proxy.swallowing = swallow
                sample(agent, clock, agent.spool.last_seq + 1, agent.spool.last_seq + 1)
                proxy.cut()
                proxy.swallowing = False
            await agent.all_drained()
    rows = store.one("SELECT count(*) FROM gpu_sample")
    assert rows == 404
    assert store.one("SELECT count(DISTINCT taken_at) FROM gpu_sample") == 404
    assert lost(store) == 0
