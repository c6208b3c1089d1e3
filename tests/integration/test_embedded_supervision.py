"""An embedded Postgres that dies is started again, at the same place, without holding up the loop."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator

import psycopg
import pytest

from control_plane.runtime.clock import SystemClock
from control_plane.storage.embedded import EmbeddedPostgres, EmbeddedPostgresError, keep_running
from tests.support.postgres import embedded_postgres


@pytest.fixture
def server() -> Iterator[EmbeddedPostgres]:
    with embedded_postgres() as running:
        yield running


async def until_ready(server: EmbeddedPostgres, *, after: int) -> None:
    async with asyncio.timeout(30):
        while server.pid in (None, after) or not server.is_ready:
            await asyncio.sleep(0.02)


async def test_a_server_that_dies_comes_back_with_its_url_and_its_rows(
    server: EmbeddedPostgres, caplog: pytest.LogCaptureFixture
) -> None:
    url, first = server.url, server.pid
    assert first is not None
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0.01)

    async with asyncio.TaskGroup() as tasks:
        supervising = tasks.create_task(keep_running(server, SystemClock()))
        turning = tasks.create_task(turn())
        os.kill(first, signal.SIGKILL)
        await until_ready(server, after=first)
        supervising.cancel()
        turning.cancel()
    assert turns > 20, "the loop stood still"
    assert server.url == url
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT one FROM kept").fetchall() == [(1,)]
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == [
        "the embedded Postgres ended by signal 9; it is started again in 0.5 s"
    ]


@pytest.mark.slow
async def test_a_server_that_somebody_stops_in_order_comes_back_too(
    server: EmbeddedPostgres, caplog: pytest.LogCaptureFixture
) -> None:
    first = server.pid
    assert first is not None
    async with asyncio.TaskGroup() as tasks:
        supervising = tasks.create_task(keep_running(server, SystemClock()))
        os.kill(first, signal.SIGTERM)
        await until_ready(server, after=first)
        supervising.cancel()
    assert "ended with code 0" in caplog.text


@pytest.mark.slow
def test_a_server_that_runs_is_left_alone(server: EmbeddedPostgres) -> None:
    pid = server.pid
    server.restart()
    assert server.pid == pid


@pytest.mark.slow
def test_a_server_that_was_never_started_or_was_stopped_is_not_restarted(server: EmbeddedPostgres) -> None:
    server.stop()
    with pytest.raises(EmbeddedPostgresError, match="was not started"):
        server.restart()
    assert not server.is_ready


@pytest.mark.slow
def test_a_restart_from_another_thread_is_refused(server: EmbeddedPostgres) -> None:
    errors: list[Exception] = []

    def restart() -> None:
        try:
            server.restart()
        except EmbeddedPostgresError as error:
            errors.append(error)

    thread = threading.Thread(target=restart)
    thread.start()
    thread.join()
    assert "main thread" in str(errors[0])


@pytest.mark.slow
def test_a_restarted_server_still_ends_with_stop(server: EmbeddedPostgres) -> None:
    first = server.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    while server.pid is not None:
        pass
    server.restart()
    second = server.pid
    server.stop()
    assert second not in (None, first)
    assert server.pid is None
    with pytest.raises(ProcessLookupError):
        os.kill(second or 0, 0)
