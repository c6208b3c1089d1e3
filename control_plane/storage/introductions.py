"""Agents that introduce themselves, many in one transaction: after a restart of ours a whole fleet comes at once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from control_plane.model.node import NodeIntroduction
from control_plane.storage.session import SyncConnection, byte_strings, integers, texts


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who is at the door. `enrolment_id` is what its certificate names; None: it needs none."""

    introduction: NodeIntroduction
    epoch: bytes
    enrolment_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Introduced:
    """A caller that is known by now."""

    node_id: int
    committed_seq: int  # of its epoch; 0 when nothing is committed


def introduce(connection: SyncConnection, callers: Sequence[Caller], now: datetime) -> list[Introduced | None]:
    """This will store the introductions and commit; None for a caller whose enrolment is no longer in force."""
    with connection.transaction():
        in_force = _in_force(connection, callers)
        let_in = [caller for caller in callers if caller.enrolment_id is None or _enrolled(caller) in in_force]
        node_ids = _upsert(connection, {c.introduction.agent_id: c.introduction for c in let_in}, now)
        keys = [(node_ids[caller.introduction.agent_id], caller.epoch) for caller in let_in]
        committed = _committed(connection, keys)
    known = {
        (agent_id, epoch): Introduced(node_id=key[0], committed_seq=committed.get(key, 0))
        for key, caller in zip(keys, let_in, strict=True)
        for agent_id, epoch in [(caller.introduction.agent_id, caller.epoch)]
    }
    allowed = set(map(id, let_in))
    return [known[c.introduction.agent_id, c.epoch] if id(c) in allowed else None for c in callers]


def _enrolled(caller: Caller) -> tuple[str, str | None]:
    return caller.introduction.agent_id, caller.enrolment_id


def _in_force(connection: SyncConnection, callers: Sequence[Caller]) -> set[tuple[str, str | None]]:
    asked = [caller.introduction.agent_id for caller in callers if caller.enrolment_id is not None]
    if not asked:
        return set()
    rows = connection.execute(
        "SELECT agent_id, enrolment_id FROM enrolment WHERE agent_id = ANY(%s::text[])", (texts(asked),)
    )
    return {(agent_id, enrolment_id) for agent_id, enrolment_id in rows}


def _upsert(connection: SyncConnection, by_agent: dict[str, NodeIntroduction], now: datetime) -> dict[str, int]:
    if not by_agent:
        return {}
    ordered = [by_agent[agent_id] for agent_id in sorted(by_agent)]  # one order in every replica: no deadlock
    rows = connection.execute(
        "INSERT INTO node (agent_id, name, agent_version, replayed, attributes, first_seen_at, connected_at) "
        "SELECT a, n, v, r, j::jsonb, %(now)s, %(now)s "
        "FROM unnest(%(agents)s::text[], %(names)s::text[], %(versions)s::text[], %(replayed)s::bool[], "
        "%(attributes)s::text[]) AS t(a, n, v, r, j) "
        "ON CONFLICT (agent_id) DO UPDATE SET name = excluded.name, agent_version = excluded.agent_version, "
        "replayed = excluded.replayed, attributes = excluded.attributes, connected_at = excluded.connected_at, "
        "forgotten_at = NULL "  # one that comes back is known again, under its old id
        "RETURNING agent_id, node_id",
        {
            "now": now,
            "agents": texts(hello.agent_id for hello in ordered),
            "names": texts(hello.name for hello in ordered),
            "versions": texts(hello.agent_version for hello in ordered),
            "replayed": [hello.replayed for hello in ordered],
            "attributes": texts(json.dumps(hello.attributes) for hello in ordered),
        },
    ).fetchall()
    return dict(rows)


def _committed(connection: SyncConnection, keys: Sequence[tuple[int, bytes]]) -> dict[tuple[int, bytes], int]:
    rows = connection.execute(
        "SELECT node_id, epoch, committed_seq FROM ingest_cursor "
        "WHERE (node_id, epoch) IN (SELECT * FROM unnest(%s::int[], %s::bytea[]))",
        (integers(key[0] for key in keys), byte_strings(key[1] for key in keys)),
    ).fetchall()
    return {(node_id, bytes(epoch)): seq for node_id, epoch, seq in rows}
