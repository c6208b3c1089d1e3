"""Stored samples as columns of numbers: many rows at once, for work that looks at all of them."""

from __future__ import annotations

import select
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from psycopg import sql

from control_plane.storage import moments
from control_plane.storage.copying import HEADER, POSTGRES_EPOCH_US, TRAILER
from control_plane.storage.samples import COLUMNS
from control_plane.storage.session import SyncConnection

# What every row has, whatever its table; then come the fields that were asked for.
_ALWAYS = (("entity_id", ">i4"), ("taken_at", ">i8"), ("unknown_set_id", ">i4"))
NO_SET = 0  # unknown_set_id of a row in which everything was known; identities begin at 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRows:
    """Rows of one table in the order of entity and time. A value that was not known is NaN."""

    table: str
    entity_ids: npt.NDArray[np.int32]  # (n,)
    taken_at_us: npt.NDArray[np.int64]  # (n,), microseconds since 1970 UTC
    unknown_set_ids: npt.NDArray[np.int32]  # (n,), NO_SET where everything was known
    columns: Mapping[str, npt.NDArray[np.floating]]  # float32 for real, float64 for all else

    def __len__(self) -> int:
        return len(self.entity_ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Which rows: a stretch of time, and of all entities those from `first` on and before `end`, or those named."""

    since_us: int
    until_us: int
    first: int = 0
    end: int = 2**31 - 1
    entity_ids: Sequence[int] | None = None

    def condition(self) -> sql.Composable:
        """This will give the SQL condition on a sample table."""
        parts = [
            sql.SQL("taken_at >= {} AND taken_at < {}").format(
                moments.literal(self.since_us), moments.literal(self.until_us)
            )
        ]
        if self.entity_ids is not None:
            parts.append(sql.SQL("entity_id = ANY({})").format(sql.Literal(list(self.entity_ids))))
        elif (self.first, self.end) != (0, 2**31 - 1):
            parts.append(
                sql.SQL("entity_id >= {} AND entity_id < {}").format(sql.Literal(self.first), sql.Literal(self.end))
            )
        return sql.SQL(" AND ").join(parts)


def read(connection: SyncConnection, table: str, names: Sequence[str], stretch: Stretch) -> SampleRows:
    """This will read fields that hold one number each: real as float32, all others as float64."""
    kinds = dict(COLUMNS[table])
    # Without NULLs every row has the same length, and the answer is an array as it stands.
    selected: list[sql.Composable] = [sql.SQL("entity_id"), sql.SQL("taken_at"), sql.SQL("coalesce(unknown_set_id, 0)")]
    fields: list[tuple[str, str]] = list(_ALWAYS)
    for name in names:
        single = kinds[name] == "real"
        cast = sql.SQL("real" if single else "float8")
        selected.append(sql.SQL("coalesce({}::{}, 'NaN')").format(sql.Identifier(name), cast))
        fields.append((name, ">f4" if single else ">f8"))
    query = sql.SQL("COPY (SELECT {} FROM {} WHERE {}) TO STDOUT (FORMAT BINARY)").format(
        sql.SQL(", ").join(selected), sql.Identifier(f"{table}_sample"), stretch.condition()
    )
    dtype = np.dtype(
        [("n", ">i2")] + [part for name, kind in fields for part in ((f"l_{name}", ">i4"), (f"v_{name}", kind))]
    )
    data = copied_out(connection, query)
    rows = np.frombuffer(data, dtype, count=(len(data) - len(HEADER) - 2) // dtype.itemsize, offset=len(HEADER))
    assert len(data) == len(HEADER) + len(rows) * dtype.itemsize + 2
    return _sorted(table, names, rows)


# Rows whose columns are taken apart together: they stay in the processor's cache meanwhile.
_ROWS_AT_ONCE = 2048


def _sorted(table: str, names: Sequence[str], rows: npt.NDArray[np.void]) -> SampleRows:
    wanted = [name for name, _ in _ALWAYS] + list(names)
    columns: dict[str, npt.NDArray[Any]] = {}
    for name in wanted:
        kind = rows.dtype[f"v_{name}"]
        columns[name] = np.empty(len(rows), kind.newbyteorder("="))
    for begin in range(0, len(rows), _ROWS_AT_ONCE):
        part = rows[begin : begin + _ROWS_AT_ONCE]
        for name, column in columns.items():
            column[begin : begin + len(part)] = part[f"v_{name}"]
    order = np.lexsort((columns["taken_at"], columns["entity_id"]))
    if (np.diff(order) != 1).any():
        columns = {name: column[order] for name, column in columns.items()}
    return SampleRows(
        table=table,
        entity_ids=columns.pop("entity_id"),
        taken_at_us=columns.pop("taken_at") + POSTGRES_EPOCH_US,
        unknown_set_ids=columns.pop("unknown_set_id"),
        columns=columns,
    )


def copied_out(connection: SyncConnection, query: sql.Composed) -> bytearray:
    """This will give what a binary COPY TO STDOUT sends, header and trailer included.

    psycopg's own iterator takes twice as long, as it is a generator that waits anew for every row.
    """
    out = bytearray()
    with connection.cursor() as cursor, cursor.copy(query) as copy:
        take, wait = connection.pgconn.get_copy_data, connection.pgconn.consume_input
        size = 0
        # The trailer is a message of its own, shorter than any row; without rows it comes with the header.
        while size != len(TRAILER) and len(out) != len(HEADER) + len(TRAILER):
            size, data = take(1)
            if size > 0:
                out += data
            elif size == 0:
                select.select([connection.pgconn.socket], [], [])
                wait()
            else:
                break
        while rest := copy.read():  # psycopg has to see the end, or the error
            out += rest
    return out
