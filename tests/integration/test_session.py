"""Pooled connections on a real Postgres: what is one transaction, and what becomes of those that the server ends."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from control_plane.storage.session import Database


async def count(database: Database) -> int:
    async with database.engine.connect() as connection:
        return int((await connection.execute(text("SELECT count(*) FROM job_lease"))).scalar_one())


async def test_what_is_begun_is_done_as_a_whole_or_not_at_all(database: Database) -> None:
    insert = "INSERT INTO job_lease VALUES ('{}', '', 0, now())"
    with pytest.raises(ZeroDivisionError):
        async with database.engine.begin() as connection:
            await connection.execute(text(insert.format("one")))
            raise ZeroDivisionError
    assert await count(database) == 0
    async with database.engine.begin() as connection:
        await connection.execute(text(insert.format("one")))
        await connection.execute(text(insert.format("two")))
        assert await count(database) == 0, "nobody sees half of it"
    assert await count(database) == 2


async def test_a_question_holds_no_transaction_open(database: Database) -> None:
    async with database.engine.connect() as connection:
        await connection.execute(text("SELECT count(*) FROM job_lease"))
        states = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in tr%'"
        async with database.engine.connect() as other:
            assert (await other.execute(text(states))).scalar_one() == 0


async def test_connections_that_the_server_has_ended_are_replaced_before_anybody_asks_on_them(
    database: Database,
) -> None:
    async with database.engine.connect() as one, database.engine.connect() as two:
        for connection in (one, two):
            await connection.execute(text("SELECT 1"))
    with database.connect(autocommit=True) as other:
        ended = other.execute(
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        ).fetchone()
    assert ended is not None
    assert ended[0] >= 2
    for _ in range(3):
        assert await count(database) == 0
