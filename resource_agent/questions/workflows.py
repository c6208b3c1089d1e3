"""Questions about workflows. Written by `make openapi` from the API's description; do not edit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from resource_agent.answers import Answer, Page
from resource_agent.transport import Question, question


def optimize_execute(
    *,
    recommendation_id: int,
    dry_run: bool | None = None,
    watch_looks: int | None = None,
    watch_seconds: float | None = None,
    idempotency_key: str | None = None,
) -> Question[Answer]:
    """Carry a recommendation out: POST /optimize/execute."""
    return question(
        "POST",
        "/optimize/execute",
        body={
            "recommendation_id": recommendation_id,
            "dry_run": dry_run,
            "watch_looks": watch_looks,
            "watch_seconds": watch_seconds,
        },
        writes=True,
        idempotency_key=idempotency_key,
    )


def optimize_executions(
    *, limit: int | None = None, cursor: str | None = None, state: str | Sequence[str] | None = None
) -> Question[Page]:
    """Every execution, the newest first: GET /optimize/executions."""
    return question(
        "GET", "/optimize/executions", query={"limit": limit, "cursor": cursor, "state": state}, listed=True
    )


def optimize_execution(workflow_id: str) -> Question[Answer]:
    """One execution: GET /optimize/executions/{workflow_id}."""
    return question("GET", "/optimize/executions/{workflow_id}", path={"workflow_id": workflow_id})


def optimize_cancel(workflow_id: str, body: Any, *, idempotency_key: str | None = None) -> Question[Answer]:
    """Stop an execution: POST /optimize/executions/{workflow_id}/cancel."""
    return question(
        "POST",
        "/optimize/executions/{workflow_id}/cancel",
        path={"workflow_id": workflow_id},
        body=body,
        writes=True,
        idempotency_key=idempotency_key,
    )


def workflows(
    *, limit: int | None = None, cursor: str | None = None, state: str | Sequence[str] | None = None
) -> Question[Page]:
    """Every workflow, the newest first: GET /workflows."""
    return question("GET", "/workflows", query={"limit": limit, "cursor": cursor, "state": state}, listed=True)


def workflow_run(body: Any, *, idempotency_key: str | None = None) -> Question[Answer]:
    """Begin a workflow: POST /workflows/run."""
    return question("POST", "/workflows/run", body=body, writes=True, idempotency_key=idempotency_key)


def workflow(workflow_id: str) -> Question[Answer]:
    """One workflow: GET /workflows/{workflow_id}."""
    return question("GET", "/workflows/{workflow_id}", path={"workflow_id": workflow_id})


def workflow_resume(
    workflow_id: str, *, approved: bool, reason: str | None = None, idempotency_key: str | None = None
) -> Question[Answer]:
    """Agree, or not, to what a workflow has chosen: POST /workflows/{workflow_id}/resume."""
    return question(
        "POST",
        "/workflows/{workflow_id}/resume",
        path={"workflow_id": workflow_id},
        body={"approved": approved, "reason": reason},
        writes=True,
        idempotency_key=idempotency_key,
    )
