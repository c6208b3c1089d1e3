"""How far each agent's numbered batches are committed, and what is missing in between.

The cursor moves in the transaction that stores the samples. COPY has no ON CONFLICT, so this is
what makes a batch that is sent twice count once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.model.node import Refusal, SampleLoss
from control_plane.storage.schema import ingest_cursor
from control_plane.storage.session import SyncConnection

CursorKey = tuple[int, bytes]  # node id, epoch


def lock(connection: SyncConnection, keys: Iterable[CursorKey], now: datetime) -> dict[CursorKey, int]:
    """This will lock the cursors of `keys`, making those that are missing, and give their positions.

    Locks are taken in one order in every replica, so two that carry the same node wait, not deadlock.
    """
    ordered = sorted(set(keys))
    if not ordered:
        return {}
    node_ids, epochs = [k[0] for k in ordered], [k[1] for k in ordered]
    connection.execute(
        "INSERT INTO ingest_cursor (node_id, epoch, committed_seq, updated_at) "
        "SELECT n, e, 0, %s FROM unnest(%s::int[], %s::bytea[]) AS t(n, e) ORDER BY n, e ON CONFLICT DO NOTHING",
        (now, node_ids, epochs),
    )
    rows = connection.execute(
        "SELECT node_id, epoch, committed_seq FROM ingest_cursor "
        "WHERE (node_id, epoch) IN (SELECT * FROM unnest(%s::int[], %s::bytea[])) "
        "ORDER BY node_id, epoch FOR UPDATE",
        (node_ids, epochs),
    ).fetchall()
    return {(node_id, bytes(epoch)): seq for node_id, epoch, seq in rows}


def advance(connection: SyncConnection, positions: Mapping[CursorKey, int], now: datetime) -> None:
    """This will move the cursors to `positions`."""
    if not positions:
        return
    keys = sorted(positions)
    connection.execute(
        "UPDATE ingest_cursor c SET committed_seq = t.seq, updated_at = %s "
        "FROM unnest(%s::int[], %s::bytea[], %s::bigint[]) AS t(n, e, seq) "
        "WHERE c.node_id = t.n AND c.epoch = t.e AND c.committed_seq < t.seq",
        (now, [k[0] for k in keys], [k[1] for k in keys], [positions[k] for k in keys]),
    )


def record_losses(connection: SyncConnection, losses: Sequence[SampleLoss], now: datetime) -> None:
    """This will store what will never arrive; the same loss told twice counts once."""
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
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO ingest_refusal AS r VALUES (%s, %s, %s, %s, %s) ON CONFLICT (node_id, cause) DO UPDATE SET "
            "count = r.count + excluded.count, last_detail = excluded.last_detail, last_at = excluded.last_at",
            [(r.node_id, r.cause, r.count, r.detail, r.at) for r in refusals],
        )


async def committed_seq(engine: AsyncEngine, node_id: int, epoch: bytes) -> int:
    """This will give the last committed batch of a node's epoch; 0 when there is none."""
    query = select(func.coalesce(func.max(ingest_cursor.c.committed_seq), 0)).where(
        ingest_cursor.c.node_id == node_id, ingest_cursor.c.epoch == epoch
    )
    async with engine.connect() as connection:
        return int(await connection.scalar(query) or 0)
