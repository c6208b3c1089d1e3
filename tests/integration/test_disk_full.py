"""A file system that is really full: the agent goes on, and what it could not keep it reports."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from node_agent.uplink import disk
from node_agent.uplink.disk import ASIDE_SHARE, MOST_SET_ASIDE, RETRY_SECONDS
from tests.fakes.clock import FakeClock, FakeNodeClock
from tests.support.ingest import Agent, ControlPlane, Store

TOTAL_BYTES = 2 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB of our own. Only root may mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={TOTAL_BYTES}", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"NOT TESTED on a real full disk: {mounted.stderr.strip()} (needs root)")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)  # the agents' locks end with this process


def fill(folder: Path, *, leaving_bytes: int) -> Path:
    """Somebody else's file, that takes all but so much."""
    seen = os.statvfs(folder)
    path = folder / "somebody-else"
    path.write_bytes(b"x" * (seen.f_bavail * seen.f_frsize - leaving_bytes))
    return path


def sample(agent: Agent, clock: FakeClock, first: int, last: int, *, padding: int = 0) -> None:
    for number in range(first, last + 1):
        agent.sample({"power_draw_watts": float(number)}, command_id="x" * padding)
        clock.advance(1)


def lost(store: Store) -> int:
    return int(store.one("SELECT coalesce(sum(last_seq - first_seq + 1), 0) FROM sample_loss"))


async def test_a_disk_that_others_fill_is_left_to_them_and_nothing_is_lost(
    plane: ControlPlane, clock: FakeClock, store: Store, small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    agent = Agent(plane, clock, folder=small_disk / "spool", spool_bytes=1 << 20)
    sample(agent, clock, 1, 5)
    others = fill(small_disk, leaving_bytes=TOTAL_BYTES // 25)  # 4 %
    sample(agent, clock, 6, 30)
    seen = os.statvfs(small_disk)
    assert seen.f_bavail * seen.f_frsize >= TOTAL_BYTES // 25 - 8192, "not a byte more than others took"
    others.unlink()
    clock.advance(RETRY_SECONDS)
    sample(agent, clock, 31, 40)
    said = [r.message for r in caplog.records if r.name == disk.__name__]
    assert "less than 5% of the disk is free" in said[0]
    assert said[1:] == ["samples are kept on disk again"]
    async with agent:
        await agent.all_drained()
    assert store.watts() == [float(n) for n in range(1, 41)]
    assert lost(store) == 0


async def test_a_write_that_the_disk_takes_half_of_is_not_counted_as_kept(
    plane: ControlPlane, clock: FakeClock, store: Store, small_disk: Path, node: FakeNodeClock
) -> None:
    killed = Agent(plane, clock, node=node, folder=small_disk / "spool", epoch=b"a" * 16, spool_bytes=1 << 20)
    sample(killed, clock, 1, 5)
    fill(small_disk, leaving_bytes=TOTAL_BYTES // 16)  # 6 %: more than must stay free, and less than the next batch
    sample(killed, clock, 6, 8, padding=TOTAL_BYTES // 8)
    assert killed.disk is not None
    assert killed.disk.failures >= 1
    killed.killed()
    (small_disk / "somebody-else").unlink()
    async with Agent(plane, clock, node=node, folder=small_disk / "spool", epoch=b"b" * 16) as agent:
        await agent.all_drained()
    assert store.watts() == [1.0, 2.0, 3.0, 4.0, 5.0], "what was in memory alone ended with its process"
    said = "SELECT first_seq, last_seq, reason FROM sample_loss"
    assert store.rows(said) == [(6, 8, "the agent ended while its disk took nothing")]


async def test_kills_while_the_disk_is_full_are_counted_one_by_one(
    plane: ControlPlane, clock: FakeClock, store: Store, small_disk: Path, node: FakeNodeClock
) -> None:
    epochs = [letter.encode() * 16 for letter in "abcde"]
    killed = Agent(plane, clock, node=node, folder=small_disk / "spool", epoch=epochs[0], spool_bytes=1 << 20)
    sample(killed, clock, 1, 3)
    others = fill(small_disk, leaving_bytes=0)
    for number, epoch in enumerate(epochs[1:], 1):
        killed.killed()
        killed = Agent(plane, clock, node=node, folder=small_disk / "spool", epoch=epoch, spool_bytes=1 << 20)
        sample(killed, clock, 1, number)
    killed.killed()
    others.unlink()
    clock.advance(RETRY_SECONDS)
    async with Agent(plane, clock, node=node, folder=small_disk / "spool", epoch=b"z" * 16) as agent:
        sample(agent, clock, 1, 1)
        await agent.all_drained()
    assert len(store.watts()) == 1, "the first three gave way to those who filled the disk"
    assert lost(store) == 3 + 1 + 2 + 3 + 4


async def test_what_was_in_memory_alone_and_arrived_is_not_reported_lost(
    plane: ControlPlane, clock: FakeClock, store: Store, small_disk: Path, node: FakeNodeClock
) -> None:
    killed = Agent(plane, clock, node=node, folder=small_disk / "spool", epoch=b"a" * 16, spool_bytes=1 << 20)
    fill(small_disk, leaving_bytes=0)
    async with killed:
        sample(killed, clock, 1, 5)
        await killed.drained()
    killed.killed()
    async with Agent(plane, clock, node=node, folder=small_disk / "spool", epoch=b"b" * 16) as agent:
        await agent.all_drained()
    assert store.watts() == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert lost(store) == 0


async def test_a_backlog_gives_way_oldest_first_when_others_fill_the_disk(
    plane: ControlPlane, clock: FakeClock, store: Store, small_disk: Path
) -> None:
    agent = Agent(plane, clock, folder=small_disk / "spool", buffer_bytes=40_000, spool_bytes=1 << 20)
    sample(agent, clock, 1, 400, padding=1000)
    assert agent.disk is not None
    before = sum(path.stat().st_size for path in (small_disk / "spool").glob("*.segment"))
    others = fill(small_disk, leaving_bytes=TOTAL_BYTES // 50)  # 2 %
    sample(agent, clock, 401, 420, padding=1000)
    after = sum(path.stat().st_size for path in (small_disk / "spool").glob("*.segment"))
    assert after < before
    others.unlink()
    clock.advance(RETRY_SECONDS)
    async with agent:
        await agent.all_drained()
    watts = store.watts()
    assert len(watts) + lost(store) == 420
    assert watts == [float(n) for n in range(421 - len(watts), 421)], "the oldest went first"
    assert lost(store) > 0


@pytest.mark.parametrize("size", [100, 40_000])
async def test_files_that_cannot_be_read_do_not_pile_up(
    size: int, plane: ControlPlane, clock: FakeClock, store: Store, tmp_path: Path
) -> None:
    bound = 1 << 20
    for number in range(1, 21):
        (tmp_path / f"{number:012d}.segment").write_bytes(os.urandom(size))
    async with Agent(plane, clock, folder=tmp_path, spool_bytes=bound) as agent:
        sample(agent, clock, 1, 3)
        await agent.all_drained()
    kept = sorted(path.name for path in tmp_path.glob("*.damaged"))
    assert 0 < len(kept) <= MOST_SET_ASIDE
    assert kept[-1] == "000000000020.damaged", "the newest"
    assert sum((tmp_path / name).stat().st_size for name in kept) <= bound // ASIDE_SHARE
    assert store.watts() == [1.0, 2.0, 3.0]
