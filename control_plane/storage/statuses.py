"""How each node is doing: one row per node that changes with every commit, so all of a commit's change at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import orjson
from psycopg import sql

from control_plane.model.node import CollectorState
from control_plane.storage.session import SyncConnection, integers, numbers, texts

_NEW = sql.SQL(
    "(SELECT n, timestamptz 'epoch' + taken * interval '1 microsecond' AS taken_at, "
    "timestamptz 'epoch' + received * interval '1 microsecond' AS received_at, clock_offset, sampling, c::jsonb AS c "
    "FROM unnest(%s::int[], %s::bigint[], %s::bigint[], %s::float8[], %s::float8[], %s::text[]) "
    "AS t(n, taken, received, clock_offset, sampling, c)) AS new "
)
_UPDATE = (
    sql.SQL(
        "UPDATE node_status AS old SET taken_at = new.taken_at, received_at = new.received_at, "
        "clock_offset_seconds = new.clock_offset, "
        "sampling_interval_seconds = coalesce(new.sampling, old.sampling_interval_seconds), collectors = new.c "
        "FROM {new} WHERE old.node_id = new.n AND new.taken_at >= old.taken_at"
    )
    .format(new=_NEW)
    .as_bytes()
)
_INSERT = (
    sql.SQL(
        "INSERT INTO node_status AS old SELECT * FROM {new} "
        "WHERE NOT EXISTS (SELECT FROM node_status AS k WHERE k.node_id = new.n) ORDER BY n "
        "ON CONFLICT (node_id) DO UPDATE SET taken_at = excluded.taken_at, received_at = excluded.received_at, "
        "clock_offset_seconds = excluded.clock_offset_seconds, "
        "sampling_interval_seconds = coalesce(excluded.sampling_interval_seconds, old.sampling_interval_seconds), "
        "collectors = excluded.collectors WHERE excluded.taken_at >= old.taken_at"
    )
    .format(new=_NEW)
    .as_bytes()
)


class Status(NamedTuple):
    """What one tick says about its node besides the samples. Times are microseconds since 1970."""

    node_id: int
    taken_at_us: int
    received_at_us: int
    clock_offset_seconds: float | None
    sampling_interval_seconds: float | None
    collectors: Sequence[CollectorState]


def update(connection: SyncConnection, statuses: Sequence[Status]) -> None:
    """This will store the newest status of each node; an older one never replaces a newer one."""
    newest: dict[int, Status] = {}
    for status in statuses:
        known = newest.get(status.node_id)
        if known is None or status.taken_at_us >= known.taken_at_us:
            newest[status.node_id] = status
    if not newest:
        return
    ordered = [newest[node_id] for node_id in sorted(newest)]  # in one order in every replica
    arrays = (
        integers(s.node_id for s in ordered),
        integers(s.taken_at_us for s in ordered),
        integers(s.received_at_us for s in ordered),
        numbers(s.clock_offset_seconds for s in ordered),
        numbers(s.sampling_interval_seconds for s in ordered),
        # A collector's state is stored as it stands, field by field.
        texts(orjson.dumps(s.collectors).decode() for s in ordered),
    )
    # Fewer, when a node is new, or when what is newer had come before; the second statement tells them apart.
    if connection.execute(_UPDATE, arrays, prepare=True).rowcount < len(ordered):
        connection.execute(_INSERT, arrays)
