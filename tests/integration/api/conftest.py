"""The API over a real Postgres in which the fleet's samples lie, put there through the real gRPC door."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

import pytest

from control_plane.ingest.server import LinkService
from control_plane.storage.session import Database
from tests.fakes.clock import FakeClock
from tests.support import fleet, judged, objectives
from tests.support.postgres import PostgresForTests
from tests.support.rest import Api, client_of, context_of


@pytest.fixture(scope="session")
def played_url(postgres_server: PostgresForTests) -> Iterator[str]:
    """A database with the fleet's ten minutes, to be copied. Nobody stays connected to it."""
    url = postgres_server.migrated()
    asyncio.run(fleet.fill(url))
    yield url
    postgres_server.drop(url)


@pytest.fixture(scope="session")
def fleet_url(postgres_server: PostgresForTests, played_url: str) -> Iterator[str]:
    """A database with the fleet's ten minutes and its objectives. Nobody writes into it."""
    url = postgres_server.copy(played_url)
    asyncio.run(objectives.fill(url))
    yield url
    postgres_server.drop(url)


@pytest.fixture
async def api(fleet_url: str, clock: FakeClock) -> AsyncIterator[Api]:
    """The API over the fleet, two seconds after its last sample."""
    database = Database(fleet_url)
    service = LinkService(database, clock, retention_days=14)
    async with client_of(context_of(database, clock, service)) as client:
        yield client
    service.close()
    await database.close()


@pytest.fixture(scope="session")
def judged_url(postgres_server: PostgresForTests, played_url: str) -> Iterator[str]:
    """The same ten minutes, rolled up and judged two minutes later. Nobody writes into it."""
    url = postgres_server.copy(played_url)
    asyncio.run(objectives.fill(url))
    database = Database(url)
    asyncio.run(judged.do_all(database, lambda: fleet.NOW + timedelta(minutes=2)))
    yield url
    asyncio.run(database.close())
    postgres_server.drop(url)


@pytest.fixture
async def judged_api(judged_url: str) -> AsyncIterator[Api]:
    """The API over the fleet, two minutes after its last sample."""
    clock = FakeClock(fleet.NOW + timedelta(minutes=2))
    database = Database(judged_url)
    service = LinkService(database, clock, retention_days=14)
    async with client_of(context_of(database, clock, service)) as client:
        yield client
    service.close()
    await database.close()


@pytest.fixture
async def empty_api(database: Database, clock: FakeClock) -> AsyncIterator[Api]:
    """The API over a database of this test's own, in which nothing is yet."""
    service = LinkService(database, clock, retention_days=14)
    async with client_of(context_of(database, clock, service)) as client:
        yield client
    service.close()
