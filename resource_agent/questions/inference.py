"""Questions about inference. Written by `make openapi` from the API's description; do not edit."""

from __future__ import annotations

from collections.abc import Sequence

from resource_agent.answers import Answer, Page
from resource_agent.transport import Question, question


def inference_servers(
    *,
    limit: int | None = None,
    cursor: str | None = None,
    node: str | Sequence[str] | None = None,
    server: str | Sequence[str] | None = None,
    model: str | Sequence[str] | None = None,
    namespace: str | Sequence[str] | None = None,
    pod: str | Sequence[str] | None = None,
) -> Question[Page]:
    """Every inference server found: GET /inference/servers."""
    return question(
        "GET",
        "/inference/servers",
        query={
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


def inference_server(server_id: str) -> Question[Answer]:
    """One inference server, with its live load: GET /inference/servers/{server_id}."""
    return question("GET", "/inference/servers/{server_id}", path={"server_id": server_id})
