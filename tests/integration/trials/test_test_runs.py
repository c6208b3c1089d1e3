"""Test runs over REST: asked for, run by a worker process, watched, cancelled, and never left as if they still ran."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from control_plane.ingest.server import LinkService
from control_plane.model.errors import InvalidRequest
from control_plane.model.trial import OVER, TrialKind, TrialSpec, TrialState
from control_plane.runtime.clock import SystemClock
from control_plane.runtime.destinations import Policy
from control_plane.runtime.sealing import Sealer
from control_plane.storage.session import Database
from control_plane.storage.trials import SILENT, TrialStore
from control_plane.trials import desk as desks
from control_plane.trials.desk import TrialDesk
from control_plane.trials.load.asking import served_models
from control_plane.trials.load.connection import Address
from control_plane.trials.load.requesting import Target
from tests.fakes.inference_server import Behaviour, InferenceServer
from tests.support.rest import Api, client_of, context_of, problem_of
from tests.support.unhurried import Unhurried

CLOCK = SystemClock()
LOAD: dict[str, Any] = {"rate": 50, "variation": 0, "prompt_length": "10-20", "output_length": "counted:4=1,8=1"}
SHORT: dict[str, Any] = {"load": LOAD, "seconds": 1.5, "warm_up_seconds": 0.2}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked for more often than usual."""
    monkeypatch.setattr(desks, "POLL_SECONDS", 0.05)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A database of this test's own."""
    made = Database(database_url)
    yield made
    await made.close()


@pytest.fixture
async def api(database: Database) -> AsyncIterator[Api]:
    """The API, before anything runs what is asked for."""
    service = LinkService(database, CLOCK, retention_days=14)
    async with client_of(context_of(database, CLOCK, service)) as client:
        yield client
    service.close()


@asynccontextmanager
async def running(api: Api) -> AsyncIterator[None]:
    """What is asked for is run meanwhile."""
    desk = api.context.trials
    assert isinstance(desk, TrialDesk)
    plain, unhurried = desk.store, Unhurried(desk.store)
    desk.store = unhurried  # type: ignore[assignment]
    task = asyncio.get_running_loop().create_task(desk.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait((task,))
        await unhurried.ended()
        desk.store = plain


async def ask(api: Api, path: str, body: Any = None, *, status: int = 200) -> Any:
    answer = await api.client.post(path, json=body)
    if status != 200:
        return problem_of(answer, status)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def until(api: Api, test_id: str, *states: str) -> Any:
    for _ in range(1200):
        found = await api.get(f"/test/results/{test_id}")
        if found["state"] in states:
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(found)


async def test_a_load_is_run_and_its_figures_are_kept(api: Api) -> None:
    async with InferenceServer() as server, running(api):
        asked = SHORT | {"base_url": server.url, "objective": {"e2e_seconds": 60}, "api_key": "sk-of-the-server-1234"}
        begun = await ask(api, "/test/run", asked)
        assert (begun["state"], begun["unknown"]["verdict"]) == ("queued", "not_ended")
        ended = await until(api, begun["test_id"], "finished", "failed")
    assert ended["state"] == "finished", ended["because"]
    assert ended["verdict"] in ("pass", "inconclusive", "fail")  # a busy machine lets requests pile up
    assert ended["result"]["outcomes"] == {"completed": ended["result"]["requests"]}
    assert 4 <= ended["result"]["output_tokens_mean"] <= 8
    assert ended["result"]["model"] == "tiny"
    (item,) = (await api.get("/test/results", kind="load"))["items"]
    assert "result" not in item
    assert item["asked"]["load"]["prompt_length"] == "10-20"
    assert (await api.get("/test/results", kind="validation"))["items"] == []


async def test_a_key_is_nowhere_to_be_read(api: Api, database: Database) -> None:
    await ask(api, "/test/run", SHORT | {"base_url": "http://127.0.0.1:1", "api_key": "sk-of-the-server-1234"})
    async with database.engine.connect() as connection:
        for table in ("trial", "audit_entry", "idempotency_key"):
            exists = await connection.scalar(text("SELECT to_regclass(:name)"), {"name": table})
            rows = await connection.scalar(text(f"SELECT string_agg(t::text, ' ') FROM {table} t")) if exists else ""
            assert "sk-of-the-server" not in (rows or "")
        assert await connection.scalar(text("SELECT sealed_keys IS NOT NULL FROM trial"))
    async with running(api):
        (waiting,) = (await api.get("/test/results"))["items"]
        ended = await until(api, waiting["test_id"], "failed")
    assert "no server answers" in ended["because"]
    async with database.engine.connect() as connection:
        assert await connection.scalar(text("SELECT sealed_keys IS NULL FROM trial"))


async def test_the_highest_rate_is_searched(api: Api) -> None:
    async with InferenceServer() as server, running(api):
        asked = SHORT | {
            "base_url": server.url, "objective": {"e2e_seconds": 60, "good_ratio": 0.5}, "find_highest_rate": True,
            "load": LOAD | {"rate": 20}, "most_rate": 40,
        }  # fmt: skip
        begun = await ask(api, "/test/run", asked)
        ended = await until(api, begun["test_id"], "finished", "failed")
    assert ended["state"] == "finished", ended["because"]
    assert ended["result"]["tries"][0]["rate"] == 20  # what came next depends on how busy this machine is


async def test_a_candidate_whose_words_differ_fails_however_fast_it_is(api: Api) -> None:
    async with InferenceServer(Behaviour(wrong_share=0.5)) as new, InferenceServer() as old, running(api):
        asked = SHORT | {"candidate_url": new.url, "baseline_url": old.url}
        begun = await ask(api, "/test/validate", asked)
        ended = await until(api, begun["test_id"], "finished", "failed")
    assert (ended["kind"], ended["verdict"]) == ("validation", "fail"), ended
    assert ended["result"]["words"]["verdict"] == "fail"
    assert ended["asked"]["candidate_url"] == new.url


async def test_too_few_requests_to_compare_is_no_pass(api: Api) -> None:
    async with InferenceServer() as new, InferenceServer() as old, running(api):
        asked = SHORT | {"candidate_url": new.url, "baseline_url": old.url, "compare_words": False}
        begun = await ask(api, "/test/validate", asked)
        ended = await until(api, begun["test_id"], "finished", "failed")
    assert ended["verdict"] == "inconclusive", ended
    assert ended["result"]["candidate"]["requests"] > 0


async def test_a_run_is_cancelled_and_keeps_what_was_measured(api: Api) -> None:
    async with InferenceServer() as server, running(api):
        first = await ask(api, "/test/run", SHORT | {"base_url": server.url, "seconds": 600})
        second = await ask(api, "/test/run", SHORT | {"base_url": server.url})
        for _ in range(400):
            told = (await api.get(f"/test/results/{first['test_id']}"))["progress"]
            if told is not None and told["finished"] >= 20:
                break
            await asyncio.sleep(0.05)
        assert told["planned"] == 30_000
        cancelled = await ask(api, f"/test/{second['test_id']}/cancel")
        assert (cancelled["state"], cancelled["unknown"]["started_at"]) == ("cancelled", "never_started")
        await ask(api, f"/test/{first['test_id']}/cancel")
        ended = await until(api, first["test_id"], "cancelled", "finished")
    assert ended["state"] == "cancelled"
    assert ended["result"]["requests"] >= 1
    assert "over" in (await ask(api, f"/test/{first['test_id']}/cancel", status=409))["detail"]


async def test_a_process_that_ends_leaves_no_run_behind_as_if_it_still_ran(api: Api, database: Database) -> None:
    store = TrialStore(database.engine)
    async with InferenceServer() as server:
        begun = await ask(api, "/test/run", SHORT | {"base_url": server.url, "seconds": 600})
        async with running(api):
            await until(api, begun["test_id"], "running")
        ended = await api.get(f"/test/results/{begun['test_id']}")
        assert (ended["state"], ended["unknown"]["result"]) == ("interrupted", "no_figures")
        # And one whose process had no time to say so.
        begun = await ask(api, "/test/run", SHORT | {"base_url": server.url})
    assert (await store.claim("one that dies", CLOCK.now())) is not None
    assert await store.give_up_silent(CLOCK.now()) == 0
    assert await store.give_up_silent(CLOCK.now() + SILENT + timedelta(seconds=1)) == 1
    assert (await store.get(begun["test_id"])).state is TrialState.INTERRUPTED


async def test_two_processes_never_run_the_same(api: Api, database: Database) -> None:
    store = TrialStore(database.engine)
    await ask(api, "/test/run", SHORT | {"base_url": "http://127.0.0.1:1"})
    claimed = [await store.claim(f"p{n}", CLOCK.now()) for n in range(4)]
    assert sum(found is not None for found in claimed) == 1


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"base_url": "http://169.254.169.254/latest"}, "not a public address"),
        ({"base_url": "http://10.1.2.3:8000"}, "OPTIINFRA_ALLOWED_DESTINATIONS"),
        ({"base_url": "ftp://127.0.0.1"}, "http"),
        ({"base_url": "http://me:secret@127.0.0.1"}, "password"),
        ({"load": {"prompt_length": "long"}}, "no length in tokens"),
        ({"load": {"rate": 2000}, "seconds": 80_000}, "1,000,000 requests"),
        ({"seconds": 3}, "warm-up"),
        ({"find_highest_rate": True}, "objective"),
        ({"command": "rm"}, "there is no field command"),
    ],
)
async def test_what_makes_no_sense_or_leads_where_it_must_not_is_refused(
    api: Api, changed: dict[str, Any], said: str
) -> None:
    assert said in str(await ask(api, "/test/run", {"base_url": "http://127.0.0.1:1"} | changed, status=422))


async def test_what_is_not_there_is_said(api: Api) -> None:
    problem_of(await api.client.get("/test/results/none"), 404)
    await ask(api, "/test/none/cancel", status=404)
    problem_of(await api.client.get("/test/results", params={"cursor": "nonsense"}), 422)


async def test_results_are_paged(api: Api) -> None:
    ids = [(await ask(api, "/test/run", SHORT | {"base_url": "http://127.0.0.1:1"}))["test_id"] for _ in range(3)]
    first = await api.get("/test/results", limit=2)
    second = await api.get("/test/results", limit=2, cursor=first["next_cursor"])
    assert [r["test_id"] for r in (*first["items"], *second["items"])] == ids[::-1]
    assert second["next_cursor"] is None


async def test_usual_workloads_can_be_sent_as_they_are(api: Api) -> None:
    items = (await api.get("/test/profiles"))["items"]
    assert {item["source"] for item in items} == {"built_in"}
    for item in items:
        begun = await ask(api, "/test/run", {"base_url": "http://127.0.0.1:1", "load": item["load"]})
        assert begun["asked"]["load"].items() >= item["load"].items()


async def test_a_name_that_leads_elsewhere_when_the_run_begins_gains_nothing(database: Database) -> None:
    """The worker connects to the address that was checked, whatever the name leads to."""
    answers = iter((["127.0.0.1"], ["10.0.0.7"]))

    async def resolve(host: str, port: int) -> list[str]:
        return next(answers)

    desk = TrialDesk(
        TrialStore(database.engine), CLOCK, policy=Policy(["127.0.0.1"]), sealer=Sealer(lambda: b"tests" * 8),
        resolve=resolve,
    )  # fmt: skip
    unhurried = Unhurried(desk.store)
    desk.store = unhurried  # type: ignore[assignment]
    spec = TrialSpec(kind=TrialKind.LOAD, base_url="http://rebinding.example:8000")
    trial = await desk.ask(spec, by="anyone", keys={})
    task = asyncio.get_running_loop().create_task(desk.run())
    for _ in range(400):
        found = await desk.store.get(trial.trial_id)
        if found.state in OVER:
            break
        await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.wait((task,))
    await unhurried.ended()
    assert found.state is TrialState.FAILED
    assert "not a public address" in found.because


async def test_servers_that_the_operator_named_may_be_loaded_wherever_they_are(database: Database) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        return ["10.0.0.7"]

    desk = TrialDesk(
        TrialStore(database.engine), CLOCK, policy=Policy(), sealer=Sealer(lambda: b"tests" * 8),
        named_urls=["http://blue:8000/"], resolve=resolve,
    )  # fmt: skip
    await desk.ask(TrialSpec(kind=TrialKind.LOAD, base_url="http://blue:8000/v1"), by="anyone", keys={})
    with pytest.raises(InvalidRequest):
        await desk.ask(TrialSpec(kind=TrialKind.LOAD, base_url="http://blue:8001"), by="anyone", keys={})


async def test_load_goes_to_the_address_that_was_checked() -> None:
    async with InferenceServer() as server:
        where = replace(Address.parse(f"http://no.such.name.example:{server.port}"), connect_to="127.0.0.1")
        assert await served_models(Target(address=where, model=""), CLOCK) == ["tiny"]
