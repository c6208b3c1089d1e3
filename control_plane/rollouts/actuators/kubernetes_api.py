"""A few questions to a Kubernetes API server through the official client, which knows how to get in.

Only objects as JSON: which fields matter is their owner's business. Nothing is watched; every look is a read of its
own, of what the server's majority has stored, so there is no cache to be stale and no stream to be cut.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import kubernetes.config
from kubernetes.client import ApiClient, Configuration
from kubernetes.client.exceptions import OpenApiException
from urllib3.exceptions import HTTPError

from control_plane.rollouts.actuators.base import Refused, Stale, Unreachable

# Beyond these an answer is none; a turn has five seconds in all.
CONNECT_SECONDS, ANSWER_SECONDS = 1.5, 3.0
_CONFIG: Any = kubernetes.config  # has no types
MANAGER = "optiinfra"  # as whom fields are set
JSON_PATCH, MERGE_PATCH = "application/json-patch+json", "application/merge-patch+json"


class KubernetesApi:
    """One API server."""

    def __init__(self, client: Any) -> None:
        """`client` is a kubernetes.client.ApiClient."""
        self._client = client

    @classmethod
    def of(cls, kubeconfig: Path | None) -> KubernetesApi:
        """This will find its way by a kubeconfig, or from within a cluster. Raises Refused."""
        configuration, config = Configuration(), _CONFIG
        try:
            if kubeconfig is None:
                config.load_incluster_config(configuration)
            else:
                config.load_kube_config(str(kubeconfig), client_configuration=configuration)
        except (config.ConfigException, OSError) as error:
            raise Refused(f"there is no way to Kubernetes: {error}") from error
        configuration.retries = False  # who decides tries again, and looks before
        return cls(ApiClient(configuration))

    async def get(self, path: str) -> dict[str, Any]:
        """This will read an object. Raises Unreachable or Refused."""
        return await self._ask("GET", path)

    async def patch(
        self, path: str, body: Sequence[Mapping[str, Any]] | Mapping[str, Any], *, dry_run: bool = False
    ) -> dict[str, Any]:
        """This will change an object: by a JSON patch where `body` is a list, else by merging.

        Raises Unreachable, Refused, or Stale when the object is not (any more) as the patch demands.
        """
        query = [("fieldManager", MANAGER), *([("dryRun", "All")] if dry_run else [])]
        kind = MERGE_PATCH if isinstance(body, Mapping) else JSON_PATCH
        return await self._ask("PATCH", path, query, body, kind)

    async def _ask(
        self, method: str, path: str, query: Sequence[tuple[str, str]] = (), body: Any = None, kind: str | None = None
    ) -> dict[str, Any]:
        return await asyncio.to_thread(self._exchange, method, path, query, body, kind)

    def _exchange(
        self, method: str, path: str, query: Sequence[tuple[str, str]], body: Any, kind: str | None
    ) -> dict[str, Any]:
        headers = {"Accept": "application/json"} | ({} if kind is None else {"Content-Type": kind})
        try:
            asked = self._client.param_serialize(
                method=method, resource_path=path, query_params=list(query), header_params=headers, body=body,
                auth_settings=["BearerToken"],
            )  # fmt: skip
            answer = self._client.call_api(*asked, _request_timeout=(CONNECT_SECONDS, ANSWER_SECONDS))
            answer.read()
        except (HTTPError, OpenApiException, OSError) as error:
            raise Unreachable(f"Kubernetes does not answer: {type(error).__name__}") from error
        return _judged(answer.status, answer.data or b"")


def _judged(status: int, content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Unreachable(f"Kubernetes answers HTTP {status} without an object")
    said = str(found.get("message", ""))[:300]
    if 200 <= status < 300:
        return found
    if status == 409 or (status == 422 and "testing" in json.dumps(found.get("details", {}))):
        raise Stale(f"Kubernetes: {said}")  # of a patch whose `test` does not hold, only the causes say so
    if status in (408, 429) or status >= 500:
        raise Unreachable(f"Kubernetes answers HTTP {status}: {said}")
    raise Refused(f"Kubernetes: {said or f'HTTP {status}'}")
