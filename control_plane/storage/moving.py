"""Moving all that is stored to another Postgres: the schema of this release there, then every row of every table.

Not by a dump: it would have to be read by an older server, and begin anew after every interruption. Tables are copied
in the binary format, which has been the same since Postgres 15, each in a transaction of its own; what is there already
is not copied again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter

from psycopg import sql

from control_plane.model.errors import ConfigurationError
from control_plane.storage import migrations
from control_plane.storage.rollups import marks
from control_plane.storage.session import Database, SyncConnection, redacted_url, storage_errors

# Says in the other database that a move to it began, and from where, until it is done.
MARK = "optiinfra_move"
SMALL = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table that holds rows: no parent of partitions."""

    name: str
    columns: Sequence[str]
    parent: str | None
    bound: str | None  # FOR VALUES ..., of a partition

    def listed(self) -> sql.Composable:
        """This will list its columns."""
        return sql.SQL(", ").join(map(sql.Identifier, self.columns))


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What a move did."""

    tables: int
    rows: int
    already_there: int  # tables that an earlier try had copied


def move(source: Database, target_url: str, *, say: Callable[[str], None] = lambda _: None) -> Moved:
    """This will copy all that is stored. The caller sees to it that nobody writes to either database meanwhile.

    Raises ConfigurationError when the other database holds something else, StorageUnavailable when one of them fails:
    then call it again, and it goes on.
    """
    target = Database(target_url)
    _claim(source, target)
    migrations.upgrade(source.url)
    migrations.upgrade(target_url)
    rows, copied, skipped = 0, 0, 0
    with storage_errors(), source.connect() as old, target.connect(autocommit=True) as new:
        old.execute("SET idle_in_transaction_session_timeout = 0")
        old.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        for table in _in_order(old, list(_tables(old))):
            if table.parent is not None:
                _attach(new, table)
            count, there = _count(old, table), _count(new, table)
            # A small table may hold as many rows that a migration made; it is quickly copied once more.
            if count == there and (count == 0 or count > SMALL):
                skipped += count > 0
                continue
            say(f"{table.name}: {count:,} rows")
            _copy(old, new, table)
            if _count(new, table) != count:  # never seen; believed of no copy without a look
                raise ConfigurationError(f"{table.name} has another number of rows there; nobody may write meanwhile")
            rows, copied = rows + count, copied + 1
        _set_identities(old, new)
        _begin_packing_again(new)
        new.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(MARK)))
        new.execute("ANALYZE")
    return Moved(tables=copied, rows=rows, already_there=skipped)


def _claim(source: Database, target: Database) -> None:
    """This will see that the other database is empty, or one that a move from here to it was not finished."""
    whence = redacted_url(source.url)
    with storage_errors(), target.connect(autocommit=True) as new:
        tables = [name for (name,) in new.execute(
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = current_schema()::regnamespace"
        ).fetchall()]  # fmt: skip
        if MARK in tables:
            row = new.execute(sql.SQL("SELECT source FROM {}").format(sql.Identifier(MARK))).fetchone()
            if row is None or row[0] != whence:
                raise ConfigurationError(f"a move from {row[0] if row else 'elsewhere'} to there was not finished")
            return
        if tables:
            raise ConfigurationError(f"{redacted_url(target.url)} is not empty: it has a table {min(tables)}")
        new.execute(sql.SQL("CREATE TABLE {} (source TEXT NOT NULL)").format(sql.Identifier(MARK)))
        new.execute(sql.SQL("INSERT INTO {} VALUES (%s)").format(sql.Identifier(MARK)), (whence,))


def _tables(connection: SyncConnection) -> Iterator[Table]:
    rows = connection.execute(
        "SELECT c.relname, p.relname, pg_get_expr(c.relpartbound, c.oid), "
        "(SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_attribute a "
        "WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '') "
        "FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid LEFT JOIN pg_class p ON p.oid = i.inhparent "
        "WHERE c.relkind = 'r' AND c.relnamespace = current_schema()::regnamespace "
        "AND c.relname NOT IN ('alembic_version', %s) ORDER BY c.relname",
        (MARK,),
    ).fetchall()
    for name, parent, bound, columns in rows:
        yield Table(name=name, columns=columns, parent=parent, bound=bound)


def _in_order(connection: SyncConnection, tables: Sequence[Table]) -> Iterator[Table]:
    """This will give what is referred to before what refers to it, and leave out what is on its way in or out."""
    names = {table.name: table for table in tables if table.parent is not None or _known(connection, table.name)}
    before: dict[str, set[str]] = {name: set() for name in names}
    for name, other in connection.execute(
        "SELECT c.relname, o.relname FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid "
        "JOIN pg_class o ON o.oid = k.confrelid WHERE k.contype = 'f'"
    ).fetchall():
        if name in names and other in names and name != other:
            before[name].add(other)
    for name in TopologicalSorter(before).static_order():
        yield names[name]


def _known(connection: SyncConnection, name: str) -> bool:
    """This will say whether a table belongs to the schema: partitions that are made or dropped do not."""
    row = connection.execute(
        "SELECT NOT EXISTS (SELECT FROM pg_class p WHERE p.relkind = 'p' "
        "AND p.relnamespace = current_schema()::regnamespace AND %s ~ ('^' || p.relname || '_[0-9]{6,8}$'))",
        (name,),
    ).fetchone()
    return bool(row and row[0])


def _attach(new: SyncConnection, table: Table) -> None:
    assert table.parent is not None
    if new.execute("SELECT to_regclass(%s)", (table.name,)).fetchone() != (None,):
        return
    statement = sql.SQL("CREATE TABLE {} PARTITION OF {} {}").format(
        sql.Identifier(table.name), sql.Identifier(table.parent), sql.SQL(table.bound or "")
    )  # fmt: skip
    new.execute(statement)


def _count(connection: SyncConnection, table: Table) -> int:
    row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table.name))).fetchone()
    return int(row[0]) if row else 0


def _copy(old: SyncConnection, new: SyncConnection, table: Table) -> None:
    name, columns = sql.Identifier(table.name), table.listed()
    out = sql.SQL("COPY {} ({}) TO STDOUT (FORMAT BINARY)").format(name, columns)
    into = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(name, columns)
    with new.transaction():
        new.execute(sql.SQL("DELETE FROM {}").format(name))  # of a try before; a row of a migration, too
        with (
            old.cursor() as reading, new.cursor() as writing,
            reading.copy(out) as source, writing.copy(into) as target,
        ):  # fmt: skip
            for data in source:
                target.write(data)


def _begin_packing_again(new: SyncConnection) -> None:
    """This will have a day that was being packed packed from its beginning: what there was of it stayed behind."""
    new.execute("DELETE FROM rollup_progress WHERE name LIKE %s", (f"{marks.PACKING}:%",))
    new.execute(
        "UPDATE rollup_progress p SET until = d.until FROM rollup_progress d WHERE (p.name, d.name) = (%s, %s)",
        (marks.PACKING, marks.PACKED),
    )
    new.execute("DELETE FROM rollup_progress p WHERE p.name = %s AND NOT EXISTS "
                "(SELECT FROM rollup_progress d WHERE d.name = %s)", (marks.PACKING, marks.PACKED))  # fmt: skip


def _set_identities(old: SyncConnection, new: SyncConnection) -> None:
    """This will let numbers go on where they stood."""
    rows = old.execute(
        "SELECT c.relname, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid "
        "WHERE a.attidentity <> '' AND c.relnamespace = current_schema()::regnamespace"
    ).fetchall()
    for table, column in rows:
        place = "SELECT pg_get_serial_sequence(%s, %s)"
        (sequence,) = old.execute(place, (table, column)).fetchone() or (None,)
        (other,) = new.execute(place, (table, column)).fetchone() or (None,)
        if sequence is None or other is None:
            continue
        stands = old.execute(f"SELECT last_value, is_called FROM {sequence}".encode()).fetchone()  # noqa: S608
        assert stands is not None
        most = sql.SQL("SELECT max({}) FROM {}").format(sql.Identifier(column), sql.Identifier(table))
        (given,) = old.execute(most).fetchone() or (None,)
        if given is not None and given >= stands[0]:  # somebody chose numbers himself
            stands = (given, True)
        new.execute("SELECT setval(%s::regclass, %s, %s)", (other, *stands))
