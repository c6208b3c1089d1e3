"""What binds servers, and what bound them: spells, each as long as one verdict held."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.model.bottleneck import Bottleneck, Evidence, Habits, Spell, Verdict
from control_plane.storage.schema_bottlenecks import bottleneck_now, bottleneck_spell
from control_plane.storage.session import SyncConnection

KEPT = timedelta(days=90)
_KNOWN = frozenset(Bottleneck)


def _said(verdict: Verdict) -> str:
    return json.dumps(
        {
            "score": verdict.score, "runner_up": verdict.runner_up, "runner_up_score": verdict.runner_up_score,
            "evidence": [[e.name, e.value, e.unit, e.means] for e in verdict.evidence],
            "remedies": list(verdict.remedies), "cannot_tell": dict(verdict.cannot_tell),
        }
    )  # fmt: skip


def _verdict(bottleneck: str, said: Mapping[str, Any]) -> Verdict:
    runner_up = said["runner_up"]
    return Verdict(
        bottleneck=Bottleneck(bottleneck),
        score=said["score"],
        runner_up=Bottleneck(runner_up) if runner_up in _KNOWN else None,
        runner_up_score=said["runner_up_score"],
        evidence=tuple(Evidence(name=n, value=v, unit=u, means=m) for n, v, u, m in said["evidence"]),
        remedies=tuple(said["remedies"]),
        cannot_tell={Bottleneck(name): why for name, why in said["cannot_tell"].items() if name in _KNOWN},
    )


def _spell(entity_id: int, since: datetime, until: datetime, bottleneck: str, said: Mapping[str, Any]) -> Spell:
    return Spell(entity_id=entity_id, since=since, until=until, verdict=_verdict(bottleneck, said))


def standing(connection: SyncConnection) -> dict[int, tuple[Spell, Habits]]:
    """This will give, by entity, what binds as it was written last, and what was learnt of it."""
    rows = connection.execute("SELECT entity_id, since, until, bottleneck, verdict, habits FROM bottleneck_now")
    return {
        entity_id: (
            _spell(entity_id, since, until, bottleneck, said),
            Habits(
                counters_since=habits["counters_since"], most_running=habits["most_running"],
                paces=tuple((decoding, pace) for decoding, pace in habits["paces"]),
            ),
        )
        for entity_id, since, until, bottleneck, said, habits in rows.fetchall()
        if bottleneck in _KNOWN  # a later release has more
    }  # fmt: skip


def binding(
    connection: SyncConnection, at_ease: Sequence[Bottleneck]
) -> list[tuple[int, Bottleneck, datetime, datetime, float, dict[str, object]]]:
    """This will give what binds each entity: id, which, since, judged at, score, evidence (none where `at_ease`)."""
    rows = connection.execute(
        "SELECT entity_id, bottleneck, since, until, (verdict->>'score')::float8, "
        "CASE WHEN bottleneck = ANY(%s) THEN '[]' ELSE verdict->'evidence' END FROM bottleneck_now",
        ([b.value for b in at_ease],),
    ).fetchall()
    return [
        (entity_id, Bottleneck(name), since, until, score, {each[0]: each[1] for each in evidence})
        for entity_id, name, since, until, score, evidence in rows
        if name in _KNOWN
    ]


def write(
    connection: SyncConnection, *, closed: Sequence[Spell], open_now: Sequence[tuple[Spell, Habits]],
    followed: Sequence[int],
) -> None:  # fmt: skip
    """This will add spells that ended, and write some that go on; what is no longer `followed` has none any more."""
    _close(connection, closed)
    connection.execute("DELETE FROM bottleneck_now WHERE NOT entity_id = ANY(%s)", (list(followed),))
    ids = [spell.entity_id for spell, _ in open_now]
    if not ids:
        return
    connection.execute(
        "INSERT INTO bottleneck_now SELECT t.entity_id, t.since, t.until, t.bottleneck, t.verdict::jsonb, "
        "t.habits::jsonb FROM unnest(%s::int[], %s::timestamptz[], %s::timestamptz[], %s::text[], %s::text[], "
        "%s::text[]) AS t(entity_id, since, until, bottleneck, verdict, habits) JOIN entity USING (entity_id) "
        "ON CONFLICT (entity_id) DO UPDATE SET since = excluded.since, until = excluded.until, "
        "bottleneck = excluded.bottleneck, verdict = excluded.verdict, habits = excluded.habits",
        (
            ids, [s.since for s, _ in open_now], [s.until for s, _ in open_now],
            [s.verdict.bottleneck.value for s, _ in open_now], [_said(s.verdict) for s, _ in open_now],
            [_learnt(habits) for _, habits in open_now],
        ),
    )  # fmt: skip


def _learnt(habits: Habits) -> str:
    return json.dumps(
        {"counters_since": habits.counters_since, "most_running": habits.most_running, "paces": habits.paces}
    )


def _close(connection: SyncConnection, closed: Sequence[Spell]) -> None:
    if not closed:
        return
    connection.execute(
        "INSERT INTO bottleneck_spell SELECT t.entity_id, t.since, t.until, t.bottleneck, t.verdict::jsonb "
        "FROM unnest(%s::int[], %s::timestamptz[], %s::timestamptz[], %s::text[], %s::text[]) "
        "AS t(entity_id, since, until, bottleneck, verdict) JOIN entity USING (entity_id) ON CONFLICT DO NOTHING",
        (
            [s.entity_id for s in closed], [s.since for s in closed], [s.until for s in closed],
            [s.verdict.bottleneck.value for s in closed], [_said(s.verdict) for s in closed],
        ),
    )  # fmt: skip


def drop_before(connection: SyncConnection, oldest: datetime) -> None:
    """This will delete spells that ended before a moment."""
    connection.execute("DELETE FROM bottleneck_spell WHERE until < %s", (oldest,))


async def now(engine: AsyncEngine) -> dict[int, Spell]:
    """This will give, by entity, what binds as it was written last."""
    t = bottleneck_now.c
    async with engine.connect() as connection:
        rows = (await connection.execute(select(t.entity_id, t.since, t.until, t.bottleneck, t.verdict))).all()
    return {row[0]: _spell(*row) for row in rows if row.bottleneck in _KNOWN}


async def before(
    engine: AsyncEngine, entity_ids: Sequence[int], *, since: datetime, until: datetime, limit: int
) -> dict[int, list[Spell]]:
    """This will give, by entity, the spells that ended within a window, the newest first, at most `limit` in all."""
    t = bottleneck_spell.c
    query = (
        select(t.entity_id, t.since, t.until, t.bottleneck, t.verdict)
        .where(t.entity_id.in_(entity_ids), t.until > since, t.since < until)
        .order_by(t.since.desc())
        .limit(limit)
    )
    out: dict[int, list[Spell]] = {}
    async with engine.connect() as connection:
        for row in await connection.execute(query):
            if row.bottleneck in _KNOWN:
                out.setdefault(row.entity_id, []).append(_spell(*row))
    return out
