"""Storing blocks of samples: binary COPY into the day's partition, and the newest row of each entity."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
import numpy.typing as npt
from psycopg import sql
from sqlalchemy import ARRAY

from control_plane.model.errors import StorageRefused
from control_plane.model.reason import Reason
from control_plane.model.sample import KNOWN, SampleBlock
from control_plane.storage import dictionaries, latest
from control_plane.storage.copying import HEADER, TRAILER, CopyColumn, copy_rows
from control_plane.storage.schema import sample_columns
from control_plane.storage.session import SyncConnection
from optiinfra.catalogue import TABLES


def _sql_type(kind: object) -> str:
    """This will name a column's type as copying.py knows it."""
    if isinstance(kind, ARRAY):
        return _sql_type(kind.item_type) + "[]"
    text = str(kind).lower()
    return {"timestamp": "timestamptz", "double precision": "double"}.get(text, text)


# The columns of each sample table in COPY's order, with copying.py's names for their types.
COLUMNS: dict[str, list[tuple[str, str]]] = {
    name: [(column, _sql_type(kind)) for column, kind in sample_columns(spec)] for name, spec in TABLES.items()
}


def null_patterns(codes: npt.NDArray[np.uint8]) -> Iterator[tuple[npt.NDArray[np.uint8], npt.NDArray[np.intp]]]:
    """This will group rows by which values they lack and why: (codes of the group, row numbers)."""
    if (codes == codes[0]).all():  # the usual case: one kind of GPU, all well
        yield codes[0], np.arange(len(codes))
        return
    _, first, inverse = np.unique(codes, axis=0, return_index=True, return_inverse=True)
    for group, row in enumerate(first):
        yield codes[row], np.flatnonzero(inverse.ravel() == group)


@cache  # composed once, not for every commit: there are fifty names in it
def _copy_statement(table: str) -> bytes:
    columns = sql.SQL(", ").join(sql.Identifier(name) for name, _ in COLUMNS[table])
    return (
        sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(sql.Identifier(f"{table}_sample"), columns).as_bytes()
    )


class SampleWriter:
    """Writes blocks inside the caller's transaction. One per writing thread."""

    def __init__(self) -> None:
        """The dictionaries' caches start empty and fill from the database."""
        self._unknown_sets = dictionaries.unknown_sets()
        self._layouts = dictionaries.histogram_layouts()

    def write(self, connection: SyncConnection, blocks: Sequence[SampleBlock]) -> int:
        """This will store `blocks` and give the number of rows."""
        by_table: dict[str, list[SampleBlock]] = {}
        for block in blocks:
            if len(block):
                by_table.setdefault(block.table.name, []).append(block)
        for table, group in sorted(by_table.items()):  # one order in every replica: no deadlock on latest rows
            self._copy(connection, table, group)
            latest.advance(
                connection,
                table,
                [name for name, _ in COLUMNS[table]],
                np.concatenate([block.entity_ids for block in group]),
                np.concatenate([block.taken_at_us for block in group]),
            )
        return sum(len(block) for block in blocks)

    def committed(self) -> None:
        """This will keep the dictionary entries of the transaction that has just been committed."""
        self._unknown_sets.committed()
        self._layouts.committed()

    def rolled_back(self) -> None:
        """This will forget the dictionary entries of the transaction that has just been rolled back."""
        self._unknown_sets.rolled_back()
        self._layouts.rolled_back()

    def _copy(self, connection: SyncConnection, table: str, blocks: Sequence[SampleBlock]) -> None:
        pieces = [piece for block in blocks for piece in self._pieces(connection, block)]
        with connection.cursor() as cursor, cursor.copy(_copy_statement(table)) as copy:
            copy.write(HEADER)
            for piece in pieces:
                copy.write(piece)
            copy.write(TRAILER)

    def _pieces(self, connection: SyncConnection, block: SampleBlock) -> Iterator[memoryview]:
        layout_id = self._layout_id(connection, block)
        for codes, rows in null_patterns(block.codes):
            unknown_set_id = self._unknown_set_id(connection, block, codes)
            columns = _copy_columns(block, codes, rows, unknown_set_id, layout_id)
            yield copy_rows(columns, len(rows))

    def _layout_id(self, connection: SyncConnection, block: SampleBlock) -> int | None:
        if not block.histograms:
            return None
        bounds = {name: list(h.bounds) for name, h in block.histograms.items()}
        if not self._layouts.takes(bounds):
            raise StorageRefused("more kinds of histograms were announced than are kept apart")
        return self._layouts.id_of(connection, bounds)

    def _unknown_set_id(
        self, connection: SyncConnection, block: SampleBlock, codes: npt.NDArray[np.uint8]
    ) -> int | None:
        reasons = {
            spec.name: Reason.from_payload(int(code)).label
            for spec, code in zip(block.table.fields, codes, strict=True)
            if code != KNOWN
        }
        if not reasons:
            return None
        scope = block.table.name
        if not self._unknown_sets.takes(reasons, scope=scope):
            # One entry for all: readers only ask for the reasons of what is NULL.
            reasons = {spec.name: Reason.ERROR.label for spec in block.table.fields}
        return self._unknown_sets.id_of(connection, reasons, scope=scope)


def _copy_columns(
    block: SampleBlock,
    codes: npt.NDArray[np.uint8],
    rows: npt.NDArray[np.intp],
    unknown_set_id: int | None,
    layout_id: int | None,
) -> list[CopyColumn]:
    count = len(rows)
    known = {spec.name for spec, code in zip(block.table.fields, codes, strict=True) if code == KNOWN}
    whole = count == len(block)

    def pick(values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        return values if whole else values[rows]

    values: dict[str, npt.NDArray[np.generic]] = {
        "taken_at": pick(block.taken_at_us),
        "node_id": pick(block.node_ids),
        "entity_id": pick(block.entity_ids),
    }
    if unknown_set_id is not None:
        values["unknown_set_id"] = np.full(count, unknown_set_id, np.int32)
    if layout_id is not None:
        values["layout_id"] = np.full(count, layout_id, np.int32)
    values |= {name: pick(column) for name, column in block.columns.items() if name in known}
    values |= {name: pick(extra) for name, extra in block.extra.items()}
    for name, histogram in block.histograms.items():
        if name in known:
            values[f"{name}_buckets"] = pick(histogram.counts)
            values[f"{name}_sum"] = pick(histogram.sums)
    return [CopyColumn(name=name, type=kind, values=values.get(name)) for name, kind in COLUMNS[block.table.name]]
