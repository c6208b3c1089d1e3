"""Questions about nodes. Written by `make openapi` from the API's description; do not edit."""

from __future__ import annotations

from collections.abc import Sequence

from resource_agent.answers import Answer, Page
from resource_agent.transport import Question, question


def nodes(*, limit: int | None = None, cursor: str | None = None) -> Question[Page]:
    """Every node and its state: GET /nodes."""
    return question("GET", "/nodes", query={"limit": limit, "cursor": cursor}, listed=True)


def join_token(
    *,
    hours: float | None = None,
    max_uses: int | None = None,
    node_name: str | None = None,
    idempotency_key: str | None = None,
) -> Question[Answer]:
    """A token to enrol nodes with: POST /nodes/join-tokens."""
    return question(
        "POST",
        "/nodes/join-tokens",
        query={"hours": hours, "max_uses": max_uses, "node_name": node_name},
        writes=True,
        idempotency_key=idempotency_key,
    )


def node_forget(node_id: str, *, idempotency_key: str | None = None) -> Question[Answer]:
    """Forget a node that is gone: DELETE /nodes/{node_id}."""
    return question(
        "DELETE", "/nodes/{node_id}", path={"node_id": node_id}, writes=True, idempotency_key=idempotency_key
    )


def node(node_id: str) -> Question[Answer]:
    """One node, with what is on it: GET /nodes/{node_id}."""
    return question("GET", "/nodes/{node_id}", path={"node_id": node_id})


def node_config(node_id: str) -> Question[Answer]:
    """How one node is configured: GET /nodes/{node_id}/config."""
    return question("GET", "/nodes/{node_id}/config", path={"node_id": node_id})


def node_configure(
    node_id: str,
    *,
    discover_engines: bool | None = None,
    gpu_monitoring_enabled: bool | None = None,
    sampling_interval_seconds: float | None = None,
    scrape_targets: Sequence[str] | None = None,
    idempotency_key: str | None = None,
    if_match: str | None = None,
) -> Question[Answer]:
    """Configure one node: PUT /nodes/{node_id}/config."""
    return question(
        "PUT",
        "/nodes/{node_id}/config",
        path={"node_id": node_id},
        body={
            "discover_engines": discover_engines,
            "gpu_monitoring_enabled": gpu_monitoring_enabled,
            "sampling_interval_seconds": sampling_interval_seconds,
            "scrape_targets": scrape_targets,
        },
        writes=True,
        idempotency_key=idempotency_key,
        if_match=if_match,
    )


def node_events(
    node_id: str,
    *,
    since: str | None = None,
    until: str | None = None,
    limit: int | None = None,
    cursor: str | None = None,
    kind: str | Sequence[str] | None = None,
) -> Question[Page]:
    """What happened on one node, the newest first: GET /nodes/{node_id}/events."""
    return question(
        "GET",
        "/nodes/{node_id}/events",
        path={"node_id": node_id},
        query={"since": since, "until": until, "limit": limit, "cursor": cursor, "kind": kind},
        listed=True,
    )


def node_gpus_release(
    node_id: str, *, seconds: int | None = None, idempotency_key: str | None = None
) -> Question[Answer]:
    """Have an agent let go of its GPUs: POST /nodes/{node_id}/gpus/release."""
    return question(
        "POST",
        "/nodes/{node_id}/gpus/release",
        path={"node_id": node_id},
        query={"seconds": seconds},
        writes=True,
        idempotency_key=idempotency_key,
    )
