"""The client without a control plane: what it sends, what it tries again, what it makes of answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import orjson
import pytest

from resource_agent import Answer, AsyncResourceAgent, NoAnswer, Page, Refused, ResourceAgent
from resource_agent import client as client_module
from resource_agent.transport import TRIES
from scripts import write_client

Handler = Callable[[httpx2.Request], httpx2.Response]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses are noted and not made."""
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(client_module.time, "sleep", pauses.append)
    monkeypatch.setattr(client_module.asyncio, "sleep", pause)
    return pauses


def agent_with(handler: Handler, **settings: Any) -> ResourceAgent:
    return ResourceAgent(transport=httpx2.MockTransport(handler), **settings)


def test_the_methods_are_those_of_the_api() -> None:
    document = orjson.loads(write_client.DESCRIPTION.read_bytes())
    modules = write_client.render(document)
    questions = write_client.CLIENT / "questions"
    assert {path: path.read_text() for path in modules} == modules, "run `make openapi`"
    assert set(questions.glob("*.py")) <= modules.keys(), "run `make openapi`"


def test_a_question_carries_its_key_and_only_what_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[httpx2.Request] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(200, json={"items": [], "next_cursor": None})

    monkeypatch.setenv("OPTIINFRA_API_KEY", "oik_from_environment")
    agent_with(handler).gpu_history(field=["a", "b"], since="15m", node="x y")
    agent_with(handler, api_key="oik_given").nodes()
    assert str(seen[0].url) == "http://localhost:8003/gpu/metrics/history?field=a&field=b&since=15m&node=x+y"
    assert [request.headers["authorization"] for request in seen] == ["Bearer oik_from_environment", "Bearer oik_given"]


def test_a_name_in_a_path_stays_one_part_of_it() -> None:
    def handler(request: httpx2.Request) -> httpx2.Response:
        assert request.url.raw_path == b"/nodes/a%2F..%2Fb%3Fc"
        return httpx2.Response(200, json={})

    agent_with(handler).node("a/../b?c")


@pytest.mark.parametrize("failure", [502, 503, 504, 429, "connect"])
def test_what_passes_is_tried_again_with_the_same_idempotency_key(failure: Any) -> None:
    keys: list[str] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        keys.append(request.headers["idempotency-key"])
        if len(keys) < 3:
            if failure == "connect":
                raise httpx2.ConnectError("refused")
            return httpx2.Response(failure, json={"detail": "later"})
        return httpx2.Response(201, json={"key": "oik_x"})

    assert agent_with(handler).api_key_create(name="x")["key"] == "oik_x"
    assert len(keys) == 3
    assert len(set(keys)) == 1


def test_two_writes_have_two_keys_and_one_may_bring_its_own() -> None:
    keys: list[str] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        keys.append(request.headers["idempotency-key"])
        return httpx2.Response(200, json={})

    with agent_with(handler) as agent:
        agent.node_forget("a")
        agent.node_forget("a")
        agent.node_forget("a", idempotency_key="mine")
    assert len(set(keys)) == 3
    assert keys[2] == "mine"


def test_it_is_not_tried_for_ever_and_says_what_was_wrong(no_waiting: list[float]) -> None:
    def refuse(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("refused")

    with pytest.raises(NoAnswer, match="is base_url right"):
        agent_with(refuse).health()
    assert len(no_waiting) == TRIES - 1
    assert all(0 <= pause <= 8 for pause in no_waiting)
    with pytest.raises(Refused, match="503: not ready"):
        agent_with(lambda r: httpx2.Response(503, json={"detail": "not ready"})).health_ready()


def test_a_wait_that_is_asked_for_is_kept_if_it_is_short(no_waiting: list[float]) -> None:
    answers = iter([httpx2.Response(429, headers={"Retry-After": "7"}, json={}), httpx2.Response(200, json={"a": 1})])
    assert agent_with(lambda r: next(answers)).health() == {"a": 1}
    assert no_waiting == [7.0]
    with pytest.raises(Refused):
        agent_with(lambda r: httpx2.Response(429, headers={"Retry-After": "9999"}, json={})).health()
    assert no_waiting == [7.0]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 412, 422, 500])
def test_a_refusal_is_an_error_with_its_words_and_is_not_tried_again(status: int, no_waiting: list[float]) -> None:
    problem = {"type": "/problems/x", "detail": "do this", "errors": [{"pointer": "/a", "detail": "b"}]}
    with pytest.raises(Refused, match=f"{status}: do this") as refused:
        agent_with(lambda r: httpx2.Response(status, json=problem)).health()
    assert refused.value.type == "/problems/x"
    assert refused.value.errors == problem["errors"]
    assert no_waiting == []


def test_what_is_no_control_plane_is_told_as_such() -> None:
    html = httpx2.Response(502, headers={"content-type": "application/json"}, text="<html>")
    with pytest.raises(NoAnswer, match="is a control plane there"):
        agent_with(lambda r: html).health()


def paged(request: httpx2.Request) -> httpx2.Response:
    cursor = request.url.params.get("cursor")
    assert request.url.params["node"] == "a"
    body = {None: ([1, 2], "c1"), "c1": ([3], "c2"), "c2": ([], None)}[cursor]
    return httpx2.Response(200, json={"items": [{"n": n} for n in body[0]], "next_cursor": body[1]})


def test_every_page_is_followed() -> None:
    agent = agent_with(paged)
    assert [item["n"] for item in agent.every(agent.gpu_metrics(node="a"))] == [1, 2, 3]


async def test_the_asynchronous_client_does_the_same(no_waiting: list[float]) -> None:
    async with AsyncResourceAgent(transport=httpx2.MockTransport(paged)) as agent:
        first = await agent.gpu_metrics(node="a")
        assert [item["n"] async for item in agent.every(first)] == [1, 2, 3]

    def refuse(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("refused")

    with pytest.raises(NoAnswer):
        await AsyncResourceAgent(transport=httpx2.MockTransport(refuse)).health()
    assert len(no_waiting) == TRIES - 1


# -- answers --------------------------------------------------------------------------------------


def test_units_are_converted_when_they_are_asked_for_and_unknown_stays_unknown() -> None:
    answer = Answer(memory_saved_bytes=2.5e9, busy_ratio=0.25, ttft_seconds=None)
    assert answer["memory_saved_gb"] == 2.5
    assert answer["busy_percent"] == 25
    assert answer["ttft_ms"] is None
    with pytest.raises(KeyError):
        answer["nothing_gb"]


def test_the_published_words_work() -> None:
    items = [{"gpu_utilization_ratio": 0.5}, {"gpu_utilization_ratio": None}, {"gpu_utilization_ratio": 1.0}]
    agent = agent_with(lambda r: httpx2.Response(200, json={"items": items, "next_cursor": None}))
    assert agent.get_gpu_metrics()["utilization"] == 75
    nothing = agent_with(lambda r: httpx2.Response(200, json={"items": [], "next_cursor": None}))
    assert nothing.get_gpu_metrics()["utilization"] is None


def test_a_notebook_shows_a_table_and_runs_nothing() -> None:
    page = Page({"items": [{"name": "<script>alert(1)</script>", "x": None}] * 30, "next_cursor": "c"})
    shown = page._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown
    assert "and 10 more" in shown
    assert "unknown" in shown
    assert repr(page) == "<Page of 30, more follow: name, x>"
