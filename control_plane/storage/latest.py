"""The newest row of each entity, kept beside the samples in the transaction that stores them.

The rows are taken from the day's partition, where COPY has just put them: sending them a second time would cost
more than everything else about them. An entity that is known is updated in place; room is left on every page for
that, so no index is touched (HOT).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from psycopg import sql

from control_plane.storage.partitions import partition_name
from control_plane.storage.session import SyncConnection, integers

DAY_US = 86_400_000_000
_UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC).date()


def newest(
    entity_ids: npt.NDArray[np.int32], taken_at_us: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """This will give each entity once, in order, and its newest moment."""
    order = np.lexsort((taken_at_us, entity_ids))
    last = order[np.flatnonzero(np.append(np.diff(entity_ids[order]) != 0, True))]
    return entity_ids[last], taken_at_us[last]


@lru_cache(maxsize=64)  # composed once, not for every commit: there are sixty names in it
def _statements(table: str, day: int, columns: tuple[str, ...]) -> tuple[bytes, bytes]:
    """This will give the statements that update the entities that are known, and that add those that are not."""
    date = _UNIX_EPOCH + timedelta(days=day)
    parts = {
        "latest": sql.Identifier(f"{table}_latest"),
        "columns": sql.SQL(", ").join(map(sql.Identifier, columns)),
        "newest": sql.SQL(", ").join(sql.SQL("s.{}").format(sql.Identifier(name)) for name in columns),
        "excluded": sql.SQL(", ").join(sql.SQL("excluded.{}").format(sql.Identifier(name)) for name in columns),
        # A table, and no subquery: an UPDATE would carry a copy of each of its rows along.
        "source": sql.SQL(
            "unnest(%s::int[], %s::bigint[]) AS t(entity_id, us) JOIN {} AS s "
            "ON s.entity_id = t.entity_id AND s.taken_at = timestamptz 'epoch' + t.us * interval '1 microsecond'"
        ).format(sql.Identifier(partition_name(table, date))),
    }
    update = sql.SQL(
        "UPDATE {latest} AS l SET ({columns}) = ROW({newest}) FROM {source} "
        "WHERE l.entity_id = t.entity_id AND s.taken_at > l.taken_at"
    )
    insert = sql.SQL(
        "INSERT INTO {latest} AS l ({columns}) SELECT DISTINCT ON (s.entity_id) {newest} FROM {source} "
        "WHERE NOT EXISTS (SELECT FROM {latest} AS k WHERE k.entity_id = t.entity_id) ORDER BY s.entity_id "
        "ON CONFLICT (entity_id) DO UPDATE SET ({columns}) = ROW({excluded}) WHERE excluded.taken_at > l.taken_at"
    )
    return update.format(**parts).as_bytes(), insert.format(**parts).as_bytes()


def advance(
    connection: SyncConnection,
    table: str,
    columns: Sequence[str],
    entity_ids: npt.NDArray[np.int32],
    taken_at_us: npt.NDArray[np.int64],
) -> None:
    """This will bring the newest rows up to the samples that were stored of these entities at these moments.

    In one order in every replica: two that carry the same entity wait for one another.
    """
    ids, moments = newest(entity_ids, taken_at_us)
    days = moments // DAY_US
    for day in np.unique(days).tolist():
        wanted = ids[days == day].tolist()
        arguments = (integers(wanted), integers(moments[days == day].tolist()))
        update, insert = _statements(table, day, tuple(columns))
        # Fewer, when an entity is new, or when what is newer had come before; the second statement tells them apart.
        if connection.execute(update, arguments, prepare=True).rowcount < len(wanted):
            connection.execute(insert, arguments, prepare=True)
