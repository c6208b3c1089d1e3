"""The script that takes the API's examples from a running server."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType

import pytest
import uvicorn

from control_plane.api.app import build_app
from tests.golden.write import document
from tests.support.rest import Api, unexplained

OPTIMIZE = (
    "optimize_scale_up", "optimize_scale_down", "optimize_consolidate", "optimize_kv_cache", "optimize_quantize",
    "lmcache_optimize", "lmcache_configure", "insights", "optimize_execute", "optimize_cancel",
    "workflow_run", "workflow_resume",
    "optimize_batch", "optimize_parallelism", "optimize_recommendations_post", "optimize_approve", "optimize_reject",
)  # fmt: skip
SCRIPT = Path(__file__).parents[3] / "scripts" / "capture_examples.py"


@pytest.fixture
def script() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("capture_examples", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class _Server(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()


@asynccontextmanager
async def _served(api: Api) -> AsyncIterator[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(build_app(api.context), log_config=None, lifespan="off", ws="none")
        server = _Server(config)
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(server._serve([listener]))
            await server.listening.wait()
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
            server.should_exit = True
            await serving


async def test_every_operation_gets_a_short_example_from_a_running_server(
    judged_api: Api, script: ModuleType, tmp_path: Path
) -> None:
    async with _served(judged_api) as base:
        written, missing = await asyncio.to_thread(script.capture, base, tmp_path)
    assert set(missing) == {
        "metrics_collect: the list is empty, which shows nothing",  # no agent is connected here
        "lmcache_status: the list is empty, which shows nothing",  # no cache server runs here
        "lmcache_metrics: the list is empty, which shows nothing",
        "api_keys: the list is empty, which shows nothing",
        "api_key_create: a POST changes things",
        "api_key_revoke: a DELETE changes things",
        "join_token: a POST changes things",
        "cost_prices_enter: a PUT changes things",
        "node_forget: a DELETE changes things",
        "node_gpus_release: a POST changes things",
        "node_configure: there is nothing that could be put again",
        "slo_violations: the list is empty, which shows nothing",
        "alerts: the list is empty, which shows nothing",
        "alert: there is nothing to name for 'alert_id'",
        "alert_acknowledge: a POST changes things",
        "alert_rules_put: a PUT changes things",
        "slo_configure: a POST changes things",
        *(f"rollout_{verb}: a POST changes things" for verb in ("start", "rollback", "promote", "pause", "resume")),
        *(f"test_{verb}: a POST changes things" for verb in ("run", "validate", "cancel")),
        "test_results: the list is empty, which shows nothing",
        "test_result: there is nothing to name for 'test_id'",
        "rollout_status: the list is empty, which shows nothing",  # nothing is rolled out here
        "rollout_history: the list is empty, which shows nothing",
        "rollout_get: there is nothing to name for 'rollout_id'",
        "slo_delete: a DELETE changes things",
        *(f"{operation}: a POST changes things" for operation in OPTIMIZE),
        "optimize_recommendations: the list is empty, which shows nothing",
        "optimize_recommendation: there is nothing to name for 'recommendation_id'",
        "workflows: the list is empty, which shows nothing",
        "optimize_executions: the list is empty, which shows nothing",
        "workflow: there is nothing to name for 'workflow_id'",
        "optimize_execution: there is nothing to name for 'workflow_id'",
    }
    operations = {op["operationId"] for methods in document()["paths"].values() for op in methods.values()}
    assert set(written) == operations - {entry.partition(":")[0] for entry in missing}
    for operation_id in written:
        text = (tmp_path / f"{operation_id}.json").read_text()
        answer = json.loads(text)
        assert list(unexplained(answer)) == [], operation_id
        assert len(text) < 40_000, operation_id
    history = json.loads((tmp_path / "gpu_history.json").read_text())
    assert (len(history["items"]), len(history["items"][0]["points"])) == (2, 3)
    capabilities = json.loads((tmp_path / "capabilities.json").read_text())
    assert all(len(names) == 3 for names in capabilities["tables"].values())
