"""Questions about optimisation. Written by `make openapi` from the API's description; do not edit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from resource_agent.answers import Answer, Page
from resource_agent.transport import Question, question


def insights(body: Any, *, idempotency_key: str | None = None) -> Question[Answer]:
    """An explanation in words: POST /insights."""
    return question("POST", "/insights", body=body, writes=True, idempotency_key=idempotency_key)


def optimize_batch(body: Any, *, idempotency_key: str | None = None) -> Question[Page]:
    """More requests at once: POST /optimize/batch."""
    return question("POST", "/optimize/batch", body=body, writes=True, idempotency_key=idempotency_key, listed=True)


def optimize_consolidate(body: Any, *, idempotency_key: str | None = None) -> Question[Page]:
    """The same engines on fewer GPUs: POST /optimize/consolidate."""
    return question(
        "POST", "/optimize/consolidate", body=body, writes=True, idempotency_key=idempotency_key, listed=True
    )


def optimize_kv_cache(body: Any, *, idempotency_key: str | None = None) -> Question[Page]:
    """Room in the KV cache: POST /optimize/kv-cache."""
    return question("POST", "/optimize/kv-cache", body=body, writes=True, idempotency_key=idempotency_key, listed=True)


def optimize_parallelism(body: Any, *, idempotency_key: str | None = None) -> Question[Page]:
    """The same GPUs, divided otherwise: POST /optimize/parallelism."""
    return question(
        "POST", "/optimize/parallelism", body=body, writes=True, idempotency_key=idempotency_key, listed=True
    )


def optimize_quantize(body: Any, *, idempotency_key: str | None = None) -> Question[Page]:
    """Weights in fewer bits: POST /optimize/quantize."""
    return question("POST", "/optimize/quantize", body=body, writes=True, idempotency_key=idempotency_key, listed=True)


def optimize_recommendations(
    *,
    limit: int | None = None,
    cursor: str | None = None,
    state: str | Sequence[str] | None = None,
    kind: str | Sequence[str] | None = None,
    server: str | Sequence[str] | None = None,
    model: str | Sequence[str] | None = None,
) -> Question[Page]:
    """What is recommended, ranked by what it saves: GET /optimize/recommendations."""
    return question(
        "GET",
        "/optimize/recommendations",
        query={"limit": limit, "cursor": cursor, "state": state, "kind": kind, "server": server, "model": model},
        listed=True,
    )


def optimize_recommendations_post(
    *,
    limit: int | None = None,
    cursor: str | None = None,
    state: str | Sequence[str] | None = None,
    kind: str | Sequence[str] | None = None,
    server: str | Sequence[str] | None = None,
    model: str | Sequence[str] | None = None,
) -> Question[Page]:
    """The same, as published scripts ask for it: POST /optimize/recommendations."""
    return question(
        "POST",
        "/optimize/recommendations",
        query={"limit": limit, "cursor": cursor, "state": state, "kind": kind, "server": server, "model": model},
        listed=True,
    )


def optimize_recommendation(recommendation_id: int) -> Question[Answer]:
    """One recommendation: GET /optimize/recommendations/{recommendation_id}."""
    return question(
        "GET", "/optimize/recommendations/{recommendation_id}", path={"recommendation_id": recommendation_id}
    )


def optimize_approve(recommendation_id: int, body: Any, *, idempotency_key: str | None = None) -> Question[Answer]:
    """Agree to a recommendation: POST /optimize/recommendations/{recommendation_id}/approve."""
    return question(
        "POST",
        "/optimize/recommendations/{recommendation_id}/approve",
        path={"recommendation_id": recommendation_id},
        body=body,
        writes=True,
        idempotency_key=idempotency_key,
    )


def optimize_reject(recommendation_id: int, body: Any, *, idempotency_key: str | None = None) -> Question[Answer]:
    """Turn a recommendation down: POST /optimize/recommendations/{recommendation_id}/reject."""
    return question(
        "POST",
        "/optimize/recommendations/{recommendation_id}/reject",
        path={"recommendation_id": recommendation_id},
        body=body,
        writes=True,
        idempotency_key=idempotency_key,
    )


def optimize_scale_down(body: Any, *, idempotency_key: str | None = None) -> Question[Page]:
    """Fewer replicas, where those that are left hold it: POST /optimize/scale-down."""
    return question(
        "POST", "/optimize/scale-down", body=body, writes=True, idempotency_key=idempotency_key, listed=True
    )


def optimize_scale_up(body: Any, *, idempotency_key: str | None = None) -> Question[Page]:
    """More replicas, where demand needs them: POST /optimize/scale-up."""
    return question("POST", "/optimize/scale-up", body=body, writes=True, idempotency_key=idempotency_key, listed=True)
