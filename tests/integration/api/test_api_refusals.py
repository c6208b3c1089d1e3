"""What the API does with questions that make no sense, are too large, or mean harm."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.support.rest import MOST_ECHOED, Api, problem_of

LISTS = [
    "/nodes", "/gpu/metrics", "/gpu/utilization", "/gpu/temperature", "/gpu/memory", "/gpu/power", "/system/cpu",
    "/system/memory", "/system/disk", "/system/network", "/system/all", "/inference/servers", "/metrics/latency",
    "/metrics/throughput", "/metrics/gpu", "/metrics/tokens", "/metrics/memory",
]  # fmt: skip
HISTORIES = {
    "/gpu/metrics/history": "power_draw_watts", "/system/history": "cpu_busy_ratio", "/metrics/history": "ttft_seconds",
}  # fmt: skip
WINDOWED = ["/gpu/utilization", "/gpu/power", "/metrics/latency", "/metrics/throughput", "/metrics/tokens"]
PLAIN = [
    "/", "/health", "/health/live", "/health/ready", "/health/detailed", "/config", "/capabilities", "/metrics",
    "/nodes/alpha", "/inference/servers/1",
]  # fmt: skip
EVERYTHING = [*LISTS, *HISTORIES, *PLAIN]


def _field(path: str) -> dict[str, str]:
    return {"field": HISTORIES[path]} if path in HISTORIES else {}


@pytest.mark.parametrize("path", EVERYTHING)
async def test_an_unknown_parameter_is_refused_and_not_ignored(api: Api, path: str) -> None:
    body = await api.refused(path, 422, **_field(path), nodes="alpha")
    assert body["type"] == "/problems/invalid-request"
    (error,) = body["errors"]
    assert error["pointer"] == "/query/nodes"
    assert error["detail"].startswith("there is no parameter nodes here; accepted: ")


async def test_an_unknown_parameter_is_answered_with_those_that_are_accepted(api: Api) -> None:
    body = await api.refused("/gpu/metrics", 422, nodes="alpha")
    accepted = body["detail"].removeprefix("there is no parameter nodes here; accepted: ").split(", ")
    assert set(accepted) == {"limit", "cursor", "node", "gpu", "field"}
    assert (await api.refused("/health", 422, nodes="alpha"))["detail"].endswith("accepted: none")


@pytest.mark.parametrize("path", [*LISTS, *HISTORIES])
async def test_a_limit_out_of_range_is_refused(api: Api, path: str) -> None:
    for limit in ("0", "-1", "10001", "1e3", "", "many", "99999999999999999999"):
        body = await api.refused(path, 422, **_field(path), limit=limit)
        assert [error["pointer"] for error in body["errors"]] == ["/query/limit"]


NO_TIMES = [
    "yesterday", "", "2026-03-04", "2026-03-04T12:00:00", "2026-13-04T12:00:00Z", "15", "15 m", "-15m", "1.5h",
    "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59",
    "99999999d", "999999999d", "9999999999d", "99999999999999999999999d", "1969-12-31T23:59:59Z", "NaN", "0s",
]  # fmt: skip


@pytest.mark.parametrize("path", [*WINDOWED, *HISTORIES])
async def test_a_time_that_makes_no_sense_is_refused(api: Api, path: str) -> None:
    for since in NO_TIMES:
        await api.refused(path, 422, **_field(path), since=since)


@pytest.mark.parametrize("path", [*WINDOWED, *HISTORIES])
async def test_a_window_that_ends_before_it_begins_or_has_not_begun_is_refused(api: Api, path: str) -> None:
    for since, until in (
        ("5m", "10m"), ("5m", "5m"), ("2026-03-04T12:00:00Z", "2026-03-04T11:00:00Z"),
        ("2026-03-04T12:00:01Z", "2026-03-04T13:00:00Z"), ("2026-03-04T12:00:00Z", "2026-03-04T13:00:00Z"),
    ):  # fmt: skip
        body = await api.refused(path, 422, **_field(path), since=since, until=until)
        assert "since must lie before until" in body["detail"] or "future" in body["detail"]


async def test_a_window_that_reaches_into_the_future_ends_now(api: Api) -> None:
    body = await api.get("/gpu/utilization", since="5m", until="9999-12-31T00:00:00Z")
    assert body["until"] == "2026-03-04T12:00:00.000Z"


@pytest.mark.parametrize("path", HISTORIES)
async def test_a_step_that_makes_no_sense_is_refused(api: Api, path: str) -> None:
    for step in ("0s", "999ms", "1", "1y", "", "-5s", "5s5s", "9" * 17 + "s"):
        await api.refused(path, 422, **_field(path), step=step)


@pytest.mark.parametrize("path", HISTORIES)
async def test_a_field_that_does_not_exist_is_refused_with_those_that_do(api: Api, path: str) -> None:
    for field in ("no_such_field", "cpu_core_busy_ratio; DROP TABLE node", "taken_at", "cpu_core_busy_ratio"):
        body = await api.refused(path, 422, field=field)
        assert "known are" in body["detail"]
    assert (await api.refused(path, 422))["errors"][0]["pointer"] == "/query/field"
    await api.refused(path, 422, field=[f"field_{number}" for number in range(21)])


NO_CURSORS = [
    "garbage", "%%%", "====", "e30", "bnVsbA", "WzFd", "eyJhZnRlciI6LTF9", "eyJhZnRlciI6dHJ1ZX0", "\u00e9",
    "a" * 513,
    base64.urlsafe_b64encode(b'{"after":' + b"9" * 30 + b"}").decode(),
    base64.urlsafe_b64encode(b"[" * 300).decode(),
]  # fmt: skip


@pytest.mark.parametrize("path", LISTS)
async def test_a_cursor_that_was_never_given_is_refused(api: Api, path: str) -> None:
    for cursor in NO_CURSORS:
        await api.refused(path, 422, cursor=cursor)


async def test_an_unknown_thing_is_not_found_and_the_answer_says_where_to_look(api: Api) -> None:
    for path, parameters, where in [
        ("/nodes/nobody", {}, "GET /nodes"),
        ("/nodes/999999999", {}, "GET /nodes"),
        ("/nodes/99999999999999999999", {}, "GET /nodes"),
        ("/inference/servers/999999999", {}, "GET /inference/servers"),
        ("/inference/servers/0", {}, "GET /inference/servers"),
        ("/inference/servers/99999999999999999999", {}, "GET /inference/servers"),
        ("/gpu/metrics", {"gpu": "GPU-none"}, "GET /gpu/metrics"),
        ("/gpu/metrics", {"node": ["alpha", "nobody"]}, "GET /nodes"),
        ("/gpu/metrics/history", {"gpu": "GPU-none", "field": "power_draw_watts"}, "GET /gpu/metrics"),
        ("/system/all", {"node": "nobody"}, "GET /nodes"),
        ("/metrics/latency", {"server": "http://nowhere"}, "GET /inference/servers"),
        ("/metrics/history", {"server": "4242", "field": "up_flag"}, "GET /inference/servers"),
    ]:
        body = await api.refused(path, 404, **parameters)
        assert body["type"] == "/problems/not-found"
        assert where in body["detail"]


NASTY = [
    "\0", "alpha\0", "\0" * 512, "' OR 1=1 --", "alpha'; DROP TABLE node; --", "%", "_", "\\", '"', "\x01\x1b[31m",
    "\r\nSet-Cookie: a=b", "\u202egpj.exe", "😀" * 100, "<script>alert(1)</script>", "../../etc/passwd", "${jndi:ldap://x}",
    "é" * 512, "x" * 513, "x" * 60_000, " ", "\ufeff", "\ud7ff\ue000",
]  # fmt: skip


@pytest.mark.parametrize("path", [*LISTS, *HISTORIES])
async def test_a_nasty_name_is_a_problem_and_not_repeated_at_length(api: Api, path: str) -> None:
    names = {"/nodes": ["cursor"]}.get(path, ["node", "cursor"])
    names += ["gpu"] if path.startswith("/gpu") else ["server"] if path.startswith(("/metrics", "/inf")) else []
    names += ["field", "step"] if path in HISTORIES else []
    names += ["since", "until"] if path in (*WINDOWED, *HISTORIES) else []
    for name in names:
        for text in NASTY:
            parameters: dict[str, Any] = _field(path) | {name: text}
            answer = await api.client.get(path, params=parameters)
            assert answer.status_code in (404, 422), (name, text[:20], answer.text)
            problem_of(answer)
            assert text[: MOST_ECHOED + 1] not in answer.text or len(text) <= MOST_ECHOED
            assert len(answer.text) < 5000


async def test_a_nasty_model_is_nobodys_model(api: Api) -> None:
    for text in NASTY:
        answer = await api.client.get("/inference/servers", params={"model": text})
        if answer.status_code == 200:
            assert answer.json()["items"] == []
        else:
            problem_of(answer, 422)


NASTY_PATHS = ["%00", "alpha%00", "%ff%fe", "%0d%0a", "%F0%9F%98%80" * 50, "x" * 600, "a%20b", "%27%20OR%201"]


@pytest.mark.parametrize("path", ["/nodes/", "/inference/servers/", "/nothing/"])
async def test_a_nasty_path_is_a_problem_whose_instance_is_a_uri(api: Api, path: str) -> None:
    for text in NASTY_PATHS:
        body = problem_of(await api.client.get(path + text))
        assert body["status"] in (404, 422)
        assert len(body["instance"]) <= 3 * 4 * MOST_ECHOED  # percent-encoded


async def test_an_unknown_parameters_name_is_not_repeated_at_length(api: Api) -> None:
    answer = await api.client.get("/nodes", params={"x" * 5000: "1", **{f"unknown{n}": "1" for n in range(500)}})
    problem_of(answer, 422)
    assert "x" * (MOST_ECHOED + 1) not in answer.text
    assert len(answer.text) < 10_000


async def test_too_many_of_one_parameter_are_refused(api: Api) -> None:
    await api.refused("/gpu/metrics", 422, gpu=[f"GPU-{number}" for number in range(101)])
    await api.refused("/metrics/latency", 422, server=[str(number) for number in range(101)])


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW"])
async def test_a_method_that_a_path_does_not_take_is_refused_with_those_it_takes(api: Api, method: str) -> None:
    for path, allowed in [(path, "GET") for path in EVERYTHING] + [("/metrics/collect", "POST")]:
        if method != allowed and not (method == "DELETE" and path.startswith("/nodes/")):  # that forgets a node
            answer = await api.client.request(method, path)
            problem_of(answer, 405)
            takes = answer.headers["allow"].split(", ")
            assert allowed in takes
            assert method not in takes


async def test_a_path_that_does_not_exist_is_not_found(api: Api) -> None:
    for path in ("/nothing", "/gpu", "/nodes/alpha/gpus", "/metrics/", "/.env", "/gpu/metrics/history/x"):
        answer = await api.client.get(path)
        if answer.status_code == 307:  # a slash too many leads to the path without it
            answer = await api.client.get("/nothing" + path)
        assert problem_of(answer, 404)["type"] == "/problems/not-found"


@pytest.mark.parametrize("size", [1024 * 1024 + 1, 5 * 1024 * 1024])
async def test_a_body_that_is_too_large_is_refused(api: Api, size: int) -> None:
    answer = await api.client.post("/metrics/collect", content=b"x" * size)
    assert problem_of(answer, 413)["type"] == "/problems/content-too-large"


async def test_nobody_waits_for_ever_for_a_sample(api: Api) -> None:
    for seconds in ("0", "0.05", "61", "nan", "inf", "-1", "x"):
        await api.refused("/metrics/collect", 422, method="POST", timeout_seconds=seconds)


async def test_an_answer_is_json_that_every_client_reads(api: Api) -> None:
    for path in [*LISTS, "/capabilities", "/config"]:
        answer = await api.client.get(path)
        json.loads(answer.content, parse_constant=pytest.fail)  # no NaN, no Infinity
