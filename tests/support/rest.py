"""The API as a client sees it, with what holds for every answer checked on the way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2

from control_plane import bootstrap, settings
from control_plane.access.gate import Gate
from control_plane.access.rates import Buckets
from control_plane.api.app import build_app
from control_plane.api.context import ApiContext, Doors
from control_plane.ingest.server import LinkService
from control_plane.rollouts.targets import RolloutTarget
from control_plane.runtime.clock import Clock
from control_plane.runtime.sealing import Sealer
from control_plane.storage.readings import Dictionaries
from control_plane.storage.rollouts import RolloutStore
from control_plane.storage.session import Database
from control_plane.storage.trials import TrialStore
from control_plane.trials.desk import TrialDesk
from control_plane.workflows.rollout_desk import RolloutDesk

PROBLEM = "application/problem+json"
MOST_ECHOED = 64
# Texts and identities that a thing may lack; everything else that is null is a value, and says why.
NOT_READ = {
    "next_cursor", "note", "honest_signal", "error", "detail", "index", "name", "engine", "model", "version",
    "max_model_len", "state", "state_detail", "config", "found_by", "pid",
}  # fmt: skip
# What agents and settings say, as they say it.
AS_IT_IS = {"attributes", "config", "settings", "processes", "features", "losses"}


def unexplained(body: Any, path: str = "") -> Iterator[str]:
    """This will name every null without a reason beside it, and every reason without a null."""
    if isinstance(body, list):
        for number, entry in enumerate(body):
            yield from unexplained(entry, f"{path}/{number}")
    if not isinstance(body, dict):
        return
    why = body.get("unknown", {})
    for name, value in body.items():
        if value is None and name not in NOT_READ and not (isinstance(why, str) and why) and not why.get(name):
            yield f"{path}/{name} is null without a reason"
        if name not in AS_IT_IS:
            yield from unexplained(value, f"{path}/{name}")
    if isinstance(why, dict):
        for name in why:
            if body.get(name, "missing") is not None:
                yield f"{path}/unknown/{name} explains a null that is not there"


class Api:
    """Asks the application questions over HTTP, without a network between."""

    def __init__(self, client: httpx2.AsyncClient, context: ApiContext) -> None:
        """`context` is what the application reaches."""
        self.client = client
        self.context = context

    async def get(self, path: str, **parameters: Any) -> Any:
        """This will ask, demand a 200 in which every null has its reason, and give the answer."""
        answer = await self.client.get(path, params=parameters)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "application/json"
        body = answer.json()
        assert list(unexplained(body)) == []
        return body

    async def items(self, path: str, **parameters: Any) -> list[Any]:
        """This will ask for a list and give its items."""
        found = (await self.get(path, **parameters))["items"]
        assert isinstance(found, list)
        return found

    async def one(self, path: str, **parameters: Any) -> Any:
        """This will ask for a list that has one item and give it."""
        (item,) = await self.items(path, **parameters)
        return item

    async def all_pages(self, path: str, **parameters: Any) -> list[Any]:
        """This will follow the cursors to the end and give every item."""
        out, cursor = [], None
        for _ in range(100):
            body = await self.get(path, **parameters, **({"cursor": cursor} if cursor else {}))
            out += body["items"]
            cursor = body["next_cursor"]
            if cursor is None:
                return out
        raise AssertionError("the cursors do not come to an end")

    async def refused(self, path: str, status: int, *, method: str = "GET", **parameters: Any) -> dict[str, Any]:
        """This will ask what cannot be answered, and give the problem."""
        answer = await self.client.request(method, path, params=parameters)
        return problem_of(answer, status)


def problem_of(answer: httpx2.Response, status: int | None = None) -> dict[str, Any]:
    """This will check that an answer is a problem with all of its parts, and give it."""
    assert status is None or answer.status_code == status, answer.text
    assert answer.headers["content-type"] == PROBLEM
    body: dict[str, Any] = answer.json()
    assert body.keys() - {"errors"} == {"type", "title", "status", "detail", "instance"}
    assert body["status"] == answer.status_code
    assert body["type"].startswith("/problems/")
    assert body["title"]
    assert body["detail"]
    assert body["instance"].startswith("/")
    assert body["instance"].isascii()
    assert len(body.get("errors", [])) <= 20
    assert "Traceback" not in answer.text
    return body


def context_of(
    database: Database,
    clock: Clock,
    service: LinkService,
    *,
    environment: Mapping[str, str] | None = None,
    gate: Gate | None = None,
    doors: Doors | None = None,
    targets: Mapping[str, RolloutTarget] | None = None,
) -> ApiContext:
    """This will give the application what the control plane gives it; without a `gate`, to anybody."""
    configured = settings.load({}, environment or {}, Path("no such file"))
    return ApiContext(
        gate=gate or Gate(database, clock, required=False),
        doors=doors or Doors(buckets=Buckets(clock), rates={}),
        database=database,
        dictionaries=Dictionaries(database.engine),
        database_description="a Postgres for tests",
        clock=clock,
        started_at=clock.now(),
        ingest=service,
        data_dir=Path(),
        environment=configured.environment,
        settings=bootstrap.shown_settings(configured),
        capabilities=bootstrap.capabilities(configured),
        sealer=Sealer(lambda: b"tests" * 8),
        webhooks=bootstrap.webhook_policy(configured),
        rollouts=RolloutDesk(RolloutStore(database.engine), targets or {}, clock),
        trials=TrialDesk(
            TrialStore(database.engine),
            clock,
            policy=bootstrap.webhook_policy(configured),
            sealer=Sealer(lambda: b"tests" * 8),
        ),
    )


@asynccontextmanager
async def client_of(context: ApiContext, *, strict: bool = True) -> AsyncIterator[Api]:
    """This will open a client of the application; a `strict` one raises what the application raises."""
    transport = httpx2.ASGITransport(app=build_app(context), raise_app_exceptions=strict)
    async with httpx2.AsyncClient(transport=transport, base_url="http://api") as client:
        yield Api(client, context)
