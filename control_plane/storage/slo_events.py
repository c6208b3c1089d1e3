"""Events of objectives: counted by minute and hour, judged by server, and the violations that they added up to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from psycopg import sql
from sqlalchemy import Row, and_, func, literal, or_, select
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.model.slo import Events, GuardVerdict, Judgement, ServerJudgement, Violation
from control_plane.storage.schema_slo import COUNTS, slo_judgement, slo_violation
from control_plane.storage.session import SyncConnection

# Minutes answer the short windows; what is older is asked by the hour.
MINUTES_KEPT, HOURS_KEPT, SERVER_HOURS_KEPT = timedelta(days=2), timedelta(days=400), timedelta(days=8)
# A window of at most so long is summed up from minutes, a longer one from hours and the newest minutes.
FROM_MINUTES = timedelta(hours=6)
SUDDEN = "sudden"  # the kind of violation that a guard sees

_A_MOMENT = timedelta(microseconds=1)
CountKey = tuple[int, datetime]  # slo id, start
ServerKey = tuple[int, int]  # slo id, entity id


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Events of one step of a series."""

    start: datetime
    events: Events


def add(connection: SyncConnection, table: str, counts: Mapping[CountKey, Events]) -> None:
    """This will add events to minutes or hours (`slo_minute`, `slo_hour`). Ones of a deleted objective are dropped."""
    if not counts:
        return
    keys = sorted(counts)
    connection.execute(
        sql.SQL(
            "INSERT INTO {} AS old SELECT t.* "
            "FROM unnest(%s::int[], %s::timestamptz[], %s::float8[], %s::float8[], %s::float8[]) "
            "AS t(slo_id, start, good, bad, doubtful) JOIN slo USING (slo_id) ON CONFLICT (slo_id, start) DO UPDATE "
            "SET good = old.good + excluded.good, bad = old.bad + excluded.bad, "
            "doubtful = old.doubtful + excluded.doubtful"
        ).format(sql.Identifier(table)),
        ([k[0] for k in keys], [k[1] for k in keys], *_columns([counts[k] for k in keys])),
    )


def add_server_hours(connection: SyncConnection, start: datetime, counts: Mapping[ServerKey, Events]) -> None:
    """This will add events of single servers to the hour that begins at `start`."""
    if not counts:
        return
    keys = sorted(counts)
    connection.execute(
        "INSERT INTO slo_server_hour AS old SELECT t.slo_id, t.entity_id, %s, t.good, t.bad, t.doubtful "
        "FROM unnest(%s::int[], %s::int[], %s::float8[], %s::float8[], %s::float8[]) "
        "AS t(slo_id, entity_id, good, bad, doubtful) JOIN slo USING (slo_id) JOIN entity USING (entity_id) "
        "ON CONFLICT (slo_id, entity_id, start) DO UPDATE SET "
        "good = old.good + excluded.good, bad = old.bad + excluded.bad, doubtful = old.doubtful + excluded.doubtful",
        (start, [k[0] for k in keys], [k[1] for k in keys], *_columns([counts[k] for k in keys])),
    )


def _columns(events: Sequence[Events]) -> tuple[list[float], list[float], list[float]]:
    return [e.good for e in events], [e.bad for e in events], [e.doubtful for e in events]


def usual(connection: SyncConnection, *, since: datetime, until: datetime) -> dict[ServerKey, Events]:
    """This will give the events of each server in quiet hours: those in which none of its violations went on."""
    rows = connection.execute(
        "SELECT h.slo_id, h.entity_id, sum(good), sum(bad), sum(doubtful) FROM slo_server_hour h "
        "WHERE start >= %(since)s AND start < %(until)s AND NOT EXISTS (SELECT 1 FROM slo_violation v "
        "WHERE v.slo_id = h.slo_id AND v.entity_id = h.entity_id AND v.since < h.start + interval '1 hour' "
        "AND (v.ended_at IS NULL OR v.ended_at > h.start)) GROUP BY 1, 2",
        {"since": since, "until": until},
    ).fetchall()
    return {(slo_id, entity_id): Events(good=g, bad=b, doubtful=d) for slo_id, entity_id, g, b, d in rows}


def progress(connection: SyncConnection) -> dict[int, datetime]:
    """This will give, by server, up to which of its samples events have been counted."""
    return dict(connection.execute("SELECT entity_id, seen_at FROM slo_progress").fetchall())


def advance(connection: SyncConnection, seen: Mapping[int, datetime]) -> None:
    """This will note up to where events have been counted."""
    if seen:
        ids = sorted(seen)
        connection.execute(
            "INSERT INTO slo_progress SELECT t.* FROM unnest(%s::int[], %s::timestamptz[]) AS t(entity_id, seen_at) "
            "JOIN entity USING (entity_id) ON CONFLICT (entity_id) DO UPDATE SET seen_at = excluded.seen_at",
            (ids, [seen[i] for i in ids]),
        )


def write_judgements(connection: SyncConnection, judged: Sequence[ServerJudgement]) -> None:
    """This will store verdicts in the place of earlier ones."""
    if not judged:
        return
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO slo_judgement (slo_id, entity_id, judged_at, since, events, bad, bad_share, evidence, "
            "tolerated_share, verdict, because, unknown) SELECT slo_id, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s "
            "FROM slo WHERE slo_id = %s ON CONFLICT (slo_id, entity_id) DO UPDATE SET judged_at = excluded.judged_at, "
            "since = excluded.since, events = excluded.events, bad = excluded.bad, bad_share = excluded.bad_share, "
            "evidence = excluded.evidence, tolerated_share = excluded.tolerated_share, verdict = excluded.verdict, "
            "because = excluded.because, unknown = excluded.unknown",
            [
                (
                    j.entity_id, j.judged_at, j.judgement.since, j.judgement.events, j.judgement.bad,
                    j.judgement.bad_share, j.judgement.evidence, j.tolerated_share, j.judgement.verdict.value,
                    j.judgement.because, j.unknown, j.slo_id,
                )
                for j in judged
            ],
        )  # fmt: skip


def drop_judgements(connection: SyncConnection, kept: Sequence[ServerKey]) -> None:
    """This will delete the verdicts on servers that are no longer in scope."""
    connection.execute(
        "DELETE FROM slo_judgement WHERE (slo_id, entity_id) NOT IN (SELECT * FROM unnest(%s::int[], %s::int[]))",
        ([k[0] for k in kept], [k[1] for k in kept]),
    )


def going_on(connection: SyncConnection) -> dict[ServerKey, tuple[datetime, datetime]]:
    """This will give the sudden violations that go on: since when, and when they were detected."""
    rows = connection.execute(
        "SELECT slo_id, entity_id, since, detected_at FROM slo_violation WHERE ended_at IS NULL AND kind = %s",
        (SUDDEN,),
    ).fetchall()
    return {(slo_id, entity_id): (since, detected) for slo_id, entity_id, since, detected in rows}


def judged(connection: SyncConnection) -> dict[ServerKey, tuple[datetime, GuardVerdict, float | None]]:
    """This will give the guard's newest verdicts: when, which, and the share of bad events."""
    rows = connection.execute("SELECT slo_id, entity_id, judged_at, verdict, bad_share FROM slo_judgement").fetchall()
    return {(slo_id, entity_id): (at, GuardVerdict(verdict), share) for slo_id, entity_id, at, verdict, share in rows}


def sums(connection: SyncConnection, windows: Sequence[timedelta], now: datetime) -> dict[int, dict[timedelta, Events]]:
    """This will give the events of each window that ends now, by objective, as `by_window` does."""
    out: dict[int, dict[timedelta, Events]] = {}
    for window in windows:
        unit, table = ("minute", "slo_minute") if window <= FROM_MINUTES else ("hour", "slo_hour")
        rows = connection.execute(
            sql.SQL(
                "SELECT slo_id, sum(good), sum(bad), sum(doubtful) FROM {} "
                "WHERE start > date_trunc({}, %s::timestamptz) - {} GROUP BY 1"
            ).format(
                sql.Identifier(table), sql.Literal(unit), sql.Literal(timedelta(0) if unit == "minute" else _A_MOMENT)
            ),
            (now - window,),
        ).fetchall()
        for slo_id, good, bad, doubtful in rows:
            out.setdefault(slo_id, {})[window] = Events(good=good, bad=bad, doubtful=doubtful)
    return out


def begin_violation(
    connection: SyncConnection, key: ServerKey, judgement: Judgement, now: datetime, detail: Mapping[str, object]
) -> None:
    """This will store that a violation goes on; does nothing when that is stored already."""
    connection.execute(
        "INSERT INTO slo_violation (slo_id, entity_id, kind, since, detected_at, events, bad, detail) "
        "SELECT slo_id, %s, %s, %s, %s, %s, %s, %s FROM slo WHERE slo_id = %s ON CONFLICT DO NOTHING",
        (key[1], SUDDEN, judgement.since, now, judgement.events, judgement.bad, json.dumps(detail), key[0]),
    )


def end_violation(connection: SyncConnection, key: ServerKey, now: datetime) -> None:
    """This will store that a violation is over."""
    connection.execute(
        "UPDATE slo_violation SET ended_at = %s WHERE slo_id = %s AND entity_id = %s AND kind = %s "
        "AND ended_at IS NULL",
        (now, *key, SUDDEN),
    )


def drop_before(connection: SyncConnection, now: datetime) -> None:
    """This will delete what is past its time."""
    connection.execute("DELETE FROM slo_minute WHERE start < %s", (now - MINUTES_KEPT,))
    connection.execute("DELETE FROM slo_hour WHERE start < %s", (now - HOURS_KEPT,))
    connection.execute("DELETE FROM slo_server_hour WHERE start < %s", (now - SERVER_HOURS_KEPT,))
    connection.execute("DELETE FROM slo_violation WHERE ended_at < %s", (now - HOURS_KEPT,))


async def by_window(
    engine: AsyncEngine, slo_ids: Sequence[int], windows: Sequence[timedelta], now: datetime
) -> dict[int, dict[timedelta, Events]]:
    """This will give the events of each window that ends now, by objective.

    Short windows begin at a whole minute, long ones at a whole hour: never later than asked.
    """
    out: dict[int, dict[timedelta, Events]] = {slo_id: {} for slo_id in slo_ids}
    async with engine.connect() as connection:
        for window in windows:
            is_short = window <= FROM_MINUTES
            table, unit = COUNTS["slo_minute" if is_short else "slo_hour"], "minute" if is_short else "hour"
            query = (
                select(table.c.slo_id, *(func.sum(table.c[n]).label(n) for n in ("good", "bad", "doubtful")))
                .where(
                    table.c.slo_id.in_(slo_ids),
                    table.c.start > func.date_trunc(unit, literal(now - window)) if is_short
                    else table.c.start >= func.date_trunc(unit, literal(now - window)),
                )
                .group_by(table.c.slo_id)
            )  # fmt: skip
            for row in await connection.execute(query):
                out[row.slo_id][window] = Events(good=row.good, bad=row.bad, doubtful=row.doubtful)
    return out


async def series(engine: AsyncEngine, slo_id: int, *, since: datetime, until: datetime, step: timedelta) -> list[Point]:
    """This will give the events of each step that has any, from minutes or hours as the step allows."""
    table = COUNTS["slo_hour" if step >= timedelta(hours=1) else "slo_minute"]
    start = func.date_bin(literal(step), table.c.start, literal(since)).label("step_start")
    query = (
        select(start, *(func.sum(table.c[n]).label(n) for n in ("good", "bad", "doubtful")))
        .where(table.c.slo_id == slo_id, table.c.start >= since, table.c.start < until)
        .group_by(start)
        .order_by(start)
    )
    async with engine.connect() as connection:
        return [
            Point(start=row.step_start, events=Events(good=row.good, bad=row.bad, doubtful=row.doubtful))
            for row in await connection.execute(query)
        ]


async def judgements(engine: AsyncEngine, slo_ids: Sequence[int]) -> list[ServerJudgement]:
    """This will give the guard's newest verdicts, by objective and server."""
    query = (
        select(slo_judgement)
        .where(slo_judgement.c.slo_id.in_(slo_ids))
        .order_by(slo_judgement.c.slo_id, slo_judgement.c.entity_id)
    )
    async with engine.connect() as connection:
        return [_judged(row) for row in await connection.execute(query)]


def _judged(row: Row[Any]) -> ServerJudgement:
    return ServerJudgement(
        slo_id=row.slo_id,
        entity_id=row.entity_id,
        judged_at=row.judged_at,
        tolerated_share=row.tolerated_share,
        unknown=row.unknown,
        judgement=Judgement(
            verdict=GuardVerdict(row.verdict), since=row.since, events=row.events, bad=row.bad,
            bad_share=row.bad_share, evidence=row.evidence, because=row.because,
        ),
    )  # fmt: skip


async def violations(
    engine: AsyncEngine, *, slo_ids: Sequence[int] | None, since: datetime, until: datetime, after: int, limit: int
) -> list[Violation]:
    """This will give the violations that went on at some moment of a window, the oldest first."""
    table = slo_violation
    query = (
        select(table)
        .where(
            table.c.violation_id > after,
            table.c.since <= until,
            or_(table.c.ended_at.is_(None), and_(table.c.ended_at >= since)),
        )
        .order_by(table.c.violation_id)
        .limit(limit)
    )
    if slo_ids is not None:
        query = query.where(table.c.slo_id.in_(slo_ids))
    async with engine.connect() as connection:
        return [
            Violation(
                violation_id=row.violation_id, slo_id=row.slo_id, entity_id=row.entity_id, since=row.since,
                detected_at=row.detected_at, ended_at=row.ended_at, events=row.events, bad=row.bad, detail=row.detail,
            )
            for row in await connection.execute(query)
        ]  # fmt: skip
