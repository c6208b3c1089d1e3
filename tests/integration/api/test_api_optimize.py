"""Recommendations over REST: made from stored samples, kept, told apart, and decided about once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from control_plane.diagnose import load
from control_plane.ingest.server import LinkService
from control_plane.insights.narrator import Model, Narrator
from control_plane.model.sample import Reading
from control_plane.storage.session import Database
from control_plane.workflows.optimise_driver import WorkflowDriver
from control_plane.workflows.optimise_work import OptimiseWork
from node_agent.__main__ import read_exposition
from node_agent.clock import Instant
from node_agent.model import Histogram, Reason, Tick
from optiinfra.catalogue import TABLES
from tests.fakes.clock import FakeClock, FakeNodeClock
from tests.fakes.language_model import LanguageModel, serving
from tests.support import fleet
from tests.support.agent_links import ingesting, linked
from tests.support.postgres import PostgresForTests
from tests.support.rest import Api, client_of, context_of, problem_of

RECORDINGS = Path(__file__).parents[2] / "data" / "engine-recordings"
KINDS = ("scale-up", "scale-down", "consolidate", "kv-cache", "quantize", "batch", "parallelism")


async def post(api: Api, path: str, body: Any = None, status: int = 200) -> Any:
    answer = await api.client.post(path, json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


@pytest.fixture(scope="module")
def bad_url(postgres_server: PostgresForTests) -> Iterator[str]:
    """A database in which an H200's vLLM ran with eight requests at once while others waited: a real recording."""
    url = postgres_server.migrated()
    asyncio.run(_play(url))
    yield url
    postgres_server.drop(url)


async def _play(url: str) -> None:
    """The recording, through the real gRPC door, the last look two seconds ago."""
    looks = load(RECORDINGS / "vllm-h200-max-num-seqs-8", read_exposition).recorded.readings[:-4]  # while it was full
    clock, database = FakeClock(), Database(url)
    node_clock = FakeNodeClock(clock)
    try:
        async with (
            ingesting(database, clock) as (_, address),
            linked(address, node_clock, "solo") as link,
        ):
            made = []
            for look in looks:
                age = (looks[-1].taken_at - look.taken_at).total_seconds() + 2.0
                made.append(_tick(fleet.before(node_clock.now(), age), look))
            assert await link.committed(await link.send(made)) == {}
    finally:
        await database.close()


def _tick(at: Instant, look: Reading) -> Tick:
    values: dict[str, Any] = {name: value for name, value in look.values.items() if value is not None} | {"up_flag": 1}
    values |= {n: Histogram(bounds=d.bounds, counts=d.counts, sum=d.sum or 0.0) for n, d in look.distributions.items()}
    known = {field.name for field in TABLES["inference"].fields}
    server = fleet.entity(
        "inference", fleet.URL, engine="vllm", model="llama-3.1-8b", state="up", state_detail="", version="0.11.0",
        pid=77, pids=[77], max_model_len=8192, source="socket",
        config={"max_num_seqs": 8, "gpu_memory_utilization": 0.5, "block_size": 16},
    )  # fmt: skip
    gpu = fleet.entity("gpu", fleet.GPU_0, index=0, name="NVIDIA H200", processes=[{"pid": 77, "name": "vllm"}])
    busy: dict[str, Any] = {
        "sm_active_ratio": 0.3, "dram_active_ratio": 0.18, "tensor_active_ratio": 0.04,
        "memory_used_bytes": 70 * fleet.GIB, "gpu_utilization_ratio": 1.0,
    }  # fmt: skip
    rows = [
        (
            "inference",
            fleet.URL,
            fleet._all("inference", {n: v for n, v in values.items() if n in known}, Reason.NOT_EXPOSED),
        ),
        ("gpu", fleet.GPU_0, fleet._all("gpu", busy, Reason.UNSUPPORTED)),
    ]
    return fleet.tick(at, [server, gpu], rows)


@pytest.fixture
async def bad(postgres_server: PostgresForTests, bad_url: str, clock: FakeClock) -> AsyncIterator[Api]:
    """The API over a copy of it that this test may write into."""
    url = postgres_server.copy(bad_url)
    database = Database(url)
    service = LinkService(database, clock, retention_days=14)
    async with client_of(context_of(database, clock, service)) as client:
        yield client
    service.close()
    await database.close()
    postgres_server.drop(url)


async def test_a_server_that_a_limit_binds_is_told_the_flag_and_it_is_kept_once(bad: Api) -> None:
    (item,) = (await post(bad, "/optimize/batch"))["items"]
    assert item["outcome"] == "recommendation", item.get("no_action")
    kept = item["recommendation"]
    (flag,) = kept["recommendation"]["flags"]
    assert (flag["name"], flag["was"]) == ("--max-num-seqs", "8")
    assert int(flag["value"]) >= 96
    ratio = kept["recommendation"]["effect"]["requests_ratio"]
    assert ratio["low"] < 22.859 / 2.857 < ratio["high"]  # what the default limit then really brought
    assert "--max-num-seqs" in kept["explanation"]
    (again,) = (await post(bad, "/optimize/batch"))["items"]
    assert again["recommendation"]["recommendation_id"] == kept["recommendation_id"]
    (listed,) = await bad.items("/optimize/recommendations")
    assert listed["recommendation_id"] == kept["recommendation_id"]
    assert await bad.get(f"/optimize/recommendations/{kept['recommendation_id']}") == listed
    assert await post(bad, "/optimize/recommendations") == {"items": [listed], "next_cursor": None}
    (other,) = (await post(bad, "/optimize/kv-cache"))["items"]
    assert other["no_action"]["because"] == "no_flag_helps"


async def test_people_decide_once_and_the_trail_says_who_and_why(bad: Api) -> None:
    ids = [
        item["recommendation"]["recommendation_id"]
        for path in ("/optimize/batch", "/optimize/quantize")
        for item in (await post(bad, path))["items"]
    ]
    assert len(ids) == 2
    path = f"/optimize/recommendations/{ids[0]}"
    approved = await post(bad, f"/optimize/recommendations/{ids[0]}/approve", {"reason": "tried on staging"})
    assert (approved["state"], approved["reason"], approved["decided_by"]) == (
        "approved",
        "tried on staging",
        "anyone anyone",
    )
    problem_of(await bad.client.post(f"{path}/approve"), 409)
    assert (await post(bad, f"/optimize/recommendations/{ids[0]}/reject"))["state"] == "rejected"
    problem_of(await bad.client.post(f"{path}/reject"), 409)
    problem_of(await bad.client.post("/optimize/recommendations/999999/approve"), 404)
    assert [each["recommendation_id"] for each in await bad.items("/optimize/recommendations")] == [ids[1]]
    (rejected,) = await bad.items("/optimize/recommendations", state="rejected")
    assert rejected["recommendation_id"] == ids[0]
    entries = await bad.items("/audit")
    assert {"optimize_approve", "optimize_reject"} <= {entry["operation"] for entry in entries}


async def test_weights_shapes_and_places_are_told_as_the_h200_can_take_them(bad: Api) -> None:
    (quantized,) = (await post(bad, "/optimize/quantize"))["items"]
    found = quantized["recommendation"]["recommendation"]
    assert [(f["name"], f["value"]) for f in found["flags"]] == [("--quantization", "fp8")]
    assert found["effect"]["requests_ratio"]["expected"] > 1.05
    assert any(lost["what"].startswith("NVFP4") and "cannot" in lost["why"] for lost in found["lost"])
    (shaped,) = (await post(bad, "/optimize/parallelism"))["items"]
    assert shaped["no_action"]["because"] == "nothing_binds"  # it has one GPU
    (packed,) = (await post(bad, "/optimize/consolidate"))["items"]
    assert packed["no_action"]["because"] == "not_worth_it"  # one engine on one GPU
    assert "none can cost less" in packed["no_action"]["explanation"]


async def test_what_nobody_finds_again_for_a_day_is_gone(bad: Api, clock: FakeClock) -> None:
    (item,) = (await post(bad, "/optimize/batch"))["items"]
    clock.advance(86_401)
    assert await bad.items("/optimize/recommendations") == []
    recommendation_id = item["recommendation"]["recommendation_id"]
    assert (await bad.get(f"/optimize/recommendations/{recommendation_id}"))["state"] == "expired"
    problem_of(await bad.client.post(f"/optimize/recommendations/{recommendation_id}/approve"), 409)


async def test_a_service_that_lacks_replicas_is_told_how_many_and_what_they_cost(bad: Api) -> None:
    (item,) = (await post(bad, "/optimize/scale-up"))["items"]
    assert item["outcome"] == "recommendation", item.get("no_action")
    assert item["subject"] == "llama-3.1-8b"
    found = item["recommendation"]["recommendation"]
    assert found["replicas"] > found["replicas_before"] == 1
    assert found["effect"]["usd_per_month"]["expected"] > 0
    (down,) = (await post(bad, "/optimize/scale-down"))["items"]
    assert down["no_action"]["because"] == "enough"
    (none,) = (await post(bad, "/optimize/scale-up", {"most_replicas": 1}))["items"]
    assert none["no_action"]["because"] == "at_limit"
    problem_of(await bad.client.post("/optimize/scale-up", json={"least_replicas": 3, "most_replicas": 2}), 422)


async def test_an_approved_recommendation_is_carried_out_dry_and_watched(bad: Api, clock: FakeClock) -> None:
    (item,) = (await post(bad, "/optimize/batch"))["items"]
    number = item["recommendation"]["recommendation_id"]
    problem_of(await bad.client.post("/optimize/execute", json={"recommendation_id": number}), 409)  # not approved
    await post(bad, f"/optimize/recommendations/{number}/approve", {"reason": "tried"})
    problem_of(await bad.client.post("/optimize/execute", json={"recommendation_id": number, "dry_run": False}), 422)
    begun = await post(bad, "/optimize/execute", {"recommendation_id": number, "watch_looks": 1})
    problem_of(await bad.client.post("/optimize/execute", json={"recommendation_id": number}), 409)  # under way
    async with driven(bad, clock) as drive:
        await drive()
        path = f"/optimize/executions/{begun['workflow_id']}"
        found = await bad.get(path)
        assert (found["state"], found["graph"]["at"]) == ("watching", "watch")
        steps = {step["step"]: step["detail"] for step in found["steps"]}
        assert steps["collect"] == {"servers": 1, "serving": 1}
        assert steps["analyse"] == {"bottlenecks": {"batch_limited": 1}}
        assert steps["execute"]["dry_run"] is True
        assert "--max-num-seqs" in steps["execute"]["would"][0]["steps"][0]
        clock.advance(61)
        await drive()
        found = await bad.get(path)
        assert found["state"] == "done"
        assert found["steps"][-1]["detail"]["applied"] is False  # nobody made the change
    (listed,) = await bad.items("/optimize/executions")
    assert listed["workflow_id"] == begun["workflow_id"]
    problem_of(await bad.client.post(f"/optimize/executions/{begun['workflow_id']}/cancel"), 409)  # it has ended
    problem_of(await bad.client.get("/optimize/executions/nothing"), 404)


async def test_what_somebody_has_changed_is_measured_against_what_was_promised(bad: Api, clock: FakeClock) -> None:
    (item,) = (await post(bad, "/optimize/batch"))["items"]
    kept = item["recommendation"]
    number, value = kept["recommendation_id"], kept["recommendation"]["flags"][0]["value"]
    await post(bad, f"/optimize/recommendations/{number}/approve")
    begun = await post(bad, "/optimize/execute", {"recommendation_id": number, "watch_looks": 1})
    async with driven(bad, clock) as drive:
        await drive()
        async with bad.context.database.engine.begin() as connection:  # the server comes back with other flags
            await connection.execute(
                text(
                    "UPDATE entity SET attributes = jsonb_set(attributes, '{config,max_num_seqs}', :v) WHERE kind = 6"
                ),
                {"v": value},
            )
        clock.advance(61)
        await drive()
    steps = (await bad.get(f"/workflows/{begun['workflow_id']}"))["steps"]
    assert steps[-1]["detail"]["applied"] is True
    found = await bad.get(f"/optimize/recommendations/{number}")
    assert found["state"] == "executed"
    assert found["realised"]["requests_ratio"] == pytest.approx(1.0, abs=0.2)  # the samples are those of before
    assert found["realised"]["within"]["requests_ratio"] is False
    savings = (await bad.get("/cost/savings"))["realised"]
    assert (savings["executions"], savings["accuracy"][0]["kind"]) == (1, "batch")
    assert savings["accuracy"][0]["within_ratio"] == 0.0


async def test_a_workflow_chooses_asks_and_is_answered(bad: Api, clock: FakeClock) -> None:
    begun = await post(bad, "/workflows/run", {"kinds": ["batch", "quantize"], "watch_looks": 1})
    path = f"/workflows/{begun['workflow_id']}"
    problem_of(await bad.client.post(f"/workflows/{begun['workflow_id']}/resume", json={"approved": True}), 409)
    async with driven(bad, clock) as drive:
        await drive()
        found = await bad.get(path)
        assert (found["state"], found["graph"]["at"]) == ("awaiting_approval", "approve")
        assert found["graph"]["done"] == ["collect", "analyse", "find", "predict", "rank"]
        assert len(found["steps"][2]["detail"]["recommendation_ids"]) == 2
        await post(bad, f"/workflows/{begun['workflow_id']}/resume", {"approved": True, "reason": "why not"})
        await drive()
        assert (await bad.get(path))["state"] == "watching"
        cancelled = await post(bad, f"/optimize/executions/{begun['workflow_id']}/cancel", {"reason": "later"})
        assert cancelled["state"] == "watching"
        await drive()
        assert (await bad.get(path))["state"] == "cancelled"
    (listed,) = await bad.items("/workflows", state="cancelled")
    assert listed["because"].startswith("cancelled by")
    assert await bad.items("/workflows", state="running") == []


async def test_an_insight_is_in_words_with_and_without_a_model(bad: Api, clock: FakeClock) -> None:
    nothing = await post(bad, "/insights")
    assert (nothing["text"], nothing["source"]) == ("Nothing is recommended at the moment.", "fallback")
    (item,) = (await post(bad, "/optimize/batch"))["items"]
    number = item["recommendation"]["recommendation_id"]
    by_rule = await post(bad, "/insights", {"recommendation_id": number, "question": "why?"})
    assert (by_rule["text"], by_rule["because"]) == (item["recommendation"]["explanation"], "no_key")
    assert {"handle": "E1", "means": "requests being worked on", "shown": "8"} in by_rule["evidence"]
    fake = LanguageModel()
    fake.sentences = [{"text": "{SUBJECT} works on {E1} requests at once.", "uses": ["SUBJECT", "E1"]}]
    async with serving(fake) as url:
        model = Model(base_url=url, name="m", key="k", seconds=5.0, tries=0)
        context = replace(bad.context, narrator=Narrator(model, clock))
        async with client_of(context) as asking:
            told = await post(asking, "/insights", {"recommendation_id": number})
    assert (told["text"], told["source"]) == (f"{fleet.URL} works on 8 requests at once.", "llm")
    assert fleet.URL not in str(fake.asked)
    problem_of(await bad.client.post("/insights", json={"recommendation_id": 10**9}), 404)


@asynccontextmanager
async def driven(api: Api, clock: FakeClock) -> AsyncIterator[Any]:
    """Drives whatever is due, as the control plane does."""
    database = api.context.database
    driver = WorkflowDriver(database, clock, OptimiseWork(database, api.context.dictionaries, clock))

    async def drive() -> None:
        while await driver.once():
            pass

    yield drive
    await driver.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_every_question_about_a_whole_fleet_gets_an_answer_for_each(fleet_copy: Api, kind: str) -> None:
    found = await post(fleet_copy, f"/optimize/{kind}")
    for item in found["items"]:
        assert item["outcome"] in ("recommendation", "no_action")
        assert item.get("no_action", {"explanation": "x"})["explanation"]
    expected = {"consolidate": 1, "scale-up": 3, "scale-down": 3}.get(kind, 4)
    assert len(found["items"]) == expected
    problem_of(await fleet_copy.client.post(f"/optimize/{kind}", json={"server": ["http://nobody"]}), 404)
    problem_of(await fleet_copy.client.post(f"/optimize/{kind}", json={"sever": []}), 422)


@pytest.fixture(scope="module")
def written_url(postgres_server: PostgresForTests, played_url: str) -> Iterator[str]:
    """The fleet, to be written into."""
    url = postgres_server.copy(played_url)
    yield url
    postgres_server.drop(url)


@pytest.fixture
async def fleet_copy(written_url: str, clock: FakeClock) -> AsyncIterator[Api]:
    """The API over the fleet, to be written into."""
    database = Database(written_url)
    service = LinkService(database, clock, retention_days=14)
    async with client_of(context_of(database, clock, service)) as client:
        yield client
    service.close()
    await database.close()
