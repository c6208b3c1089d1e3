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
from benchmarks.whole_agent import WholeAgent
from node_agent.clock import SystemClock
from node_agent.settings import LONGEST_INTERVAL_SECONDS, Settings

MARKS = (1_000, 10_000, 50_000, 100_000)
QUICK_MARKS = (100, 500, 1_000)
UNDER_WAY = 8  # batches; half of the window, so that the ring is never a backlog


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
    agent = WholeAgent(settings, SystemClock())
    async with agent.running(linked=True):
        while agent.count < marks[-1]:
            while len(agent.spool) >= UNDER_WAY:
                agent.spool.changed.clear()
                await agent.spool.changed.wait()
            await agent.sample(1, lambda: None)
            if agent.count in marks:
                print(agent.count, resident_bytes(os.getpid()), flush=True)
    await agent.close()


if __name__ == "__main__":
    with folder() as path:
        asyncio.run(_run(sys.argv[1], path, [int(mark) for mark in sys.argv[2:]]))
