"""Alerts as they live and end, what changed of them, and the groups that they are told in."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from psycopg.rows import dict_row
from sqlalchemy import Row, func, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.model.alert import Alert, AlertSeverity, AlertState, Group
from control_plane.storage.schema_alerts import alert, alert_change
from control_plane.storage.session import SyncConnection

KEPT = timedelta(days=400)
_TIMES = ("since", "seen_at", "fired_at", "quiet_since", "resolved_at", "unknown_since", "acknowledged_at")
_TEXTS = (
    "fingerprint", "rule", "kind", "summary", "runbook_url", "resolution", "acknowledged_by", "acknowledgement",
    "silenced_by", "inhibited_by",
)  # fmt: skip
_COLUMNS = (*_TIMES, "value", *_TEXTS, "severity", "state", "labels", "evidence", "flaps", "is_settled")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One step in an alert's life."""

    change_id: int
    changed_at: datetime
    change: str  # pending, firing, resolved, acknowledged, silenced, inhibited, told again
    alert: Alert


def _from(row: Mapping[str, Any]) -> Alert:
    return Alert(
        alert_id=row["alert_id"],
        **{name: row[name] for name in (*_TIMES, "value", *_TEXTS)},
        severity=AlertSeverity(row["severity"]),
        state=AlertState(row["state"]),
        labels=row["labels"],
        evidence=row["evidence"],
        flaps=tuple(row["flaps"]),
    )


def unsettled(connection: SyncConnection) -> list[Alert]:
    """This will give the alerts that are open, and those that ended and of which something is left to tell."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return [_from(row) for row in cursor.execute("SELECT * FROM alert WHERE NOT is_settled ORDER BY alert_id")]


def ended_last(connection: SyncConnection, fingerprints: Sequence[str], since: datetime) -> dict[str, Alert]:
    """This will give, by fingerprint, the alert that ended last, if that was after `since`."""
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            "SELECT DISTINCT ON (fingerprint) * FROM alert WHERE fingerprint = ANY(%s) AND resolved_at > %s "
            "ORDER BY fingerprint, resolved_at DESC",
            (list(fingerprints), since),
        )
        return {row["fingerprint"]: _from(row) for row in rows}


def _values(one: Alert, *, is_settled: bool) -> list[Any]:
    given = {name: getattr(one, name) for name in (*_TIMES, "value", *_TEXTS)}
    given |= {
        "severity": one.severity.value, "state": one.state.value, "labels": json.dumps(dict(one.labels)),
        "evidence": json.dumps(dict(one.evidence), default=str), "flaps": list(one.flaps), "is_settled": is_settled,
    }  # fmt: skip
    return [given[name] for name in _COLUMNS]


def insert(connection: SyncConnection, alerts: Sequence[Alert]) -> list[Alert]:
    """This will store new alerts and give them with their ids."""
    out = []
    for one in alerts:
        row = connection.execute(
            f"INSERT INTO alert ({', '.join(_COLUMNS)}) VALUES ({', '.join(['%s'] * len(_COLUMNS))}) "  # noqa: S608
            "RETURNING alert_id",
            _values(one, is_settled=False),
        ).fetchone()
        assert row is not None
        out.append(replace(one, alert_id=row[0]))
    return out


def save(connection: SyncConnection, alerts: Sequence[Alert]) -> None:
    """This will store alerts as they are now. What people did to them meanwhile stays."""
    names = [name for name in _COLUMNS if not name.startswith("acknowledge") and name != "is_settled"]
    places = [_COLUMNS.index(name) for name in names]
    with connection.cursor() as cursor:
        cursor.executemany(
            f"UPDATE alert SET {', '.join(f'{name} = %s' for name in names)} WHERE alert_id = %s",  # noqa: S608
            [(*(_values(one, is_settled=False)[n] for n in places), one.alert_id) for one in alerts],
        )


def settle(connection: SyncConnection, alert_ids: Sequence[int]) -> None:
    """This will note that nothing is left to tell of these."""
    connection.execute("UPDATE alert SET is_settled = true WHERE alert_id = ANY(%s)", (list(alert_ids),))


def forget(connection: SyncConnection, alert_ids: Sequence[int]) -> None:
    """This will delete alerts that never fired."""
    connection.execute("DELETE FROM alert WHERE alert_id = ANY(%s) AND fired_at IS NULL", (list(alert_ids),))


def note(connection: SyncConnection, changes: Sequence[tuple[int, str]], now: datetime) -> None:
    """This will write down what changed."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO alert_change (alert_id, changed_at, change) VALUES (%s, %s, %s)",
            [(alert_id, now, change) for alert_id, change in changes],
        )


def drop_before(connection: SyncConnection, oldest: datetime) -> None:
    """This will delete alerts that ended before `oldest`, and what changed before a week of it."""
    connection.execute("DELETE FROM alert WHERE state = 'resolved' AND is_settled AND resolved_at < %s", (oldest,))


def groups(connection: SyncConnection) -> dict[str, Group]:
    """This will give every group, by its key."""
    rows = connection.execute(
        "SELECT receiver, group_key, labels, changed_at, told_at, told FROM alert_group"
    ).fetchall()
    return {
        key: Group(
            receiver=receiver, key=key, labels=labels, changed_at=changed, told_at=told_at,
            told={int(number): state for number, state in told.items()},
        )
        for receiver, key, labels, changed, told_at, told in rows
    }  # fmt: skip


def save_groups(connection: SyncConnection, changed: Sequence[Group], over: Sequence[Group]) -> None:
    """This will store groups as they are now, and delete those that are over."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO alert_group AS g (receiver, group_key, labels, told, changed_at, told_at) "
            "VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (receiver, group_key) DO UPDATE SET "
            "told = excluded.told, changed_at = excluded.changed_at, told_at = greatest(g.told_at, excluded.told_at)",
            [
                (g.receiver, g.key, json.dumps(dict(g.labels)), json.dumps(dict(g.told)), g.changed_at, g.told_at)
                for g in changed
            ],
        )
        cursor.executemany(
            "DELETE FROM alert_group WHERE receiver = %s AND group_key = %s", [(g.receiver, g.key) for g in over]
        )


async def find(
    engine: AsyncEngine, *, states: Sequence[str], severities: Sequence[str], rules: Sequence[str],
    labels: Mapping[str, str], since: datetime | None, before: int | None, limit: int,
) -> list[Alert]:  # fmt: skip
    """This will give alerts, the newest first; `before` is the id of the last one seen."""
    query = select(alert).order_by(alert.c.alert_id.desc()).limit(limit)
    if states:
        query = query.where(alert.c.state.in_(states))
    if severities:
        query = query.where(alert.c.severity.in_(severities))
    if rules:
        query = query.where(alert.c.rule.in_(rules))
    if labels:
        query = query.where(alert.c.labels.contains(dict(labels)))
    if since is not None:
        query = query.where((alert.c.state != AlertState.RESOLVED.value) | (alert.c.resolved_at >= since))
    if before is not None:
        query = query.where(alert.c.alert_id < before)
    async with engine.connect() as connection:
        return [_of(row) for row in await connection.execute(query)]


def _of(row: Row[Any]) -> Alert:
    return _from(dict(row._mapping))


async def one(engine: AsyncEngine, alert_id: int) -> Alert | None:
    """This will give the alert with that id."""
    async with engine.connect() as connection:
        row = (await connection.execute(select(alert).where(alert.c.alert_id == alert_id))).one_or_none()
    return None if row is None else _of(row)


async def acknowledge(engine: AsyncEngine, alert_id: int, *, by: str, comment: str, now: datetime) -> Alert | None:
    """This will note that somebody has an alert in hand; None when it is not open."""
    statement = (
        update(alert)
        .where(alert.c.alert_id == alert_id, alert.c.state != AlertState.RESOLVED.value)
        .values(acknowledged_at=now, acknowledged_by=by, acknowledgement=comment)
        .returning(alert)
    )
    async with engine.begin() as connection:
        row = (await connection.execute(statement)).one_or_none()
        if row is not None:
            await connection.execute(
                alert_change.insert().values(alert_id=alert_id, changed_at=now, change="acknowledged")
            )
    return None if row is None else _of(row)


async def history(engine: AsyncEngine, alert_id: int, limit: int = 100) -> list[tuple[datetime, str]]:
    """This will give what changed of an alert, the oldest first."""
    query = (
        select(alert_change.c.changed_at, alert_change.c.change)
        .where(alert_change.c.alert_id == alert_id)
        .order_by(alert_change.c.change_id)
        .limit(limit)
    )
    async with engine.connect() as connection:
        return [(row.changed_at, row.change) for row in await connection.execute(query)]


async def newest_change(engine: AsyncEngine) -> int:
    """This will give the id of the newest change; 0 when there is none."""
    async with engine.connect() as connection:
        return int(await connection.scalar(select(func.max(alert_change.c.change_id))) or 0)


async def changes_after(engine: AsyncEngine, change_id: int, limit: int) -> list[Change]:
    """This will give what changed after that change, the oldest first, each with the alert as it is now."""
    query = (
        select(alert, alert_change.c.change_id, alert_change.c.changed_at, alert_change.c.change)
        .join(alert_change, alert_change.c.alert_id == alert.c.alert_id)
        .where(alert_change.c.change_id > change_id)
        .order_by(alert_change.c.change_id)
        .limit(limit)
    )
    async with engine.connect() as connection:
        return [
            Change(change_id=row.change_id, changed_at=row.changed_at, change=row.change, alert=_of(row))
            for row in await connection.execute(query)
        ]
