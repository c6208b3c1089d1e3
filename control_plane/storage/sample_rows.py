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
_ALWAYS = (("entity_id", ">i4"), ("taken_at", ">i8"), ("unknown_set_id", ">i4"), ("node_id", ">i4"))
_ELEMENTS = {"real[]": ">f4", "bigint[]": ">i8"}
NO_SET = 0  # unknown_set_id of a row in which everything was known; identities begin at 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRows:
    """Rows of one table in the order of entity and time. A value that was not known is NaN."""

    table: str
    entity_ids: npt.NDArray[np.int32]  # (n,)
    taken_at_us: npt.NDArray[np.int64]  # (n,), microseconds since 1970 UTC
    unknown_set_ids: npt.NDArray[np.int32]  # (n,), NO_SET where everything was known
    columns: Mapping[str, npt.NDArray[np.floating]]  # float32 for real, float64 for all else; arrays (n, width)
    node_ids: npt.NDArray[np.int32] | None = None  # (n,), where they were read

    def __len__(self) -> int:
        return len(self.entity_ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Which rows: a stretch of time, and of all entities those from `first` on and before `end`, or those named.

    `nodes` narrows it to nodes from the first id on and before the second.
    """

    since_us: int
    until_us: int
    first: int = 0
    end: int = 2**31 - 1
    entity_ids: Sequence[int] | None = None
    nodes: tuple[int, int] | None = None

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
        if self.nodes is not None:
            parts.append(sql.SQL("node_id >= {} AND node_id < {}").format(*map(sql.Literal, self.nodes)))
        return sql.SQL(" AND ").join(parts)


def read(
    connection: SyncConnection,
    table: str,
    names: Sequence[str],
    stretch: Stretch,
    *,
    widths: Mapping[str, int] | None = None,
    also: sql.Composable | None = None,
) -> SampleRows:
    """This will read columns: real as float32, all others as float64, moments as microseconds since 1970.

    `widths` names the arrays among them, which must be there and have so many elements in every row; `also`
    is a further condition. `<histogram>_count` is the number of a histogram's observations. Raises ValueError when an
    array has another length.
    """
    kinds, widths = dict(COLUMNS[table]), widths or {}
    # Without NULLs every row has the same length, and the answer is an array as it stands.
    selected: list[sql.Composable] = [sql.SQL("entity_id, taken_at, coalesce(unknown_set_id, 0), node_id")]
    dtype: list[Any] = [("n", ">i2")]
    dtype += [part for name, kind in _ALWAYS for part in ((f"l_{name}", ">i4"), (f"v_{name}", kind))]
    for name in names:
        if name in widths:
            element = [("l", ">i4"), ("e", _ELEMENTS[kinds[name]])]
            dtype += [(f"l_{name}", ">i4"), (f"h_{name}", ">i4", (5,)), (f"v_{name}", element, (widths[name],))]
            selected.append(sql.Identifier(name))
        elif kinds.get(name) == "timestamptz":
            dtype += [(f"l_{name}", ">i4"), (f"v_{name}", ">i8")]
            selected.append(sql.Identifier(name))
        else:
            kind = "real" if kinds.get(name) == "real" else "float8"
            dtype += [(f"l_{name}", ">i4"), (f"v_{name}", ">f4" if kind == "real" else ">f8")]
            selected.append(sql.SQL("coalesce({}::{}, 'NaN')").format(_value(name, kinds), sql.SQL(kind)))
    query = sql.SQL("COPY (SELECT {} FROM {} WHERE {}{}) TO STDOUT (FORMAT BINARY)").format(
        sql.SQL(", ").join(selected),
        sql.Identifier(f"{table}_sample"),
        stretch.condition(),
        sql.SQL("") if also is None else sql.SQL(" AND {}").format(also),
    )
    return _sorted(table, names, _rows_of(copied_out(connection, query), np.dtype(dtype)))


def _rows_of(data: bytearray, dtype: np.dtype[np.void]) -> npt.NDArray[np.void]:
    size = len(data) - len(HEADER) - len(TRAILER)
    rows = np.frombuffer(data, dtype, count=size // dtype.itemsize, offset=len(HEADER))
    lengths = {name: dtype[f"v_{name[2:]}"].itemsize for name in dtype.names or () if name.startswith("l_")}
    for name, length in lengths.items():
        expected = length + 20 if f"h_{name[2:]}" in (dtype.names or ()) else length
        if size % dtype.itemsize or (rows[name] != expected).any():
            raise ValueError(f"a row has another length than expected ({name[2:]})")
    return rows


def _value(name: str, kinds: Mapping[str, str]) -> sql.Composable:
    if name in kinds:
        return sql.Identifier(name)
    buckets = sql.Identifier(f"{name.removesuffix('_count')}_buckets")
    return sql.SQL("(SELECT sum(b) FROM unnest({}) AS b)").format(buckets)


# Rows whose columns are taken apart together: they stay in the processor's cache meanwhile.
_ROWS_AT_ONCE = 2048


def _sorted(table: str, names: Sequence[str], rows: npt.NDArray[np.void]) -> SampleRows:
    columns: dict[str, npt.NDArray[Any]] = {}
    for name in [*(name for name, _ in _ALWAYS), *names]:
        kind = rows.dtype[f"v_{name}"]
        element, shape = kind.subdtype or (kind, ())
        plain = (element["e"] if element.names else element).newbyteorder("=")
        columns[name] = np.empty((len(rows), *shape), plain)
    for begin in range(0, len(rows), _ROWS_AT_ONCE):
        part = rows[begin : begin + _ROWS_AT_ONCE]
        for name, column in columns.items():
            values = part[f"v_{name}"]
            column[begin : begin + len(part)] = values["e"] if values.dtype.names else values
    order = np.lexsort((columns["taken_at"], columns["entity_id"]))
    if (np.diff(order) != 1).any():
        columns = {name: column[order] for name, column in columns.items()}
    always = {name: columns.pop(name) for name, _ in _ALWAYS}
    for name, column in columns.items():
        if column.dtype.kind == "i":  # moments, and arrays of whole numbers
            whole = column + POSTGRES_EPOCH_US if dict(COLUMNS[table])[name] == "timestamptz" else column
            if len(whole) and np.abs(whole).max() >= 2**53:
                raise ValueError(f"a whole number of {name} has more digits than a float8")
            columns[name] = whole.astype(np.float64)
    return SampleRows(
        table=table,
        entity_ids=always["entity_id"],
        taken_at_us=always["taken_at"] + POSTGRES_EPOCH_US,
        unknown_set_ids=always["unknown_set_id"],
        node_ids=always["node_id"],
        columns=columns,
    )


def taken(rows: SampleRows, which: npt.NDArray[np.bool_]) -> SampleRows:
    """This will give some of the rows."""
    return SampleRows(
        table=rows.table,
        entity_ids=rows.entity_ids[which],
        taken_at_us=rows.taken_at_us[which],
        unknown_set_ids=rows.unknown_set_ids[which],
        node_ids=None if rows.node_ids is None else rows.node_ids[which],
        columns={name: values[which] for name, values in rows.columns.items()},
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
