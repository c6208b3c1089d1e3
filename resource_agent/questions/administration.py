"""Questions about administration. Written by `make openapi` from the API's description; do not edit."""

from __future__ import annotations

from collections.abc import Sequence

from resource_agent.answers import Answer, Page
from resource_agent.transport import Question, question


def api_keys(*, limit: int | None = None, cursor: str | None = None) -> Question[Page]:
    """Every API key: GET /api-keys."""
    return question("GET", "/api-keys", query={"limit": limit, "cursor": cursor}, listed=True)


def api_key_create(
    *, name: str, days: float | None = None, scopes: Sequence[str] | None = None, idempotency_key: str | None = None
) -> Question[Answer]:
    """Make an API key: POST /api-keys."""
    return question(
        "POST",
        "/api-keys",
        body={"name": name, "days": days, "scopes": scopes},
        writes=True,
        idempotency_key=idempotency_key,
    )


def api_key_revoke(key_id: str, *, idempotency_key: str | None = None) -> Question[Answer]:
    """Revoke an API key: DELETE /api-keys/{key_id}."""
    return question(
        "DELETE", "/api-keys/{key_id}", path={"key_id": key_id}, writes=True, idempotency_key=idempotency_key
    )


def audit(
    *,
    since: str | None = None,
    until: str | None = None,
    limit: int | None = None,
    cursor: str | None = None,
    caller: str | Sequence[str] | None = None,
    operation: str | Sequence[str] | None = None,
) -> Question[Page]:
    """Who changed what, the newest first: GET /audit."""
    return question(
        "GET",
        "/audit",
        query={
            "since": since,
            "until": until,
            "limit": limit,
            "cursor": cursor,
            "caller": caller,
            "operation": operation,
        },
        listed=True,
    )


def orchestrator() -> Question[Answer]:
    """Registration with the orchestrator: GET /integrations/orchestrator."""
    return question("GET", "/integrations/orchestrator")
