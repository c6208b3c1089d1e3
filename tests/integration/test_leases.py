"""Leases on a real Postgres: one holder at a time, another when it dies, and no write by one that lost its lease."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pytest

from control_plane.storage import leases
from control_plane.storage.session import SyncConnection
from tests.fakes.clock import START

LIFETIME = timedelta(seconds=30)


@pytest.fixture
def connection(database_url: str) -> Iterator[SyncConnection]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


def take(connection: SyncConnection, holder: str, seconds: float = 0) -> leases.Lease | None:
    now = START + timedelta(seconds=seconds)
    return leases.acquire(connection, "rollups", holder=holder, now=now, lifetime=LIFETIME)


def test_one_replica_has_the_lease_and_renews_it_under_the_same_token(connection: SyncConnection) -> None:
    first = take(connection, "a")
    assert first is not None
    assert take(connection, "b", 29) is None
    assert take(connection, "a", 29) == first
    assert take(connection, "b", 31) is None, "it was renewed"


def test_another_replica_takes_over_when_the_holder_died_and_the_old_token_is_worth_nothing(
    connection: SyncConnection,
) -> None:
    old = take(connection, "a")
    new = take(connection, "b", 30)
    assert old is not None
    assert new is not None
    with connection.transaction():
        assert leases.still_mine(connection, new)
        assert not leases.still_mine(connection, old)


def test_a_lease_is_not_taken_from_a_transaction_that_works_under_it(
    database_url: str, connection: SyncConnection
) -> None:
    mine = take(connection, "a")
    assert mine is not None
    with psycopg.connect(database_url) as working:
        assert leases.still_mine(working, mine)
        assert take(connection, "b", 31) is None, "the holder is late, and still writing"
    assert take(connection, "b", 31) is not None


def test_a_lease_that_was_let_go_is_free_at_once_and_only_its_holder_can_let_it_go(connection: SyncConnection) -> None:
    take(connection, "a")
    leases.release(connection, "rollups", holder="b")
    assert take(connection, "b", 1) is None
    leases.release(connection, "rollups", holder="a")
    assert take(connection, "b", 1) is not None
