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
