"""Waste and cost over HTTP: classes that add up to what is paid, and money that says on what it stands."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from control_plane.ingest.server import LinkService
from control_plane.storage.session import Database
from tests.fakes.clock import FakeClock
from tests.support import fleet, judged
from tests.support.fleet import A100, GPU_0, GPU_1
from tests.support.postgres import PostgresForTests
from tests.support.rest import Api, client_of, context_of, problem_of

# Slots of five minutes end at 11:50, 11:55 and 12:00; samples go from 11:49:58 to 11:59:58.
TEN_MINUTES = {"since": "2026-03-04T11:50:00Z", "until": "2026-03-04T12:00:00Z"}


def classes(item: Mapping[str, Any]) -> dict[str, float]:
    return {c["class"]: c["gpu_hours"] for c in item["classes"]}


async def test_the_classes_of_every_group_add_up_to_what_is_paid(judged_api: Api) -> None:
    for by in ("fleet", "node", "gpu", "server", "model", "namespace", "gpu_model"):
        items = await judged_api.items("/analysis/waste", by=by, **TEN_MINUTES)
        assert sum(item["paid_gpu_hours"] for item in items) == pytest.approx(0.5, abs=1e-3)  # 3 GPUs, 10 minutes
        for item in items:
            assert sum(classes(item).values()) == pytest.approx(item["paid_gpu_hours"], abs=1e-3)
            assert sum(c["ratio"] for c in item["classes"]) == pytest.approx(1.0, abs=1e-3)
            for each in item["classes"]:
                assert sum(c["gpu_hours"] for c in each["causes"]) == pytest.approx(each["gpu_hours"], abs=1e-3)


async def test_each_gpu_s_time_went_where_it_went(judged_api: Api) -> None:
    found = {i["gpu"]: i for i in await judged_api.items("/analysis/waste", by="gpu", **TEN_MINUTES)}
    # Its SMs work for four fifths of the time; meanwhile its server works on three requests.
    assert classes(found[GPU_0])["useful"] == pytest.approx(0.8 / 6, abs=2e-3)
    assert classes(found[GPU_0])["inefficient"] == pytest.approx(0.2 / 6, abs=2e-3)
    second = classes(found[GPU_1])
    assert second["useful"] == pytest.approx(0.7 / 12, abs=5e-3)  # bound by memory in the second half
    assert second["inefficient"] == pytest.approx(0.3 / 12, abs=5e-3)  # copying
    causes = {c["cause"] for each in found[A100]["classes"] for c in each["causes"]}
    assert "busy_unspecified" in causes  # without GPM busy is all that is known
    assert "no_samples" in causes  # ticks 40 to 49 were lost
    assert found[A100]["confidence"]["level"] == "medium"
    assert [price["basis"] for price in found[A100]["prices"]] == ["median_of_lists"]


async def test_the_day_is_kept_ready_and_the_same_as_what_is_added_up(judged_api: Api) -> None:
    kept = await judged_api.get("/analysis/waste", by="gpu")
    assert kept["made_from"] == "kept"
    assert [i["gpu"] for i in kept["items"]] == [GPU_0, GPU_1, A100]
    narrowed = await judged_api.get("/analysis/waste", by="gpu", node="alpha")
    assert narrowed["made_from"] == "added_up"
    assert [i["classes"] for i in narrowed["items"]] == [i["classes"] for i in kept["items"][:2]]


async def test_pages_show_every_item_once(judged_api: Api) -> None:
    for parameters in ({}, TEN_MINUTES):
        shown = await judged_api.all_pages("/analysis/waste", by="gpu", limit=1, **parameters)
        assert [item["gpu"] for item in shown] == [GPU_0, GPU_1, A100]


async def test_a_server_and_its_model_have_the_gpu_that_they_run_on(judged_api: Api) -> None:
    servers = await judged_api.items("/analysis/waste", by="server", **TEN_MINUTES)
    assert {s["server"] for s in servers} == {f"{fleet.URL} on alpha", f"{fleet.URL} on beta", "(none)"}
    llama = next(m for m in await judged_api.items("/analysis/waste", by="model", **TEN_MINUTES) if m["gpus"] == 2)
    assert llama["model"] == fleet.LLAMA


async def test_before_anything_is_summed_up_the_answer_says_so(empty_api: Api) -> None:
    body = await empty_api.get("/analysis/waste")
    assert body["items"] == []
    assert "nothing is summed up yet" in body["note"]


async def test_what_cannot_be_answered_is_refused(judged_api: Api) -> None:
    await judged_api.refused("/analysis/waste", 422, by="colour")
    await judged_api.refused("/analysis/waste", 404, gpu="GPU-none")
    await judged_api.refused("/analysis/waste", 404, node="nowhere")
    body = await judged_api.refused("/analysis/waste", 422, since="1m")
    assert "longer window" in body["detail"]


# -- cost -------------------------------------------------------------------------------------------


PRICES = {
    "as_of": "2026-03-01", "currency": "EUR", "usd_per_unit": 1.25, "per_kwh": 0.2,
    "prices": [{"per_gpu_hour": 2.0}, {"node": "beta", "per_gpu_hour": 0.8}],
}  # fmt: skip


@asynccontextmanager
async def api_over(url: str) -> AsyncIterator[Api]:
    """This will open the API over a database, two minutes after the fleet's last sample."""
    database, clock = Database(url), FakeClock(fleet.NOW + timedelta(minutes=2))
    service = LinkService(database, clock, retention_days=14)
    async with client_of(context_of(database, clock, service)) as client:
        yield client
    service.close()
    await database.close()


async def fill(url: str) -> None:
    """This will enter prices for the fleet and judge it."""
    async with api_over(url) as api:
        answer = await api.client.put("/cost/prices", json=PRICES)
        assert answer.status_code == 200, answer.text
        await judged.do_all(api.context.database, api.context.clock.now)


@pytest.fixture(scope="module")
def priced_url(postgres_server: PostgresForTests, played_url: str) -> Iterator[str]:
    """A database with the fleet, and with prices of its own."""
    url = postgres_server.copy(played_url)
    asyncio.run(fill(url))
    yield url
    postgres_server.drop(url)


@pytest.fixture
async def priced(priced_url: str) -> AsyncIterator[Api]:
    """The API over that fleet. Nobody writes into it."""
    async with api_over(priced_url) as api:
        yield api


async def test_money_follows_hours_prices_and_energy(priced: Api) -> None:
    body = await priced.get("/cost/summary", by="node", **TEN_MINUTES)
    found = {item["node"]: item for item in body["items"]}
    alpha, beta = found["alpha"], found["beta"]
    # Two GPUs for ten minutes at 2 EUR, and what they drew: 500 W and 250 W at 0.2 EUR a kilowatt-hour.
    assert alpha["kilowatt_hours"] == pytest.approx(0.125, rel=0.01)
    assert alpha["energy_usd"] == pytest.approx(0.125 * 0.2 * 1.25, rel=0.01)
    assert alpha["usd"] == pytest.approx(1.25 * (2.0 / 3 + 0.125 * 0.2), rel=0.01)
    assert beta["usd"] == pytest.approx(1.25 * (0.8 / 6 + 0.3 / 6 * 0.2), rel=0.15)  # some of its energy is unknown
    (price,) = beta["prices"]
    assert (price["usd_per_gpu_hour"], price["basis"], price["as_of"]) == (1.0, "node", "2026-03-01")
    assert alpha["prices"][0]["basis"] == "entered"
    assert alpha["currency"] == "USD"


async def test_a_million_tokens_cost_what_their_gpus_cost(priced: Api) -> None:
    body = await priced.get("/cost/summary", since="1h")
    llama = next(m for m in body["models"] if m["model"] == fleet.LLAMA)
    assert llama["servers"] == 2
    assert llama["usd_per_million_tokens_allocation"] == pytest.approx(
        llama["usd"] / (llama["output_tokens"] + 100 * 600) * 1e6, rel=0.05
    )
    assert llama["usd_per_million_tokens_usage"] <= llama["usd_per_million_tokens_allocation"]
    assert llama["reading"]


async def test_hours_are_those_of_waste(priced: Api) -> None:
    (item,) = await priced.items("/cost/gpu-hours", **TEN_MINUTES)
    assert item["paid_gpu_hours"] == pytest.approx(0.5, abs=1e-3)
    assert item["classes"] == (await priced.items("/analysis/waste", **TEN_MINUTES))[0]["classes"]


async def test_prices_can_be_read_back_and_slips_are_refused(empty_api: Api) -> None:
    before = await empty_api.get("/cost/prices")
    assert before["entered"] is None
    assert "lambdalabs" in before["providers"]
    for slip, says in (
        ({"as_of": "2026-03-01", "currency": "EUR"}, "usd_per_unit"),
        ({"as_of": "2026-03-01", "usd_per_unit": 1.0}, "usd_per_unit"),
        ({"as_of": "2026-03-01", "provider": "nobody"}, "list prices"),
        ({"as_of": "2026-03-01", "prices": [{"node": "nowhere", "per_gpu_hour": 1.0}]}, "no node"),
    ):
        problem = problem_of(await empty_api.client.put("/cost/prices", json=slip), 422)
        assert says in problem["detail"]
    for slip in ({}, {"as_of": "2026-03-01", "colour": 1}, {"as_of": "2026-03-01", "prices": [{"per_gpu_hour": -1}]}):
        problem_of(await empty_api.client.put("/cost/prices", json=slip), 422)
    entered = {"as_of": "2026-03-01", "provider": "nebius"}
    assert (await empty_api.client.put("/cost/prices", json=entered)).status_code == 200
    after = await empty_api.get("/cost/prices")
    assert after["entered"]["provider"] == "nebius"
    assert after["entered_at"]


@pytest.mark.slow
async def test_new_prices_are_in_what_is_kept(postgres_server: PostgresForTests, priced_url: str) -> None:
    async with api_over(postgres_server.copy(priced_url)) as api:
        before = (await api.items("/cost/summary"))[0]
        await api.client.put("/cost/prices", json={"as_of": "2026-03-02", "prices": [{"per_gpu_hour": 20.0}]})
        clock = api.context.clock
        assert isinstance(clock, FakeClock)
        clock.advance(30)
        await judged.do_all(api.context.database, clock.now)
        after = (await api.items("/cost/summary"))[0]
    assert after["usd"] == pytest.approx(20.0 * after["paid_gpu_hours"], rel=0.001)
    assert after["usd"] > before["usd"]


async def test_the_energy_of_a_gpu_has_its_price(priced: Api) -> None:
    found = {item["gpu"]: item for item in await priced.items("/gpu/power", since="10m")}
    first = found[GPU_0]
    assert first["energy_cost_usd"] == pytest.approx(first["energy_joules"] / 3.6e6 * 0.25, rel=1e-3)
    assert found[A100]["unknown"]["energy_cost_usd"] == "energy_unknown"


# -- pools and labels -------------------------------------------------------------------------------


async def label(url: str) -> None:
    """This will label the fleet's nodes and judge it."""
    async with api_over(url) as api:
        said = (("alpha", {"pool": "spot", "team": "search"}), ("beta", {"team": "ads", "odd": ["x"]}))
        async with api.context.database.engine.begin() as connection:
            for node, labels in said:
                await connection.execute(
                    text("UPDATE node SET attributes = attributes || CAST(:labels AS jsonb) WHERE name = :node"),
                    {"node": node, "labels": json.dumps({"labels": labels})},
                )
        await judged.do_all(api.context.database, api.context.clock.now)


@pytest.fixture(scope="module")
def labelled_url(postgres_server: PostgresForTests, played_url: str) -> Iterator[str]:
    """A database with the fleet, its nodes with labels."""
    url = postgres_server.copy(played_url)
    asyncio.run(label(url))
    yield url
    postgres_server.drop(url)


@pytest.fixture
async def labelled(labelled_url: str) -> AsyncIterator[Api]:
    """The API over that fleet."""
    async with api_over(labelled_url) as api:
        yield api


async def test_time_and_money_are_shown_by_pool_and_by_label(labelled: Api) -> None:
    for since in ({"since": "24h"}, TEN_MINUTES):  # kept, and added up
        pools = {i["pool"]: i["gpus"] for i in await labelled.items("/cost/summary", by="pool", **since)}
        assert pools == {"spot": 2, "(none)": 1}
        teams = await labelled.items("/cost/gpu-hours", by="label:team", **since)
        assert {i["label"]: i["gpus"] for i in teams} == {"team=search": 2, "team=ads": 1}
        assert [i["label"] for i in await labelled.items("/analysis/waste", by="label:odd", **since)] == ["odd=(none)"]


async def test_a_pool_and_labels_narrow_what_is_asked(labelled: Api) -> None:
    everything = await labelled.items("/analysis/waste", by="node")
    for narrowed in ({"pool": "spot"}, {"label": "team=search"}, {"label": ["team=search", "pool=spot"]}):
        found = await labelled.items("/analysis/waste", by="node", **narrowed)
        assert [i["classes"] for i in found] == [i["classes"] for i in everything if i["node"] == "alpha"]
    assert await labelled.items("/analysis/waste", label=["team=search", "team=ads"]) == []
    await labelled.refused("/analysis/waste", 422, by="label:")
    await labelled.refused("/analysis/waste", 422, label="team")
