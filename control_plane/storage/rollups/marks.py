"""Which minutes are closed, and which of them are due again because samples came late.

Ingest holds a shared lock while it commits; closing minutes takes it alone. So whoever closes a minute has
waited for every commit that believed it open, and every later commit sees it closed and leaves a mark.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from control_plane.model.sample import SampleBlock
from control_plane.storage import moments
from control_plane.storage.session import SyncConnection

# Any 64-bit number that nobody else uses.
CLOSING_LOCK = 0x726F_6C6C_7570_0001
MINUTE_US = 60_000_000
CLOSED = "closed"


def hold_open(connection: SyncConnection) -> int | None:
    """This will keep minutes from being closed until the transaction ends, and say which are closed.

    Gives microseconds since 1970: samples from before then are late. None while nothing was ever closed.
    """
    # Two statements: what a statement sees was settled before it waited for the lock.
    connection.execute("SELECT pg_advisory_xact_lock_shared(%s)", (CLOSING_LOCK,))
    row = connection.execute("SELECT until FROM rollup_progress WHERE name = %s", (CLOSED,)).fetchone()
    return None if row is None else moments.to_us(row[0])


def note_late(connection: SyncConnection, blocks: Sequence[SampleBlock], closed_until_us: int | None) -> int:
    """This will mark the closed minutes of these rows as due again and give the number of marks."""
    pairs: set[tuple[int, int]] = set()
    if closed_until_us is None:
        return 0
    for block in blocks:
        late = block.taken_at_us < closed_until_us
        if late.any():
            found = np.unique((block.node_ids[late], block.taken_at_us[late] // MINUTE_US), axis=1)
            pairs.update(zip(*found.tolist(), strict=True))
    set_due(connection, pairs)
    return len(pairs)


def set_due(connection: SyncConnection, pairs: Iterable[tuple[int, int]]) -> None:
    """This will mark minutes, each a node and the number of minutes since 1970, as due."""
    ordered = sorted(pairs)
    if not ordered:
        return
    connection.execute(
        "INSERT INTO rollup_due (node_id, minute, version) "
        "SELECT n, to_timestamp(m * 60), pg_current_xact_id()::text::bigint "
        "FROM unnest(%s::int[], %s::bigint[]) AS t(n, m) ORDER BY n, m "
        "ON CONFLICT (node_id, minute) DO UPDATE SET version = excluded.version",
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
    """One minute of one node that is due again. A later commit to the same minute changes the version."""

    node_id: int
    minute: datetime
    version: int


def due(connection: SyncConnection, *, before_us: int, limit: int) -> list[Mark]:
    """This will give the oldest marks."""
    rows = connection.execute(
        "SELECT node_id, minute, version FROM rollup_due WHERE minute < %s ORDER BY minute, node_id LIMIT %s",
        (moments.to_datetime(before_us), limit),
    ).fetchall()
    return [Mark(node_id=node_id, minute=minute, version=version) for node_id, minute, version in rows]


def done(connection: SyncConnection, marks: Sequence[Mark]) -> None:
    """This will take marks away; one that was set again since stays."""
    connection.execute(
        "DELETE FROM rollup_due d USING unnest(%s::int[], %s::timestamptz[], %s::bigint[]) AS t(n, m, v) "
        "WHERE d.node_id = t.n AND d.minute = t.m AND d.version = t.v",
        ([m.node_id for m in marks], [m.minute for m in marks], [m.version for m in marks]),
    )
