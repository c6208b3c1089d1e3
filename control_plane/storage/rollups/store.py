"""The rollup tables: rows out of them and into them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, LiteralString

from psycopg import sql
from psycopg.rows import dict_row

from control_plane.storage import moments
from control_plane.storage.copying import HEADER, TRAILER
from control_plane.storage.numpy_arrays import use_numpy
from control_plane.storage.rollups.blocks import COLUMNS, FieldCells, cells_of_row, copy_row, in_pieces
from control_plane.storage.rollups.fields import FieldKind, FieldNumbers, is_exact, kind_of
from control_plane.storage.session import SyncConnection
from optiinfra.catalogue import TABLES

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
    """What a field's number stands for, both ways."""

    def __init__(self, known: FieldNumbers) -> None:
        """`known` is what `fields.numbers` gave."""
        self._number = known
        self._kind: dict[int, FieldKind] = {}
        self._exact: dict[int, bool] = {}
        for table, spec in TABLES.items():
            for field in spec.fields:
                kind = kind_of(field)
                if kind is not None:
                    number = known[table, field.name]
                    self._kind[number], self._exact[number] = kind, is_exact(field)

    def number(self, table: str, name: str) -> int:
        """This will give a field's number."""
        return self._number[table, name]

    def numbers_of(self, table: str) -> list[int]:
        """This will list the numbers of a table's fields that have rollups."""
        return [self._number[table, f.name] for f in TABLES[table].fields if kind_of(f) is not None]

    def kind(self, number: int) -> FieldKind | None:
        """This will say what kind of field has a number; None for one that this release does not know."""
        return self._kind.get(number)

    def exact(self, number: int) -> bool:
        """This will say whether its last value needs more digits than a float4 has."""
        return self._exact[number]


def insert(connection: SyncConnection, level: Level, found: Iterable[FieldCells]) -> int:
    """This will store cells and give the number of rows."""
    columns = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(sql.Identifier(level.table), columns)
    count = 0
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.write(HEADER)
        for whole in found:
            for piece in in_pieces(whole):
                copy.write(copy_row(piece))
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
    low, high = entities or (0, 2**31 - 1)
    statement = sql.SQL(
        "DELETE FROM {} WHERE field_id = ANY(%(numbers)s) AND start >= %(oldest)s AND start < %(until)s "
        "AND start + units * %(unit)s > %(since)s AND first_entity <= %(high)s AND last_entity >= %(low)s RETURNING {}"
    ).format(sql.Identifier(level.table), selected(COLUMNS))
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
