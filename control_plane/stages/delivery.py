"""The delivery job: takes notifications from the outbox to their webhooks, each group's in order.

A notification that certainly did not arrive is tried again soon, then more and more seldom. One of which nobody knows
whether it arrived (no answer came, or the sender died) is not sent again before its group's interval has passed.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from control_plane.model.alert import AlertConfiguration, Grouping, Notification, Receiver
from control_plane.model.errors import InvalidRequest, OptiInfraError
from control_plane.runtime import destinations, outbound
from control_plane.runtime.destinations import Policy
from control_plane.runtime.jobs import Report
from control_plane.runtime.outbound import NotReached
from control_plane.runtime.sealing import SealBroken, Sealer
from control_plane.storage import alert_configuration, alert_outbox
from control_plane.storage.leading import LeadingJob
from control_plane.storage.leases import Lease
from control_plane.storage.session import Database, SyncConnection

log = logging.getLogger(__name__)

NAME = "alert-delivery"
SECONDS = 10.0  # that a webhook has for its answer
# All that is sent at once has its answers by then; a replica that dies holds the others up for so long.
LEASE_LIFETIME = timedelta(seconds=2.5 * SECONDS)
# Longer than anything can be on its way.
ABANDONED_AFTER = timedelta(seconds=3 * SECONDS)
AT_ONCE = 16
SOONEST, LATEST, KEPT = timedelta(seconds=1), timedelta(minutes=5), timedelta(days=1)
# The answer may be another one later: all that says "not now", and a server's own failures.
_LATER = frozenset({408, 425, 429})
LONGEST_ERROR = 300


class Unsure(OptiInfraError):
    """It may have arrived."""


class NotTaken(OptiInfraError):
    """It certainly was not taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """What is sent, with what is secret of it."""

    notification: Notification
    url: str
    content: bytes
    headers: Mapping[str, str]


Send = Callable[[Parcel], Awaitable[None]]


def signature(secret: str, *, message_id: str, timestamp: int, content: bytes) -> str:
    """This will sign as Standard Webhooks does (https://www.standardwebhooks.com): HMAC-SHA256 of id.timestamp.body."""
    key = base64.b64decode(secret.removeprefix("whsec_")) if secret.startswith("whsec_") else secret.encode()
    signed = f"{message_id}.{timestamp}.".encode() + content
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def packed(notification: Notification, receiver: Receiver, sealer: Sealer, now: datetime) -> Parcel:
    """This will open what is sealed and sign what is sent. Raises SealBroken."""
    content = json.dumps(notification.body, separators=(",", ":")).encode()
    stamp, message_id = int(now.timestamp()), f"msg_{notification.notification_id}"
    headers = {"Content-Type": "application/json", "webhook-id": message_id, "webhook-timestamp": str(stamp)}
    if receiver.sealed_signing_secret is not None:
        secret = sealer.open(receiver.sealed_signing_secret, f"{receiver.name}/signing_secret")
        headers["webhook-signature"] = signature(secret, message_id=message_id, timestamp=stamp, content=content)
    if receiver.sealed_authorization is not None:
        headers["Authorization"] = sealer.open(receiver.sealed_authorization, f"{receiver.name}/authorization")
    url = sealer.open(receiver.sealed_url, f"{receiver.name}/webhook_url")
    return Parcel(notification=notification, url=url, content=content, headers=headers)


def over_http(policy: Policy) -> Send:
    """This will give what sends over HTTP, to places that the policy allows."""

    async def send(parcel: Parcel) -> None:
        try:
            destination = await destinations.check(parcel.url, policy, destinations.by_system)
        except InvalidRequest as error:
            raise NotTaken(str(error)) from error
        try:
            answer = await outbound.ask(
                destination, method="POST", content=parcel.content, headers=parcel.headers, seconds=SECONDS
            )
        except NotReached as error:
            if isinstance(error.__cause__, ConnectionRefusedError):
                raise NotTaken(str(error)) from error
            raise Unsure(str(error)) from error
        if not 200 <= answer.status < 300:
            later = "" if answer.status in _LATER or answer.status >= 500 else ": check the receiver"
            raise NotTaken(f"the webhook answered {answer.status}{later}")

    return send


def pause(attempts: int) -> timedelta:
    """This will give how long to wait after so many failures: twice as long each time, and a little by chance."""
    seconds = min(LATEST.total_seconds(), SOONEST.total_seconds() * 2.0 ** min(attempts - 1, 20))
    return timedelta(seconds=seconds * random.uniform(0.8, 1.2))  # noqa: S311 - to be out of step, not secret


class DeliveryJob(LeadingJob):
    """Delivers. Owned by one thread at a time."""

    name, lease_lifetime = NAME, LEASE_LIFETIME

    def __init__(
        self, database: Database, *, holder: str, now: Callable[[], datetime], sealer: Sealer, send: Send
    ) -> None:
        """`holder` names this replica, `now` is its clock; `send` takes a parcel to its webhook."""
        super().__init__(database, holder=holder, now=now)
        self._sealer = sealer
        self._send = send

    def _step(self, connection: SyncConnection, lease: Lease, now: datetime) -> Report:
        configuration = alert_configuration.current(connection)
        if configuration is None:
            return Report(leading=True, more=False)
        interval = configuration.grouping.interval
        alert_outbox.recover(connection, marked_before=now - ABANDONED_AFTER, interval=interval)
        taken = alert_outbox.take(connection, now, AT_ONCE)
        failed = asyncio.run(self._deliver(connection, configuration, taken)) if taken else 0
        figures: dict[str, float | str | None] = {"taken": float(len(taken)), "failed": float(failed)}
        return Report(leading=True, more=len(taken) == AT_ONCE, figures=figures)

    async def _deliver(
        self, connection: SyncConnection, configuration: AlertConfiguration, taken: list[Notification]
    ) -> int:
        receivers = {receiver.name: receiver for receiver in configuration.receivers}
        outcomes: list[bool] = []
        async with asyncio.TaskGroup() as tasks:
            for notification in taken:
                receiver = receivers.get(notification.receiver)
                tasks.create_task(self._one(connection, notification, receiver, configuration.grouping, outcomes))
        return outcomes.count(False)

    async def _one(
        self, connection: SyncConnection, notification: Notification, receiver: Receiver | None, spacing: Grouping,
        outcomes: list[bool],
    ) -> None:  # fmt: skip
        number, now = notification.notification_id, self._now()
        if receiver is None:
            alert_outbox.give_up(connection, number, "the receiver is no more")
            return
        try:
            await self._send(packed(notification, receiver, self._sealer, now))
        except (NotTaken, SealBroken, Unsure) as error:
            outcomes.append(False)
            why = str(error)[:LONGEST_ERROR]
            log.warning("notification %d to %s: %s", number, receiver.name, why)
            if now - notification.created_at > KEPT:
                alert_outbox.give_up(connection, number, why)
                return
            wait = spacing.interval if isinstance(error, Unsure) else pause(notification.attempts)
            alert_outbox.again(connection, number, self._now() + wait, why)
            return
        outcomes.append(True)
        alert_outbox.arrived(connection, number, self._now())
