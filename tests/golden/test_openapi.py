"""The API as published: a change of it is a change of the golden document, and nobody makes one by accident."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from scripts import write_api
from tests.golden.write import GOLDEN, document

# Published already: people have them in scripts (docs of the project name them).
PUBLISHED = {
    ("get", "/"), ("get", "/health"), ("get", "/health/detailed"), ("get", "/health/ready"), ("get", "/health/live"),
    ("get", "/gpu/metrics"), ("get", "/gpu/metrics/history"), ("get", "/gpu/utilization"), ("get", "/gpu/temperature"),
    ("get", "/gpu/memory"), ("get", "/gpu/power"),
    ("get", "/system/cpu"), ("get", "/system/memory"), ("get", "/system/disk"), ("get", "/system/network"),
    ("get", "/system/all"), ("get", "/system/history"),
    ("get", "/metrics/latency"), ("get", "/metrics/throughput"), ("get", "/metrics/gpu"), ("post", "/metrics/collect"),
    ("post", "/lmcache/optimize"), ("post", "/lmcache/configure"),
    ("get", "/lmcache/status"), ("get", "/lmcache/metrics"),
    ("get", "/slo/status"), ("get", "/slo/violations"), ("post", "/slo/configure"),
    ("post", "/optimize/execute"),
    ("post", "/optimize/scale-up"), ("post", "/optimize/scale-down"), ("post", "/optimize/consolidate"),
    ("post", "/optimize/kv-cache"), ("post", "/optimize/quantize"), ("post", "/optimize/batch"),
    ("get", "/optimize/recommendations"), ("post", "/optimize/recommendations"),
    ("get", "/analysis/waste"), ("get", "/analysis/trends"), ("post", "/analysis/utilization"),
    ("get", "/analysis/opportunities"), ("get", "/analysis/report"),
    ("post", "/rollout/start"), ("post", "/rollout/rollback"), ("get", "/rollout/status"),
    ("post", "/test/run"), ("post", "/test/validate"), ("get", "/test/results"),
}  # fmt: skip
ADDED = {
    ("post", "/insights"),
    ("get", "/workflows"), ("get", "/workflows/{workflow_id}"), ("post", "/workflows/run"),
    ("post", "/workflows/{workflow_id}/resume"), ("get", "/optimize/executions"),
    ("get", "/optimize/executions/{workflow_id}"), ("post", "/optimize/executions/{workflow_id}/cancel"),
    ("post", "/optimize/parallelism"), ("get", "/optimize/recommendations/{recommendation_id}"),
    ("post", "/optimize/recommendations/{recommendation_id}/approve"),
    ("post", "/optimize/recommendations/{recommendation_id}/reject"),
    ("get", "/gpu/attribution"), ("get", "/events"),
    ("get", "/nodes"), ("get", "/nodes/{node_id}"), ("get", "/inference/servers"),
    ("get", "/nodes/{node_id}/events"), ("get", "/gpu/health"), ("get", "/gpu/instances"),
    ("get", "/inference/servers/{server_id}"), ("get", "/metrics/tokens"), ("get", "/metrics/memory"),
    ("get", "/metrics/history"), ("get", "/metrics"), ("get", "/config"), ("get", "/capabilities"),
    ("post", "/nodes/join-tokens"), ("delete", "/nodes/{node_id}"),
    ("post", "/nodes/{node_id}/gpus/release"),
    ("get", "/analysis/forecast"), ("get", "/analysis/correlation"), ("get", "/cost/savings"),
    ("get", "/cost/summary"), ("get", "/cost/gpu-hours"), ("get", "/cost/prices"), ("put", "/cost/prices"),
    ("get", "/nodes/{node_id}/config"), ("put", "/nodes/{node_id}/config"),
    ("get", "/analysis/bottlenecks"),
    ("get", "/alerts"), ("get", "/alerts/{alert_id}"), ("post", "/alerts/{alert_id}/acknowledge"),
    ("get", "/alerts/rules"), ("put", "/alerts/rules"),
    ("get", "/slo"), ("get", "/slo/{slo_id}"), ("delete", "/slo/{slo_id}"), ("get", "/slo/{slo_id}/budget"),
    ("get", "/test/results/{test_id}"), ("post", "/test/{test_id}/cancel"), ("get", "/test/profiles"),
    ("get", "/rollout/history"), ("get", "/rollout/{rollout_id}"), ("post", "/rollout/{rollout_id}/promote"),
    ("post", "/rollout/{rollout_id}/pause"), ("post", "/rollout/{rollout_id}/resume"),
    ("post", "/api-keys"), ("get", "/api-keys"), ("delete", "/api-keys/{key_id}"), ("get", "/audit"),
    ("get", "/integrations/orchestrator"),
}  # fmt: skip
# Filled from a real run by scripts/capture_examples.py; a new operation brings its example, so this only shrinks.
SCOPES = {"public", "read", "operate", "approve", "admin"}
# Probes have no key; beside them only what says nothing about the fleet.
PUBLIC = {"/", "/health", "/health/live", "/health/ready"}
# POST, because the question is long; they store nothing that anybody else sees.
ONLY_COMPUTING: set[str] = {"/analysis/utilization", "/optimize/recommendations"}
# For administrators' eyes, though they only look.
GUARDED_READS = {"/api-keys", "/audit"}
# These ask nobody, so nothing but the question can be wrong with them.
WITHOUT_DATABASE = {
    "orchestrator",
    "root",
    "health",
    "health_detailed",
    "health_live",
    "config",
    "capabilities",
    "metrics_exposition",
}


@pytest.fixture(scope="module")
def api() -> dict[str, Any]:
    """The document of this tree."""
    made = json.loads(json.dumps(document()))
    assert isinstance(made, dict)
    return made


def _operations(api: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in api["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def test_the_api_is_the_published_one(api: dict[str, Any]) -> None:
    assert api == json.loads(GOLDEN.read_bytes()), "the API has changed; if that is wanted, run `make openapi`"


def test_the_page_that_people_read_is_made_of_it(api: dict[str, Any]) -> None:
    assert write_api.TARGET.read_text() == write_api.written(api), "run `make openapi`"


def test_every_published_path_is_still_there_and_none_came_unannounced(api: dict[str, Any]) -> None:
    found = {(method, path) for method, path, _ in _operations(api)}
    assert found == PUBLISHED | ADDED


def _success(operation: dict[str, Any]) -> dict[str, Any]:
    body = next(body for status, body in operation["responses"].items() if status.startswith("2"))
    assert isinstance(body, dict)
    return body


def test_every_operation_has_an_id_of_its_own_a_summary_and_a_scope(api: dict[str, Any]) -> None:
    ids = [operation["operationId"] for _, _, operation in _operations(api)]
    assert len(ids) == len(set(ids))
    for _, path, operation in _operations(api):
        assert operation["summary"], path
        assert operation["description"], path
        assert operation["tags"], path
        assert operation["x-required-scope"] in SCOPES, path


def test_what_is_open_to_everybody_and_to_readers_is_named_here(api: dict[str, Any]) -> None:
    """A route that changes something and says `read` is a hole; one that only computes is named here when it comes."""
    for method, path, operation in _operations(api):
        scope = operation["x-required-scope"]
        assert (scope == "public") == (path in PUBLIC), path
        if path not in PUBLIC | GUARDED_READS:
            assert (scope == "read") == (method == "get" or path in ONLY_COMPUTING), path


def test_every_operation_says_what_stands_before_it(api: dict[str, Any]) -> None:
    for _, path, operation in _operations(api):
        assert operation["x-rate"] in ("read", "heavy", "write"), path
        assert operation["security"] == ([] if operation["x-required-scope"] == "public" else [{"bearer": []}]), path
        if operation["security"]:
            assert {"401", "403", "429"} <= operation["responses"].keys(), path


def test_every_operation_shows_an_answer_from_a_real_run(api: dict[str, Any]) -> None:
    without = {
        operation["operationId"]
        for _, _, operation in _operations(api)
        if not any("example" in content for content in _success(operation)["content"].values())
    }
    assert not without, "run scripts/capture_examples.py against a real run"


def test_every_operation_documents_its_problems_in_the_one_shape(api: dict[str, Any]) -> None:
    for _, path, operation in _operations(api):
        problems = {status: body for status, body in operation["responses"].items() if not status.startswith("2")}
        assert "422" in problems, path  # an unknown parameter is refused everywhere
        assert "503" in problems or operation["operationId"] in WITHOUT_DATABASE, path
        named = {"node", "gpu", "server"} & {parameter["name"] for parameter in operation.get("parameters", [])}
        assert "404" in problems or not (named or "{" in path), path
        for body in problems.values():
            assert body["content"] == {
                "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
            }, path


def test_every_reference_leads_somewhere(api: dict[str, Any]) -> None:
    def references(part: Any) -> Iterator[str]:
        for entry in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
            yield from references(entry)
        if isinstance(part, dict) and isinstance(part.get("$ref"), str):
            yield part["$ref"]

    known = {f"#/components/schemas/{name}" for name in api["components"]["schemas"]}
    assert set(references(api)) <= known


def test_every_parameter_says_what_it_takes(api: dict[str, Any]) -> None:
    for _, path, operation in _operations(api):
        for parameter in operation.get("parameters", []):
            assert parameter.get("description") or parameter["schema"].get("description"), (path, parameter["name"])
