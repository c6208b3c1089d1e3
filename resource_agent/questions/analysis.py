"""Questions about analysis. Written by `make openapi` from the API's description; do not edit."""

from __future__ import annotations

from collections.abc import Sequence

from resource_agent.answers import Answer, Page
from resource_agent.transport import Question, question


def analysis_bottlenecks(
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
    of: str | None = None,
    bottleneck: str | Sequence[str] | None = None,
) -> Question[Page]:
    """What binds each inference server, and what to do about it: GET /analysis/bottlenecks."""
    return question(
        "GET",
        "/analysis/bottlenecks",
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
            "of": of,
            "bottleneck": bottleneck,
        },
        listed=True,
    )


def analysis_correlation(
    *,
    limit: int | None = None,
    cursor: str | None = None,
    window: str | None = None,
    model: str | Sequence[str] | None = None,
) -> Question[Page]:
    """Throughput per GPU, watt and dollar; latency against utilisation: GET /analysis/correlation."""
    return question(
        "GET",
        "/analysis/correlation",
        query={"limit": limit, "cursor": cursor, "window": window, "model": model},
        listed=True,
    )


def analysis_forecast(
    *,
    limit: int | None = None,
    cursor: str | None = None,
    horizon: str | None = None,
    model: str | Sequence[str] | None = None,
    server: str | Sequence[str] | None = None,
) -> Question[Page]:
    """Demand that will come, at most how much, and how far to believe it: GET /analysis/forecast."""
    return question(
        "GET",
        "/analysis/forecast",
        query={"limit": limit, "cursor": cursor, "horizon": horizon, "model": model, "server": server},
        listed=True,
    )


def analysis_opportunities(
    *, limit: int | None = None, cursor: str | None = None, window: str | None = None
) -> Question[Page]:
    """What could be saved, ranked by value: GET /analysis/opportunities."""
    return question(
        "GET", "/analysis/opportunities", query={"limit": limit, "cursor": cursor, "window": window}, listed=True
    )


def analysis_report(*, window: str | None = None, format: str | None = None) -> Question[Answer]:
    """The whole as JSON, Markdown or HTML with plots: GET /analysis/report."""
    return question("GET", "/analysis/report", query={"window": window, "format": format})


def analysis_trends(
    *,
    limit: int | None = None,
    cursor: str | None = None,
    window: str | None = None,
    by: str | None = None,
    model: str | Sequence[str] | None = None,
    node: str | Sequence[str] | None = None,
) -> Question[Page]:
    """Trend, seasons and changes of demand and resources, with what is forecast: GET /analysis/trends."""
    return question(
        "GET",
        "/analysis/trends",
        query={"limit": limit, "cursor": cursor, "window": window, "by": by, "model": model, "node": node},
        listed=True,
    )


def analysis_utilization(
    *,
    cursor: str | None = None,
    gpu: Sequence[str] | None = None,
    limit: int | None = None,
    model: Sequence[str] | None = None,
    node: Sequence[str] | None = None,
    resource: Sequence[str] | None = None,
    server: Sequence[str] | None = None,
    since: str | None = None,
    until: str | None = None,
    verdict: Sequence[str] | None = None,
) -> Question[Page]:
    """Under- and over-used resources in a scope and window: POST /analysis/utilization."""
    return question(
        "POST",
        "/analysis/utilization",
        body={
            "cursor": cursor,
            "gpu": gpu,
            "limit": limit,
            "model": model,
            "node": node,
            "resource": resource,
            "server": server,
            "since": since,
            "until": until,
            "verdict": verdict,
        },
        listed=True,
    )


def analysis_waste(
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
    gpu: str | Sequence[str] | None = None,
    pool: str | Sequence[str] | None = None,
    label: str | Sequence[str] | None = None,
    by: str | None = None,
) -> Question[Page]:
    """What paid GPU time, energy and money went into: GET /analysis/waste."""
    return question(
        "GET",
        "/analysis/waste",
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
            "gpu": gpu,
            "pool": pool,
            "label": label,
            "by": by,
        },
        listed=True,
    )
