"""What every test may ask for: a Postgres of its own and a clock that stands still."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

# Before anything imports grpc: its fork handlers crash the children of a process in which it has
# threads, and tests start Postgres from such processes.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")

import pytest
from hypothesis import settings

from control_plane.storage.session import Database
from tests.fakes.clock import FakeClock
from tests.support.postgres import PostgresForTests, running_postgres

# No test asserts on time, and hypothesis' deadline would, on whoever shares the machine. What a change must pass is a
# function of the change: the same examples each time. `--hypothesis-profile explore` looks for new ones.
settings.register_profile("settled", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile("settled")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresForTests]:
    """One Postgres server for the session (with pytest-xdist: for each worker)."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def empty_database_url(postgres_server: PostgresForTests) -> Iterator[str]:
    """A new database without any table."""
    url = postgres_server.empty()
    yield url
    postgres_server.drop(url)


@pytest.fixture
def database_url(postgres_server: PostgresForTests) -> Iterator[str]:
    """A new database at this release's schema."""
    url = postgres_server.migrated()
    yield url
    postgres_server.drop(url)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A new database at this release's schema, opened as the control plane opens it."""
    database = Database(database_url)
    yield database
    await database.close()


@pytest.fixture
def clock() -> FakeClock:
    """The control plane's clock; it moves only when the test moves it."""
    return FakeClock()
