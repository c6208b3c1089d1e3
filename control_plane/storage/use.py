"""What GPUs and servers did, in stretches of five minutes and of an hour: written by a stage, added up by readers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from psycopg import sql
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.model.labels import labels_of
from control_plane.model.use import GPU_USE, SERVER_USE, Cells, Owner
from control_plane.storage import moments
from control_plane.storage.copying import HEADER, POSTGRES_EPOCH_US, TRAILER, CopyColumn, copy_rows
from control_plane.storage.rollups import reading
from control_plane.storage.sample_rows import copied_out
from control_plane.storage.schema import stage_progress, use_owner
from control_plane.storage.session import SyncConnection

Of = Literal["gpu", "server"]
Level = Literal["slot", "hour"]
SLOT_US, HOUR_US = 300_000_000, 3_600_000_000
LENGTHS: Mapping[Level, int] = {"slot": SLOT_US, "hour": HOUR_US}
COLUMNS: Mapping[Of, Sequence[str]] = {"gpu": GPU_USE, "server": SERVER_USE}
# These are the highest of what they are made of, all others its sum.
PEAKS = ("requests_arrived_minute_peak",)
NOBODY = 0
USE = "use"  # the step of stage_progress that says until when use is summed up


def table_name(of: Of, level: Level) -> str:
    """This will name a table of use."""
    return f"{of}_use_{level}"


def write(connection: SyncConnection, of: Of, level: Level, cells: Cells) -> None:
    """This will add cells inside the caller's transaction."""
    if not len(cells):
        return
    columns = [
        CopyColumn(name="start", type="timestamptz", values=cells.starts_us),
        CopyColumn(name="node_id", type="integer", values=cells.node_ids),
        CopyColumn(name="entity_id", type="integer", values=cells.entity_ids),
        CopyColumn(name="owner_id", type="integer", values=cells.owner_ids),
        *(CopyColumn(name=name, type="real", values=cells.columns[name]) for name in COLUMNS[of]),
    ]
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(
        sql.Identifier(table_name(of, level)), sql.SQL(", ").join(sql.Identifier(c.name) for c in columns)
    )
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.write(HEADER)
        copy.write(copy_rows(columns, len(cells)))
        copy.write(TRAILER)


def erase(connection: SyncConnection, of: Of, level: Level, start_us: int, node_ids: Sequence[int] | None) -> None:
    """This will take away what is stored of one stretch; None for `node_ids` means of all."""
    connection.execute(
        sql.SQL("DELETE FROM {} WHERE start = %s AND (%s::int[] IS NULL OR node_id = ANY(%s))").format(
            sql.Identifier(table_name(of, level))
        ),
        (moments.to_datetime(start_us), node_ids, node_ids),
    )


def close_hour(connection: SyncConnection, of: Of, hour_us: int, node_ids: Sequence[int] | None = None) -> None:
    """This will make an hour's cells of its slots; None for `node_ids` means of all nodes."""
    erase(connection, of, "hour", hour_us, node_ids)
    names = sql.SQL(", ").join(map(sql.Identifier, COLUMNS[of]))
    connection.execute(
        sql.SQL(
            "INSERT INTO {hours} (start, node_id, entity_id, owner_id, {names}) "
            "SELECT %(hour)s, node_id, entity_id, owner_id, {sums} FROM {slots} "
            "WHERE start >= %(hour)s AND start < %(end)s AND (%(nodes)s::int[] IS NULL OR node_id = ANY(%(nodes)s)) "
            "GROUP BY node_id, entity_id, owner_id"
        ).format(
            hours=sql.Identifier(table_name(of, "hour")), slots=sql.Identifier(table_name(of, "slot")),
            names=names, sums=sql.SQL(", ").join(map(_again_unknown, COLUMNS[of])),
        ),
        {"hour": moments.to_datetime(hour_us), "end": moments.to_datetime(hour_us + HOUR_US), "nodes": node_ids},
    )  # fmt: skip


def _total(column: str) -> sql.Composable:
    """This will add up what is known of a column."""
    how = sql.SQL("max" if column in PEAKS else "sum")
    # A sum of reals is one real for Postgres, with seven digits.
    return sql.SQL("{}(nullif({}, 'NaN')::float8)").format(how, sql.Identifier(column))


def _again_unknown(column: str) -> sql.Composable:
    return sql.SQL("coalesce({}, 'NaN')").format(_total(column))


def owner_ids(connection: SyncConnection, owners: Iterable[Owner]) -> dict[Owner, int]:
    """This will give each owner's number, giving one to those that have none yet. Nobody is 0."""
    wanted = {owner: json.dumps(_said(owner), sort_keys=True) for owner in set(owners)}
    found = {Owner(): NOBODY}
    for owner, text in wanted.items():
        if owner in found:
            continue
        digest = hashlib.sha256(text.encode()).digest()
        row = connection.execute(
            "WITH made AS (INSERT INTO use_owner (owner, digest) VALUES (%(o)s::jsonb, %(d)s) "
            "ON CONFLICT (digest) DO NOTHING RETURNING owner_id) "
            "SELECT owner_id FROM made UNION ALL SELECT owner_id FROM use_owner WHERE digest = %(d)s LIMIT 1",
            {"o": text, "d": digest},
        ).fetchone()
        assert row is not None
        found[owner] = row[0]
    return found


def owners(connection: SyncConnection) -> dict[int, Owner]:
    """This will give every owner by number."""
    rows = connection.execute("SELECT owner_id, owner FROM use_owner").fetchall()
    return {NOBODY: Owner()} | {owner_id: _owner(said) for owner_id, said in rows}


def _said(owner: Owner) -> dict[str, Any]:
    # Who has no labels is written as before there were any: it stays the same owner.
    said = asdict(owner)
    labels = dict(said.pop("labels"))
    return said | ({"labels": labels} if labels else {})


def _owner(said: Mapping[str, Any]) -> Owner:
    plain = {name: said.get(name) for name in Owner.__slots__ if name != "labels"}
    return Owner(**plain, labels=labels_of(said.get("labels")))


# -- adding up --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of a window that one table answers."""

    level: Level
    since_us: int
    until_us: int


def parts(since_us: int, until_us: int, *, hours_until_us: int) -> list[Part]:
    """This will divide a window of whole slots: hours inside as far as they are closed, slots at the edges."""
    first = -(-since_us // HOUR_US) * HOUR_US
    last = min(until_us // HOUR_US * HOUR_US, hours_until_us)
    if last <= first:
        return [Part(level="slot", since_us=since_us, until_us=until_us)]
    edges = [
        Part(level="slot", since_us=since_us, until_us=first),
        Part(level="hour", since_us=first, until_us=last),
        Part(level="slot", since_us=last, until_us=until_us),
    ]
    return [part for part in edges if part.since_us < part.until_us]


BY_THING = ("node_id", "entity_id", "owner_id")


def totals(of: Of, over: Sequence[Part], *, by: Sequence[str] = BY_THING, ids: bool = False) -> sql.Composed:
    """This will give the statement that adds a window up; with `ids` it takes the entities `%(ids)s` alone."""
    keys = sql.SQL(", ").join(map(sql.Identifier, by))
    condition = sql.SQL(" AND entity_id = ANY(%(ids)s)" if ids else "")
    sources = [
        sql.SQL("SELECT * FROM {} WHERE start >= {} AND start < {}{}").format(
            sql.Identifier(table_name(of, part.level)), moments.literal(part.since_us),
            moments.literal(part.until_us), condition,
        )
        for part in over
    ]  # fmt: skip
    named = [sql.SQL("{} AS {}").format(_total(name), sql.Identifier(name)) for name in COLUMNS[of]]
    return sql.SQL("SELECT {}, {} FROM ({}) AS parts GROUP BY {} ORDER BY {}").format(
        keys, sql.SQL(", ").join(named), sql.SQL(" UNION ALL ").join(sources), keys, keys
    )


def total(connection: SyncConnection, of: Of, over: Sequence[Part], *, by: Sequence[str] = BY_THING) -> Cells:
    """This will add a window up, by thing and owner."""
    rows = connection.execute(totals(of, over, by=by)).fetchall()
    return _cells([dict(zip((*by, *COLUMNS[of]), row, strict=True)) for row in rows], of)


def things(connection: SyncConnection, of: Of, level: Level, since_us: int, until_us: int) -> set[int]:
    """This will name the things that have any cell in a stretch."""
    statement = sql.SQL("SELECT DISTINCT entity_id FROM {} WHERE start >= %s AND start < %s").format(
        sql.Identifier(table_name(of, level))
    )
    rows = connection.execute(statement, (moments.to_datetime(since_us), moments.to_datetime(until_us))).fetchall()
    return {entity_id for (entity_id,) in rows}


def stretch(connection: SyncConnection, of: Of, level: Level, since_us: int, until_us: int) -> Cells:
    """This will give the cells of a stretch as they are, in the order of start, thing and owner."""
    names = ("node_id", "entity_id", "owner_id")
    statement = sql.SQL("COPY (SELECT start, {} FROM {} WHERE start >= {} AND start < {}) TO STDOUT (FORMAT BINARY)")
    every = sql.SQL(", ").join(map(sql.Identifier, (*names, *COLUMNS[of])))
    data = copied_out(
        connection,
        statement.format(
            every, sql.Identifier(table_name(of, level)), moments.literal(since_us), moments.literal(until_us)
        ),
    )
    # Nothing in these tables is NULL: every row has the same length.
    kinds = [("start", ">i8"), *((name, ">i4") for name in names), *((name, ">f4") for name in COLUMNS[of])]
    dtype = np.dtype(
        [("n", ">i2")] + [part for name, kind in kinds for part in ((f"l_{name}", ">i4"), (f"v_{name}", kind))]
    )
    count = (len(data) - len(HEADER) - len(TRAILER)) // dtype.itemsize
    rows = np.frombuffer(data, dtype, count=count, offset=len(HEADER))
    order = np.lexsort((rows["v_owner_id"], rows["v_entity_id"], rows["v_start"]))
    return Cells(
        starts_us=rows["v_start"][order].astype(np.int64) + POSTGRES_EPOCH_US,
        node_ids=rows["v_node_id"][order].astype(np.int64),
        entity_ids=rows["v_entity_id"][order].astype(np.int64),
        owner_ids=rows["v_owner_id"][order].astype(np.int64),
        columns={name: rows[f"v_{name}"][order].astype(np.float64) for name in COLUMNS[of]},
    )


def joined(every: Sequence[Cells]) -> Cells:
    """This will put cells one after the other."""
    first = every[0]
    return Cells(
        starts_us=np.concatenate([each.starts_us for each in every]),
        node_ids=np.concatenate([each.node_ids for each in every]),
        entity_ids=np.concatenate([each.entity_ids for each in every]),
        owner_ids=np.concatenate([each.owner_ids for each in every]),
        columns={name: np.concatenate([each.columns[name] for each in every]) for name in first.columns},
    )


def starting(cells: Cells, start_us: int) -> Cells:
    """This will note from when the cells of a part of a window are."""
    return replace(cells, starts_us=np.full(len(cells), start_us, np.int64))


def cut(since_us: int, until_us: int, at: Sequence[datetime]) -> list[tuple[int, int]]:
    """This will cut a window at moments, to whole slots."""
    edges = [since_us, *(moments.to_us(moment) // SLOT_US * SLOT_US for moment in at), until_us]
    return [(begin, end) for begin, end in pairwise(edges) if begin < end]


async def total_of(
    engine: AsyncEngine, of: Of, over: Sequence[Part], *, entity_ids: Sequence[int] | None = None,
    by: Sequence[str] = BY_THING,
) -> Cells:  # fmt: skip
    """This will do the same for named things; None means all."""
    statement = totals(of, over, by=by, ids=entity_ids is not None)
    async with engine.connect() as connection:
        rows = await reading.rows(connection, statement, {"ids": list(entity_ids)} if entity_ids is not None else None)
    return _cells(rows, of)


async def owners_of(engine: AsyncEngine) -> dict[int, Owner]:
    """This will give every owner by number."""
    async with engine.connect() as connection:
        rows = (await connection.execute(select(use_owner.c.owner_id, use_owner.c.owner))).all()
    return {NOBODY: Owner()} | {row.owner_id: _owner(row.owner) for row in rows}


async def summed_up_until(engine: AsyncEngine) -> int | None:
    """This will say until when use is summed up, in microseconds since 1970; None when nothing is."""
    async with engine.connect() as connection:
        until = await connection.scalar(select(stage_progress.c.until).where(stage_progress.c.name == USE))
    return None if until is None else moments.to_us(until)


def _cells(rows: Sequence[Mapping[str, Any]], of: Of) -> Cells:
    def whole(name: str) -> Any:
        return np.array([row.get(name, 0) for row in rows], np.int64)

    starts = [moments.to_us(row["start"]) if isinstance(row.get("start"), datetime) else 0 for row in rows]
    return Cells(
        starts_us=np.array(starts, np.int64),
        node_ids=whole("node_id"), entity_ids=whole("entity_id"), owner_ids=whole("owner_id"),
        columns={
            name: np.array([np.nan if row[name] is None else row[name] for row in rows], np.float64)
            for name in COLUMNS[of]
        },
    )  # fmt: skip


# -- what is late -----------------------------------------------------------------------------------


def set_due(connection: SyncConnection, pairs: Iterable[tuple[int, int]]) -> None:
    """This will mark slots, each a node and the number of slots since 1970, for which samples came late."""
    ordered = sorted(set(pairs))
    if not ordered:
        return
    connection.execute(
        "INSERT INTO use_due (node_id, start, version) SELECT n, to_timestamp(s), pg_current_xact_id()::text::bigint "
        "FROM unnest(%s::int[], %s::bigint[]) AS t(n, s) ORDER BY n, s "
        "ON CONFLICT (node_id, start) DO UPDATE SET version = excluded.version",
        ([node_id for node_id, _ in ordered], [slot * (SLOT_US // 1_000_000) for _, slot in ordered]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """One slot that is due again, for some nodes. A later commit changes the version."""

    start_us: int
    node_ids: Sequence[int]
    versions: Sequence[int]


def due(connection: SyncConnection, *, before_us: int) -> Due | None:
    """This will give the oldest slot that is due, with its nodes."""
    rows = connection.execute(
        "SELECT start, node_id, version FROM use_due WHERE start = (SELECT min(start) FROM use_due WHERE start < %s)",
        (moments.to_datetime(before_us),),
    ).fetchall()
    if not rows:
        return None
    return Due(start_us=moments.to_us(rows[0][0]), node_ids=[row[1] for row in rows], versions=[row[2] for row in rows])


def done(connection: SyncConnection, one: Due) -> None:
    """This will take the marks away; one that was set again since stays."""
    connection.execute(
        "DELETE FROM use_due d USING unnest(%s::int[], %s::bigint[]) AS t(n, v) "
        "WHERE d.node_id = t.n AND d.version = t.v AND d.start = %s",
        (list(one.node_ids), list(one.versions), moments.to_datetime(one.start_us)),
    )


# -- how far it has come, and what is old -----------------------------------------------------------


def progress(connection: SyncConnection) -> dict[str, int]:
    """This will say how far each step of the stages has come."""
    rows = connection.execute("SELECT name, until FROM stage_progress").fetchall()
    return {name: moments.to_us(until) for name, until in rows}


def advance(connection: SyncConnection, name: str, until_us: int) -> None:
    """This will note how far a step has come; it never goes back."""
    connection.execute(
        "INSERT INTO stage_progress AS p VALUES (%s, %s) "
        "ON CONFLICT (name) DO UPDATE SET until = greatest(p.until, excluded.until)",
        (name, moments.to_datetime(until_us)),
    )


def drop_before(connection: SyncConnection, of: Of, level: Level, oldest: datetime) -> int:
    """This will drop cells of before `oldest` and say how many."""
    statement = sql.SQL("DELETE FROM {} WHERE start < %s").format(sql.Identifier(table_name(of, level)))
    return connection.execute(statement, (oldest,)).rowcount
