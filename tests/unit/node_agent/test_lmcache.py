"""LMCache in its three shapes, from recordings of a real one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from node_agent.collectors.engine_samples import INSIDE
from node_agent.collectors.engines.lmcache import LMCACHE
from node_agent.collectors.engines.mapping import Reading, read_values
from node_agent.collectors.engines.registry import WANTED, identify
from node_agent.collectors.exposition import read
from node_agent.launch.flags import launch_flags
from node_agent.model import EntityKind, Histogram, Reason
from optiinfra.catalogue import TABLES
from tests.unit.node_agent.test_engine_collector import at, collector, engine

DATA = Path(__file__).parents[2] / "data" / "lmcache"
STATUS = json.loads((DATA / "mp-status.json").read_text())
NOT_HERE = {"up_flag", "scrape_seconds", "counters_since_unix_seconds"}


def reading(name: str) -> Reading:
    body = (DATA / name).read_bytes()
    assert identify(body) == "lmcache"
    return read_values(LMCACHE, read(body, WANTED["lmcache"]))


@pytest.mark.parametrize("name", ["mp-server.before", "mp-server.after", "controller", "in-process-degraded"])
def test_every_shape_gives_every_field_a_value_or_a_reason(name: str) -> None:
    values = reading(f"{name}.prom").values
    assert set(values) == {spec.name for spec in TABLES["lmcache"].fields} - NOT_HERE
    assert all(value is Reason.NOT_EXPOSED for value in values.values() if isinstance(value, Reason))


def test_a_shared_server_counts_lookups_hits_and_memory() -> None:
    values = reading("mp-server.after.prom").values
    assert values["lookups_total"] == 508
    assert (values["lookup_requested_tokens_total"], values["lookup_hit_tokens_total"]) == (292608, 247808)
    assert (values["stored_chunks_total"], values["retrieved_chunks_total"]) == (700, 3872)
    assert values["memory_used_bytes"] == 45875200
    assert values["memory_usage_ratio"] == 0.042724609375
    assert values["events_dropped_total"] == 0
    gap = values["chunk_reuse_gap_seconds"]
    assert isinstance(gap, Histogram)
    assert sum(gap.counts) == 56


def test_before_its_first_use_a_shared_server_has_unknown_counters_and_not_zeros() -> None:
    assert reading("mp-server.before.prom").values["lookups_total"] is Reason.NOT_EXPOSED


def test_a_controller_says_how_many_workers_it_has() -> None:
    values = reading("controller.prom").values
    assert (values["workers_count"], values["keys_count"]) == (0.0, 0.0)


def test_tokens_that_every_tensor_worker_stored_count_once_and_their_memory_adds_up() -> None:
    body = "".join(
        f'lmcache:num_stored_tokens_total{{worker_id="{worker}",role="worker"}} 100\n'
        f'lmcache:local_cache_usage{{worker_id="{worker}",role="worker"}} 50\n'
        for worker in (0, 1)
    )
    values = read_values(LMCACHE, read(body.encode(), WANTED["lmcache"])).values
    assert (values["stored_tokens_total"], values["memory_used_bytes"]) == (100, 100)


async def test_a_shared_server_is_a_cache_server_with_its_capacity_and_health() -> None:
    body = (DATA / "mp-server.after.prom").read_bytes()
    async with engine(body, status=STATUS, healthcheck={"status": "healthy"}) as fake:
        seen = await collector(fake.url).collect(at(0))
    (entity,), (sample,) = seen.entities, seen.samples
    assert (entity.kind, entity.attributes["state"]) == (EntityKind.CACHE_SERVER, "up")
    config = entity.attributes["config"]
    assert isinstance(config, dict)
    assert (config["mode"], config["chunk_size"], config["eviction_policy"]) == ("multiprocess", 64, "LRU")
    assert sample.table == "lmcache"
    assert (sample.values["healthy_flag"], sample.values["memory_capacity_bytes"]) == (1.0, 1 << 30)
    assert sorted(set(fake.asked)) == ["/healthcheck", "/metrics", "/status"]


async def test_a_shared_server_that_calls_itself_ill_is_unhealthy() -> None:
    async with engine((DATA / "mp-server.after.prom").read_bytes(), healthcheck={}) as fake:
        fake.statuses["/healthcheck"] = "503 Service Unavailable"
        seen = await collector(fake.url).collect(at(0))
    assert seen.entities[0].attributes["state"] == "unhealthy"
    assert seen.samples[0].values["healthy_flag"] == 0.0


async def test_an_in_process_cache_that_recomputes_everything_is_unhealthy() -> None:
    async with engine((DATA / "in-process-degraded.prom").read_bytes()) as fake:
        seen = await collector(fake.url).collect(at(0))
    assert seen.entities[0].kind is EntityKind.CACHE_SERVER
    assert seen.entities[0].attributes["state"] == "unhealthy"


async def test_a_cache_inside_of_a_vllm_is_a_cache_of_its_own_beside_it() -> None:
    vllm = (DATA / "vllm-with-connector.prom").read_bytes()
    inner = b'lmcache:lmcache_is_healthy{worker_id="0"} 1\nlmcache:num_stored_tokens_total{worker_id="0"} 9\n'
    async with engine(inner + vllm, health="ok") as fake:
        seen = await collector(fake.url).collect(at(0))
    server, cache = seen.entities
    assert (server.kind, server.attributes["engine"]) == (EntityKind.INFERENCE_SERVER, "vllm")
    assert (cache.kind, cache.key) == (EntityKind.CACHE_SERVER, fake.url + INSIDE)
    assert seen.samples[1].values["stored_tokens_total"] == 9


async def test_a_cache_server_that_went_away_stays_a_cache_server() -> None:
    async with engine((DATA / "controller.prom").read_bytes()) as fake:
        looking = collector(fake.url)
        await looking.collect(at(0))
    seen = await looking.collect(at(5))
    assert (seen.entities[0].kind, seen.entities[0].attributes["state"]) == (EntityKind.CACHE_SERVER, "gone")
    assert seen.samples[0].values["keys_count"] is Reason.SERVER_GONE


def test_a_cache_servers_http_port_is_told_from_its_other_port() -> None:
    flags = launch_flags(["lmcache", "server", "--port", "5655", "--http-port", "9200", "--l1-size-gb", "1"])
    assert (flags["port"], flags["http_port"], flags["l1_size_gb"]) == (5655, 9200, 1)
