"""Objectives over REST: what is taken, what is refused and where, and how a promise is kept."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support import fleet, objectives
from tests.support.rest import Api, problem_of

BODY: dict[str, Any] = {
    "name": "chat-ttft", "indicator": "ttft", "target_ratio": 0.95, "threshold_seconds": 0.5,
    "scope": {"model": fleet.LLAMA}, "labels": {"team": "chat"},
}  # fmt: skip
OPENSLO = """
apiVersion: openslo/v1
kind: SLI
metadata: {name: ttft}
spec: {thresholdMetric: {metricSource: {type: OptiInfra, spec: {indicator: ttft}}}}
---
apiVersion: openslo/v1
kind: SLO
metadata: {name: open-ttft}
spec:
  service: llama-8b
  indicatorRef: ttft
  budgetingMethod: Occurrences
  timeWindow: [{duration: 4w, isRolling: true}]
  objectives: [{op: lte, value: 0.25, target: 0.9}]
"""


async def configured(api: Api, body: Any, kind: str = "application/json") -> Any:
    sent: dict[str, Any] = {"json": body} if kind == "application/json" else {"content": body}
    answer = await api.client.post("/slo/configure", headers={"Content-Type": kind}, **sent)
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]


async def refused(api: Api, body: Any, kind: str = "application/json") -> dict[str, str]:
    sent: dict[str, Any] = {"json": body} if kind == "application/json" else {"content": body}
    answer = await api.client.post("/slo/configure", headers={"Content-Type": kind}, **sent)
    return {e["pointer"]: e["detail"] for e in problem_of(answer, 422).get("errors", [])}


async def test_an_objective_is_made_changed_shown_and_deleted(empty_api: Api) -> None:
    (made,) = await configured(empty_api, BODY)
    assert made["objective"] == "95 % of requests have ttft_seconds ≤ 0.5, over 30 days"
    (changed,) = await configured(empty_api, {**BODY, "target_ratio": 0.9})
    assert (changed["slo_id"], changed["target_ratio"]) == (made["slo_id"], 0.9)
    assert (await empty_api.get("/slo/chat-ttft")) == (await empty_api.get(f"/slo/{made['slo_id']}")) == changed
    assert [item["name"] for item in await empty_api.items("/slo")] == ["chat-ttft"]
    deleted = await empty_api.client.delete("/slo/chat-ttft")
    assert deleted.json()["deleted"]["name"] == "chat-ttft"
    await empty_api.refused("/slo/chat-ttft", 404)
    await empty_api.refused("/slo/chat-ttft", 404, method="DELETE")


async def test_an_openslo_document_in_yaml_is_taken_with_the_indicator_that_it_names(empty_api: Api) -> None:
    (made,) = await configured(empty_api, OPENSLO, "application/yaml")
    assert (made["name"], made["indicator"], made["threshold_seconds"]) == ("open-ttft", "ttft", 0.25)
    assert (made["window_days"], made["scope"]) == (28, {"model": "llama-8b"})


async def test_what_is_wrong_is_said_at_its_place_and_nothing_is_stored(empty_api: Api) -> None:
    wrong = {**BODY, "name": "Chat", "window_days": 0, "colour": "red", "scope": {"modle": "x"}}
    found = await refused(empty_api, wrong)
    assert found.keys() == {"/window_days", "/colour", "/scope/modle"}
    assert "indicator" in found["/colour"]
    assert (await refused(empty_api, {**BODY, "name": "Chat"})).keys() == {"/name"}
    assert (await refused(empty_api, {**BODY, "threshold_seconds": None})).keys() == {"/threshold_seconds"}
    assert (await refused(empty_api, {**BODY, "floor_tokens_per_second": 5})).keys() == {"/floor_tokens_per_second"}
    assert (await refused(empty_api, {**BODY, "scope": {}, "route": "chat"})).keys() == {"/route"}
    timesliced = OPENSLO.replace("Occurrences", "Timeslices")
    assert (await refused(empty_api, timesliced, "application/yaml")).keys() == {"/1/spec/budgetingMethod"}
    assert await empty_api.items("/slo") == []


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("{", "application/json"), ("", "application/json"), ("", "application/yaml"), ("a: [", "application/yaml"),
        ("a: &x 1\nb: *x", "application/yaml"), ("!!python/object:os.system {}", "application/yaml"),
        ("a: 1", "text/plain"), ("\xff", "application/yaml"), ("[" * 5000, "application/yaml"),
    ],
)  # fmt: skip
async def test_a_body_that_cannot_be_read_is_refused(empty_api: Api, body: str, kind: str) -> None:
    answer = await empty_api.client.post(
        "/slo/configure", content=body.encode("latin-1"), headers={"Content-Type": kind}
    )
    problem_of(answer, 422)


async def test_a_limit_is_held_against_the_bounds_that_servers_really_have(api: Api) -> None:
    (bucket,) = (await api.get("/slo/llama-ttft"))["buckets"]
    assert (bucket["exact"], bucket["servers_count"]) == (True, 2)


async def test_a_limit_above_every_bound_is_refused(empty_api: Api) -> None:
    await asyncio.to_thread(asyncio.run, fleet.fill(empty_api.context.database.url))
    found = await refused(empty_api, {**BODY, "threshold_seconds": 300})
    assert "above the last bound" in found["/chat-ttft"]
    (made,) = await configured(empty_api, {**BODY, "threshold_seconds": 0.3})
    assert [bucket["exact"] for bucket in made["buckets"]] == [False]


async def test_how_an_objective_is_kept(api: Api) -> None:
    (status,) = await api.items("/slo/status", slo="llama-ttft")
    assert status["guard"]["verdict"] in ("pass", "violation", "not_enough_traffic")
    assert status["state"] in ("kept", "violated", "burning", "exhausted", "not_enough_traffic")
    assert len(status["servers"]) == 2
    assert next((b["severity"], b["long_seconds"]) for b in status["burn_rates"]) == ("page", 3600)
    hour = status["evidence"]["numbers"]["3600s"]
    assert status["budget"]["events"] == hour["good"] + hour["bad"] + hour["doubtful"] > 0
    (up,) = await api.items("/slo/status", slo="llama-up")
    assert (up["state"], up["budget"]["attained_ratio"]) != ("kept", None)
    assert [item["name"] for item in await api.items("/slo/status")] == [objectives.TTFT.name, objectives.UP.name]


async def test_the_budget_over_time_adds_up_to_what_is_counted(api: Api) -> None:
    found = await api.get("/slo/llama-ttft/budget", since="1h", step="1m")
    assert found["resolution_seconds"] == 60
    events = sum(p["good_events"] + p["bad_events"] + p["doubtful_events"] for p in found["points"])
    assert events == found["budget"]["events"] > 0
    hourly = await api.get("/slo/llama-ttft/budget", since="1d")
    assert hourly["resolution_seconds"] == 3600
    assert hourly["points"][-1]["remaining_ratio"]["high"] == pytest.approx(found["budget"]["remaining_ratio"]["high"])


async def test_questions_about_what_is_not_there_are_refused(api: Api) -> None:
    for path in ("/slo/nothing", "/slo/nothing/budget", "/slo/999999999"):
        await api.refused(path, 404)
    for path in ("/slo/status", "/slo/violations"):
        await api.refused(path, 404, slo="nothing")
        await api.refused(path, 422, colour="red")
    await api.refused("/slo/violations", 422, since="tomorrow")


async def test_violations_are_listed_with_what_they_rest_on(api: Api) -> None:
    for found in await api.items("/slo/violations", since="1d"):
        assert found["detected_after_seconds"] >= 0
        assert found["events"] >= found["bad_events"]
