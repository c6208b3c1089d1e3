"""Which minutes are closed, and which of them are due again because samples came late.

Ingest holds a shared lock while it commits; closing minutes takes it alone. So whoever closes a minute has
waited for every commit that believed it open, and every later commit sees it closed and leaves a mark.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import numpy as np

from control_plane.model.sample import SampleBlock
from control_plane.storage import moments, use
from control_plane.storage.session import SyncConnection

# Any 64-bit number that nobody else uses.
CLOSING_LOCK = 0x726F_6C6C_7570_0001
MINUTE_US, DAY_US = 60_000_000, 86_400_000_000
FLEET_ID = 0  # the fleet's number among nodes; those begin at 1
# Steps of rollup_progress: minutes before it are closed; days before it are being packed; and are packed.
CLOSED, PACKING, PACKED = "closed", "packing", "packed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """What samples are late for, in microseconds since 1970: minutes before, and days being packed before."""

    minutes_until_us: int
    days_until_us: int


def hold_open(connection: SyncConnection) -> Closed:
    """This will keep minutes from being closed until the transaction ends, and say which are."""
    # Two statements: what a statement sees was settled before it waited for the lock.
    connection.execute("SELECT pg_advisory_xact_lock_shared(%s)", (CLOSING_LOCK,))
    come = progress(connection)
    return Closed(minutes_until_us=come.get(CLOSED, 0), days_until_us=come.get(PACKING, 0))


def note_late(connection: SyncConnection, blocks: Sequence[SampleBlock], closed: Closed) -> int:
    """This will mark what these rows are late for, and give the number of their late minutes."""
    minutes = _units_before(blocks, closed.minutes_until_us, MINUTE_US)
    set_due(connection, minutes)
    use.set_due(connection, {(node_id, minute * MINUTE_US // use.SLOT_US) for node_id, minute in minutes})
    days = sorted(_units_before(blocks, closed.days_until_us, DAY_US)) if minutes else []
    if days:
        connection.execute(
            "INSERT INTO packing_due (day, node_id, version) "
            "SELECT date '1970-01-01' + d, n, pg_current_xact_id()::text::bigint "
            "FROM unnest(%s::int[], %s::int[]) AS t(n, d) ORDER BY d, n "
            "ON CONFLICT DO NOTHING",
            ([node_id for node_id, _ in days], [day for _, day in days]),
        )
    return len(minutes)


def _units_before(blocks: Sequence[SampleBlock], until_us: int, unit_us: int) -> set[tuple[int, int]]:
    """This will give the nodes and units of time of the rows from before `until_us`."""
    pairs: set[tuple[int, int]] = set()
    for block in blocks:
        late = block.taken_at_us < until_us
        if late.any():
            found = np.unique((block.node_ids[late], block.taken_at_us[late] // unit_us), axis=1)
            pairs.update(zip(*found.tolist(), strict=True))
    return pairs


def begin_packing(connection: SyncConnection, until_us: int) -> None:
    """This will let samples from before `until_us` leave marks, once no commit is under way. Needs autocommit mode."""
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (CLOSING_LOCK,))
        advance(connection, PACKING, until_us)


@dataclass(frozen=True, slots=True, kw_only=True)
class LateDay:
    """A node of which samples came for a day that is packed, or being packed, and the marks that say so."""

    day: date
    node_id: int
    versions: Sequence[int]


def packing_due(connection: SyncConnection, *, since: date, before: date, limit: int | None = None) -> list[LateDay]:
    """This will give the days and nodes of which samples came, oldest first."""
    rows = connection.execute(
        "SELECT day, node_id, array_agg(version) FROM packing_due WHERE day >= %s AND day < %s "
        "GROUP BY day, node_id ORDER BY day, node_id LIMIT %s",
        (since, before, limit),
    ).fetchall()
    return [LateDay(day=day, node_id=node_id, versions=versions) for day, node_id, versions in rows]


def packing_done(connection: SyncConnection, late: LateDay) -> None:
    """This will take marks away; those set since stay."""
    connection.execute(
        "DELETE FROM packing_due WHERE day = %s AND node_id = %s AND version = ANY(%s)",
        (late.day, late.node_id, list(late.versions)),
    )


def set_due(connection: SyncConnection, pairs: Iterable[tuple[int, int]]) -> None:
    """This will mark minutes, each a node and the number of minutes since 1970, as due.

    Every commit leaves marks of its own: one that is being worked off is never changed under the worker.
    """
    ordered = sorted(pairs)
    if not ordered:
        return
    connection.execute(
        "INSERT INTO rollup_due (node_id, minute, version) "
        "SELECT n, to_timestamp(m * 60), pg_current_xact_id()::text::bigint "
        "FROM unnest(%s::int[], %s::bigint[]) AS t(n, m) ORDER BY n, m "
        "ON CONFLICT DO NOTHING",
        ([node_id for node_id, _ in ordered], [minute for _, minute in ordered]),
    )


def close_until(connection: SyncConnection, until_us: int) -> None:
    """This will close all minutes before `until_us`, once no commit is under way. Needs autocommit mode."""
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (CLOSING_LOCK,))
        advance(connection, CLOSED, until_us)


def advance(connection: SyncConnection, name: str, until_us: int) -> None:
    """This will note how far a step has come; it never goes back."""
    connection.execute(
        "INSERT INTO rollup_progress AS p VALUES (%s, %s) "
        "ON CONFLICT (name) DO UPDATE SET until = greatest(p.until, excluded.until)",
        (name, moments.to_datetime(until_us)),
    )


def progress(connection: SyncConnection) -> Mapping[str, int]:
    """This will say how far each step has come."""
    rows = connection.execute("SELECT name, until FROM rollup_progress").fetchall()
    return {name: moments.to_us(until) for name, until in rows}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One minute of one node that is due again, because of one commit, which is its version."""

    node_id: int
    minute: datetime
    version: int


def due(connection: SyncConnection, *, before_us: int, limit: int) -> list[Mark]:
    """This will give the oldest marks."""
    rows = connection.execute(
        "SELECT node_id, minute, version FROM rollup_due WHERE minute < %s AND node_id > 0 "
        "ORDER BY minute, node_id LIMIT %s",
        (moments.to_datetime(before_us), limit),
    ).fetchall()
    return [Mark(node_id=node_id, minute=minute, version=version) for node_id, minute, version in rows]


def set_fleet_due(connection: SyncConnection, hour_us: int) -> None:
    """This will mark an hour whose nodes were made again: so must be what they say together."""
    set_due(connection, {(FLEET_ID, hour_us // MINUTE_US)})


def fleet_due(connection: SyncConnection, *, before_us: int) -> list[Mark]:
    """This will give the marks of the oldest hour of the fleet of which no node is due any more."""
    rows = connection.execute(
        "SELECT f.minute, f.version FROM rollup_due f WHERE f.minute < %s AND f.node_id = 0 AND NOT EXISTS "
        "(SELECT FROM rollup_due n WHERE n.node_id > 0 AND n.minute >= f.minute "
        "AND n.minute < f.minute + interval '1h') "
        "ORDER BY f.minute LIMIT 1000",
        (moments.to_datetime(before_us),),
    ).fetchall()
    return [Mark(node_id=FLEET_ID, minute=minute, version=version) for minute, version in rows if minute == rows[0][0]]


def done(connection: SyncConnection, marks: Sequence[Mark]) -> None:
    """This will take marks away; those set since stay."""
    connection.execute(
        "DELETE FROM rollup_due d USING unnest(%s::int[], %s::timestamptz[], %s::bigint[]) AS t(n, m, v) "
        "WHERE d.node_id = t.n AND d.minute = t.m AND d.version = t.v",
        ([m.node_id for m in marks], [m.minute for m in marks], [m.version for m in marks]),
    )
