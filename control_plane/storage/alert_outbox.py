"""Notifications on their way out.

A row is written in the transaction that changes the alerts which it tells of. It is marked before it is sent, and again
after: a process that dies between the two leaves a row of which nobody knows whether it arrived. That one is not sent
again before its group's interval has passed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.model.alert import Notification
from control_plane.storage.schema_alerts import alert_outbox
from control_plane.storage.session import SyncConnection

WAITING, SENDING, SENT, GIVEN_UP = "waiting", "sending", "sent", "given_up"
SENT_KEPT = timedelta(days=14)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverState:
    """How delivery to one receiver goes."""

    receiver: str
    waiting: int
    oldest_waiting_at: datetime | None
    sent: int  # that are kept
    last_sent_at: datetime | None
    given_up: int
    last_error: str | None


def add(connection: SyncConnection, receiver: str, group_key: str, body: Mapping[str, object], now: datetime) -> None:
    """This will put a notification on its way."""
    connection.execute(
        "INSERT INTO alert_outbox (created_at, due_at, attempts, receiver, group_key, state, body) "
        "VALUES (%s, %s, 0, %s, %s, %s, %s)",
        (now, now, receiver, group_key, WAITING, json.dumps(body)),
    )


def under_way(connection: SyncConnection) -> set[tuple[str, str]]:
    """This will give the groups, with their receivers, of which a notification has not arrived yet."""
    rows = connection.execute(
        "SELECT receiver, group_key FROM alert_outbox WHERE state IN ('waiting', 'sending')"
    ).fetchall()
    return {(receiver, key) for receiver, key in rows}


def take(connection: SyncConnection, now: datetime, limit: int) -> list[Notification]:
    """This will mark the notifications that are due as being sent, and give them, the oldest first."""
    rows = connection.execute(
        "UPDATE alert_outbox o SET state = 'sending', attempted_at = %(now)s, attempts = attempts + 1 "
        "FROM (SELECT notification_id FROM alert_outbox WHERE state = 'waiting' AND due_at <= %(now)s "
        "ORDER BY notification_id LIMIT %(limit)s FOR UPDATE SKIP LOCKED) due "
        "WHERE o.notification_id = due.notification_id "
        "RETURNING o.notification_id, receiver, group_key, body, created_at, due_at, attempts, last_error",
        {"now": now, "limit": limit},
    ).fetchall()
    names = (
        "notification_id", "receiver", "group_key", "body", "created_at", "due_at", "attempts", "last_error",
    )  # fmt: skip
    return sorted((Notification(**dict(zip(names, row, strict=True))) for row in rows), key=lambda n: n.notification_id)


def arrived(connection: SyncConnection, notification_id: int, now: datetime) -> None:
    """This will note that a notification was taken: its group's interval begins now."""
    connection.execute(
        "WITH sent AS (UPDATE alert_outbox SET state = 'sent', sent_at = %(now)s, last_error = NULL "
        "WHERE notification_id = %(id)s RETURNING receiver, group_key) "
        "UPDATE alert_group g SET told_at = %(now)s FROM sent "
        "WHERE g.receiver = sent.receiver AND g.group_key = sent.group_key",
        {"now": now, "id": notification_id},
    )


def again(connection: SyncConnection, notification_id: int, due_at: datetime, why: str) -> None:
    """This will note that a notification has to be sent again, and when."""
    connection.execute(
        "UPDATE alert_outbox SET state = 'waiting', due_at = %s, last_error = %s WHERE notification_id = %s",
        (due_at, why, notification_id),
    )


def give_up(connection: SyncConnection, notification_id: int, why: str) -> None:
    """This will note that a notification is not tried again."""
    connection.execute(
        "UPDATE alert_outbox SET state = 'given_up', last_error = %s WHERE notification_id = %s", (why, notification_id)
    )


def recover(connection: SyncConnection, *, marked_before: datetime, interval: timedelta) -> int:
    """This will take up what somebody was sending who is no more, each once its group's interval has passed."""
    return connection.execute(
        "UPDATE alert_outbox SET state = 'waiting', due_at = attempted_at + %s, "
        "last_error = 'whoever was sending it died: whether it arrived is not known' "
        "WHERE state = 'sending' AND attempted_at < %s",
        (interval, marked_before),
    ).rowcount


def drop_before(connection: SyncConnection, oldest: datetime) -> None:
    """This will delete what is no longer on its way."""
    connection.execute("DELETE FROM alert_outbox WHERE state IN ('sent', 'given_up') AND created_at < %s", (oldest,))


async def states(engine: AsyncEngine, receivers: Sequence[str]) -> list[ReceiverState]:
    """This will say how delivery to each receiver goes."""
    t = alert_outbox.c
    open_ = t.state.in_((WAITING, SENDING))
    query = (
        select(
            t.receiver,
            func.count().filter(open_).label("waiting"),
            func.min(t.created_at).filter(open_).label("oldest_waiting_at"),
            func.count().filter(t.state == SENT).label("sent"),
            func.max(t.sent_at).label("last_sent_at"),
            func.count().filter(t.state == GIVEN_UP).label("given_up"),
            func.max(t.last_error).filter(open_).label("last_error"),
        )
        .where(t.receiver.in_(receivers))
        .group_by(t.receiver)
    )
    async with engine.connect() as connection:
        found: dict[str, Any] = {row.receiver: row for row in await connection.execute(query)}
    nothing = dict.fromkeys(("oldest_waiting_at", "last_sent_at", "last_error")) | dict.fromkeys(
        ("waiting", "sent", "given_up"), 0
    )
    return [
        ReceiverState(**(dict(found[name]._mapping) if name in found else {"receiver": name, **nothing}))
        for name in receivers
    ]
