"""The rollup tables: rows out of them and into them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, LiteralString

from psycopg import sql
from psycopg.rows import dict_row

from control_plane.storage import moments
from control_plane.storage.copying import HEADER, TRAILER
from control_plane.storage.numpy_arrays import use_numpy
from control_plane.storage.rollups.blocks import COLUMNS, FieldCells, cells_of_row, copy_row, in_pieces
from control_plane.storage.rollups.fields import (
    SCOPED,
    SCOPES,
    FieldKind,
    FieldNumbers,
    has_scopes,
    is_exact,
    kind_of,
    rolled_up,
    scoped,
)
from control_plane.storage.session import SyncConnection
from optiinfra.catalogue import TABLES, FieldSpec

MINUTE_US, HOUR_US, DAY_US = 60_000_000, 3_600_000_000, 86_400_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One resolution: its table, the length of its units, and the stretch that its final rows hold."""

    name: LiteralString
    unit_us: int
    span_us: int

    @property
    def table(self) -> LiteralString:
        """This will give the table's name."""
        return "rollup_" + self.name


MINUTE = Level(name="minute", unit_us=MINUTE_US, span_us=HOUR_US)
HOUR = Level(name="hour", unit_us=HOUR_US, span_us=DAY_US)
LEVELS = (MINUTE, HOUR)


class FieldBook:
    """What a field's number stands for, both ways; fields of nodes and the fleet are those of tables of their own."""

    def __init__(self, known: FieldNumbers) -> None:
        """`known` is what `fields.numbers` gave."""
        self._number = known
        self._field: dict[int, FieldSpec] = {}
        self._names: dict[str, dict[str, int]] = {}
        for table, spec in TABLES.items():
            for field in rolled_up(spec):
                scopes = SCOPES if table in SCOPED and has_scopes(field) else ()
                for home in (table, *(scoped(table, scope) for scope in scopes)):
                    number = known[home, field.name]
                    self._field[number] = field
                    self._names.setdefault(home, {})[field.name] = number

    @property
    def tables(self) -> Collection[str]:
        """This will list the tables that have rolled up fields, those of nodes and the fleet among them."""
        return self._names

    def number(self, table: str, name: str) -> int:
        """This will give a field's number."""
        return self._number[table, name]

    def name(self, number: int) -> str:
        """This will give a field's name."""
        return self._field[number].name

    def names_of(self, table: str) -> Collection[str]:
        """This will list the names of a table's fields that have rollups."""
        return self._names[table]

    def numbers_of(self, table: str) -> list[int]:
        """This will list their numbers."""
        return list(self._names[table].values())

    def kind(self, number: int) -> FieldKind | None:
        """This will say what kind of field has a number; None for one that this release does not know."""
        return kind_of(self._field[number]) if number in self._field else None

    def exact(self, number: int) -> bool:
        """This will say whether its last value needs more digits than a float4 has."""
        return is_exact(self._field[number])


def insert(connection: SyncConnection, level: Level, found: Iterable[FieldCells]) -> int:
    """This will store cells and give the number of rows."""
    columns = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(sql.Identifier(level.table), columns)
    count = 0
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.write(HEADER)
        for whole in found:
            for piece, stretch in in_pieces(whole):
                copy.write(copy_row(piece, stretch))
                count += 1
        copy.write(TRAILER)
    return count


def take(
    connection: SyncConnection,
    level: Level,
    book: FieldBook,
    numbers: Sequence[int],
    *,
    since_us: int,
    until_us: int,
    entities: tuple[int, int] | None = None,
) -> list[FieldCells]:
    """This will take the rows that have a part in a stretch out of the table, and give what they held.

    `entities` leaves rows in place that hold none between the two ids, both included.
    """
    statement = sql.SQL("DELETE FROM {} WHERE {} RETURNING {}").format(
        sql.Identifier(level.table), _PART_OF_A_STRETCH, selected(COLUMNS)
    )
    return _found(connection, statement, level, book, numbers, since_us, until_us, entities)


def look(
    connection: SyncConnection, level: Level, book: FieldBook, numbers: Sequence[int], *, since_us: int, until_us: int
) -> list[FieldCells]:
    """This will give what the same rows hold, and leave them."""
    statement = sql.SQL("SELECT {} FROM {} WHERE {}").format(
        selected(COLUMNS), sql.Identifier(level.table), _PART_OF_A_STRETCH
    )
    return _found(connection, statement, level, book, numbers, since_us, until_us, None)


_PART_OF_A_STRETCH = sql.SQL(
    "field_id = ANY(%(numbers)s) AND start >= %(oldest)s AND start < %(until)s "
    "AND start + units * %(unit)s > %(since)s AND first_entity <= %(high)s AND last_entity >= %(low)s"
)


def _found(
    connection: SyncConnection,
    statement: sql.Composed,
    level: Level,
    book: FieldBook,
    numbers: Sequence[int],
    since_us: int,
    until_us: int,
    entities: tuple[int, int] | None,
) -> list[FieldCells]:
    low, high = entities or (0, 2**31 - 1)
    arguments = {
        "numbers": list(numbers),
        "oldest": moments.to_datetime(since_us - level.span_us),
        "since": moments.to_datetime(since_us),
        "until": moments.to_datetime(until_us),
        "unit": timedelta(microseconds=level.unit_us),
        "low": low,
        "high": high,
    }
    with connection.cursor(binary=True, row_factory=dict_row) as cursor:
        use_numpy(cursor.adapters)
        return [of_row(row, level, book) for row in cursor.execute(statement, arguments)]


def selected(columns: Iterable[str]) -> sql.Composable:
    """This will list columns for a SELECT, with `start` as microseconds since 1970."""
    start = sql.SQL("{} AS start").format(moments.as_us("start"))
    return sql.SQL(", ").join(start if name == "start" else sql.Identifier(name) for name in columns)


def of_row(row: Mapping[str, Any], level: Level, book: FieldBook) -> FieldCells:
    """This will make cells of a row as `selected` gives it."""
    number = row["field_id"]
    kind = book.kind(number)
    assert kind is not None
    return FieldCells(field_id=number, exact=book.exact(number), cells=cells_of_row(row, kind, unit_us=level.unit_us))
