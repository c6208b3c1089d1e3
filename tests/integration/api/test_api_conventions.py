"""What holds for every route: writes that are sent twice, versions, files, compression."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import zlib
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from backports import zstd

from control_plane.api import tables
from control_plane.model.access import Scope
from control_plane.storage.session import Database
from tests.fakes.clock import FakeClock
from tests.golden.write import document
from tests.support.gates import GuardedApi, bearer, guarded_api
from tests.support.rest import Api, problem_of

HISTORIES = {
    "/gpu/metrics/history": "power_draw_watts",
    "/system/history": "cpu_busy_ratio",
    "/metrics/history": "ttft_seconds",
}


@pytest.fixture
async def rest(database: Database, clock: FakeClock) -> AsyncIterator[GuardedApi]:
    async with guarded_api(database, clock) as api:
        yield api


# -- sent twice, done once ------------------------------------------------------------------------


async def revoke(rest: GuardedApi, key: str, path: str, idempotency: str) -> Any:
    return await rest.api.client.delete(path, headers=bearer(key) | {"Idempotency-Key": idempotency})


async def test_the_same_again_gets_the_first_answer_and_is_done_once(rest: GuardedApi, database_url: str) -> None:
    admin, victim = await rest.key(Scope.ADMIN), await rest.key(Scope.READ)
    path = f"/api-keys/{victim.split('_')[1]}"
    first = await revoke(rest, admin, path, "k-1")
    rest.clock.advance(60)
    again = await revoke(rest, admin, path, "k-1")
    assert again.status_code == 200
    assert again.content == first.content
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM audit_entry").fetchone() == (1,)


async def test_a_key_is_for_one_question_of_one_caller(rest: GuardedApi) -> None:
    admin, other = await rest.key(Scope.ADMIN), await rest.key(Scope.ADMIN)
    assert (await revoke(rest, admin, "/api-keys/a", "k-1")).status_code == 404
    body = problem_of(await revoke(rest, admin, "/api-keys/b", "k-1"), 409)
    assert "something else" in body["detail"]
    assert (await revoke(rest, other, "/api-keys/b", "k-1")).status_code == 404


async def test_a_refusal_is_an_answer_too(rest: GuardedApi) -> None:
    admin = await rest.key(Scope.ADMIN)
    first, again = [await revoke(rest, admin, "/api-keys/nobody", "k-2") for _ in range(2)]
    assert first.content == again.content
    assert again.headers["content-type"] == "application/problem+json"


async def test_of_many_at_the_same_moment_one_is_done(rest: GuardedApi, database_url: str) -> None:
    admin = await rest.key(Scope.ADMIN)
    headers = bearer(admin) | {"Idempotency-Key": "k-3"}

    async def make() -> Any:
        return await rest.api.client.post("/api-keys", headers=headers, json={"name": "once"})

    async with asyncio.TaskGroup() as tasks:
        made = [tasks.create_task(make()) for _ in range(8)]
    assert sorted(task.result().status_code for task in made) == [201] + [409] * 7
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM api_key WHERE name = 'once'").fetchone() == (1,)


async def test_a_secret_that_was_shown_is_not_kept_to_be_shown_again(rest: GuardedApi, database_url: str) -> None:
    admin = await rest.key(Scope.ADMIN)
    headers = bearer(admin) | {"Idempotency-Key": "k-4"}
    made = (await rest.api.client.post("/api-keys", headers=headers, json={"name": "x"})).json()
    again = await rest.api.client.post("/api-keys", headers=headers, json={"name": "x"})
    assert "not kept" in problem_of(again, 409)["detail"]
    with psycopg.connect(database_url) as connection:
        assert made["key"].encode() not in b"".join(
            bytes(row[0] or b"") for row in connection.execute("SELECT content FROM idempotency_key")
        )


async def test_after_a_failure_of_ours_the_same_may_be_tried_again(rest: GuardedApi, database_url: str) -> None:
    admin = await rest.key(Scope.ADMIN)
    headers = bearer(admin) | {"Idempotency-Key": "k-5"}
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE audit_entry RENAME TO away")
        problem_of(await rest.api.client.post("/api-keys", headers=headers, json={"name": "x"}), 503)
        connection.execute("ALTER TABLE away RENAME TO audit_entry")
    assert (await rest.api.client.post("/api-keys", headers=headers, json={"name": "x"})).status_code == 201


@pytest.mark.parametrize("key", ["", "x" * 256, "a b", "ä"])
async def test_what_is_no_key_is_refused(rest: GuardedApi, key: str) -> None:
    headers = {**bearer(await rest.key(Scope.ADMIN)), "Idempotency-Key": key.encode("latin-1").decode("latin-1")}
    answer = await rest.api.client.request(
        "DELETE", "/api-keys/a", headers=[(n.encode(), v.encode("latin-1")) for n, v in headers.items()]
    )
    assert "Idempotency-Key" in problem_of(answer, 422)["detail"]


def test_every_write_says_that_it_takes_a_key() -> None:
    for path, methods in document()["paths"].items():
        for method, described in methods.items():
            named = {parameter["name"] for parameter in described.get("parameters", [])}
            assert ("Idempotency-Key" in named) == (described["x-required-scope"] != "read" and method != "get"), path


# -- versions -------------------------------------------------------------------------------------


async def test_nobody_overwrites_what_somebody_else_changed(api: Api) -> None:
    path = "/nodes/gamma/config"
    first = await api.client.get(path)
    tag = first.headers["etag"]
    asked = {"sampling_interval_seconds": 7}
    changed = await api.client.put(path, json=asked, headers={"If-Match": tag})
    assert changed.status_code in (200, 202)
    assert changed.headers["etag"] != tag
    refused = await api.client.put(path, json={"sampling_interval_seconds": 9}, headers={"If-Match": tag})
    assert changed.headers["etag"] in problem_of(refused, 412)["detail"]
    now = await api.client.get(path)
    assert now.json()["desired"] == asked
    assert now.headers["etag"] == changed.headers["etag"]
    assert (await api.client.put(path, json={}, headers={"If-Match": "*"})).status_code in (200, 202)


# -- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", HISTORIES)
async def test_a_history_is_given_as_a_file_with_the_same_numbers(api: Api, path: str) -> None:
    asked = {"field": HISTORIES[path], "since": "10m", "step": "60s"}
    told = (await api.client.get(path, params=asked)).json()
    answer = await api.client.get(path, params=asked, headers={"Accept": "text/csv"})
    assert answer.headers["content-type"].startswith("text/csv")
    lines = list(csv.DictReader(io.StringIO(answer.text)))
    points = [(item, point) for item in told["items"] for point in item["points"]]
    assert len(lines) == len(points) > 0
    for line, (item, point) in zip(lines, points, strict=True):
        assert line["node"] == item["node"]
        assert line["field"] == HISTORIES[path]
        assert line["at"] == point["at"]
        assert line["mean"] == ("" if point.get("mean") is None else str(point["mean"]))


async def test_json_stays_what_is_given_unless_a_file_is_preferred(api: Api) -> None:
    for accept in ("*/*", "application/json, text/csv", "text/csv;q=0.5, application/json", "text/html", "x;q=y,,;"):
        answer = await api.client.get("/system/history", params={"field": "cpu_busy_ratio"}, headers={"Accept": accept})
        assert answer.headers["content-type"] == "application/json", accept


async def test_a_refusal_is_no_file(api: Api) -> None:
    problem_of(await api.client.get("/system/history", headers={"Accept": "text/csv"}), 422)


def test_a_name_that_a_spreadsheet_would_run_is_a_text() -> None:
    item = {"node": "=cmd|'/c calc'!A1", "points": [{"at": "t", "mean": -1.5, "unknown": "-x"}]}
    (line,) = csv.DictReader(io.StringIO(tables.as_csv(json.dumps({"items": [item]}).encode()).decode()))
    assert line == {"node": "'=cmd|'/c calc'!A1", "at": "t", "mean": "-1.5", "unknown": "'-x"}


# -- compression ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "given"),
    [("gzip", "gzip"), ("gzip, zstd", "zstd"), ("br", None), ("zstd;q=0, gzip", "gzip"), ("*", "zstd"), ("", None),
     ("identity", None), ("gzip;q=0", None), ("gzip;q=1.0, zstd;q=0.1", "gzip")],
)  # fmt: skip
async def test_an_answer_is_sent_as_small_as_was_asked(api: Api, asked: str, given: str | None) -> None:
    plain = await api.client.get("/gpu/metrics", headers={"Accept-Encoding": "identity"})
    async with api.client.stream("GET", "/gpu/metrics", headers={"Accept-Encoding": asked}) as answer:
        raw = b"".join([part async for part in answer.aiter_raw()])
    assert answer.headers.get("content-encoding") == given
    assert answer.headers["vary"] == "Accept-Encoding"
    assert int(answer.headers["content-length"]) == len(raw)
    unpacked = {"gzip": lambda b: zlib.decompress(b, 31), "zstd": zstd.decompress, None: bytes}[given](raw)
    assert unpacked == plain.content
    assert (len(raw) < len(plain.content) / 3) == (given is not None)


async def test_a_small_answer_is_sent_as_it_is(api: Api) -> None:
    answer = await api.client.get("/health/live", headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in answer.headers
