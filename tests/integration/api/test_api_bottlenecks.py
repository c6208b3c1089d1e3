"""What binds, over HTTP and on the command line: samples through the real door, the real job, a real Postgres."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from control_plane.api.resources.bottlenecks import MOST_SHOWN
from control_plane.ingest.server import LinkService
from control_plane.stages.alerts import AlertJob
from control_plane.stages.bottlenecks import BottleneckJob
from control_plane.storage.session import Database
from control_plane.terminal import bottlenecks as terminal
from tests.fakes.clock import FakeClock
from tests.support import fleet
from tests.support.postgres import PostgresForTests
from tests.support.rest import Api, client_of, context_of

NAMES = {"alpha": fleet.URL, "gamma": fleet.QWEN_URL}


def follow(url: str, clock: FakeClock, *, seconds: int = 0) -> None:
    """This will let the job look once now, and again every five seconds."""
    database = Database(url)
    job = BottleneckJob(database, holder="tests", now=clock.now)
    for _ in range(0, seconds + 1, 5):
        job.work()
        clock.advance(5)
    job.close()
    asyncio.run(database.close())


@pytest.fixture(scope="module")
def followed_url(postgres_server: PostgresForTests) -> Iterator[str]:
    """The fleet, followed once at its newest samples. Nobody writes into it."""
    url = postgres_server.migrated()
    asyncio.run(fleet.fill(url))
    follow(url, FakeClock(fleet.NOW))
    yield url
    postgres_server.drop(url)


@pytest.fixture
async def bound(followed_url: str, clock: FakeClock) -> AsyncIterator[Api]:
    database = Database(followed_url)
    service = LinkService(database, clock, retention_days=14)
    async with client_of(context_of(database, clock, service)) as client:
        yield client
    service.close()
    await database.close()


async def test_every_server_has_a_verdict_with_numbers_to_check_it_by(bound: Api) -> None:
    items = await bound.items("/analysis/bottlenecks")
    assert {(i["node"], i["url"]) for i in items} >= {("alpha", fleet.URL), ("beta", fleet.URL)}
    judged = [item for item in items if item["bottleneck"] is not None]
    assert len(judged) >= 4
    for item in judged:
        assert 0 <= item["score"] <= 1
        assert item["since"] <= item["judged_at"]
        assert item["runner_up"] != item["bottleneck"]
        assert item["over_window"][0]["seconds"] > 0
        assert item["spells"][0]["bottleneck"] == item["bottleneck"]
        if item["bottleneck"] not in ("missing_data", "healthy"):
            assert item["evidence"]["series"]
            assert item["evidence"]["numbers"]


async def test_what_cannot_be_told_apart_without_a_gpu_is_said_and_not_where_there_is_one(bound: Api) -> None:
    by_node = {(i["node"], i["url"]): i for i in await bound.items("/analysis/bottlenecks")}
    gamma = by_node["gamma", fleet.QWEN_URL]  # a node without GPUs
    assert "stuck_collective" in gamma["cannot_tell"]
    alpha = by_node["alpha", fleet.URL]
    assert "stuck_collective" not in alpha["cannot_tell"]


async def test_a_server_that_is_gone_has_no_verdict_and_a_reason(bound: Api) -> None:
    (gone,) = [i for i in await bound.items("/analysis/bottlenecks") if i["url"] == fleet.GONE_URL]
    assert gone["bottleneck"] is None
    assert gone["unknown"]["bottleneck"] == "server_gone"


async def test_gpus_that_no_server_has_are_judged_by_what_they_do(bound: Api) -> None:
    items = await bound.items("/analysis/bottlenecks", of="gpu")
    assert items
    for item in items:
        assert item["gpu"]
        assert item["server_id"] is None
        assert "kv_capacity_bound" in item["cannot_tell"]


async def test_questions_narrow_and_nonsense_is_refused(bound: Api) -> None:
    every = await bound.all_pages("/analysis/bottlenecks", limit=1)
    assert every == await bound.items("/analysis/bottlenecks")
    alpha = await bound.items("/analysis/bottlenecks", node="alpha")
    assert {item["node"] for item in alpha} == {"alpha"}
    (some,) = {item["bottleneck"] for item in alpha} - {None}
    found = await bound.items("/analysis/bottlenecks", bottleneck=some)
    assert {item["bottleneck"] for item in found} == {some}
    assert await bound.items("/analysis/bottlenecks", model=fleet.QWEN, bottleneck="stuck_collective") == []
    await bound.refused("/analysis/bottlenecks", 422, bottleneck="bad_mood")
    await bound.refused("/analysis/bottlenecks", 422, of="gpu", model=fleet.QWEN)
    await bound.refused("/analysis/bottlenecks", 422, since="1m", until="2m")
    await bound.refused("/analysis/bottlenecks", 404, server="999999")
    await bound.refused("/analysis/bottlenecks", 422, colour="red")


async def test_the_command_line_says_the_same(bound: Api) -> None:
    class Asked:
        items: tuple[Any, ...] = ()

        def ask(self, path: str, **parameters: str) -> Any:
            assert path == "/analysis/bottlenecks"
            return {"items": servers if parameters["of"] == "server" else gpus}

    servers, gpus = [await bound.items("/analysis/bottlenecks", of=of) for of in ("server", "gpu")]
    text = terminal.as_text(terminal.load(Asked()))  # type: ignore[arg-type]  # what is asked of it is there
    assert f"{fleet.URL} on alpha (vllm {fleet.LLAMA}): " in text
    assert "no verdict: server gone" in text
    assert "optiinfra doctor" in terminal.as_text([])


@pytest.fixture
async def stuck(empty_api: Api, clock: FakeClock) -> Api:
    """The fleet, in which GPU 0 of alpha begins to spin: 100 % utilised, an SM share that does not move, no traffic."""
    url = empty_api.context.database.url
    await asyncio.to_thread(asyncio.run, fleet.fill(url))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "UPDATE gpu_sample SET gpu_utilization_ratio = 1, sm_active_ratio = 0.18182, tensor_active_ratio = 0, "
            "dram_active_ratio = 0, pcie_transmit_bytes_per_second = 0, pcie_receive_bytes_per_second = 0, "
            "nvlink_transmit_bytes_per_second = 0, nvlink_receive_bytes_per_second = 0 WHERE taken_at > %s "
            "AND entity_id = (SELECT entity_id FROM entity WHERE key = %s)",
            (fleet.NOW - timedelta(seconds=60), fleet.GPU_0),
        )
    await asyncio.to_thread(follow, url, FakeClock(fleet.NOW))
    return empty_api


def look(api: Api) -> None:
    job = AlertJob(api.context.database, holder="tests", now=api.context.clock.now, url="http://here")
    job.work()
    job.close()


async def test_a_stuck_collective_is_named_and_an_alert_fires_at_once(stuck: Api) -> None:
    (found,) = await stuck.items("/analysis/bottlenecks", bottleneck="stuck_collective")
    assert (found["node"], found["url"]) == ("alpha", fleet.URL)
    assert found["evidence"]["numbers"]["sm_active_spread"]["value"] == 0
    assert found["remedies"]
    await asyncio.to_thread(look, stuck)
    (alert,) = await stuck.items("/alerts", rule="stuck_collective")
    assert (alert["state"], alert["severity"]) == ("firing", "critical")
    assert alert["labels"]["server"] == fleet.URL
    assert alert["evidence"]["gpu_utilization_ratio"] == 1


async def test_silence_becomes_missing_data_and_what_was_stays_as_a_spell(empty_api: Api, clock: FakeClock) -> None:
    url = empty_api.context.database.url
    await asyncio.to_thread(asyncio.run, fleet.fill(url))
    job_clock = FakeClock(fleet.NOW)
    await asyncio.to_thread(follow, url, job_clock, seconds=120)
    clock.advance((job_clock.now() - clock.now()).total_seconds())
    items = await empty_api.items("/analysis/bottlenecks", node="alpha")
    (item,) = [item for item in items if item["bottleneck"] is not None]
    assert item["bottleneck"] == "missing_data"
    assert item["spells"][0]["bottleneck"] == "missing_data"
    assert 2 <= len(item["spells"]) <= MOST_SHOWN
    assert item["spells"][1]["until"] == item["since"]


async def test_a_replica_that_takes_over_goes_on_where_it_was_left(stuck: Api) -> None:
    before = await stuck.items("/analysis/bottlenecks")
    clock = FakeClock(fleet.NOW + timedelta(seconds=5))
    await asyncio.to_thread(follow, stuck.context.database.url, clock)
    after = await stuck.items("/analysis/bottlenecks")
    assert "stuck_collective" in {item["bottleneck"] for item in before}
    assert [(i["server_id"], i["bottleneck"], i["since"]) for i in after] == [
        (i["server_id"], i["bottleneck"], i["since"]) for i in before
    ]
