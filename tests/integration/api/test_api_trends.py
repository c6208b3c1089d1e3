"""Trends and forecasts over HTTP, of days of demand that lie where the stage puts them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import numpy as np
import pytest

from control_plane.ingest.server import LinkService
from control_plane.model.use import SERVER_USE, Cells
from control_plane.stages.analysis import BEGAN, USE
from control_plane.storage import moments, use
from control_plane.storage.session import Database
from tests.fakes.clock import FakeClock
from tests.support import fleet, judged
from tests.support.agent_links import ingesting
from tests.support.postgres import PostgresForTests
from tests.support.rest import Api, client_of, context_of

DAYS = 15
SLOTS_A_DAY = 288


def demand(days: int) -> np.ndarray:
    """Requests of each five minutes: a daily season, growth by 24 a day, chance."""
    at = np.arange(days * SLOTS_A_DAY)
    mean = 600 + 24.0 * at / SLOTS_A_DAY + 300 * np.sin(2 * np.pi * at / SLOTS_A_DAY)
    return np.random.default_rng(5).poisson(mean).astype(float)


async def fill(database: Database) -> None:
    """Fifteen days of demand up to now of a model's server; and of one that is hardly asked."""
    clock = FakeClock()
    async with ingesting(database, clock) as (_, address):
        await fleet.play_fleet(address, clock)
    until_us = moments.to_us(fleet.NOW)
    requests = demand(DAYS)
    starts = until_us - (len(requests) - np.arange(len(requests))) * use.SLOT_US
    with database.connect(autocommit=True) as connection:
        rows = connection.execute("SELECT key, entity_id FROM entity WHERE kind = 6 AND node_id = 3").fetchall()
        ids = dict(rows)
        thin = ids[fleet.QWEN_URL]
        connection.execute(
            'UPDATE entity SET attributes = attributes || \'{"model": "thin"}\' WHERE entity_id = %s', (thin,)
        )
        few = np.random.default_rng(1).poisson(3, len(requests)).astype(float)
        for server, values in ((ids[fleet.SGLANG_URL], requests), (thin, few)):
            columns = {name: np.zeros(len(values)) for name in SERVER_USE}
            columns |= {
                "requests_arrived": values, "requests_arrived_minute_peak": values / 4, "prompt_tokens": values * 500,
                "output_tokens": values * 100, "observed_seconds": np.full(len(values), 300.0),
            }  # fmt: skip
            cells = Cells(
                starts_us=starts, node_ids=np.full(len(values), 3), entity_ids=np.full(len(values), server),
                owner_ids=np.zeros(len(values), np.int64), columns=columns,
            )  # fmt: skip
            with connection.transaction():
                use.write(connection, "server", "slot", cells)
        with connection.transaction():
            for hour in range(int(starts[0]) // use.HOUR_US * use.HOUR_US, until_us, use.HOUR_US):
                use.close_hour(connection, "server", hour)
        use.advance(connection, BEGAN, int(starts[0]))
        use.advance(connection, USE, until_us)
    await judged.do_all(database, clock.now)
    await database.close()


@pytest.fixture(scope="module")
def served_url(postgres_server: PostgresForTests) -> Iterator[str]:
    """A database with those days, judged."""
    url = postgres_server.migrated()
    asyncio.run(fill(Database(url)))
    yield url
    postgres_server.drop(url)


@pytest.fixture
async def served(served_url: str) -> AsyncIterator[Api]:
    """The API over them."""
    database = Database(served_url)
    service = LinkService(database, FakeClock(), retention_days=14)
    async with client_of(context_of(database, FakeClock(), service)) as client:
        yield client
    service.close()
    await database.close()


async def test_the_trend_and_the_days_of_a_model_are_found(served: Api) -> None:
    item = await served.one("/analysis/trends", by="model", model=fleet.QWEN, window="7d")
    found = {series["series"]: series for series in item["series"]}
    requests = found["requests"]
    assert requests["trend"]["is_clear"]
    assert requests["trend"]["low"] <= 12 * 24 <= requests["trend"]["high"]  # by hours: twelve slots in each
    assert requests["daily_season_strength"] > 0.9
    assert requests["unknown"]["weekly_season_strength"] == "less_than_two_weeks_are_known"
    assert "a daily season" in requests["summary"]
    assert {forecast["bin_seconds"] for forecast in requests["forecasts"]} == {300.0, 3600.0}


async def test_a_forecast_comes_with_its_record_and_beats_the_last_value(served: Api) -> None:
    item = await served.one("/analysis/forecast", model=fleet.QWEN, horizon="1h")
    requests = next(series for series in item["series"] if series["series"] == "requests")
    (hour,) = requests["forecasts"]
    assert hour["horizon_seconds"] == 3600.0
    truth = 600 + 24 * 15 + 300 * np.sin(2 * np.pi * 12 / SLOTS_A_DAY)
    assert hour["expected"] == pytest.approx(truth, rel=0.12)
    assert hour["at_most"] > hour["expected"]
    assert hour["accuracy"] > 0.93
    assert hour["skill_over_last_value"] > 0.3
    assert hour["coverage_ratio"] == pytest.approx(0.95, abs=0.02)
    assert hour["forecasts_judged"] > 1000


async def test_a_horizon_in_between_is_rounded_up_and_one_too_far_is_refused(served: Api) -> None:
    item = await served.one("/analysis/forecast", model=fleet.QWEN, horizon="20m")
    assert {f["horizon_seconds"] for series in item["series"] for f in series["forecasts"]} == {1800.0}
    far = await served.one("/analysis/forecast", horizon="5h")
    assert {f["horizon_seconds"] for series in far["series"] for f in series["forecasts"]} == {6 * 3600.0}
    problem = await served.refused("/analysis/forecast", 422, horizon="30d")
    assert "24 hours" in problem["detail"]
    await served.refused("/analysis/forecast", 422, server=fleet.SGLANG_URL, horizon="2h")
    await served.refused("/analysis/forecast", 404, server="http://nowhere:1")


async def test_traffic_that_is_too_thin_is_called_so(served: Api) -> None:
    item = await served.one("/analysis/forecast", model="thin", horizon="5m")
    requests = next(series for series in item["series"] if series["series"] == "requests")
    (forecast,) = requests["forecasts"]
    assert forecast["best_possible_accuracy"] < 0.6
    assert "too thin for 0.85" in forecast["note"]


async def test_a_server_is_forecast_from_its_last_day(served: Api) -> None:
    item = await served.one("/analysis/forecast", server=fleet.SGLANG_URL, horizon="15m")
    forecast = item["series"][0]["forecasts"][0]
    assert forecast["accuracy"] > 0.8
    assert forecast["forecasts_judged"] < SLOTS_A_DAY


async def test_before_anything_is_found_the_answers_say_so(empty_api: Api) -> None:
    for path in ("/analysis/trends", "/analysis/forecast"):
        body = await empty_api.get(path)
        assert body["items"] == []
        assert "nothing is found yet" in body["note"]


@pytest.mark.slow
async def test_forecasts_go_on_after_a_restart_as_if_there_was_none(served: Api) -> None:
    database = served.context.database
    before = (await served.get("/analysis/forecast", model=fleet.QWEN))["items"]
    with database.connect(autocommit=True) as connection:
        connection.execute("DELETE FROM finding")
    await judged.do_all(database, FakeClock().now)
    assert (await served.get("/analysis/forecast", model=fleet.QWEN))["items"] == before
