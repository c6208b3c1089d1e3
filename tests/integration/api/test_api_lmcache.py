"""LMCache from its recorded answers over HTTP, through the real collector and the real door, to REST."""

from __future__ import annotations

import json
from pathlib import Path

from control_plane.storage.session import Database
from node_agent.model import Tick
from tests.fakes.clock import FakeClock, FakeNodeClock
from tests.support.agent_links import ingesting, linked
from tests.support.rest import Api, problem_of, unexplained
from tests.unit.node_agent.test_engine_collector import collector, engine

DATA = Path(__file__).parents[2] / "data" / "lmcache"


async def _play(address: str, clock: FakeClock) -> str:
    """This will look once at a recorded LMCache server and send what was seen."""
    status = json.loads((DATA / "mp-status.json").read_text())
    node = FakeNodeClock(clock)
    async with engine((DATA / "mp-server.after.prom").read_bytes(), status=status, healthcheck={}) as fake:
        seen = await collector(fake.url).collect(node.now())
    tick = Tick(taken_at=node.now(), entities=seen.entities, samples=seen.samples, reports=[])
    async with linked(address, node, "cache-1") as link:
        assert not await link.committed(await link.send([tick]))
    return fake.url


async def test_what_a_cache_server_said_is_what_rest_answers(
    database: Database, empty_api: Api, clock: FakeClock
) -> None:
    async with ingesting(database, clock) as (_, address):
        url = await _play(address, clock)
    (status,) = await empty_api.items("/lmcache/status")
    assert (status["url"], status["node"], status["mode"], status["state"]) == (url, "cache-1", "multiprocess", "up")
    assert (status["healthy_flag"], status["memory_capacity_bytes"]) == (1, 1 << 30)
    assert status["config"]["eviction_policy"] == "LRU"
    (metrics,) = await empty_api.items("/lmcache/metrics")
    assert (metrics["lookup_hit_tokens_total"], metrics["lookup_requested_tokens_total"]) == (247808, 292608)
    assert metrics["remote_read_bytes_total"] is None
    assert metrics["unknown"]["remote_read_bytes_total"] == "not_exposed"
    assert metrics["distributions"]["chunk_reuse_gap_seconds"]["count"] == 56
    assert not await empty_api.items("/inference/servers")  # a cache serves no model
    assert not list(unexplained(metrics))


async def test_without_a_cache_both_lists_are_empty(empty_api: Api) -> None:
    assert await empty_api.items("/lmcache/status") == []
    assert await empty_api.items("/lmcache/metrics") == []


async def test_a_caches_size_is_judged_and_a_change_is_told_as_lmcache_takes_it(
    database: Database, empty_api: Api, clock: FakeClock
) -> None:
    async with ingesting(database, clock) as (_, address):
        url = await _play(address, clock)
    answer = await empty_api.client.post("/lmcache/optimize")
    (item,) = answer.json()["items"]
    assert item["subject"] == url
    assert item["no_action"]["because"] == "enough"  # a twentieth is used, for less than an hour
    (status,) = await empty_api.items("/lmcache/status")
    changes = {"memory_gibibytes": 4, "log_level": "DEBUG", "quota_gibibytes": {"tenant": 2}}
    answer = await empty_api.client.post(
        "/lmcache/configure", json={"cache_id": status["cache_id"], "changes": changes}
    )
    plan = answer.json()
    assert plan["restart"] == [{"name": "--l1-size-gb", "value": "4"}]
    assert [(step["method"], step["url"].removeprefix(url)) for step in plan["live"]] == [
        ("POST", "/loglevel"), ("PUT", "/quota/tenant"),
    ]  # fmt: skip
    assert "lost for every engine" in plan["cost"]
    for body, status_code in (
        ({"cache_id": 999, "changes": changes}, 404),
        ({"cache_id": status["cache_id"], "changes": {}}, 422),
        ({"cache_id": status["cache_id"], "changes": {"eviction_policy": "RANDOM"}}, 422),
    ):
        problem_of(await empty_api.client.post("/lmcache/configure", json=body), status_code)
