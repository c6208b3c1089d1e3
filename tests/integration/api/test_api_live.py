"""What the API says while agents are connected: streams, samples on demand, ingest's own figures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from prometheus_client.parser import text_string_to_metric_families

from control_plane.storage.session import Database
from optiinfra.telemetry.v1 import command_pb2, link_pb2
from tests.fakes.clock import FakeClock, FakeNodeClock
from tests.support import fleet
from tests.support.agent_links import Link, ingesting, linked
from tests.support.fleet import Row
from tests.support.rest import Api, client_of, context_of


@asynccontextmanager
async def _connected(database: Database, clock: FakeClock) -> AsyncIterator[tuple[Api, Link, FakeNodeClock]]:
    """The API, and an agent called live that has sent one tick."""
    node = FakeNodeClock(clock)
    async with AsyncExitStack() as stack:
        service, address = await stack.enter_async_context(ingesting(database, clock))
        api = await stack.enter_async_context(client_of(context_of(database, clock, service)))
        async with linked(address, node, "asleep"):
            pass  # introduced once, and not connected any more
        link = await stack.enter_async_context(linked(address, node, "live"))
        await link.committed(await link.send([_tick(node)]))
        yield api, link, node


def _tick(node: FakeNodeClock, command_id: str = "") -> fleet.Tick:
    rows: list[Row] = [("host", "node", fleet.host(1))]
    made = fleet.tick(node.now(), [], rows)
    return fleet.Tick(
        taken_at=made.taken_at, entities=made.entities, samples=made.samples, reports=(), command_id=command_id
    )


async def test_a_connected_node_is_streaming(database: Database, clock: FakeClock) -> None:
    async with _connected(database, clock) as (api, _, _):
        nodes = {node["name"]: node for node in await api.items("/nodes")}
        assert (nodes["live"]["streaming"], nodes["asleep"]["streaming"]) == (True, False)


async def test_a_sample_on_demand_is_answered_when_it_is_committed(database: Database, clock: FakeClock) -> None:
    async with _connected(database, clock) as (api, link, node):

        async def agent() -> None:
            command_id = await link.command()
            clock.advance(3)
            await link.send([_tick(node, command_id)])

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(agent())
            answer = await api.client.post("/metrics/collect", params={"node": ["live", "live", "asleep"]})
        body = answer.json()
        assert answer.status_code == 200
        assert [(item["node"], item["outcome"]) for item in body["items"]] == [
            ("live", "committed"), ("asleep", "not_connected"),
        ]  # fmt: skip
        assert body["committed"] == 1
        assert (await api.get("/nodes/live"))["age_seconds"] == 0.0


async def test_a_sample_that_does_not_come_in_time_is_said_not_to_have_come(
    database: Database, clock: FakeClock
) -> None:
    async with _connected(database, clock) as (api, _, _):
        answer = await api.client.post("/metrics/collect", params={"timeout_seconds": 0.1})
        (item,) = answer.json()["items"]  # without names: every node that is connected
        assert (item["node"], item["outcome"]) == ("live", "timed_out")
        assert answer.json()["committed"] == 0


async def test_a_sample_of_a_node_that_does_not_exist_cannot_be_asked_for(database: Database, clock: FakeClock) -> None:
    async with _connected(database, clock) as (api, _, _):
        await api.refused("/metrics/collect", 404, method="POST", node="nobody")


async def test_an_agent_s_answer_to_letting_go_of_its_gpus_is_given_with_its_words(
    database: Database, clock: FakeClock
) -> None:
    refused = command_pb2.COMMAND_OUTCOME_REFUSED
    async with _connected(database, clock) as (api, link, _):

        async def agent() -> None:
            result = command_pb2.CommandResult(
                id=await link.command(), outcome=refused, detail="allowed_commands does not name it"
            )
            await link.call.write(link_pb2.AgentMessage(command_result=result))

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(agent())
            answer = await api.client.post("/nodes/live/gpus/release", params={"seconds": 60})
        body = answer.json()
        assert (body["node"], body["outcome"], body["seconds"]) == ("live", "refused", 60)
        assert body["detail"] == "allowed_commands does not name it"
        away = (await api.client.post("/nodes/asleep/gpus/release")).json()
        assert away["outcome"] == "not_connected"
        await api.refused("/nodes/live/gpus/release", 422, method="POST", seconds=3601)
        await api.refused("/nodes/nobody/gpus/release", 404, method="POST")


async def test_the_exposition_counts_what_was_committed(database: Database, clock: FakeClock) -> None:
    async with _connected(database, clock) as (api, _, _):
        answer = await api.client.get("/metrics")
        values = {s.name: s.value for f in text_string_to_metric_families(answer.text) for s in f.samples}
        assert values["optiinfra_ingest_streams"] == 1
        assert values["optiinfra_ingest_rows_committed_total"] == 1
        assert values["optiinfra_ingest_batches_committed_total"] == 1
