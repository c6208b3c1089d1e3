"""Questions about inference metrics. Written by `make openapi` from the API's description; do not edit."""

from __future__ import annotations

from collections.abc import Sequence

from resource_agent.answers import Answer, Page
from resource_agent.transport import Question, question


def metrics_exposition() -> Question[str]:
    """The control plane's own metrics, for Prometheus: GET /metrics."""
    return question("GET", "/metrics")


def metrics_collect(
    *, node: str | Sequence[str] | None = None, timeout_seconds: float | None = None, idempotency_key: str | None = None
) -> Question[Answer]:
    """Take a sample now: POST /metrics/collect."""
    return question(
        "POST",
        "/metrics/collect",
        query={"node": node, "timeout_seconds": timeout_seconds},
        writes=True,
        idempotency_key=idempotency_key,
    )


def metrics_gpu(
    *,
    limit: int | None = None,
    cursor: str | None = None,
    node: str | Sequence[str] | None = None,
    server: str | Sequence[str] | None = None,
    model: str | Sequence[str] | None = None,
    namespace: str | Sequence[str] | None = None,
    pod: str | Sequence[str] | None = None,
) -> Question[Answer]:
    """The GPUs behind each server, with its load: GET /metrics/gpu."""
    return question(
        "GET",
        "/metrics/gpu",
        query={
            "limit": limit,
            "cursor": cursor,
            "node": node,
            "server": server,
            "model": model,
            "namespace": namespace,
            "pod": pod,
        },
    )


def metrics_history(
    *,
    field: str | Sequence[str],
    since: str | None = None,
    until: str | None = None,
    step: str | None = None,
    limit: int | None = None,
    cursor: str | None = None,
    node: str | Sequence[str] | None = None,
    server: str | Sequence[str] | None = None,
    model: str | Sequence[str] | None = None,
    namespace: str | Sequence[str] | None = None,
    pod: str | Sequence[str] | None = None,
) -> Question[Page]:
    """Fields of inference servers over time: GET /metrics/history."""
    return question(
        "GET",
        "/metrics/history",
        query={
            "field": field,
            "since": since,
            "until": until,
            "step": step,
            "limit": limit,
            "cursor": cursor,
            "node": node,
            "server": server,
            "model": model,
            "namespace": namespace,
            "pod": pod,
        },
        listed=True,
    )


def metrics_latency(
    *,
    since: str | None = None,
    until: str | None = None,
    limit: int | None = None,
    cursor: str | None = None,
    node: str | Sequence[str] | None = None,
    server: str | Sequence[str] | None = None,
    model: str | Sequence[str] | None = None,
    namespace: str | Sequence[str] | None = None,
    pod: str | Sequence[str] | None = None,
) -> Question[Page]:
    """TTFT, time per token, queue, prefill, decode, end to end: GET /metrics/latency."""
    return question(
        "GET",
        "/metrics/latency",
        query={
            "since": since,
            "until": until,
            "limit": limit,
            "cursor": cursor,
            "node": node,
            "server": server,
            "model": model,
            "namespace": namespace,
            "pod": pod,
        },
        listed=True,
    )


def metrics_memory(
    *,
    since: str | None = None,
    until: str | None = None,
    limit: int | None = None,
    cursor: str | None = None,
    node: str | Sequence[str] | None = None,
    server: str | Sequence[str] | None = None,
    model: str | Sequence[str] | None = None,
    namespace: str | Sequence[str] | None = None,
    pod: str | Sequence[str] | None = None,
) -> Question[Answer]:
    """KV cache, prefix hits, preemptions: GET /metrics/memory."""
    return question(
        "GET",
        "/metrics/memory",
        query={
            "since": since,
            "until": until,
            "limit": limit,
            "cursor": cursor,
            "node": node,
            "server": server,
            "model": model,
            "namespace": namespace,
            "pod": pod,
        },
    )


def metrics_throughput(
    *,
    since: str | None = None,
    until: str | None = None,
    limit: int | None = None,
    cursor: str | None = None,
    node: str | Sequence[str] | None = None,
    server: str | Sequence[str] | None = None,
    model: str | Sequence[str] | None = None,
    namespace: str | Sequence[str] | None = None,
    pod: str | Sequence[str] | None = None,
) -> Question[Answer]:
    """Requests and tokens per second: GET /metrics/throughput."""
    return question(
        "GET",
        "/metrics/throughput",
        query={
            "since": since,
            "until": until,
            "limit": limit,
            "cursor": cursor,
            "node": node,
            "server": server,
            "model": model,
            "namespace": namespace,
            "pod": pod,
        },
    )


def metrics_tokens(
    *,
    since: str | None = None,
    until: str | None = None,
    limit: int | None = None,
    cursor: str | None = None,
    node: str | Sequence[str] | None = None,
    server: str | Sequence[str] | None = None,
    model: str | Sequence[str] | None = None,
    namespace: str | Sequence[str] | None = None,
    pod: str | Sequence[str] | None = None,
) -> Question[Answer]:
    """Token generation speed and lengths: GET /metrics/tokens."""
    return question(
        "GET",
        "/metrics/tokens",
        query={
            "since": since,
            "until": until,
            "limit": limit,
            "cursor": cursor,
            "node": node,
            "server": server,
            "model": model,
            "namespace": namespace,
            "pod": pod,
        },
    )
