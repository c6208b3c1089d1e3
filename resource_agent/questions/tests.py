"""Questions about tests. Written by `make openapi` from the API's description; do not edit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from resource_agent.answers import Answer, Page
from resource_agent.transport import Question, question


def test_profiles(
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
) -> Question[Page]:
    """Workloads to test with: GET /test/profiles."""
    return question(
        "GET",
        "/test/profiles",
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
        },
        listed=True,
    )


def test_results(
    *,
    limit: int | None = None,
    cursor: str | None = None,
    kind: str | Sequence[str] | None = None,
    state: str | Sequence[str] | None = None,
) -> Question[Page]:
    """Test runs, the newest first: GET /test/results."""
    return question(
        "GET", "/test/results", query={"limit": limit, "cursor": cursor, "kind": kind, "state": state}, listed=True
    )


def test_result(test_id: str) -> Question[Answer]:
    """One test run with its figures: GET /test/results/{test_id}."""
    return question("GET", "/test/results/{test_id}", path={"test_id": test_id})


def test_run(
    *,
    base_url: str,
    api: str | None = None,
    api_key: str | None = None,
    find_highest_rate: bool | None = None,
    load: Mapping[str, Any] | None = None,
    model: str | None = None,
    most_in_flight: int | None = None,
    most_rate: float | None = None,
    objective: Mapping[str, Any] | None = None,
    seconds: float | None = None,
    seed: int | None = None,
    timeout_seconds: float | None = None,
    warm_up_seconds: float | None = None,
    idempotency_key: str | None = None,
) -> Question[Answer]:
    """Put load on a server: POST /test/run."""
    return question(
        "POST",
        "/test/run",
        body={
            "base_url": base_url,
            "api": api,
            "api_key": api_key,
            "find_highest_rate": find_highest_rate,
            "load": load,
            "model": model,
            "most_in_flight": most_in_flight,
            "most_rate": most_rate,
            "objective": objective,
            "seconds": seconds,
            "seed": seed,
            "timeout_seconds": timeout_seconds,
            "warm_up_seconds": warm_up_seconds,
        },
        writes=True,
        idempotency_key=idempotency_key,
    )


def test_validate(
    *,
    baseline_url: str,
    candidate_url: str,
    api: str | None = None,
    api_key: str | None = None,
    baseline_api_key: str | None = None,
    baseline_model: str | None = None,
    compare_words: bool | None = None,
    load: Mapping[str, Any] | None = None,
    margins: Mapping[str, Any] | None = None,
    model: str | None = None,
    most_in_flight: int | None = None,
    objective: Mapping[str, Any] | None = None,
    seconds: float | None = None,
    seed: int | None = None,
    timeout_seconds: float | None = None,
    warm_up_seconds: float | None = None,
    idempotency_key: str | None = None,
) -> Question[Answer]:
    """May this server replace that one?: POST /test/validate."""
    return question(
        "POST",
        "/test/validate",
        body={
            "baseline_url": baseline_url,
            "candidate_url": candidate_url,
            "api": api,
            "api_key": api_key,
            "baseline_api_key": baseline_api_key,
            "baseline_model": baseline_model,
            "compare_words": compare_words,
            "load": load,
            "margins": margins,
            "model": model,
            "most_in_flight": most_in_flight,
            "objective": objective,
            "seconds": seconds,
            "seed": seed,
            "timeout_seconds": timeout_seconds,
            "warm_up_seconds": warm_up_seconds,
        },
        writes=True,
        idempotency_key=idempotency_key,
    )


def test_cancel(test_id: str, *, idempotency_key: str | None = None) -> Question[Answer]:
    """End a test run: POST /test/{test_id}/cancel."""
    return question(
        "POST", "/test/{test_id}/cancel", path={"test_id": test_id}, writes=True, idempotency_key=idempotency_key
    )
