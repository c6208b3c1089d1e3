"""A control plane that is away for an hour, in virtual time."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from pathlib import Path

from benchmarks.faults.accounting import Node, Row
from benchmarks.processes import ControlPlane, folder
from benchmarks.whole_agent import WholeAgent
from node_agent.clock import Instant, SystemClock
from node_agent.settings import LONGEST_INTERVAL_SECONDS, Settings

SECONDS, QUICK_SECONDS = 3_600, 120
NAME = "an-hour-alone"
PATIENCE_SECONDS = 600.0  # half of the window at a time: some thirty batches a second


class BehindClock:
    """The machine's clocks, as they were some time ago; each sample brings them a second nearer to now."""

    def __init__(self, behind_seconds: int) -> None:
        self._machine = SystemClock()
        self.behind_seconds = behind_seconds

    def now(self) -> Instant:
        """This will read both clocks."""
        now = self._machine.now()
        return Instant(
            wall=now.wall - timedelta(seconds=self.behind_seconds),
            monotonic_seconds=now.monotonic_seconds - self.behind_seconds,
        )

    def tick(self) -> None:
        """This will let a second pass."""
        self.behind_seconds -= 1


def away(running: ControlPlane, *, quick: bool) -> Row:
    """This will sample for an hour alone, then find the control plane."""
    seconds = QUICK_SECONDS if quick else SECONDS
    with folder() as path:
        node = Node(running, NAME, path / "state", ledger=path / "ledger")
        server = f"127.0.0.1:{running.grpc_port}"
        newest_first = asyncio.run(_hour(server, path / "state", seconds, node.ledger))
        return Row(
            name=f"control plane away for {seconds:,} s of virtual time, one sample a second",
            account=node.account(),
            note=f"the newest sample was acknowledged {newest_first:.1f} s after the connection, before the backlog.",
        )


async def _hour(server: str, state: Path, seconds: int, ledger: Path) -> float:
    """Gives how long the newest sample took once there was somebody."""
    clock = BehindClock(seconds)
    settings = Settings(
        server=server, node_name=NAME, state_dir=state, sampling_interval_seconds=LONGEST_INTERVAL_SECONDS,
        gpu_monitoring_enabled=False, discover_engines=False,
    )  # fmt: skip
    agent = WholeAgent(settings, clock, ledger=ledger)
    async with agent.running(linked=False):
        await agent.sample(seconds - 1, clock.tick)
    async with agent.running(linked=True):
        began = time.monotonic()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await agent.uplink.connected.wait()
            await agent.uplink.drained()
            newest = time.monotonic() - began
            while agent.lane.pending():
                await asyncio.sleep(0.05)
            await agent.uplink.drained()
    await agent.close()
    return newest
