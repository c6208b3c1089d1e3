"""The table of packed samples: rows into it, and samples out of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any, LiteralString

import numpy as np
from psycopg import sql
from psycopg.rows import dict_row

from control_plane.storage import moments, sample_rows
from control_plane.storage.copying import HEADER, TRAILER
from control_plane.storage.numpy_arrays import use_numpy
from control_plane.storage.packing.blocks import COLUMNS, HOUR_US, MOMENT, PackedRow, copy_row, of_row, values_of
from control_plane.storage.rollups.fields import FieldNumbers
from control_plane.storage.sample_rows import NO_SET, SampleRows, Stretch
from control_plane.storage.samples import COLUMNS as SAMPLE_COLUMNS
from control_plane.storage.session import SyncConnection

PARENT: LiteralString = "packed_sample"


def partition_name(day: date) -> str:
    """This will name the partition that holds a day of packed samples."""
    return f"{PARENT}_{day:%Y%m%d}"


def insert(connection: SyncConnection, target: str, rows: Iterable[PackedRow]) -> int:
    """This will store rows in `target` and give their number."""
    columns = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(sql.Identifier(target), columns)
    count = 0
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.write(HEADER)
        for row in rows:
            copy.write(copy_row(row))
            count += 1
        copy.write(TRAILER)
    return count


def query_of(table: str, names: Sequence[str], numbers: FieldNumbers, stretch: Stretch) -> tuple[sql.Composed, Any]:
    """This will give the query, with its arguments, for packed rows of these columns that have a part in a stretch."""
    selected = sql.SQL(", ").join(
        sql.SQL("{} AS hour").format(moments.as_us("hour")) if name == "hour" else sql.Identifier(name)
        for name in COLUMNS
    )
    condition = sql.SQL(
        "field_id = ANY(%(fields)s) AND hour > %(oldest)s AND hour < %(until)s"
        if stretch.entity_ids is None
        else "field_id = ANY(%(fields)s) AND hour > %(oldest)s AND hour < %(until)s AND entity_ids && %(ids)s::int[] "
        "AND node_id IN (SELECT node_id FROM entity WHERE entity_id = ANY(%(ids)s))"
    )
    statement = sql.SQL("SELECT {} FROM {} WHERE {} ORDER BY hour, node_id, block").format(
        selected, sql.Identifier(PARENT), condition
    )
    wanted = {MOMENT, "unknown_set_id", *names}
    return statement, {
        "fields": [numbers[table, name] for name in wanted if (table, name) in numbers],
        "oldest": moments.to_datetime(stretch.since_us - HOUR_US),
        "until": moments.to_datetime(stretch.until_us),
        "ids": None if stretch.entity_ids is None else list(stretch.entity_ids),
    }


def read(
    connection: SyncConnection, table: str, names: Sequence[str], numbers: FieldNumbers, stretch: Stretch
) -> list[SampleRows]:
    """This will read packed samples of a stretch, one SampleRows for each block that has a part in it."""
    statement, arguments = query_of(table, names, numbers, stretch)
    with connection.cursor(binary=True, row_factory=dict_row) as cursor:
        use_numpy(cursor.adapters)
        return unpacked(cursor.execute(statement, arguments).fetchall(), table, names, numbers, stretch)


def unpacked(
    found: Sequence[Mapping[str, Any]], table: str, names: Sequence[str], numbers: FieldNumbers, stretch: Stretch
) -> list[SampleRows]:
    """This will make samples of rows that `query_of` found."""
    kinds = dict(SAMPLE_COLUMNS[table])
    by_block: dict[tuple[int, int, int], dict[int, PackedRow]] = {}
    for packed_row in map(of_row, found):
        key = (packed_row.hour_us, packed_row.node_id, packed_row.block)
        by_block.setdefault(key, {})[packed_row.field_id] = packed_row
    wanted = None if stretch.entity_ids is None else set(stretch.entity_ids)
    out = []
    for block in by_block.values():
        times = block[numbers[table, MOMENT]]
        ids = times.entity_ids.tolist()
        places = [p for p, entity_id in enumerate(ids) if wanted is None or entity_id in wanted]
        taken_at = values_of(times, "double", [0]).astype(np.int64) + times.hour_us
        inside = (taken_at >= stretch.since_us) & (taken_at < stretch.until_us)
        if not places or not inside.any():
            continue
        kept = np.tile(inside, len(places))
        columns = {}
        for name in [*names, "unknown_set_id"]:
            mine = block.get(numbers.get((table, name), -1))
            if mine is not None:
                columns[name] = values_of(mine, kinds[name], places)[kept]
            elif not kinds[name].endswith("[]"):
                columns[name] = np.full(int(kept.sum()), np.nan, np.float32 if kinds[name] == "real" else np.float64)
        sets = columns.pop("unknown_set_id")
        count = int(kept.sum())
        out.append(
            SampleRows(
                table=table,
                entity_ids=np.repeat(np.array([ids[p] for p in places], np.int32), len(taken_at))[kept],
                taken_at_us=np.tile(taken_at, len(places))[kept],
                unknown_set_ids=np.where(np.isnan(sets), NO_SET, sets).astype(np.int32),
                node_ids=np.full(count, times.node_id, np.int32),
                columns=columns,
            )
        )
    return out


def joined(parts: Sequence[SampleRows], names: Sequence[str]) -> SampleRows:
    """This will put samples of several places together, in order; columns that hold one number each."""
    entity_ids = np.concatenate([part.entity_ids for part in parts])
    taken_at = np.concatenate([part.taken_at_us for part in parts])
    order = np.lexsort((taken_at, entity_ids))
    return SampleRows(
        table=parts[0].table,
        entity_ids=entity_ids[order],
        taken_at_us=taken_at[order],
        unknown_set_ids=np.concatenate([part.unknown_set_ids for part in parts])[order],
        columns={name: np.concatenate([part.columns[name] for part in parts])[order] for name in names},
    )


def read_all(
    connection: SyncConnection, table: str, names: Sequence[str], numbers: FieldNumbers, stretch: Stretch
) -> SampleRows:
    """This will read samples of a stretch wherever they lie. The connection's snapshot must be one for both."""
    loose = sample_rows.read(connection, table, names, stretch)
    return joined([loose, *read(connection, table, names, numbers, stretch)], names)
