"""Whether the agent's memory stays where it is: the real collectors, back to back, for 100,000 samples.

Run as a process of its own, so that nothing else's memory is in the figures: `python -m benchmarks.flatness TICKS`
prints the resident bytes at each of the marks, one `ticks bytes` a line.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping

from benchmarks.processes import PATIENCE_SECONDS, environment, resident_bytes
from node_agent.assembly import append, build_gpus, build_sampler, encode
from node_agent.model import Tick
from node_agent.prometheus.page import NewestTick
from node_agent.settings import LONGEST_INTERVAL_SECONDS, Settings
from node_agent.spool import Spool
from node_agent.uplink import wire
from node_agent.uplink.frames import Packed

MARKS = (1_000, 10_000, 50_000, 100_000)
QUICK_MARKS = (100, 500, 1_000)


def measure(marks: tuple[int, ...]) -> Mapping[int, float]:
    """This will run the agent's inside for as many ticks as the last mark and give its MiB at each."""
    command = [sys.executable, "-m", "benchmarks.flatness", *map(str, marks)]
    answer = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    pairs = [line.split() for line in answer.stdout.splitlines()]
    return {int(ticks): int(held) / 2**20 for ticks, held in pairs}


async def _run(marks: list[int]) -> None:
    """The collectors, encoder and spool of an agent; what is kept is acknowledged at once."""
    settings = Settings(node_name="flat", sampling_interval_seconds=LONGEST_INTERVAL_SECONDS)
    encoder, newest = wire.Encoder(), NewestTick("flat")
    spool: Spool[Packed] = Spool(max_bytes=settings.buffer_bytes)
    sampler = build_sampler(settings, build_gpus(settings))
    count, done = 0, asyncio.Event()

    def keep(tick: Tick) -> None:
        nonlocal count
        count += 1
        newest.keep(tick, settings.sampling_interval_seconds)
        append(spool, encode(encoder, tick))
        spool.committed(spool.last_seq)
        if count in marks:
            print(count, resident_bytes(os.getpid()), flush=True)
        if count == marks[-1]:
            done.set()
        sampler.request("next", valid_for_seconds=PATIENCE_SECONDS)  # at once, not at the next point of the grid

    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(sampler.run(keep))
        await done.wait()
        running.cancel()
    await sampler.close()


if __name__ == "__main__":
    asyncio.run(_run([int(mark) for mark in sys.argv[1:]]))
