"""A host that takes configurations, and how they are asked for over REST."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from control_plane.model.node import NodeIntroduction
from control_plane.storage.introductions import Caller, introduce
from control_plane.storage.session import Database
from node_agent.collectors.engine import EngineCollector
from node_agent.commands.configure import Configurator
from node_agent.configuration.kept import KeptConfiguration
from node_agent.configuration.policy import LocalPolicy
from node_agent.model import CONFIGURABLE
from node_agent.sampler import Sampler
from tests.fakes.clock import FakeClock, FakeNodeClock
from tests.support.ingest import PATIENCE_SECONDS, Agent, ControlPlane, until
from tests.support.rest import Api

POLICY = LocalPolicy(
    shortest_interval_seconds=1.0,
    longest_interval_seconds=60.0,
    allowed=frozenset(CONFIGURABLE),
    pushed_targets=(),
    gpu_monitoring_enabled=True,
    discover_engines=True,
)


class Host:
    """A machine whose agent may be started again: its state folder, its owner's policy, what holds on it."""

    def __init__(self, plane: ControlPlane, clock: FakeClock, folder: Path, policy: LocalPolicy = POLICY) -> None:
        self.plane, self.clock, self.folder, self.policy = plane, clock, folder, policy
        self.sampler: Sampler

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Agent]:
        node = FakeNodeClock(self.clock)
        self.sampler = Sampler([], node, interval_seconds=5.0)
        self.engines = EngineCollector(clock=node, discover=False)
        configurator = Configurator(
            self.policy,
            KeptConfiguration(self.folder),
            own_interval_seconds=5.0,
            own_addresses=lambda: frozenset({"127.0.0.1"}),
            sampler=self.sampler,
            engines=self.engines,
            gpus=None,
        )
        await configurator.restore()
        async with Agent(self.plane, self.clock, agent_id="host-a", configurator=configurator) as agent:
            await agent.uplink.connected.wait()
            await until(lambda: bool(self.plane.service.connected_nodes()), "the agent is connected")
            yield agent

    @property
    def interval_seconds(self) -> float:
        return self.sampler.interval_seconds


async def put(api: Api, body: dict[str, Any], status: int = 200, node: str = "host-a") -> dict[str, Any]:
    answer = await api.client.put(f"/nodes/{node}/config", json=body)
    assert answer.status_code == status, answer.text
    said: dict[str, Any] = answer.json()
    if status < 300:
        assert said == await api.get(f"/nodes/{node}/config"), "GET says the same"
    return said


async def known(database: Database, clock: FakeClock, agent_id: str = "host-a", **more: Any) -> int:
    """A node that was connected once."""
    said: dict[str, Any] = {"agent_version": "0.1", "replayed": False, "attributes": {}, **more}
    caller = Caller(introduction=NodeIntroduction(agent_id=agent_id, name=agent_id, **said), epoch=b"e" * 16)
    with database.connect(autocommit=True) as connection:
        (introduced,) = introduce(connection, [caller], clock.now())
    assert introduced is not None
    return introduced.node_id


async def applied(api: Api, revision: int) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            said: dict[str, Any] = await api.get("/nodes/host-a/config")
            if said["status"] != "pending" and said["in_force_revision"] == revision:
                return said
            await asyncio.sleep(0.01)
