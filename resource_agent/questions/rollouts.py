"""Questions about rollouts. Written by `make openapi` from the API's description; do not edit."""

from __future__ import annotations

from collections.abc import Sequence

from resource_agent.answers import Answer, Page
from resource_agent.transport import Question, question


def rollout_history(*, limit: int | None = None, cursor: str | None = None) -> Question[Page]:
    """All rollouts, the newest first: GET /rollout/history."""
    return question("GET", "/rollout/history", query={"limit": limit, "cursor": cursor}, listed=True)


def rollout_rollback(*, rollout_id: str, idempotency_key: str | None = None) -> Question[Answer]:
    """Take a rollout back: POST /rollout/rollback."""
    return question(
        "POST", "/rollout/rollback", body={"rollout_id": rollout_id}, writes=True, idempotency_key=idempotency_key
    )


def rollout_start(
    *,
    target: str,
    allowed_bad_ratio: float | None = None,
    approve_before_percent: Sequence[float] | None = None,
    bad_margin_ratio: float | None = None,
    bake_seconds: float | None = None,
    drain_seconds: float | None = None,
    dry_run: bool | None = None,
    least_requests: int | None = None,
    least_seconds: float | None = None,
    most_seconds: float | None = None,
    ready_seconds: float | None = None,
    replicas: int | None = None,
    steps_percent: Sequence[float] | None = None,
    strategy: str | None = None,
    warm_seconds: float | None = None,
    idempotency_key: str | None = None,
) -> Question[Answer]:
    """Begin a rollout: POST /rollout/start."""
    return question(
        "POST",
        "/rollout/start",
        body={
            "target": target,
            "allowed_bad_ratio": allowed_bad_ratio,
            "approve_before_percent": approve_before_percent,
            "bad_margin_ratio": bad_margin_ratio,
            "bake_seconds": bake_seconds,
            "drain_seconds": drain_seconds,
            "dry_run": dry_run,
            "least_requests": least_requests,
            "least_seconds": least_seconds,
            "most_seconds": most_seconds,
            "ready_seconds": ready_seconds,
            "replicas": replicas,
            "steps_percent": steps_percent,
            "strategy": strategy,
            "warm_seconds": warm_seconds,
        },
        writes=True,
        idempotency_key=idempotency_key,
    )


def rollout_status(*, id: str | None = None) -> Question[Page]:
    """Rollouts under way: GET /rollout/status."""
    return question("GET", "/rollout/status", query={"id": id}, listed=True)


def rollout_get(rollout_id: str) -> Question[Answer]:
    """One rollout with its history: GET /rollout/{rollout_id}."""
    return question("GET", "/rollout/{rollout_id}", path={"rollout_id": rollout_id})


def rollout_pause(rollout_id: str, *, idempotency_key: str | None = None) -> Question[Answer]:
    """Hold where it is: POST /rollout/{rollout_id}/pause."""
    return question(
        "POST",
        "/rollout/{rollout_id}/pause",
        path={"rollout_id": rollout_id},
        writes=True,
        idempotency_key=idempotency_key,
    )


def rollout_promote(rollout_id: str, *, idempotency_key: str | None = None) -> Question[Answer]:
    """Go on now: POST /rollout/{rollout_id}/promote."""
    return question(
        "POST",
        "/rollout/{rollout_id}/promote",
        path={"rollout_id": rollout_id},
        writes=True,
        idempotency_key=idempotency_key,
    )


def rollout_resume(rollout_id: str, *, idempotency_key: str | None = None) -> Question[Answer]:
    """Go on with the step that was held: POST /rollout/{rollout_id}/resume."""
    return question(
        "POST",
        "/rollout/{rollout_id}/resume",
        path={"rollout_id": rollout_id},
        writes=True,
        idempotency_key=idempotency_key,
    )
