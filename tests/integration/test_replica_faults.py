"""Several replicas on one Postgres, each hurt in turn, by a seed: what was acknowledged is stored, and stored once.

Agents are real ones behind a balancer, replicas are processes, and Postgres writes to a disk that can be filled.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from node_agent.clock import SystemClock
from tests.fakes.clock import FakeClock
from tests.support.ingest import Agent
from tests.support.replicas import PATIENCE_SECONDS, Balancer, HurtPostgres, Replica, small_disk, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

AGENTS, REPLICAS = 8, 3
TICK_SECONDS = 0.05
STANDSTILL_SECONDS = 1.5  # several commits would have been made


class WatchedAgent:
    """A real agent that takes a sample with a value of its own ever so often, and notes what was acknowledged."""

    def __init__(self, number: int, balancer: Balancer) -> None:
        self.name = f"agent-{number}"
        self.agent = Agent(
            balancer, FakeClock(), agent_id=self.name, node=cast(Any, SystemClock()), buffer_bytes=1 << 24
        )
        self.taken = 0
        self.acked = 0
        committed = self.agent.spool.committed

        def noted(seq: int) -> None:
            self.acked = max(self.acked, seq)
            committed(seq)

        self.agent.spool.committed = noted  # type: ignore[method-assign]

    async def live(self, until_set: asyncio.Event) -> None:
        async with self.agent:
            while not until_set.is_set():
                self.taken = self.agent.sample({"power_draw_watts": float(self.taken + 1)})
                await asyncio.sleep(TICK_SECONDS)
            await until(lambda: self.acked == self.taken, f"{self.name} has brought everything")


@dataclass
class Site:
    """Everything that can be hurt."""

    postgres: HurtPostgres
    replicas: Mapping[str, Replica]
    balancer: Balancer
    chance: random.Random
    agents: list[WatchedAgent] = field(default_factory=list)

    def acknowledged(self) -> dict[str, int]:
        """This will give how far each agent knows its samples to be safe."""
        return {agent.name: agent.acked for agent in self.agents}

    def stored(self) -> dict[str, list[float]]:
        """This will give the values that are stored of each agent."""
        with self.postgres.connect() as connection:
            rows = connection.execute(
                "SELECT n.name, array_agg(s.power_draw_watts ORDER BY s.power_draw_watts) "
                "FROM gpu_sample s JOIN node n USING (node_id) GROUP BY n.name"
            ).fetchall()
        return dict(cast(list[tuple[str, list[float]]], rows))

    async def noticed(self) -> None:
        """This will return when nothing has been acknowledged for a while: otherwise nothing would have happened."""
        before, since = self.acknowledged(), asyncio.get_running_loop().time()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while asyncio.get_running_loop().time() - since < STANDSTILL_SECONDS:
                await asyncio.sleep(0.1)
                if self.acknowledged() != before:
                    before, since = self.acknowledged(), asyncio.get_running_loop().time()

    async def recovered(self) -> None:
        """This will return when every agent's samples are acknowledged again, and nobody did anything for it."""
        taken = {agent.name: agent.taken for agent in self.agents}
        await until(lambda: all(a.acked >= taken[a.name] for a in self.agents), "all is acknowledged that was taken")

    async def require_what_was_acknowledged(self) -> None:
        """This will fail if anything that an agent was told to be safe is not there, or is there twice."""
        acknowledged = self.acknowledged()
        await self.postgres.ready()
        stored = self.stored()
        for name, seq in acknowledged.items():
            values = stored.get(name, [])
            assert values[:seq] == [float(n) for n in range(1, seq + 1)], name


@pytest.fixture
def disk() -> Iterator[tuple[Path, bool]]:
    with small_disk() as disk:
        yield disk


@asynccontextmanager
async def running(disk: tuple[Path, bool], folder: Path, seed: int) -> AsyncIterator[Site]:
    chance = random.Random(seed)
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        postgres = HurtPostgres(disk[0], is_disk=disk[1])
        await postgres.start()
        stack.push_async_callback(postgres.stop)
        keeping = tasks.create_task(postgres.keep_up())
        replicas = {name: Replica(folder / name, postgres.url) for name in "abc"[:REPLICAS]}
        for replica in replicas.values():
            stack.callback(replica.kill)
            replica.start()
        for replica in replicas.values():
            await replica.ready()
        balancer = Balancer(replicas, chance)
        await stack.enter_async_context(balancer)
        site = Site(postgres, replicas, balancer, chance, [WatchedAgent(n, balancer) for n in range(AGENTS)])
        enough = asyncio.Event()
        living = [tasks.create_task(agent.live(enough)) for agent in site.agents]
        await site.recovered()
        yield site
        enough.set()
        await asyncio.wait(living)
        keeping.cancel()
        stored = site.stored()
        for agent in site.agents:
            assert agent.taken > 0
            assert stored[agent.name] == [float(n) for n in range(1, agent.taken + 1)], f"each once: {agent.name}"
        with postgres.connect() as connection:
            assert connection.execute("SELECT * FROM sample_loss").fetchall() == []
            latest = connection.execute(
                "SELECT n.name, l.power_draw_watts FROM gpu_latest l JOIN node n USING (node_id)"
            ).fetchall()
        assert dict(cast(list[tuple[str, float]], latest)) == {agent.name: float(agent.taken) for agent in site.agents}


# -- what happens ---------------------------------------------------------------------------------


async def a_while(site: Site) -> None:
    await asyncio.sleep(site.chance.uniform(0.5, 2.0))


async def a_replica_is_killed_in_the_middle_of_a_commit(site: Site) -> None:
    site.postgres.proxy.latency_seconds = 0.02  # a commit has a dozen answers to wait for
    await a_while(site)
    name = site.chance.choice(sorted(site.replicas))
    await until(lambda: site.postgres.commits_under_way() == len(site.replicas), "every replica is committing")
    site.replicas[name].kill()
    site.postgres.proxy.latency_seconds = 0.0
    await a_while(site)
    site.replicas[name].start()
    await site.replicas[name].ready()


async def a_replica_goes_down_in_order(site: Site) -> None:
    name = site.chance.choice(sorted(site.replicas))
    await site.replicas[name].stop()
    await a_while(site)
    site.replicas[name].start()
    await site.replicas[name].ready()


async def postgres_is_restarted(site: Site) -> None:
    await site.postgres.restarted()


async def postgres_is_killed(site: Site) -> None:
    await site.postgres.killed()


async def the_disk_is_full(site: Site) -> None:
    if not site.postgres.is_disk:
        pytest.skip("needs the right to mount a disk that can be filled")
    with site.postgres.full():
        await site.noticed()


async def postgres_is_slow(site: Site) -> None:
    site.postgres.proxy.latency_seconds = 0.1
    await a_while(site)
    await a_while(site)
    site.postgres.proxy.latency_seconds = 0.0


async def connections_to_postgres_are_cut(site: Site) -> None:
    for _ in range(5):
        site.postgres.proxy.cut()
        await asyncio.sleep(site.chance.uniform(0.05, 0.5))


async def no_connection_is_left(site: Site) -> None:
    with site.postgres.no_connections_left():
        await site.noticed()


async def agents_are_cut_off(site: Site) -> None:
    for _ in range(5):
        site.balancer.cut()
        await asyncio.sleep(site.chance.uniform(0.05, 0.5))


FAULTS: tuple[Callable[[Site], Awaitable[None]], ...] = (
    a_replica_is_killed_in_the_middle_of_a_commit, a_replica_goes_down_in_order, postgres_is_restarted,
    postgres_is_killed, the_disk_is_full, postgres_is_slow, connections_to_postgres_are_cut, no_connection_is_left,
    agents_are_cut_off,
)  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
async def test_what_was_acknowledged_is_stored_once_whatever_happens(
    disk: tuple[Path, bool], tmp_path: Path, fault: Callable[[Site], Awaitable[None]]
) -> None:
    async with running(disk, tmp_path, seed=1) as site:
        await fault(site)
        await site.require_what_was_acknowledged()
        await site.recovered()


@pytest.mark.parametrize("seed", range(3))
async def test_what_was_acknowledged_is_stored_once_after_one_fault_upon_another(
    disk: tuple[Path, bool], tmp_path: Path, seed: int
) -> None:
    async with running(disk, tmp_path, seed=seed) as site:
        faults = [fault for fault in FAULTS if site.postgres.is_disk or fault is not the_disk_is_full]
        site.chance.shuffle(faults)
        for fault in faults:
            logging.getLogger(__name__).warning("seed %d: %s", seed, fault.__name__)
            await fault(site)
            await site.require_what_was_acknowledged()
        await site.recovered()
