"""Day partitions: made before they are needed, dropped when retention ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta

from psycopg import errors, sql

from control_plane.model.entity import EntityKind
from control_plane.storage.session import SyncConnection
from optiinfra.catalogue import TABLES

# Two days ahead: a control plane that was down over midnight still finds its partition.
DAYS_AHEAD = 2
_DAY_PARTITIONS = f"^({'|'.join(TABLES)})_sample_[0-9]{{8}}$"

# Rows are only added, and leave with their partition: nothing to vacuum, and a second pass over every page is no use.
# Statistics of sixty columns take seconds of CPU; when a partition has doubled is often enough.
_RARELY_LOOKED_AFTER = sql.SQL(
    " WITH (autovacuum_vacuum_insert_threshold = -1, "
    "autovacuum_analyze_threshold = 1000000, autovacuum_analyze_scale_factor = 1)"
)
_AS_USUAL = sql.SQL("")


def partition_name(table: str, day: date) -> str:
    """This will name the partition of `table` that holds `day`."""
    return f"{table}_sample_{day:%Y%m%d}"


def ensure_days(connection: SyncConnection, days: Iterable[date]) -> None:
    """This will make the partitions of every sample table for `days`, where they are missing.

    Safe beside other replicas that do the same. The connection must be in autocommit mode: making
    a partition locks its parent, and must not hold that lock longer than its own statement.
    """
    for day in sorted(set(days)):
        for table in TABLES:
            name, end = partition_name(table, day), day + timedelta(days=1)
            _ensure(connection, f"{table}_sample", name, day, end, settings=_RARELY_LOOKED_AFTER)


def ensure_rollups(connection: SyncConnection, days: Iterable[date]) -> None:
    """This will make the partitions of the rollup tables that hold `days`: one a day, and one a month for hours."""
    for day in sorted(set(days)):
        _ensure(connection, "rollup_minute", f"rollup_minute_{day:%Y%m%d}", day, day + timedelta(days=1))
        month = day.replace(day=1)
        next_month = (month + timedelta(days=31)).replace(day=1)
        _ensure(connection, "rollup_hour", f"rollup_hour_{month:%Y%m}", month, next_month)


def ensure_packed(connection: SyncConnection, days: Iterable[date]) -> None:
    """This will make the partitions of packed samples that hold `days`, where they are missing."""
    for day in sorted(set(days)):
        _ensure(connection, "packed_sample", f"packed_sample_{day:%Y%m%d}", day, day + timedelta(days=1))


def _ensure(
    connection: SyncConnection, parent: str, name: str, first: date, end: date, settings: sql.SQL = _AS_USUAL
) -> None:
    """This will make a partition without keeping anybody waiting: made beside its parent, it is attached.

    CREATE TABLE ... PARTITION OF takes the parent alone, and behind it every writer waits for the longest reader.
    """
    if connection.execute("SELECT to_regclass(%s)", (name,)).fetchone() != (None,):
        return
    # Between the look and the making another replica may have been faster.
    with suppress(errors.DuplicateTable, errors.DuplicateObject, errors.UniqueViolation), connection.transaction():
        connection.execute(
            sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL){}").format(
                sql.Identifier(name), sql.Identifier(parent), settings
            )
        )
        connection.execute(
            sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(
                sql.Identifier(parent),
                sql.Identifier(name),
                sql.Literal(midnight(first).isoformat()),
                sql.Literal(midnight(end).isoformat()),
            )
        )


def midnight(day: date) -> datetime:
    """This will give when a day begins, in UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def oldest_day(connection: SyncConnection) -> datetime | None:
    """This will give the start of the oldest day that any sample table has a partition for."""
    row = connection.execute(
        "SELECT min(right(relname, 8)) FROM pg_class WHERE relkind IN ('r', 'p') AND relispartition "
        "AND relnamespace = current_schema()::regnamespace AND relname ~ %s",
        (_DAY_PARTITIONS,),
    ).fetchone()
    return None if row is None or row[0] is None else datetime.strptime(row[0], "%Y%m%d").replace(tzinfo=UTC)


def days_ahead(today: date) -> list[date]:
    """This will list today and the days for which partitions are made in advance."""
    return [today + timedelta(days=n) for n in range(DAYS_AHEAD + 1)]


def summarize(connection: SyncConnection, day: date) -> None:
    """This will bring the block range indexes of a day's samples up to date: what is not in them is always read.

    A day may be partitioned further, on other servers too (docs/history-scaling.md); those look after their own.
    """
    connection.execute(
        "SELECT brin_summarize_new_values(i.indexrelid) FROM pg_index i "
        "JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am a ON a.oid = x.relam "
        "WHERE a.amname = 'brin' AND x.relkind = 'i' "
        "AND i.indrelid IN (SELECT to_regclass(t) FROM unnest(%s::text[]) t)",
        ([partition_name(table, day) for table in TABLES],),
    )


def drop_before(connection: SyncConnection, oldest: date) -> list[str]:
    """This will drop every partition of samples, loose or packed, that only holds days before `oldest`, and name them.

    The connection must be in autocommit mode: each is detached concurrently, so writers never wait.
    What a call that was interrupted left half detached, or detached and not dropped, is finished.
    """
    return _drop(connection, _DAY_PARTITIONS, lambda stamp: _day_of(stamp) < oldest) + _drop(
        connection, "^packed_sample_[0-9]{8}$", lambda stamp: _day_of(stamp) < oldest
    )


def drop_rollups_before(connection: SyncConnection, *, minutes: date, hours: date) -> list[str]:
    """This will do the same with partitions of rollups: one goes when all of it is older."""
    dropped = _drop(connection, "^rollup_minute_[0-9]{8}$", lambda stamp: _day_of(stamp) < minutes)
    first_kept = hours.replace(day=1)
    return dropped + _drop(connection, "^rollup_hour_[0-9]{6}$", lambda stamp: _day_of(stamp + "01") < first_kept)


def _day_of(stamp: str) -> date:
    return datetime.strptime(stamp, "%Y%m%d").replace(tzinfo=UTC).date()


def _drop(connection: SyncConnection, pattern: str, is_old: Callable[[str], bool]) -> list[str]:
    rows = connection.execute(
        "SELECT c.relname, i.inhdetachpending FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid "
        "WHERE c.relkind IN ('r', 'p') AND c.relnamespace = current_schema()::regnamespace AND c.relname ~ %s",
        (pattern,),
    ).fetchall()
    dropped = []
    for child, pending in sorted(rows):
        parent, _, stamp = child.rpartition("_")
        if not is_old(stamp):
            continue
        if pending is not None:  # still its parent's
            connection.execute(
                sql.SQL("ALTER TABLE {} DETACH PARTITION {} {}").format(
                    sql.Identifier(parent), sql.Identifier(child), sql.SQL("FINALIZE" if pending else "CONCURRENTLY")
                )
            )
        connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(child)))
        dropped.append(child)
    return dropped


def purge_processes(connection: SyncConnection, oldest: datetime) -> int:
    """This will forget the GPU processes that were last sampled before `oldest`, and say how many.

    Other things stay when their samples are gone: there are few of them, and they come back. A
    process does not, and every restart of an engine makes new ones.
    """
    with connection.transaction():
        connection.execute("DELETE FROM gpu_process_latest WHERE taken_at < %s", (oldest,))
        forgotten = connection.execute(
            "DELETE FROM entity e WHERE e.kind = %s AND e.last_seen_at < %s "
            "AND NOT EXISTS (SELECT FROM gpu_process_latest l WHERE l.entity_id = e.entity_id)",
            (int(EntityKind.GPU_PROCESS), oldest),
        )
    return forgotten.rowcount
