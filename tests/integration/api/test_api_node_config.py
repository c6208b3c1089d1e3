"""Configurations that make no sense: refused with the field that is wrong, and nothing stored."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.rest import Api, problem_of


@pytest.mark.parametrize(
    ("body", "pointer", "detail"),
    [
        (
            {"sampling_interval": 5},
            "/body/sampling_interval",
            "there is no field sampling_interval here; accepted: sampling_interval_seconds, scrape_targets, "
            "gpu_monitoring_enabled, discover_engines",
        ),
        ({"sampling_interval_seconds": 0.4}, "/body/sampling_interval_seconds", "greater than or equal to 0.5"),
        ({"sampling_interval_seconds": 301}, "/body/sampling_interval_seconds", "less than or equal to 300"),
        ({"sampling_interval_seconds": "5"}, "/body/sampling_interval_seconds", "valid number"),
        ({"sampling_interval_seconds": True}, "/body/sampling_interval_seconds", "valid number"),
        ({"gpu_monitoring_enabled": 1}, "/body/gpu_monitoring_enabled", "valid boolean"),
        ({"scrape_targets": "http://127.0.0.1:8000"}, "/body/scrape_targets", "valid list"),
        ({"scrape_targets": ["http://127.0.0.1"] * 33}, "/body/scrape_targets", "at most 32 items"),
        ({"scrape_targets": ["http://127.0.0.1/x"]}, "/body/scrape_targets/0", "0: write http://host:port"),
        ({"scrape_targets": ["http://me:pw@127.0.0.1"]}, "/body/scrape_targets/0", "holds no name or password"),
        ({"scrape_targets": ["http://[127.0.0.1"]}, "/body/scrape_targets/0", "write http://host:port"),
        ({"scrape_targets": ["x" * 257]}, "/body/scrape_targets/0", "at most 256 characters"),
        ([], "/body", "send a JSON object, and say so with the header Content-Type: application/json"),
        (None, "/body", "send a JSON object, and say so with the header Content-Type: application/json"),
    ],
)
async def test_a_body_that_makes_no_sense_is_refused_and_nothing_stored(
    body: Any, pointer: str, detail: str, api: Api
) -> None:
    answer = await api.client.put("/nodes/alpha/config", json=body)
    (error,) = problem_of(answer, 422)["errors"]
    assert error["pointer"] == pointer
    assert detail in error["detail"]
    assert "pw" not in answer.text
    assert (await api.get("/nodes/alpha/config"))["status"] == "default"


@pytest.mark.parametrize(
    ("content", "kind", "detail"),
    [
        (b"{", "application/json", "the body is no JSON"),
        (b'{"sampling_interval_seconds": NaN}', "application/json", "sampling_interval_seconds: "),
        (b'{"sampling_interval_seconds": 1e999}', "application/json", "sampling_interval_seconds: "),
        (b"{}", "application/x-www-form-urlencoded", "Content-Type: application/json"),
        (b"", "application/json", "send a JSON object"),
    ],
)
async def test_a_body_that_is_none_is_refused(content: bytes, kind: str, detail: str, api: Api) -> None:
    answer = await api.client.put("/nodes/alpha/config", content=content, headers={"content-type": kind})
    assert detail in problem_of(answer, 422)["detail"]


async def test_a_body_that_is_too_large_and_a_parameter_that_is_unknown_are_refused(api: Api) -> None:
    answer = await api.client.put("/nodes/alpha/config", content=b'{"x": "' + b"y" * (1 << 20) + b'"}')
    problem_of(answer, 413)
    answer = await api.client.put("/nodes/alpha/config", params={"dry_run": "1"}, json={})
    assert problem_of(answer, 422)["detail"] == "there is no parameter dry_run here; accepted: none"


async def test_a_body_that_is_no_text_is_a_bad_request(api: Api) -> None:
    answer = await api.client.put("/nodes/alpha/config", content=b"\xff", headers={"content-type": "application/json"})
    assert problem_of(answer, 400)["type"] == "/problems/bad-request"


async def test_a_node_that_was_never_configured_says_so(api: Api) -> None:
    said = await api.get("/nodes/alpha/config")
    assert (said["status"], said["revision"], said["desired"], said["fleet"]) == ("default", 1, {}, {})
    assert said["unknown"] == dict.fromkeys(
        ("in_force", "in_force_revision", "changed_at", "answered_at"), "never_configured"
    )
    await api.refused("/nodes/nobody/config", 404)
    await api.refused("/nodes/alpha/config", 422, revision=1)
