"""How far each agent's numbered batches are committed, and what is missing in between.

The cursor moves in the transaction that stores the samples. COPY has no ON CONFLICT, so this is
what makes a batch that is sent twice count once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from control_plane.model.node import Refusal, SampleLoss
from control_plane.storage.session import SyncConnection, byte_strings, integers

CursorKey = tuple[int, bytes]  # node id, epoch


def read(connection: SyncConnection, keys: Iterable[CursorKey], now: datetime) -> dict[CursorKey, int]:
    """This will give the positions of `keys`, making those that are missing. `claim` finds out if they still hold."""
    return _positions(connection, keys, now, b"")


def lock(connection: SyncConnection, keys: Iterable[CursorKey], now: datetime) -> dict[CursorKey, int]:
    """This will give the positions of `keys` as `read` does, and keep every other replica from moving them.

    Locks are taken in one order in every replica, so two that carry the same node wait, not deadlock.
    """
    return _positions(connection, keys, now, b" FOR UPDATE")


def _positions(
    connection: SyncConnection, keys: Iterable[CursorKey], now: datetime, locking: bytes
) -> dict[CursorKey, int]:
    ordered = sorted(set(keys))
    if not ordered:
        return {}
    arrays = (integers(k[0] for k in ordered), byte_strings(k[1] for k in ordered))
    connection.execute(
        "INSERT INTO ingest_cursor (node_id, epoch, committed_seq, updated_at) "
        "SELECT n, e, 0, %s FROM unnest(%s::int[], %s::bytea[]) AS t(n, e) ORDER BY n, e ON CONFLICT DO NOTHING",
        (now, *arrays),
    )
    rows = connection.execute(
        b"SELECT node_id, epoch, committed_seq FROM ingest_cursor "
        b"WHERE (node_id, epoch) IN (SELECT * FROM unnest(%s::int[], %s::bytea[])) "
        b"ORDER BY node_id, epoch" + locking,
        arrays,
    ).fetchall()
    return {(node_id, bytes(epoch)): seq for node_id, epoch, seq in rows}


def claim(
    connection: SyncConnection, old: Mapping[CursorKey, int], new: Mapping[CursorKey, int], now: datetime
) -> bool:
    """This will move the cursors from `old` to `new`, and say whether all of them still stood at `old`.

    Until the end of the transaction no other replica can move them: whoever tries waits, and then finds that they
    have moved. If it says no, nothing may be committed.
    """
    keys = sorted(key for key, seq in new.items() if seq != old[key])
    if not keys:
        return True
    moved = connection.execute(
        "UPDATE ingest_cursor c SET committed_seq = t.new, updated_at = %s "
        "FROM unnest(%s::int[], %s::bytea[], %s::bigint[], %s::bigint[]) AS t(n, e, old, new) "
        "WHERE c.node_id = t.n AND c.epoch = t.e AND c.committed_seq = t.old",
        (
            now, integers(k[0] for k in keys), byte_strings(k[1] for k in keys),
            integers(old[k] for k in keys), integers(new[k] for k in keys),
        ),
        prepare=True,
    )  # fmt: skip
    return moved.rowcount == len(keys)


def record_losses(connection: SyncConnection, losses: Sequence[SampleLoss], now: datetime) -> None:
    """This will store what will never arrive; the same loss told twice counts once."""
    if not losses:
        return
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO sample_loss VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
            [
                (
                    loss.node_id, loss.epoch, loss.first_seq, loss.last_seq, loss.first_taken_at,
                    loss.last_taken_at, loss.tick_count, loss.reason, now,
                )
                for loss in losses
            ],
        )  # fmt: skip


def record_refusals(connection: SyncConnection, refusals: Sequence[Refusal]) -> None:
    """This will add refused batches to each node's count of that cause."""
    if not refusals:
        return
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO ingest_refusal AS r VALUES (%s, %s, %s, %s, %s) ON CONFLICT (node_id, cause) DO UPDATE SET "
            "count = r.count + excluded.count, last_detail = excluded.last_detail, last_at = excluded.last_at",
            [(r.node_id, r.cause, r.count, r.detail, r.at) for r in refusals],
        )
