"""Questions about cost. Written by `make openapi` from the API's description; do not edit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from resource_agent.answers import Answer, Page
from resource_agent.transport import Question, question


def cost_gpu_hours(
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
    """GPU-hours, by what they went into: GET /cost/gpu-hours."""
    return question(
        "GET",
        "/cost/gpu-hours",
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


def cost_prices() -> Question[Answer]:
    """The prices that hold: GET /cost/prices."""
    return question("GET", "/cost/prices")


def cost_prices_enter(
    *,
    as_of: str,
    currency: str | None = None,
    per_kwh: float | None = None,
    prices: Sequence[Mapping[str, Any]] | None = None,
    provider: str | None = None,
    usd_per_unit: float | None = None,
    use_list_prices: bool | None = None,
    idempotency_key: str | None = None,
) -> Question[Answer]:
    """Let other prices hold: PUT /cost/prices."""
    return question(
        "PUT",
        "/cost/prices",
        body={
            "as_of": as_of,
            "currency": currency,
            "per_kwh": per_kwh,
            "prices": prices,
            "provider": provider,
            "usd_per_unit": usd_per_unit,
            "use_list_prices": use_list_prices,
        },
        writes=True,
        idempotency_key=idempotency_key,
    )


def cost_savings(*, window: str | None = None) -> Question[Answer]:
    """What could be saved, and what was: GET /cost/savings."""
    return question("GET", "/cost/savings", query={"window": window})


def cost_summary(
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
    """What was paid, what of it was waste, and what a million tokens cost: GET /cost/summary."""
    return question(
        "GET",
        "/cost/summary",
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
