"""An agent put together as `optiinfra-agent run` does, whose samples are taken when they are asked for."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks import ledger as ledgers
from node_agent import agent, assembly
from node_agent.clock import Clock
from node_agent.model import Tick
from node_agent.prometheus.page import NewestTick
from node_agent.settings import Settings
from node_agent.spool import Spool
from node_agent.uplink import wire
from node_agent.uplink.client import Uplink
from node_agent.uplink.frames import Packed
from node_agent.uplink.lane import BacklogLane
from node_agent.uplink.requests import refusing

VALID_SECONDS = 60.0  # of a request for a sample; it is served at once


class WholeAgent:
    """Collectors, encoder, ring, disk spool, backlog lane and stream; no cadence of its own."""

    def __init__(self, settings: Settings, clock: Clock, *, ledger: Path | None = None) -> None:
        """`clock` stamps the samples and ages the spool; each is written down in `ledger`, where there is one."""
        self._ledger = None if ledger is None else ledgers.open_ledger(ledger)
        me = assembly.identity(settings, interval_seconds=settings.sampling_interval_seconds)
        self._encoder, self._newest = wire.Encoder(), NewestTick(settings.node_name)
        self._interval_seconds = settings.sampling_interval_seconds
        disk = agent.disk_spool(settings, me, clock, self._encoder)
        assert disk is not None
        self.disk = disk
        self.spool: Spool[Packed] = Spool(max_bytes=settings.ring_bytes, store=disk)
        boot_id = agent.boot_id(me)
        self.lane = BacklogLane(disk, me, clock, backoff=assembly.backoff(), boot_id=boot_id)
        self.uplink = Uplink(
            settings.server, me, self.spool, clock,
            everything=self._encoder.everything, handlers=refusing("this is a benchmark"), backoff=assembly.backoff(),
            backlog=self.lane,
        )  # fmt: skip
        self._sampler = assembly.build_sampler(
            settings,
            assembly.build_gpus(settings),
            backlog=lambda: agent.backlog_of(self.spool, self.uplink),
            clock=clock,
        )
        self._taken = asyncio.Event()
        self.count = 0

    @asynccontextmanager
    async def running(self, *, linked: bool) -> AsyncIterator[None]:
        """This will let it run; without `linked` there is nobody to send to."""
        async with asyncio.TaskGroup() as tasks:
            works = [self._sampler.run(self._keep), self.disk.run(), *([self.uplink.run()] if linked else [])]
            running = [tasks.create_task(work) for work in works]
            await self._taken.wait()  # the sampler begins with one
            yield
            for task in running:
                task.cancel()

    async def sample(self, count: int, each: Callable[[], None]) -> None:
        """This will take so many samples, one after the other, calling `each` before each one."""
        for _ in range(count):
            each()
            self._taken.clear()
            self._sampler.request("next", valid_for_seconds=VALID_SECONDS)
            await self._taken.wait()

    async def close(self) -> None:
        """This will let go of everything."""
        if self._ledger is not None:
            os.close(self._ledger)
        self.disk.close()
        await self._sampler.close()

    def _keep(self, tick: Tick) -> None:
        self._newest.keep(tick, self._interval_seconds)
        outgoing = assembly.encode(self._encoder, tick)
        if self._ledger is None:
            assembly.append(self.spool, outgoing)
        else:
            ledgers.witnessed(self._ledger, self.spool, outgoing)
        self.count += 1
        self._taken.set()
