"""Day partitions on a real Postgres: made once by whoever is first, dropped whole, whatever was interrupted."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta

import psycopg
import pytest

from control_plane.storage.partitions import (
    days_ahead,
    drop_before,
    drop_rollups_before,
    ensure_days,
    ensure_rollups,
    partition_name,
    purge_processes,
)
from control_plane.storage.session import SyncConnection
from optiinfra.catalogue import TABLES

TODAY = date(2026, 3, 4)


@pytest.fixture
def connection(database_url: str) -> Iterator[SyncConnection]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


def existing(connection: SyncConnection) -> set[str]:
    rows = connection.execute("SELECT relname FROM pg_class WHERE relispartition AND relkind = 'r'").fetchall()
    return {name for (name,) in rows}


def names(*days: date) -> set[str]:
    return {partition_name(table, day) for day in days for table in TABLES}


def insert(connection: SyncConnection, taken_at: datetime) -> str:
    """Stores one row and names the partition that took it."""
    row = connection.execute(
        "INSERT INTO disk_sample (taken_at, node_id, entity_id) VALUES (%s, 1, 1) RETURNING tableoid::regclass::text",
        (taken_at,),
    ).fetchone()
    assert row is not None
    return str(row[0])


def test_every_sample_table_gets_a_partition_for_each_day(connection: SyncConnection) -> None:
    days = days_ahead(TODAY)
    ensure_days(connection, days)
    assert existing(connection) == names(*days)
    assert days == [TODAY, TODAY + timedelta(days=1), TODAY + timedelta(days=2)]


def test_making_a_day_twice_changes_nothing(connection: SyncConnection) -> None:
    ensure_days(connection, [TODAY, TODAY])
    ensure_days(connection, [TODAY])
    assert existing(connection) == names(TODAY)


def test_a_day_begins_and_ends_at_midnight_utc_whatever_the_session_s_time_zone_is(connection: SyncConnection) -> None:
    connection.execute("SET timezone = 'Asia/Kolkata'")
    ensure_days(connection, [TODAY, TODAY + timedelta(days=1)])
    midnight = datetime(2026, 3, 5, tzinfo=UTC)
    assert insert(connection, midnight - timedelta(microseconds=1)) == "disk_sample_20260304"
    assert insert(connection, midnight) == "disk_sample_20260305"


def test_replicas_that_make_the_same_days_at_once_all_succeed(database_url: str, connection: SyncConnection) -> None:
    days = [TODAY + timedelta(days=n) for n in range(6)]

    def make(_: int) -> None:
        with psycopg.connect(database_url, autocommit=True) as mine:
            ensure_days(mine, days)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(make, range(6)))
    assert existing(connection) == names(*days)


def test_a_replica_that_was_second_finds_the_partition_made(database_url: str, connection: SyncConnection) -> None:
    """The race made certain: the second one has looked, and waits for the parent's lock while the first creates."""
    with psycopg.connect(database_url) as first, ThreadPoolExecutor(1) as pool:
        first.execute("CREATE TABLE gpu_sample_20260304 PARTITION OF gpu_sample "
                      "FOR VALUES FROM ('2026-03-04Z') TO ('2026-03-05Z')")  # fmt: skip
        second = pool.submit(ensure_days, connection, [TODAY])
        wait_for_a_waiter(database_url)
        first.commit()
        second.result(timeout=20)
    assert existing(connection) == names(TODAY)


def test_a_day_is_made_and_one_dropped_while_a_report_reads_and_no_writer_waits_for_either(
    database_url: str, connection: SyncConnection
) -> None:
    ensure_days(connection, [TODAY - timedelta(days=20), TODAY])
    connection.execute("SET lock_timeout = '5s'")
    with psycopg.connect(database_url) as report, ThreadPoolExecutor(1) as pool:
        report.execute("SELECT * FROM disk_sample")  # holds the table until its transaction ends
        ensure_days(connection, [TODAY + timedelta(days=1)])
        assert existing(connection) >= names(TODAY + timedelta(days=1))
        with psycopg.connect(database_url, autocommit=True) as retention:
            dropping = pool.submit(drop_before, retention, TODAY)
            wait_for_a_waiter(database_url)
            insert(connection, datetime(2026, 3, 4, 12, tzinfo=UTC))
            assert not dropping.done()
            report.commit()
            assert set(dropping.result(timeout=20)) == names(TODAY - timedelta(days=20))


def wait_for_a_waiter(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for _ in range(2000):
            row = connection.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone()
            if row is not None and row[0]:
                return
            connection.execute("SELECT pg_sleep(0.005)")
    raise AssertionError("nobody waits for a lock")


def test_only_days_before_the_oldest_kept_one_are_dropped(connection: SyncConnection) -> None:
    ensure_days(connection, [TODAY - timedelta(days=n) for n in range(4)])
    dropped = drop_before(connection, TODAY - timedelta(days=1))
    assert set(dropped) == names(TODAY - timedelta(days=2), TODAY - timedelta(days=3))
    assert existing(connection) == names(TODAY, TODAY - timedelta(days=1))


def test_dropping_never_waits_for_a_writer_of_another_day(database_url: str, connection: SyncConnection) -> None:
    ensure_days(connection, [TODAY, TODAY - timedelta(days=9)])
    with psycopg.connect(database_url) as writer:
        connection.execute("SET statement_timeout = '20s'")
        writer.execute("CREATE TEMPORARY TABLE mine (n int)")  # an open transaction that holds no sample table
        assert len(drop_before(connection, TODAY)) == len(TABLES)
    assert existing(connection) == names(TODAY)


def test_a_drop_that_was_interrupted_is_finished_by_the_next(database_url: str, connection: SyncConnection) -> None:
    old = TODAY - timedelta(days=20)
    ensure_days(connection, [old, TODAY])
    name = partition_name("gpu", old)
    with psycopg.connect(database_url) as reader:
        reader.execute("SELECT * FROM gpu_sample")  # a long report: holds the table until its transaction ends
        connection.execute("SET statement_timeout = '200ms'")
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute(f"ALTER TABLE gpu_sample DETACH PARTITION {name} CONCURRENTLY")
        connection.execute("SET statement_timeout = 0")
    row = connection.execute(
        "SELECT inhdetachpending FROM pg_inherits WHERE inhrelid = %s::regclass", (name,)
    ).fetchone()
    assert row == (True,)
    assert set(drop_before(connection, TODAY)) == names(old)
    assert existing(connection) == names(TODAY)


def test_a_partition_that_was_detached_but_not_dropped_is_dropped_by_the_next_call(connection: SyncConnection) -> None:
    old = TODAY - timedelta(days=20)
    ensure_days(connection, [old])
    connection.execute(f"ALTER TABLE host_sample DETACH PARTITION {partition_name('host', old)}")
    assert set(drop_before(connection, TODAY)) == names(old)
    ensure_days(connection, [old])
    assert existing(connection) == names(old)


def test_tables_that_are_not_day_partitions_are_left_alone(connection: SyncConnection) -> None:
    connection.execute("CREATE TABLE gpu_sample_backup (n int)")
    connection.execute("CREATE TABLE my_gpu_sample_20200101 (n int)")
    connection.execute("CREATE TABLE gpu_sample_keep PARTITION OF gpu_sample DEFAULT")
    assert drop_before(connection, TODAY) == []
    row = connection.execute(
        "SELECT to_regclass('gpu_sample_backup'), to_regclass('my_gpu_sample_20200101')"
    ).fetchone()
    assert row is not None
    assert None not in row


def test_processes_that_ended_before_retention_are_forgotten_and_nothing_else_is(connection: SyncConnection) -> None:
    oldest = datetime(2026, 3, 4, tzinfo=UTC)
    connection.execute(
        "INSERT INTO node (agent_id, name, agent_version, replayed, attributes, first_seen_at, connected_at) "
        "VALUES ('a', 'a', '0', false, '{}', now(), now())"
    )
    ids = {}
    for key, kind, seen in (("old", 11, -2), ("sampled", 11, -2), ("announced", 11, 2), ("old gpu", 2, -2)):
        at = oldest + timedelta(days=seen)
        row = connection.execute(
            "INSERT INTO entity (node_id, kind, key, attributes, first_seen_at, last_seen_at, state_since) "
            "SELECT node_id, %s, %s, '{}', %s, %s, %s FROM node RETURNING entity_id",
            (kind, key, at, at, at),
        ).fetchone()
        assert row is not None
        ids[key] = row[0]
    for key, seen in (("old", -2), ("sampled", 2)):
        connection.execute(
            "INSERT INTO gpu_process_latest (taken_at, node_id, entity_id) VALUES (%s, 1, %s)",
            (oldest + timedelta(days=seen), ids[key]),
        )
    assert purge_processes(connection, oldest) == 1
    left = connection.execute("SELECT key FROM entity ORDER BY key").fetchall()
    assert [key for (key,) in left] == ["announced", "old gpu", "sampled"]
    assert connection.execute("SELECT entity_id FROM gpu_process_latest").fetchall() == [(ids["sampled"],)]


def test_partitions_of_rollups_are_made_by_day_and_month_and_dropped_when_all_of_them_is_old(
    connection: SyncConnection,
) -> None:
    ensure_rollups(connection, [date(2026, 1, 31), date(2026, 2, 1), TODAY])
    assert existing(connection) == {
        "rollup_minute_20260131", "rollup_minute_20260201", "rollup_minute_20260304",
        "rollup_hour_202601", "rollup_hour_202602", "rollup_hour_202603",
    }  # fmt: skip
    dropped = drop_rollups_before(connection, minutes=date(2026, 2, 1), hours=date(2026, 2, 28))
    assert set(dropped) == {"rollup_minute_20260131", "rollup_hour_202601"}
    assert drop_before(connection, date(2027, 1, 1)) == [], "rollups outlive samples"
