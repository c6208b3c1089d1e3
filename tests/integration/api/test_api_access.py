"""Every route against every kind of caller: exactly as declared, and a route that declares nothing is closed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import pytest
from fastapi.routing import APIRoute
from starlette.routing import Mount

from control_plane.access.gate import Gate
from control_plane.access.rates import Rate
from control_plane.access.tokens import ProviderKeys, ProviderTokens
from control_plane.api.app import build_app
from control_plane.api.guard import Guard, guarded
from control_plane.api.operations import operation
from control_plane.model.access import Scope
from control_plane.storage.session import Database
from tests.fakes.clock import FakeClock
from tests.fakes.identity_provider import AUDIENCE, ISSUER, IdentityProvider
from tests.golden.write import document
from tests.support.gates import OWN_KEY, GuardedApi, bearer, guarded_api
from tests.support.rest import problem_of

# Answers that say: you were let in, whatever came of it. Nothing that is named here exists.
LET_IN = {200, 201, 202, 204, 304, 400, 404, 406, 409, 412, 422, 503}
# Open to everybody, since they say nothing of the fleet: the description of the API, its page and the dashboard.
OPEN = {"/openapi.json", "/docs", "/docs/assets", "/dashboard", "/dashboard/", "/dashboard/assets"}


def operations() -> Iterator[tuple[str, str, str]]:
    """Method, path with its placeholders filled, and scope of every operation."""
    for path, methods in document()["paths"].items():
        for method, described in methods.items():
            filled = path
            for parameter in described.get("parameters", []):
                if parameter["in"] == "path":
                    filled = filled.replace("{" + parameter["name"] + "}", "99999")
            yield method.upper(), filled, described["x-required-scope"]


OPERATIONS = list(operations())


@pytest.fixture
async def guarded_rest(database: Database, clock: FakeClock, provider: IdentityProvider) -> AsyncIterator[GuardedApi]:
    """The API that takes keys, and tokens of an identity provider."""
    tokens = ProviderTokens(
        ProviderKeys(provider.keys, clock), clock, issuer=ISSUER, audience=AUDIENCE, scopes_claim="scope",
        scope_prefix="optiinfra:",
    )  # fmt: skip
    gate = Gate(database, clock, own_key=OWN_KEY, tokens=tokens)
    async with guarded_api(database, clock, gate=gate) as api:
        yield api


@pytest.fixture(scope="module")
def provider() -> IdentityProvider:
    return IdentityProvider()


async def ask(rest: GuardedApi, method: str, path: str, key: str | None) -> Any:
    headers = {} if key is None else bearer(key)
    return await rest.api.client.request(method, path, headers=headers, params={"there_is_no_such": "1"})


@pytest.mark.parametrize("presents", ["key", "token"])
async def test_every_route_opens_to_its_own_scope_and_to_nothing_else(
    guarded_rest: GuardedApi, provider: IdentityProvider, presents: str
) -> None:
    now = guarded_rest.clock.now()
    callers = {scope: await guarded_rest.key(scope) for scope in Scope}
    if presents == "token":
        callers = {scope: provider.token(now, scope=f"openid optiinfra:{scope}") for scope in Scope}
    all_but = {scope: await guarded_rest.key(*(set(Scope) - {scope})) for scope in Scope}
    for method, path, declared in OPERATIONS:
        for scope, key in callers.items():
            answer = await ask(guarded_rest, method, path, key)
            expected = declared in ("public", scope)
            assert (answer.status_code in LET_IN) == expected, (method, path, scope, answer.status_code)
            if not expected:
                body = problem_of(answer, 403)
                assert body["detail"] == f"this takes the scope {declared}; what was presented has {scope}"
        if declared != "public":
            answer = await ask(guarded_rest, method, path, all_but[Scope(declared)])
            assert answer.status_code == 403, (method, path, "every scope but its own")


async def test_no_key_and_no_valid_key_open_nothing_but_what_is_public(
    guarded_rest: GuardedApi, provider: IdentityProvider
) -> None:
    revoked, expired = await guarded_rest.key(*Scope), await guarded_rest.key(*Scope, days=0.5)
    admin = await guarded_rest.key(Scope.ADMIN)
    used = await ask(guarded_rest, "GET", "/nodes", revoked)
    assert used.status_code == 422
    key_id = revoked.split("_")[1]
    assert (await guarded_rest.api.client.delete(f"/api-keys/{key_id}", headers=bearer(admin))).status_code == 200
    guarded_rest.clock.advance(13 * 3600)
    forged = f"{expired[:-4]}{'AAAA' if expired[-4:] != 'AAAA' else 'BBBB'}"
    everything = " ".join(f"optiinfra:{scope}" for scope in Scope)
    now = guarded_rest.clock.now()
    soon = now + timedelta(days=1)
    refused: dict[str, str | None] = {
        "wrong audience": provider.token(now, aud="another", scope=everything, exp=soon),
        "wrong issuer": provider.token(now, iss="https://evil.example", scope=everything, exp=soon),
        "expired token": provider.token(now, scope=everything, exp=now - timedelta(minutes=1)),
        "none": None, "revoked": revoked, "expired": expired, "forged": forged, "unknown": f"oik_{'0' * 12}_{'x' * 43}",
        "half": expired[:16], "other": "somebody-elses-token", "jwt": "eyJhbGciOiJub25lIn0.e30.",
    }  # fmt: skip
    for method, path, declared in OPERATIONS:
        guarded_rest.clock.advance(60)  # so that wrong keys are not too many
        for kind, key in refused.items():
            answer = await ask(guarded_rest, method, path, key)
            if declared == "public":
                assert answer.status_code in LET_IN, (kind, method, path)
            else:
                body = problem_of(answer, 401)
                assert answer.headers["www-authenticate"] == 'Bearer realm="optiinfra"'
                assert key is None or key not in str(body)


async def test_every_wrong_key_is_refused_in_the_same_words(guarded_rest: GuardedApi) -> None:
    expired = await guarded_rest.key(Scope.READ, days=0.5)
    guarded_rest.clock.advance(13 * 3600)
    wrong = [expired, f"oik_{'0' * 12}_{'x' * 43}", "oik_", "oik_zz_zz", f"oik_{'0' * 12}_"]
    said = set()
    for key in wrong:
        said.add((await ask(guarded_rest, "GET", "/nodes", key)).json()["detail"])
    assert len(said) == 1


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", "oik_000000000000_x", "bearer\t"])
async def test_a_header_without_a_bearer_key_is_answered_with_how_to_get_one(
    guarded_rest: GuardedApi, header: str
) -> None:
    answer = await guarded_rest.api.client.get("/nodes", headers={"Authorization": header} if header else {})
    assert "optiinfra keys create" in problem_of(answer, 401)["detail"]


async def test_a_refused_caller_is_refused_before_the_body_is_read(guarded_rest: GuardedApi) -> None:
    answer = await guarded_rest.api.client.put("/nodes/1/config", content=b"{no json")
    assert answer.status_code == 401


async def test_the_process_itself_may_read_and_no_more(guarded_rest: GuardedApi) -> None:
    assert (await guarded_rest.api.client.get("/nodes", headers=bearer(OWN_KEY))).status_code == 200
    answer = await guarded_rest.api.client.post("/api-keys", headers=bearer(OWN_KEY), json={"name": "x"})
    assert answer.status_code == 403


def test_every_route_of_the_application_stands_behind_a_guard() -> None:
    app = build_app(None)  # type: ignore[arg-type]  # nothing is asked
    for route in app.routes:
        if isinstance(route, APIRoute) and route.path not in OPEN:
            assert isinstance(route.app, Guard), route.path
        else:
            assert getattr(route, "path", None) in OPEN, f"{route!r} is reachable past the guards"
            assert not isinstance(route, Mount) or route.path.endswith("/assets")


def test_every_route_declares_a_scope() -> None:
    undeclared = [f"{method} {path}" for method, path, scope in OPERATIONS if scope not in ("public", *Scope)]
    assert not undeclared, f"say which scope it takes beside the route (operation(…, scope=…)): {undeclared}"


async def test_a_route_without_a_scope_is_closed_to_everybody(database: Database, clock: FakeClock) -> None:
    from fastapi import APIRouter, FastAPI, Response

    router = APIRouter()

    @router.post("/forgotten", **operation("forgotten", "A forgotten word"))
    async def forgotten() -> Response:
        raise AssertionError("nobody gets here")

    async with guarded_api(database, clock) as rest:
        app = rest.api.client._transport.app  # type: ignore[attr-defined]
        assert isinstance(app, FastAPI)
        app.router.routes.extend(guarded(router))
        answer = await rest.api.client.post("/forgotten", headers=bearer(await rest.key(*Scope)))
        assert "declares no scope" in problem_of(answer, 403)["detail"]


async def test_what_a_key_may_ask_is_counted_for_each_key_and_kind_and_told(
    database: Database, clock: FakeClock
) -> None:
    rates = {"read": Rate(per_second=1, at_once=3), "write": Rate(per_second=1, at_once=1)}
    async with guarded_api(database, clock, rates=rates) as rest:
        mine, other = await rest.key(*Scope), await rest.key(Scope.READ)
        get = rest.api.client.get
        answers = [await get("/nodes", headers=bearer(mine)) for _ in range(4)]
        assert [a.status_code for a in answers] == [200, 200, 200, 429]
        assert [a.headers.get("ratelimit") for a in answers[:3]] == [
            '"read";r=2;t=1', '"read";r=1;t=2', '"read";r=0;t=3',
        ]  # fmt: skip
        assert answers[0].headers["ratelimit-policy"] == '"read";q=3;w=3'
        assert problem_of(answers[3], 429)["type"] == "/problems/too-many-requests"
        assert answers[3].headers["retry-after"] == "1"
        assert (await get("/nodes", headers=bearer(other))).status_code == 200
        assert (await rest.api.client.delete("/nodes/9", headers=bearer(mine))).status_code == 404
        assert (await get("/health")).status_code == 200
        clock.advance(1)
        assert (await get("/nodes", headers=bearer(mine))).status_code == 200


async def test_guessing_keys_becomes_slow_and_nobody_else_is_held_up(guarded_rest: GuardedApi) -> None:
    good = await guarded_rest.key(Scope.READ)
    assert (await ask(guarded_rest, "GET", "/health/detailed", good)).status_code == 422
    statuses = []
    for n in range(30):
        statuses.append((await ask(guarded_rest, "GET", "/nodes", f"oik_{n:012x}_{'x' * 43}")).status_code)
    assert statuses[:20] == [401] * 20
    assert set(statuses[20:]) == {429}
    assert (await ask(guarded_rest, "GET", "/health/detailed", good)).status_code == 422


async def test_a_key_that_is_revoked_elsewhere_opens_nothing_five_seconds_later(guarded_rest: GuardedApi) -> None:
    from control_plane.storage import api_keys

    key = await guarded_rest.key(Scope.READ)
    assert (await ask(guarded_rest, "GET", "/nodes", key)).status_code == 422
    await api_keys.revoke(guarded_rest.database.engine, key.split("_")[1], guarded_rest.clock.now())
    guarded_rest.clock.advance(5)
    assert (await ask(guarded_rest, "GET", "/nodes", key)).status_code == 401
