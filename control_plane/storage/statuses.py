"""How each node is doing: one row per node that changes with every commit, so all of a commit's change at once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg import sql

from control_plane.model.node import CollectorState, NodeStatus
from control_plane.storage.session import SyncConnection, integers, numbers, texts

_UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
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


def update(connection: SyncConnection, statuses: Sequence[NodeStatus]) -> None:
    """This will store the newest status of each node; an older one never replaces a newer one."""
    newest: dict[int, NodeStatus] = {}
    for status in statuses:
        known = newest.get(status.node_id)
        if known is None or status.taken_at >= known.taken_at:
            newest[status.node_id] = status
    if not newest:
        return
    ordered = [newest[node_id] for node_id in sorted(newest)]  # in one order in every replica
    arrays = (
        integers(s.node_id for s in ordered),
        integers(_microseconds(s.taken_at) for s in ordered),
        integers(_microseconds(s.received_at) for s in ordered),
        numbers(s.clock_offset_seconds for s in ordered),
        numbers(s.sampling_interval_seconds for s in ordered),
        texts(json.dumps([_stored(c) for c in s.collectors]) for s in ordered),
    )
    # Fewer, when a node is new, or when what is newer had come before; the second statement tells them apart.
    if connection.execute(_UPDATE, arrays, prepare=True).rowcount < len(ordered):
        connection.execute(_INSERT, arrays)


def _stored(state: CollectorState) -> Mapping[str, Any]:
    """This will give a collector's state as it is stored. asdict() would copy deeply, for every node and commit."""
    return {
        "collector": state.collector,
        "outcome": state.outcome,
        "duration_seconds": state.duration_seconds,
        "detail": state.detail,
        "last_success_age_seconds": state.last_success_age_seconds,
        "last_error": state.last_error,
        "last_error_age_seconds": state.last_error_age_seconds,
    }


def _microseconds(moment: datetime) -> int:
    return (moment - _UNIX_EPOCH) // timedelta(microseconds=1)
