"""Whether the agent's memory stays where it is: a whole agent, as fast as it goes, for 100,000 samples.

The real collectors, encoder, ring, disk spool and stream; only the cadence is not, as the next sample is taken as soon
as few are under way, nor the other side, which acknowledges at once since a database could not keep up. Run as a
process of its own, so that nothing else's memory is in the figures: `python -m benchmarks.flatness SERVER MARK...`
prints the resident bytes at each of the marks, one `samples bytes` a line.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.acknowledger import acknowledger
from benchmarks.processes import environment, folder, resident_bytes
from node_agent import agent, assembly
from node_agent.clock import SystemClock
from node_agent.model import Tick
from node_agent.prometheus.page import NewestTick
from node_agent.settings import LONGEST_INTERVAL_SECONDS, Settings
from node_agent.spool import Spool
from node_agent.uplink import wire
from node_agent.uplink.client import Uplink
from node_agent.uplink.frames import Packed
from node_agent.uplink.requests import refusing

MARKS = (1_000, 10_000, 50_000, 100_000)
QUICK_MARKS = (100, 500, 1_000)
UNDER_WAY = 8  # batches; half of the window, so that the ring is never a backlog
VALID_SECONDS = 60.0


def measure(marks: tuple[int, ...]) -> Mapping[int, float]:
    """This will run a whole agent for as many samples as the last mark and give its MiB at each."""
    with acknowledger() as port:
        command = [sys.executable, "-m", "benchmarks.flatness", f"127.0.0.1:{port}", *map(str, marks)]
        answer = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    pairs = [line.split() for line in answer.stdout.splitlines()]
    return {int(ticks): int(held) / 2**20 for ticks, held in pairs}


async def _run(server: str, state: Path, marks: list[int]) -> None:
    settings = Settings(
        server=server, node_name="flat", state_dir=state, sampling_interval_seconds=LONGEST_INTERVAL_SECONDS
    )
    clock, encoder, newest = SystemClock(), wire.Encoder(), NewestTick("flat")
    me = assembly.identity(settings, interval_seconds=LONGEST_INTERVAL_SECONDS)
    disk = agent.disk_spool(settings, me, clock, encoder)
    assert disk is not None
    spool: Spool[Packed] = Spool(max_bytes=settings.buffer_bytes, store=disk)
    sampler = assembly.build_sampler(
        settings, assembly.build_gpus(settings), backlog=lambda: agent.backlog_of(spool, uplink)
    )
    uplink = Uplink(
        server, me, spool, clock,
        everything=encoder.everything, handlers=refusing("this is a benchmark"), backoff=assembly.backoff(),
    )  # fmt: skip
    count, taken = 0, asyncio.Event()

    def keep(tick: Tick) -> None:
        nonlocal count
        count += 1
        newest.keep(tick, settings.sampling_interval_seconds)
        assembly.append(spool, assembly.encode(encoder, tick))
        if count in marks:
            print(count, resident_bytes(os.getpid()), flush=True)
        taken.set()

    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(work) for work in (sampler.run(keep), uplink.run(), disk.run())]
        while count < marks[-1]:
            await taken.wait()
            taken.clear()
            while len(spool) >= UNDER_WAY:
                spool.changed.clear()
                await spool.changed.wait()
            sampler.request("next", valid_for_seconds=VALID_SECONDS)  # at once, not at the next point of the grid
        for task in running:
            task.cancel()
    disk.close()
    await sampler.close()


if __name__ == "__main__":
    with folder() as path:
        asyncio.run(_run(sys.argv[1], path, [int(mark) for mark in sys.argv[2:]]))
