"""Histories that are made from rollups: the same answers, and they say what they are made from."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from control_plane.ingest.server import LinkService
from control_plane.storage.session import Database
from tests.fakes.clock import START, FakeClock
from tests.support.rest import Api, client_of, context_of
from tests.support.rollups import RollupWorld, Row, block

WATTS, JOULES = "power_draw_watts", "energy_joules_total"


@pytest.fixture
async def old(database: Database) -> AsyncIterator[Api]:
    """The API over a GPU and a server that were sampled for eight hours; the last two minutes are not rolled up."""
    began = START - timedelta(hours=8)
    world = RollupWorld(database, began)
    world.entities(1)
    world.entities(2, kind=6)
    world.work()
    times = [began + timedelta(seconds=5 * n) for n in range(8 * 720)]
    gpu = [Row(entity=1, at=at, values={WATTS: 100.0 + n % 12, JOULES: 600.0 * n}) for n, at in enumerate(times)]
    server = [
        Row(entity=2, at=at, values={"up_flag": 1.0, "counters_since_unix_seconds": began.timestamp() - 60},
            buckets={"ttft_seconds": (n, 0, 0, 0)})
        for n, at in enumerate(times)
    ]  # fmt: skip
    world.store(block("gpu", gpu), block("inference", server))
    world.now = START - timedelta(seconds=110)
    world.work()
    service = LinkService(database, FakeClock(), retention_days=14)
    async with client_of(context_of(database, FakeClock(), service)) as client:
        yield client
    service.close()
    world.close()


async def test_a_short_history_is_made_from_samples(old: Api) -> None:
    body = await old.get("/gpu/metrics/history", field=WATTS, since="15m", step="1m")
    assert body["made_from"] == "samples"


async def test_a_long_history_is_made_from_minutes_and_its_newest_end_from_samples(old: Api) -> None:
    body = await old.get("/gpu/metrics/history", field=WATTS, since="8h", step="5m")
    assert (body["made_from"], body["resolution_seconds"], body["since"]) == ("1m", 300.0, "2026-03-04T04:00:00.000Z")
    points = body["items"][0]["points"]
    assert len(points) == 96
    assert {(p["min"], p["mean"], p["max"], p["samples"]) for p in points} == {(100.0, 105.5, 111.0, 60)}
    assert all(p["p95"] == pytest.approx(111, rel=0.01) for p in points)


async def test_a_counter_made_from_rollups_has_its_rate_and_says_why_it_has_no_level(old: Api) -> None:
    body = await old.get("/gpu/metrics/history", field=JOULES, since="8h", step="1h")
    assert body["made_from"] == "1h"
    for point in body["items"][0]["points"]:
        assert point["rate_per_second"] == pytest.approx(120.0)
        assert (point["mean"], point["unknown"]) == (None, "rollups_keep_growth_only")


async def test_energy_over_a_long_window_is_the_growth_of_its_counter(old: Api) -> None:
    (gpu,) = await old.items("/gpu/power", since="7h")
    assert gpu["energy_joules"] == pytest.approx(120.0 * 7 * 3600, rel=0.001)


async def test_a_histogram_made_from_rollups_counts_what_was_observed(old: Api) -> None:
    body = await old.get("/metrics/history", field="ttft_seconds", since="6h", step="1h")
    assert body["made_from"] == "1h"
    assert [p["count"] for p in body["items"][0]["points"]] == [720] * 6
    body = await old.get("/metrics/history", field="ttft_seconds", since="6h", step="2m")
    assert body["made_from"] == "1m"
    assert {p["count"] for p in body["items"][0]["points"]} == {24}


@pytest.fixture
async def nodes(database: Database) -> AsyncIterator[Api]:
    """The API over two nodes with five GPUs, two hours of them; what came in the last minute is not rolled up."""
    began = START - timedelta(hours=2)
    world = RollupWorld(database, began)
    owners = {1: (11, 12, 13), 2: (21, 22)}
    for node, entities in owners.items():
        world.entities(*entities, node=node)
    world.entities(99, node=3, kind=6)  # a node without a GPU
    world.work()
    for node, entities in owners.items():
        rows = [
            Row(entity=e, at=began + timedelta(seconds=10 * n), values={
                WATTS: 100.0 * e, JOULES: 1000.0 * e * n, "clock_event_reasons_bits": 0.0})
            for e in entities for n in range(720)
        ]  # fmt: skip
        world.store(block("gpu", rows, node=node))
    world.now = START - timedelta(seconds=20)
    world.work()
    service = LinkService(database, FakeClock(), retention_days=14)
    async with client_of(context_of(database, FakeClock(), service)) as client:
        yield client
    service.writer.close()
    world.close()


async def test_a_node_s_history_is_over_the_samples_of_all_its_gpus(nodes: Api) -> None:
    body = await nodes.get("/gpu/metrics/history", by="node", field=[WATTS, JOULES], since="2h", step="30m")
    assert (body["made_from"], body["until"]) == ("1m", "2026-03-04T11:59:00.000Z")
    found = {(item["node"], item["field"]): item["points"] for item in body["items"]}
    assert found.keys() == {(n, f) for n in ("node-1", "node-2") for f in (WATTS, JOULES)}
    for point in found["node-1", WATTS]:
        assert (point["min"], point["mean"], point["max"], point["gpus"]) == (1100.0, 1200.0, 1300.0, 3)
        assert point["p95"] == pytest.approx(1300, rel=0.01)
    assert [p["samples"] for p in found["node-1", WATTS]] == [540, 540, 540, 522]
    for point in found["node-2", JOULES]:
        assert point["rate_per_second"] == pytest.approx(2150.0)  # the mean of one GPU
        assert (point["gpus"], point["unknown"]) == (2, "rollups_keep_growth_only")


async def test_the_fleet_s_history_is_one_series(nodes: Api) -> None:
    body = await nodes.get("/gpu/metrics/history", by="fleet", field=WATTS, since="2h", step="1h")
    (item,) = body["items"]
    assert (body["made_from"], item.keys()) == ("1h", {"field", "points"})
    assert [(p["min"], p["mean"], p["max"], p["gpus"], p["samples"]) for p in item["points"]] == [
        (1100.0, 1580.0, 2200.0, 5, 1800), (1100.0, 1580.0, 2200.0, 5, 1770),
    ]  # fmt: skip


async def test_one_node_can_be_asked_for_and_nodes_come_in_pages(nodes: Api) -> None:
    one = await nodes.get("/gpu/metrics/history", by="node", node="node-2", field=WATTS, since="10m", step="10m")
    assert [item["node"] for item in one["items"]] == ["node-2"]


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"by": "node", "field": "clock_event_reasons_bits"}, "a state"),
        ({"by": "node", "field": WATTS, "gpu": "thing-11"}, "leave gpu out"),
        ({"by": "fleet", "field": WATTS, "node": "node-1"}, "leave gpu and node out"),
        ({"by": "rack", "field": WATTS}, "by"),
    ],
)
async def test_what_makes_no_sense_of_many_gpus_is_refused_with_a_word(
    nodes: Api, asked: dict[str, str], why: str
) -> None:
    answer = await nodes.client.get("/gpu/metrics/history", params=asked)
    assert answer.status_code == 422
    assert why in answer.json()["detail"]


async def test_before_anything_is_rolled_up_the_fleet_has_no_point_and_says_so(empty_api: Api) -> None:
    body = await empty_api.get("/gpu/metrics/history", by="fleet", field=WATTS, since="10m", step="5m")
    (item,) = body["items"]
    assert {point["unknown"] for point in item["points"]} == {"no_samples"}
