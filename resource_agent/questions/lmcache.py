"""Questions about lmcache. Written by `make openapi` from the API's description; do not edit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from resource_agent.answers import Answer, Page
from resource_agent.transport import Question, question


def lmcache_configure(
    *, cache_id: int, changes: Mapping[str, Any], idempotency_key: str | None = None
) -> Question[Answer]:
    """How a change of an LMCache is made: POST /lmcache/configure."""
    return question(
        "POST",
        "/lmcache/configure",
        body={"cache_id": cache_id, "changes": changes},
        writes=True,
        idempotency_key=idempotency_key,
    )


def lmcache_metrics(
    *, limit: int | None = None, cursor: str | None = None, node: str | Sequence[str] | None = None
) -> Question[Page]:
    """What every LMCache did: GET /lmcache/metrics."""
    return question("GET", "/lmcache/metrics", query={"limit": limit, "cursor": cursor, "node": node}, listed=True)


def lmcache_optimize(body: Any, *, idempotency_key: str | None = None) -> Question[Page]:
    """How large each LMCache should be: POST /lmcache/optimize."""
    return question("POST", "/lmcache/optimize", body=body, writes=True, idempotency_key=idempotency_key, listed=True)


def lmcache_status(
    *, limit: int | None = None, cursor: str | None = None, node: str | Sequence[str] | None = None
) -> Question[Page]:
    """Every LMCache found: GET /lmcache/status."""
    return question("GET", "/lmcache/status", query={"limit": limit, "cursor": cursor, "node": node}, listed=True)
