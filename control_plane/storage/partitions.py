"""Day partitions: made before they are needed, dropped when retention ends."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta

from psycopg import sql

from control_plane.storage.session import SyncConnection
from optiinfra.catalogue import TABLES

# Two days ahead: a control plane that was down over midnight still finds its partition.
DAYS_AHEAD = 2


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
            connection.execute(
                sql.SQL("CREATE TABLE IF NOT EXISTS {} PARTITION OF {} FOR VALUES FROM ({}) TO ({})").format(
                    sql.Identifier(partition_name(table, day)),
                    sql.Identifier(f"{table}_sample"),
                    sql.Literal(start.isoformat()),
                    sql.Literal((start + timedelta(days=1)).isoformat()),
                )
            )


def days_ahead(today: date) -> list[date]:
    """This will list today and the days for which partitions are made in advance."""
    return [today + timedelta(days=n) for n in range(DAYS_AHEAD + 1)]


def drop_before(connection: SyncConnection, oldest: date) -> list[str]:
    """This will drop every partition that only holds days before `oldest`, and name them.

    The connection must be in autocommit mode: each is detached concurrently, so writers never wait.
    """
    rows = connection.execute(
        "SELECT c.relname, p.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
        "JOIN pg_class p ON p.oid = i.inhparent WHERE p.relname = ANY(%s)",
        ([f"{table}_sample" for table in TABLES],),
    ).fetchall()
    dropped = []
    for child, parent in rows:
        day = datetime.strptime(child.rsplit("_", 1)[1], "%Y%m%d").replace(tzinfo=UTC).date()
        if day >= oldest:
            continue
        connection.execute(
            sql.SQL("ALTER TABLE {} DETACH PARTITION {} CONCURRENTLY").format(
                sql.Identifier(parent), sql.Identifier(child)
            )
        )
        connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(child)))
        dropped.append(child)
    return sorted(dropped)
