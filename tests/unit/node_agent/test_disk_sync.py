"""What is on the disk itself after a power cut: all but the last second of what nobody else has."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node_agent.spool import Entry
from node_agent.uplink import disk
from node_agent.uplink.disk import SYNC_SECONDS, DiskSpool
from node_agent.uplink.frames import Packed
from optiinfra.telemetry.v1 import link_pb2
from tests.fakes.virtual_time import LoopClock, run_virtually

EPOCH = b"e" * 16


class Disk:
    """A disk spool whose syncs are counted and take no time."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.syncs = 0
        self.safe_seq = 0  # on the disk itself
        self.written_seq = 0
        self.spool = DiskSpool(
            folder,
            LoopClock(),
            epoch=EPOCH,
            boot_id="boot",
            max_bytes=1 << 20,
            max_age_seconds=3600,
            everything=link_pb2.Announce,
        )
        patch.setattr(disk, "sync", self._sync)

    async def _sync(self, files: list[int]) -> None:
        self.syncs += 1
        self.safe_seq = self.written_seq
        for file in files:
            os.close(file)

    def write(self) -> None:
        self.written_seq += 1
        packed = Packed(b"", b"tick")
        assert self.spool.keep(Entry(seq=self.written_seq, taken_at_unix_us=1, size_bytes=4, payload=packed))


def test_what_is_acknowledged_within_a_second_never_costs_a_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def an_hour() -> int:
        spool = Disk(tmp_path, monkeypatch)
        spool.spool.recover()
        async with asyncio.TaskGroup() as tasks:
            syncing = tasks.create_task(spool.spool.run())
            for _ in range(3600):
                spool.write()
                await asyncio.sleep(0.4)
                spool.spool.committed(spool.written_seq)
                await asyncio.sleep(0.6)
            syncing.cancel()
        spool.spool.close()
        return spool.syncs

    assert run_virtually(an_hour()) == 0


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0.01, 3.0), st.booleans()), min_size=1, max_size=60))
def test_what_nobody_has_acknowledged_is_on_the_disk_within_a_second(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[float, bool]]
) -> None:
    async def live() -> None:
        loop = asyncio.get_running_loop()
        with pytest.MonkeyPatch.context() as patch:
            spool = Disk(tmp_path_factory.mktemp("spool"), patch)
            spool.spool.recover()
            written_at: dict[int, float] = {}
            async with asyncio.TaskGroup() as tasks:
                syncing = tasks.create_task(spool.spool.run())
                for seconds, acknowledged in steps:
                    spool.write()
                    written_at[spool.written_seq] = loop.time()
                    await asyncio.sleep(seconds)
                    old = [s for s, at in written_at.items() if loop.time() - at > SYNC_SECONDS + 1e-6]
                    assert max(old, default=0) <= spool.safe_seq, f"after {loop.time()} s"
                    if acknowledged:
                        spool.spool.committed(spool.written_seq)
                        written_at.clear()
                syncing.cancel()
            spool.spool.close()

    run_virtually(live())
