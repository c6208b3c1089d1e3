"""What is configured of alerts: one document, replaced as a whole. Its secrets arrive here sealed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.model.alert import (
    AlertConfiguration,
    AlertRule,
    AlertSeverity,
    Grouping,
    Inhibition,
    Receiver,
    Route,
    RuleKind,
    Silence,
)
from control_plane.storage.schema_alerts import alert_configuration
from control_plane.storage.session import SyncConnection


def stored(configuration: AlertConfiguration) -> dict[str, Any]:
    """This will give a configuration as it is stored."""
    spacing = configuration.grouping
    return {
        "rules": [
            {
                "name": r.name, "kind": r.kind.value, "severity": r.severity.value, "enabled": r.is_enabled,
                "wait_seconds": r.wait.total_seconds(), "keep_seconds": r.keep.total_seconds(),
                "parameters": dict(r.parameters), "matchers": dict(r.matchers), "labels": dict(r.labels),
                "runbook_url": r.runbook_url,
            }
            for r in configuration.rules
        ],
        "receivers": [
            {
                "name": r.name, "shown_url": r.shown_url, "sealed_url": r.sealed_url,
                "sealed_authorization": r.sealed_authorization, "sealed_signing_secret": r.sealed_signing_secret,
                "sends_resolved": r.sends_resolved,
            }
            for r in configuration.receivers
        ],
        "routes": [{"matchers": dict(r.matchers), "receiver": r.receiver} for r in configuration.routes],
        "default_receiver": configuration.default_receiver,
        "grouping": {
            "by": list(spacing.by), "wait_seconds": spacing.wait.total_seconds(),
            "interval_seconds": spacing.interval.total_seconds(), "repeat_seconds": spacing.repeat.total_seconds(),
        },
        "inhibitions": [
            {"source": dict(i.source), "target": dict(i.target), "equal": list(i.equal)}
            for i in configuration.inhibitions
        ],
        "silences": [
            {
                "silence_id": s.silence_id, "matchers": dict(s.matchers), "starts_at": s.starts_at.isoformat(),
                "ends_at": s.ends_at.isoformat(), "comment": s.comment, "created_by": s.created_by,
            }
            for s in configuration.silences
        ],
    }  # fmt: skip


def _read(revision: int, said: Mapping[str, Any], changed_at: datetime, changed_by: str) -> AlertConfiguration:
    grouping = said.get("grouping", {})
    usual = Grouping()
    return AlertConfiguration(
        revision=revision,
        rules=[_rule(r) for r in said.get("rules", ()) if r["kind"] in tuple(RuleKind)],  # a later release has more
        receivers=[Receiver(**r) for r in said.get("receivers", ())],
        routes=[Route(**r) for r in said.get("routes", ())],
        default_receiver=said.get("default_receiver"),
        grouping=Grouping(
            by=tuple(grouping.get("by", usual.by)),
            wait=timedelta(seconds=grouping.get("wait_seconds", usual.wait.total_seconds())),
            interval=timedelta(seconds=grouping.get("interval_seconds", usual.interval.total_seconds())),
            repeat=timedelta(seconds=grouping.get("repeat_seconds", usual.repeat.total_seconds())),
        ),
        inhibitions=[Inhibition(**i) for i in said.get("inhibitions", ())],
        silences=[
            Silence(**{**s, "starts_at": datetime.fromisoformat(s["starts_at"]),
                       "ends_at": datetime.fromisoformat(s["ends_at"])})
            for s in said.get("silences", ())
        ],
        changed_at=changed_at,
        changed_by=changed_by,
    )  # fmt: skip


def _rule(said: Mapping[str, Any]) -> AlertRule:
    return AlertRule(
        name=said["name"],
        kind=RuleKind(said["kind"]),
        severity=AlertSeverity(said["severity"]),
        is_enabled=said["enabled"],
        wait=timedelta(seconds=said["wait_seconds"]),
        keep=timedelta(seconds=said["keep_seconds"]),
        parameters=said["parameters"],
        matchers=said["matchers"],
        labels=said["labels"],
        runbook_url=said["runbook_url"],
    )


async def find(engine: AsyncEngine) -> AlertConfiguration | None:
    """This will give what is configured; None where nobody configured anything."""
    async with engine.connect() as connection:
        row = (await connection.execute(select(alert_configuration))).one_or_none()
    return None if row is None else _read(row.revision, row.document, row.changed_at, row.changed_by)


async def write(
    engine: AsyncEngine, configuration: AlertConfiguration, *, now: datetime, by: str, expected: int | None
) -> int | None:
    """This will put a configuration in the place of the one before, and give its revision.

    `expected` is the revision that must still hold (0: none yet); None is given when it does not.
    """
    statement = text(
        "INSERT INTO alert_configuration AS old (only_row, revision, document, changed_at, changed_by) "
        "SELECT true, 1, CAST(:document AS jsonb), CAST(:now AS timestamptz), :who "
        "WHERE coalesce(CAST(:expected AS bigint), 0) = 0 OR EXISTS (SELECT 1 FROM alert_configuration) "
        "ON CONFLICT (only_row) DO UPDATE SET revision = old.revision + 1, document = excluded.document, "
        "changed_at = excluded.changed_at, changed_by = excluded.changed_by "
        "WHERE CAST(:expected AS bigint) IS NULL OR old.revision = CAST(:expected AS bigint) RETURNING revision"
    )
    arguments = {"document": json.dumps(stored(configuration)), "now": now, "who": by, "expected": expected}
    async with engine.begin() as connection:
        found = (await connection.execute(statement, arguments)).scalar_one_or_none()
    return None if found is None else int(found)


def current(connection: SyncConnection) -> AlertConfiguration | None:
    """This will give what is configured; None where nobody configured anything."""
    row = connection.execute("SELECT revision, document, changed_at, changed_by FROM alert_configuration").fetchone()
    return None if row is None else _read(*row)
