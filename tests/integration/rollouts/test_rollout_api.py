"""Rollouts over REST: begun, watched, held, hurried and taken back, on a real HAProxy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from control_plane.ingest.server import LinkService
from control_plane.rollouts.targets import read_targets
from control_plane.storage.session import Database
from control_plane.workflows.driving import Driver
from tests.support.haproxy import NEEDED
from tests.support.rest import Api, client_of, context_of, problem_of
from tests.support.rollout_stage import CLOCK, Stage, stage
from tests.support.unhurried import Unhurried

pytestmark = [NEEDED, pytest.mark.timeout(180)]
BODY: dict[str, Any] = {
    "target": "chat", "steps_percent": [50, 100], "least_seconds": 2, "least_requests": 20, "bake_seconds": 2,
}  # fmt: skip


def targets_file(on: Stage) -> Path:
    """What the operator writes."""
    file = on.haproxy.folder / "targets.toml"
    file.write_text(
        f'[chat]\nactuator = "haproxy"\nmodel = "tiny"\nsocket = "{on.haproxy.socket}"\n'
        f'map_file = "{on.haproxy.map_file}"\nttft_limit_seconds = 0.5\n'
        f'blue = {{backend = "blue", servers = ["{on.blue.url}"]}}\n'
        f'green = {{backend = "green", servers = ["{on.green.url}"]}}\n'
    )
    return file


@pytest.fixture
async def on(tmp_path: Path, database_url: str) -> AsyncIterator[Stage]:
    """HAProxy and two servers."""
    async with stage(tmp_path, database_url) as made:
        yield made


@pytest.fixture
async def api(on: Stage) -> AsyncIterator[Api]:
    """The API, and a driver beside it."""
    database = Database(on.database_url)
    service = LinkService(database, CLOCK, retention_days=14)
    context = context_of(database, CLOCK, service, targets=read_targets(targets_file(on)))
    assert context.rollouts is not None
    desk = context.rollouts
    unhurried = Unhurried(desk.store)
    desk.store = unhurried  # type: ignore[assignment, misc]
    driver = Driver(store=desk.store, clock=CLOCK, runner_for=desk.runner_for)  # type: ignore[attr-defined]
    task = asyncio.get_running_loop().create_task(driver.run())
    async with client_of(context) as client:
        yield client
    task.cancel()
    await asyncio.wait((task,))
    await unhurried.ended()
    service.close()
    await database.close()


async def ask(api: Api, path: str, body: Any = None, *, status: int = 200) -> Any:
    answer = await api.client.post(path, json=body)
    if status != 200:
        return problem_of(answer, status)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def until(api: Api, rollout_id: str, *states: str) -> Any:
    for _ in range(900):
        found = await api.get(f"/rollout/{rollout_id}")
        if found["state"] in states:
            return found
        await asyncio.sleep(0.1)
    raise AssertionError(found)


async def test_what_would_be_done_is_said_and_nothing_is_done(api: Api) -> None:
    said = await ask(api, "/rollout/start", BODY | {"dry_run": True})
    assert (said["candidate"], said["problems"]) == ("green", [])
    assert said["plan"]["steps_percent"] == [50, 100]
    assert said["plan"]["replicas"] == 1
    assert (await api.get("/rollout/history"))["items"] == []


@pytest.mark.slow
async def test_a_rollout_is_begun_watched_held_hurried_and_promoted(api: Api, on: Stage) -> None:
    async with on.users(30):
        begun = await ask(api, "/rollout/start", BODY)
        rollout_id = begun["rollout_id"]
        assert begun["state"] == "pending"
        assert "under way" in (await ask(api, "/rollout/start", BODY, status=409))["detail"]
        await until(api, rollout_id, "observing")
        await ask(api, f"/rollout/{rollout_id}/pause")
        await until(api, rollout_id, "paused")
        assert "cannot promote" in (await ask(api, f"/rollout/{rollout_id}/promote", status=409))["detail"]
        (active,) = (await api.get("/rollout/status"))["items"]
        assert active["share_percent"] == 50
        await ask(api, f"/rollout/{rollout_id}/resume")
        await until(api, rollout_id, "observing")
        await ask(api, f"/rollout/{rollout_id}/promote")
        ended = await until(api, rollout_id, "succeeded", "rolled_back")
    assert ended["state"] == "succeeded", ended["because"]
    assert [i["share_percent"] for i in ended["intents"] if i["effect"] == "set_share"] == [50, 100]
    assert ended["notes"][-1]["because"]
    assert (await api.get("/rollout/status"))["items"] == []
    refused = await ask(api, "/rollout/rollback", {"rollout_id": rollout_id}, status=409)
    assert "succeeded cannot roll back" in refused["detail"]
    said = await ask(api, "/rollout/start", BODY | {"dry_run": True})
    assert said["candidate"] == "blue", "the next one goes the other way"


@pytest.mark.slow
async def test_a_rollout_is_taken_back(api: Api, on: Stage) -> None:
    async with on.users(30):
        rollout_id = (await ask(api, "/rollout/start", BODY | {"approve_before_percent": [100]}))["rollout_id"]
        await until(api, rollout_id, "observing", "awaiting_approval")
        await ask(api, "/rollout/rollback", {"rollout_id": rollout_id})
        ended = await until(api, rollout_id, "rolled_back")
    assert "anyone asked to roll_back" in " ".join(note["because"] for note in ended["notes"])
    assert on.haproxy.map_file.read_text().split()[-2:] == ["tiny", "0"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"steps_percent": [50, 25, 100]}, "growing"),
        ({"strategy": "blue_green", "steps_percent": [50, 100]}, "blue-green"),
        ({"strategy": "all_at_once"}, "strategy"),
        ({"least_seconds": 0}, "least_seconds"),
        ({"command": "rm"}, "there is no field command"),
        ({"approve_before_percent": [70]}, "only a step"),
    ],
)
async def test_a_plan_that_makes_no_sense_is_refused(api: Api, changed: dict[str, Any], said: str) -> None:
    assert said in (await ask(api, "/rollout/start", BODY | changed, status=422))["detail"]


async def test_what_is_not_there_is_said(api: Api) -> None:
    assert "there are: chat" in (await ask(api, "/rollout/start", BODY | {"target": "x"}, status=404))["detail"]
    for path in ("pause", "resume", "promote"):
        await ask(api, f"/rollout/none/{path}", status=404)
    problem_of(await api.client.get("/rollout/none"), 404)
    problem_of(await api.client.get("/rollout/status", params={"id": "none"}), 404)
    problem_of(await api.client.get("/rollout/history", params={"cursor": "nonsense"}), 422)


async def test_a_router_that_has_no_share_is_no_place_to_begin(api: Api, on: Stage) -> None:
    on.haproxy.stop()
    on.haproxy.map_file.write_text("tiny 3000\n")
    await asyncio.to_thread(on.haproxy.start)
    assert "30 %" in (await ask(api, "/rollout/start", BODY, status=409))["detail"]
    on.haproxy.stop()
    assert "does not answer" in (await ask(api, "/rollout/start", BODY, status=503))["detail"]
    on.haproxy.start()


async def test_history_is_paged(api: Api) -> None:
    ids = []
    for _ in range(3):
        rollout_id = (await ask(api, "/rollout/start", BODY | {"replicas": 5}))["rollout_id"]  # too many: refused
        ids.append((await until(api, rollout_id, "refused"))["rollout_id"])
    first = await api.get("/rollout/history", limit=2)
    second = await api.get("/rollout/history", limit=2, cursor=first["next_cursor"])
    assert [r["rollout_id"] for r in (*first["items"], *second["items"])] == ids[::-1]
    assert second["next_cursor"] is None
    assert "5 are needed" in first["items"][0]["because"]
