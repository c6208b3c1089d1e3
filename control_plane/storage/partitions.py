"""Day partitions: made before they are needed, dropped when retention ends."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta

from psycopg import errors, sql

from control_plane.model.entity import EntityKind
from control_plane.storage.session import SyncConnection
from optiinfra.catalogue import TABLES

# Two days ahead: a control plane that was down over midnight still finds its partition.
DAYS_AHEAD = 2

# Rows are only added, and leave with their partition: nothing to vacuum, and a second pass over every page is no use.
# Statistics of sixty columns take seconds of CPU; when a partition has doubled is often enough.
_RARELY_LOOKED_AFTER = sql.SQL(
    "autovacuum_vacuum_insert_threshold = -1, "
    "autovacuum_analyze_threshold = 1000000, autovacuum_analyze_scale_factor = 1"
)


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
            start = datetime(day.year, day.month, day.day, tzinfo=UTC)
            # IF NOT EXISTS looks before it waits for the parent's lock: the replica that had it was faster.
            with suppress(errors.DuplicateTable, errors.UniqueViolation):
                connection.execute(
                    sql.SQL(
                        "CREATE TABLE IF NOT EXISTS {} PARTITION OF {} FOR VALUES FROM ({}) TO ({}) WITH ({})"
                    ).format(
                        sql.Identifier(partition_name(table, day)),
                        sql.Identifier(f"{table}_sample"),
                        sql.Literal(start.isoformat()),
                        sql.Literal((start + timedelta(days=1)).isoformat()),
                        _RARELY_LOOKED_AFTER,
                    )
                )


def days_ahead(today: date) -> list[date]:
    """This will list today and the days for which partitions are made in advance."""
    return [today + timedelta(days=n) for n in range(DAYS_AHEAD + 1)]


def drop_before(connection: SyncConnection, oldest: date) -> list[str]:
    """This will drop every partition that only holds days before `oldest`, and name them.

    The connection must be in autocommit mode: each is detached concurrently, so writers never wait.
    What a call that was interrupted left half detached, or detached and not dropped, is finished.
    """
    rows = connection.execute(
        "SELECT c.relname, i.inhdetachpending FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid "
        "WHERE c.relkind = 'r' AND c.relnamespace = current_schema()::regnamespace AND c.relname ~ %s",
        (f"^({'|'.join(TABLES)})_sample_[0-9]{{8}}$",),
    ).fetchall()
    dropped = []
    for child, pending in sorted(rows):
        parent, _, digits = child.rpartition("_")
        if datetime.strptime(digits, "%Y%m%d").replace(tzinfo=UTC).date() >= oldest:
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
