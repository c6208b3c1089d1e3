"""Questions about alerts. Written by `make openapi` from the API's description; do not edit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from resource_agent.answers import Answer, Page
from resource_agent.transport import Question, question


def alerts(
    *,
    limit: int | None = None,
    cursor: str | None = None,
    state: str | Sequence[str] | None = None,
    severity: str | Sequence[str] | None = None,
    rule: str | Sequence[str] | None = None,
    label: str | Sequence[str] | None = None,
    since: str | None = None,
) -> Question[Page]:
    """Alerts, the newest first: GET /alerts."""
    return question(
        "GET",
        "/alerts",
        query={
            "limit": limit,
            "cursor": cursor,
            "state": state,
            "severity": severity,
            "rule": rule,
            "label": label,
            "since": since,
        },
        listed=True,
    )


def alert_rules() -> Question[Answer]:
    """What is configured of alerts: GET /alerts/rules."""
    return question("GET", "/alerts/rules")


def alert_rules_put(
    *,
    rules: Sequence[Mapping[str, Any]],
    default_receiver: str | None = None,
    grouping: Mapping[str, Any] | None = None,
    inhibitions: Sequence[Mapping[str, Any]] | None = None,
    receivers: Sequence[Mapping[str, Any]] | None = None,
    revision: int | None = None,
    routes: Sequence[Mapping[str, Any]] | None = None,
    silences: Sequence[Mapping[str, Any]] | None = None,
    idempotency_key: str | None = None,
) -> Question[Answer]:
    """Configure alerts: PUT /alerts/rules."""
    return question(
        "PUT",
        "/alerts/rules",
        body={
            "rules": rules,
            "default_receiver": default_receiver,
            "grouping": grouping,
            "inhibitions": inhibitions,
            "receivers": receivers,
            "revision": revision,
            "routes": routes,
            "silences": silences,
        },
        writes=True,
        idempotency_key=idempotency_key,
    )


def alert(alert_id: int) -> Question[Answer]:
    """One alert: GET /alerts/{alert_id}."""
    return question("GET", "/alerts/{alert_id}", path={"alert_id": alert_id})


def alert_acknowledge(
    alert_id: int, *, comment: str | None = None, idempotency_key: str | None = None
) -> Question[Answer]:
    """Say that somebody has an alert in hand: POST /alerts/{alert_id}/acknowledge."""
    return question(
        "POST",
        "/alerts/{alert_id}/acknowledge",
        path={"alert_id": alert_id},
        body={"comment": comment},
        writes=True,
        idempotency_key=idempotency_key,
    )
