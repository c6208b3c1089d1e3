"""Questions about system. Written by `make openapi` from the API's description; do not edit."""

from __future__ import annotations

from collections.abc import Sequence

from resource_agent.answers import Page
from resource_agent.transport import Question, question


def system_all(
    *, limit: int | None = None, cursor: str | None = None, node: str | Sequence[str] | None = None
) -> Question[Page]:
    """Everything about each machine: GET /system/all."""
    return question("GET", "/system/all", query={"limit": limit, "cursor": cursor, "node": node}, listed=True)


def system_cpu(
    *, limit: int | None = None, cursor: str | None = None, node: str | Sequence[str] | None = None
) -> Question[Page]:
    """CPU use, load and pressure: GET /system/cpu."""
    return question("GET", "/system/cpu", query={"limit": limit, "cursor": cursor, "node": node}, listed=True)


def system_disk(
    *, limit: int | None = None, cursor: str | None = None, node: str | Sequence[str] | None = None
) -> Question[Page]:
    """Disks and file systems: GET /system/disk."""
    return question("GET", "/system/disk", query={"limit": limit, "cursor": cursor, "node": node}, listed=True)


def system_history(
    *,
    field: str | Sequence[str],
    since: str | None = None,
    until: str | None = None,
    step: str | None = None,
    limit: int | None = None,
    cursor: str | None = None,
    node: str | Sequence[str] | None = None,
) -> Question[Page]:
    """Fields of machines over time: GET /system/history."""
    return question(
        "GET",
        "/system/history",
        query={
            "field": field,
            "since": since,
            "until": until,
            "step": step,
            "limit": limit,
            "cursor": cursor,
            "node": node,
        },
        listed=True,
    )


def system_memory(
    *, limit: int | None = None, cursor: str | None = None, node: str | Sequence[str] | None = None
) -> Question[Page]:
    """Memory, swap and pressure: GET /system/memory."""
    return question("GET", "/system/memory", query={"limit": limit, "cursor": cursor, "node": node}, listed=True)


def system_network(
    *, limit: int | None = None, cursor: str | None = None, node: str | Sequence[str] | None = None
) -> Question[Page]:
    """Network interfaces and InfiniBand ports: GET /system/network."""
    return question("GET", "/system/network", query={"limit": limit, "cursor": cursor, "node": node}, listed=True)
