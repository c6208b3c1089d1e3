"""Two Deployments, a route, and what controllers do, on whatever API server there is."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import ApiClient, Configuration

from control_plane.rollouts.actuators.base import Refused, Stale, Unreachable
from control_plane.rollouts.actuators.kubernetes import KubernetesTarget
from control_plane.rollouts.actuators.kubernetes_api import KubernetesApi

KUBECONFIG = os.environ.get("OPTIINFRA_TEST_KUBECONFIG")
NEEDED = pytest.mark.skipif(
    KUBECONFIG is None, reason="NEEDS KUBERNETES: OPTIINFRA_TEST_KUBECONFIG names a kubeconfig (docs/development.md)"
)


def api_of(url: str) -> KubernetesApi:
    """This will give a client for a server without a lock."""
    configuration = Configuration(host=url)
    configuration.retries = False
    return KubernetesApi(ApiClient(configuration))


def real() -> KubernetesApi:
    """This will give a client for the real one."""
    assert KUBECONFIG is not None
    return KubernetesApi.of(Path(KUBECONFIG))


def _deployment(name: str, replicas: int) -> dict[str, Any]:
    labels = {"app": name}
    container = {"name": "server", "image": "vllm", "resources": {"limits": {"nvidia.com/gpu": "1"}}}
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }  # fmt: skip


ROUTE = {
    "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "chat"},
    "spec": {
        "rules": [
            {"matches": [{"path": {"type": "PathPrefix", "value": "/health"}}],
             "backendRefs": [{"name": "blue", "port": 8000, "weight": 1}]},
            {"matches": [{"path": {"type": "PathPrefix", "value": "/v1"}}],
             "backendRefs": [{"name": "blue", "port": 8000, "weight": 10_000},
                             {"name": "green", "port": 8000, "weight": 0}]},
        ]
    },
}  # fmt: skip


@asynccontextmanager
async def cluster(api: KubernetesApi) -> AsyncIterator[KubernetesTarget]:
    """This will make a namespace with two replicas of blue and none of green, and control them until it is left."""
    namespace = f"optiinfra-test-{secrets.token_hex(4)}"
    await api._ask("POST", "/api/v1/namespaces", body={"metadata": {"name": namespace}}, kind="application/json")
    apps = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    for name, replicas in (("blue", 2), ("green", 0)):
        await api._ask("POST", apps, body=_deployment(name, replicas), kind="application/json")
    routes = f"/apis/gateway.networking.k8s.io/v1/namespaces/{namespace}/httproutes"
    await api._ask("POST", routes, body=ROUTE, kind="application/json")
    task = asyncio.get_running_loop().create_task(_control(api, [f"{apps}/blue", f"{apps}/green"]))
    try:
        yield KubernetesTarget(namespace=namespace, route="chat", blue="blue", green="green", most_replicas=2)
    finally:
        task.cancel()
        await asyncio.wait((task,))


async def _control(api: KubernetesApi, deployments: list[str]) -> None:
    """What a Deployment's controller and a kubelet do, at once."""
    while True:
        for path in deployments:
            try:
                found = await api.get(path)
                generation, replicas = found["metadata"]["generation"], found["spec"]["replicas"]
                status = {"observedGeneration": generation, "replicas": replicas, "readyReplicas": replicas}
                if found.get("status", {}) | status != found.get("status", {}):
                    await api.patch(f"{path}/status", {"status": status})
            except (Unreachable, Refused, Stale):
                pass
        await asyncio.sleep(0.02)
