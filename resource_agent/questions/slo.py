"""Questions about slo. Written by `make openapi` from the API's description; do not edit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from resource_agent.answers import Answer, Page
from resource_agent.transport import Question, question


def slo_list(*, limit: int | None = None, cursor: str | None = None) -> Question[Page]:
    """Every objective: GET /slo."""
    return question("GET", "/slo", query={"limit": limit, "cursor": cursor}, listed=True)


def slo_configure(body: Any, *, idempotency_key: str | None = None) -> Question[Page]:
    """Make or change objectives: POST /slo/configure."""
    return question("POST", "/slo/configure", body=body, writes=True, idempotency_key=idempotency_key, listed=True)


def slo_status(
    *, limit: int | None = None, cursor: str | None = None, slo: str | Sequence[str] | None = None
) -> Question[Page]:
    """How objectives are kept now: GET /slo/status."""
    return question("GET", "/slo/status", query={"limit": limit, "cursor": cursor, "slo": slo}, listed=True)


def slo_violations(
    *,
    since: str | None = None,
    until: str | None = None,
    limit: int | None = None,
    cursor: str | None = None,
    slo: str | Sequence[str] | None = None,
) -> Question[Page]:
    """When objectives were not kept: GET /slo/violations."""
    return question(
        "GET",
        "/slo/violations",
        query={"since": since, "until": until, "limit": limit, "cursor": cursor, "slo": slo},
        listed=True,
    )


def slo_delete(slo_id: str, *, idempotency_key: str | None = None) -> Question[Answer]:
    """Take an objective back: DELETE /slo/{slo_id}."""
    return question("DELETE", "/slo/{slo_id}", path={"slo_id": slo_id}, writes=True, idempotency_key=idempotency_key)


def slo_get(slo_id: str) -> Question[Answer]:
    """One objective: GET /slo/{slo_id}."""
    return question("GET", "/slo/{slo_id}", path={"slo_id": slo_id})


def slo_budget(
    slo_id: str, *, since: str | None = None, until: str | None = None, step: str | None = None
) -> Question[Answer]:
    """Error budget and burn rate over time: GET /slo/{slo_id}/budget."""
    return question(
        "GET", "/slo/{slo_id}/budget", path={"slo_id": slo_id}, query={"since": since, "until": until, "step": step}
    )
