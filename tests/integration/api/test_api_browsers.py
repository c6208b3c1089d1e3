"""What a browser could be made to do: nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx2
import pytest

from control_plane.access.gate import Gate
from control_plane.access.rates import Buckets
from control_plane.api.app import build_app
from control_plane.api.context import Doors
from control_plane.ingest.server import LinkService
from control_plane.storage.session import Database
from tests.fakes.clock import FakeClock
from tests.support.rest import context_of, problem_of

LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})


@asynccontextmanager
async def rest_for(
    database: Database, clock: FakeClock, *, required: bool, hosts: frozenset[str] | None, cors: tuple[str, ...] = ()
) -> AsyncIterator[httpx2.AsyncClient]:
    service = LinkService(database, clock, retention_days=14)
    doors = Doors(buckets=Buckets(clock), rates={}, hosts=hosts)
    context = context_of(database, clock, service, gate=Gate(database, clock, required=required), doors=doors)
    transport = httpx2.ASGITransport(app=build_app(context, cors_origins=cors))
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost:8003") as client:
        yield client
    service.writer.close()


@pytest.fixture
async def local(database: Database, clock: FakeClock) -> AsyncIterator[httpx2.AsyncClient]:
    """Without keys on loopback, as `make run` starts."""
    async with rest_for(database, clock, required=False, hosts=LOCAL) as client:
        yield client


@pytest.mark.parametrize("host", ["localhost", "localhost:8003", "127.0.0.1:8003", "[::1]:8003", "LOCALHOST"])
async def test_localhost_is_answered(local: httpx2.AsyncClient, host: str) -> None:
    assert (await local.get("/nodes", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:8003", ""])
async def test_a_name_that_was_made_to_point_here_is_refused(local: httpx2.AsyncClient, host: str) -> None:
    answer = await local.get("/nodes", headers={"Host": host})
    assert "OPTIINFRA_ALLOWED_HOSTS" in problem_of(answer, 403)["detail"]
    assert (await local.get("/health/live", headers={"Host": host})).status_code == 200  # a probe asks by any name


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:9999"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_another_sites_form_changes_nothing(local: httpx2.AsyncClient, headers: Mapping[str, str]) -> None:
    problem_of(await local.post("/nodes/join-tokens", headers=dict(headers)), 403)


async def test_our_own_page_may_change_things(local: httpx2.AsyncClient) -> None:
    own = {"Origin": "http://localhost:8003", "Sec-Fetch-Site": "same-origin"}
    assert (await local.post("/nodes/join-tokens", headers=own)).status_code == 409  # let in: no certificates here


async def test_no_other_origin_is_let_in_by_default(local: httpx2.AsyncClient) -> None:
    answer = await local.get("/nodes", headers={"Origin": "https://evil.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]
    preflight = await local.options(
        "/nodes", headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "GET"}
    )
    assert preflight.status_code == 405


async def test_a_named_origin_is_let_in_and_no_other(database: Database, clock: FakeClock) -> None:
    allowed = "https://grafana.example"
    async with rest_for(database, clock, required=True, hosts=None, cors=(allowed,)) as client:
        for origin in (allowed, "https://evil.example"):
            asked = {"Origin": origin, "Access-Control-Request-Method": "GET"}
            answer = await client.options("/nodes", headers=asked)
            assert (answer.headers.get("access-control-allow-origin") == origin) == (origin == allowed)
            assert "access-control-allow-credentials" not in answer.headers


async def test_every_answer_has_headers_that_keep_a_browser_harmless(local: httpx2.AsyncClient) -> None:
    for path in ("/nodes", "/health", "/there-is-nothing", "/docs", "/metrics"):
        headers = (await local.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"
        assert "strict-transport-security" not in headers
        assert "server" not in headers


async def test_the_page_of_the_api_may_run_its_own_script_and_nothing_else(local: httpx2.AsyncClient) -> None:
    policy = (await local.get("/docs")).headers["content-security-policy"]
    (scripts,) = [part for part in policy.split("; ") if part.startswith("script-src")]
    assert "unsafe" not in scripts
    assert "'sha256-" in scripts
    asset = await local.get("/docs/assets/swagger-ui.css")
    assert asset.headers["cache-control"] == "private, no-cache"
