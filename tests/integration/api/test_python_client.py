"""The client against the application, over a socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import pytest
import uvicorn

from control_plane.model.access import Scope
from control_plane.storage.session import Database
from resource_agent import AsyncResourceAgent, Refused, ResourceAgent
from tests.fakes.clock import FakeClock
from tests.support.gates import guarded_api
from tests.support.rest import Api


@asynccontextmanager
async def served(api: Api) -> AsyncIterator[str]:
    """The application on a free port of loopback."""
    transport = api.client._transport
    assert isinstance(transport, httpx2.ASGITransport)
    server = uvicorn.Server(uvicorn.Config(transport.app, port=0, log_config=None, lifespan="off"))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
        server.should_exit = True


async def test_a_script_asks_what_it_always_asked(api: Api) -> None:
    def script(base_url: str) -> None:
        with ResourceAgent(base_url=base_url) as agent:
            gpus = agent.get_gpu_metrics()
            assert gpus["utilization"] is not None
            assert {gpu["node"] for gpu in gpus} == {gpu["node"] for gpu in agent.every(agent.gpu_metrics(limit=1))}
            history = agent.gpu_history(field="power_draw_watts", since="10m", step="60s")
            assert history["resolution_seconds"] == 60
            assert len(history[0]["points"]) == 10
            assert agent.metrics_exposition().startswith("# HELP")
            with pytest.raises(Refused, match="there is no node"):
                agent.node("nobody")

    async with served(api) as base_url:
        await asyncio.to_thread(script, base_url)


async def test_a_key_is_made_and_taken_back_and_a_version_is_respected(database: Database, clock: FakeClock) -> None:
    async with guarded_api(database, clock) as rest, served(rest.api) as base_url:
        admin = AsyncResourceAgent(base_url, api_key=await rest.key(Scope.ADMIN))
        made = await admin.api_key_create(name="script", scopes=["read"], days=1)
        async with admin, AsyncResourceAgent(base_url, api_key=made["key"]) as reader:
            assert len(await reader.nodes()) == 0
            with pytest.raises(Refused) as refused:
                await reader.audit()
            assert refused.value.status == 403
            await admin.api_key_revoke(made["key_id"])
            with pytest.raises(Refused, match="401"):
                await reader.nodes()
