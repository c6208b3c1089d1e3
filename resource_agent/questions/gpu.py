"""Questions about gpu. Written by `make openapi` from the API's description; do not edit."""

from __future__ import annotations

from collections.abc import Sequence

from resource_agent.answers import Page
from resource_agent.transport import Question, question


def gpu_attribution(
    *,
    limit: int | None = None,
    cursor: str | None = None,
    node: str | Sequence[str] | None = None,
    gpu: str | Sequence[str] | None = None,
    finding: str | Sequence[str] | None = None,
    namespace: str | Sequence[str] | None = None,
    pod: str | Sequence[str] | None = None,
) -> Question[Page]:
    """To whom each GPU was given, who uses it, and what the difference says: GET /gpu/attribution."""
    return question(
        "GET",
        "/gpu/attribution",
        query={
            "limit": limit,
            "cursor": cursor,
            "node": node,
            "gpu": gpu,
            "finding": finding,
            "namespace": namespace,
            "pod": pod,
        },
        listed=True,
    )


def gpu_health(
    *,
    limit: int | None = None,
    cursor: str | None = None,
    node: str | Sequence[str] | None = None,
    gpu: str | Sequence[str] | None = None,
) -> Question[Page]:
    """Errors, links, fabric and set-up of every GPU: GET /gpu/health."""
    return question(
        "GET", "/gpu/health", query={"limit": limit, "cursor": cursor, "node": node, "gpu": gpu}, listed=True
    )


def gpu_instances(
    *,
    limit: int | None = None,
    cursor: str | None = None,
    node: str | Sequence[str] | None = None,
    gpu: str | Sequence[str] | None = None,
) -> Question[Page]:
    """The instances of GPUs in MIG mode: GET /gpu/instances."""
    return question(
        "GET", "/gpu/instances", query={"limit": limit, "cursor": cursor, "node": node, "gpu": gpu}, listed=True
    )


def gpu_memory(
    *,
    limit: int | None = None,
    cursor: str | None = None,
    node: str | Sequence[str] | None = None,
    gpu: str | Sequence[str] | None = None,
) -> Question[Page]:
    """Device memory, BAR1, ECC, remapped rows, and who holds it: GET /gpu/memory."""
    return question(
        "GET", "/gpu/memory", query={"limit": limit, "cursor": cursor, "node": node, "gpu": gpu}, listed=True
    )


def gpu_metrics(
    *,
    limit: int | None = None,
    cursor: str | None = None,
    node: str | Sequence[str] | None = None,
    gpu: str | Sequence[str] | None = None,
    field: str | Sequence[str] | None = None,
) -> Question[Page]:
    """The newest sample of every GPU: GET /gpu/metrics."""
    return question(
        "GET",
        "/gpu/metrics",
        query={"limit": limit, "cursor": cursor, "node": node, "gpu": gpu, "field": field},
        listed=True,
    )


def gpu_history(
    *,
    field: str | Sequence[str],
    since: str | None = None,
    until: str | None = None,
    step: str | None = None,
    limit: int | None = None,
    cursor: str | None = None,
    node: str | Sequence[str] | None = None,
    gpu: str | Sequence[str] | None = None,
    by: str | None = None,
) -> Question[Page]:
    """Fields of GPUs over time, by GPU, node or fleet: GET /gpu/metrics/history."""
    return question(
        "GET",
        "/gpu/metrics/history",
        query={
            "field": field,
            "since": since,
            "until": until,
            "step": step,
            "limit": limit,
            "cursor": cursor,
            "node": node,
            "gpu": gpu,
            "by": by,
        },
        listed=True,
    )


def gpu_power(
    *,
    since: str | None = None,
    until: str | None = None,
    limit: int | None = None,
    cursor: str | None = None,
    node: str | Sequence[str] | None = None,
    gpu: str | Sequence[str] | None = None,
) -> Question[Page]:
    """Power, and energy over a window: GET /gpu/power."""
    return question(
        "GET",
        "/gpu/power",
        query={"since": since, "until": until, "limit": limit, "cursor": cursor, "node": node, "gpu": gpu},
        listed=True,
    )


def gpu_temperature(
    *,
    limit: int | None = None,
    cursor: str | None = None,
    node: str | Sequence[str] | None = None,
    gpu: str | Sequence[str] | None = None,
) -> Question[Page]:
    """Temperatures, thresholds and throttling: GET /gpu/temperature."""
    return question(
        "GET", "/gpu/temperature", query={"limit": limit, "cursor": cursor, "node": node, "gpu": gpu}, listed=True
    )


def gpu_utilization(
    *,
    since: str | None = None,
    until: str | None = None,
    limit: int | None = None,
    cursor: str | None = None,
    node: str | Sequence[str] | None = None,
    gpu: str | Sequence[str] | None = None,
) -> Question[Page]:
    """How busy GPUs really are, and with what: GET /gpu/utilization."""
    return question(
        "GET",
        "/gpu/utilization",
        query={"since": since, "until": until, "limit": limit, "cursor": cursor, "node": node, "gpu": gpu},
        listed=True,
    )
