"""Keys over REST, and the trail that every change leaves."""

from __future__ import annotations

from collections.abc import AsyncIterator

import psycopg
import pytest

from control_plane.model.access import Scope
from control_plane.storage.session import Database
from tests.fakes.clock import FakeClock
from tests.support.gates import GuardedApi, bearer, guarded_api
from tests.support.rest import problem_of, unexplained


@pytest.fixture
async def rest(database: Database, clock: FakeClock) -> AsyncIterator[GuardedApi]:
    async with guarded_api(database, clock) as api:
        yield api


async def test_a_key_is_shown_once_and_stored_as_a_digest(rest: GuardedApi, database_url: str) -> None:
    admin = await rest.key(Scope.ADMIN)
    answer = await rest.api.client.post(
        "/api-keys", headers=bearer(admin), json={"name": "ci", "scopes": ["read", "operate"], "days": 7}
    )
    assert answer.status_code == 201
    made = answer.json()
    assert made["scopes"] == ["operate", "read"]
    assert made["state"] == "active"
    assert made["created_by"] == "somebody"
    assert answer.headers["cache-control"] == "no-store"
    assert (await rest.api.client.get("/nodes", headers=bearer(made["key"]))).status_code == 200
    listed = await rest.api.client.get("/api-keys", headers=bearer(admin))
    assert made["key"] not in listed.text
    trail = await rest.api.client.get("/audit", headers=bearer(admin))
    secret = made["key"].rpartition("_")[2]
    assert secret not in trail.text
    with psycopg.connect(database_url) as connection:
        for table in ("api_key", "audit_entry"):
            rows = connection.execute(f"SELECT to_jsonb(t)::text FROM {table} t").fetchall()
            assert rows
            assert secret not in str(rows)


async def test_keys_are_paged_and_say_when_they_were_used(rest: GuardedApi) -> None:
    admin = await rest.key(Scope.ADMIN, name="boss")
    for n in range(4):
        await rest.key(Scope.READ, name=f"k{n}")
    found, cursor = [], None
    for _ in range(10):
        answer = await rest.api.client.get(
            "/api-keys", headers=bearer(admin), params={"limit": 2} | ({"cursor": cursor} if cursor else {})
        )
        body = answer.json()
        assert list(unexplained(body)) == []
        found += body["items"]
        cursor = body["next_cursor"]
        if cursor is None:
            break
    assert sorted(key["name"] for key in found) == ["boss", "k0", "k1", "k2", "k3"]
    used = {key["name"]: key["unknown"].get("last_used_at") for key in found}
    assert used["boss"] is None
    assert used["k0"] == "never_used"


@pytest.mark.parametrize(
    ("asked", "where"),
    [
        ({}, "/body/name"),
        ({"name": ""}, "/body/name"),
        ({"name": "x" * 129}, "/body/name"),
        ({"name": "x", "scopes": []}, "/body/scopes"),
        ({"name": "x", "scopes": ["root"]}, "/body/scopes/0"),
        ({"name": "x", "days": 0}, "/body/days"),
        ({"name": "x", "days": 1e9}, "/body/days"),
        ({"name": "x", "key": "mine"}, "/body/key"),
    ],
)
async def test_a_key_that_makes_no_sense_is_refused(rest: GuardedApi, asked: dict[str, object], where: str) -> None:
    answer = await rest.api.client.post("/api-keys", headers=bearer(await rest.key(Scope.ADMIN)), json=asked)
    assert [error["pointer"] for error in problem_of(answer, 422)["errors"]] == [where]


@pytest.mark.parametrize("name", ["a\nb", "a\0b", "   ", "\x1b[31m"])
async def test_a_name_that_a_terminal_would_obey_is_refused(rest: GuardedApi, name: str) -> None:
    answer = await rest.api.client.post("/api-keys", headers=bearer(await rest.key(Scope.ADMIN)), json={"name": name})
    problem_of(answer, 422)


async def test_revoking_is_for_ever_and_twice_is_once(rest: GuardedApi) -> None:
    admin, key = await rest.key(Scope.ADMIN), await rest.key(Scope.READ)
    path = f"/api-keys/{key.split('_')[1]}"
    first = (await rest.api.client.delete(path, headers=bearer(admin))).json()
    rest.clock.advance(60)
    second = (await rest.api.client.delete(path, headers=bearer(admin))).json()
    assert first["state"] == "revoked"
    assert first["revoked_at"] == second["revoked_at"]
    problem_of(await rest.api.client.delete("/api-keys/nobody", headers=bearer(admin)), 404)


async def test_a_write_leaves_who_what_before_and_after(rest: GuardedApi) -> None:
    admin, key = await rest.key(Scope.ADMIN, name="boss"), await rest.key(Scope.READ, name="gone soon")
    await rest.api.client.delete(f"/api-keys/{key.split('_')[1]}", headers=bearer(admin))
    await rest.api.client.delete("/nodes/nobody", headers=bearer(admin))
    answer = await rest.api.client.get("/audit", headers=bearer(admin))
    body = answer.json()
    assert list(unexplained(body)) == []
    refused, revoked = body["items"]
    assert revoked["operation"] == "api_key_revoke"
    assert revoked["caller"]["name"] == "boss"
    assert revoked["caller"]["kind"] == "api_key"
    assert revoked["before"]["state"] == "active"
    assert revoked["after"]["state"] == "revoked"
    assert revoked["status"] == 200
    assert refused["status"] == 404
    assert refused["target"] == "/nodes/nobody"
    assert refused["unknown"] == {"before": "refused", "after": "refused"}
    only = await rest.api.client.get("/audit", headers=bearer(admin), params={"operation": "node_forget"})
    assert [entry["operation"] for entry in only.json()["items"]] == ["node_forget"]
    first = (await rest.api.client.get("/audit", headers=bearer(admin), params={"limit": 1})).json()
    second = await rest.api.client.get(
        "/audit", headers=bearer(admin), params={"limit": 1, "cursor": first["next_cursor"]}
    )
    assert [entry["audit_id"] for entry in second.json()["items"]] == [revoked["audit_id"]]


async def test_what_is_only_looked_at_leaves_no_trail(rest: GuardedApi) -> None:
    admin = await rest.key(*Scope)
    await rest.api.client.get("/nodes", headers=bearer(admin))
    await rest.api.client.delete("/nodes/1", headers=bearer(await rest.key(Scope.READ)))  # refused at the door
    assert (await rest.api.client.get("/audit", headers=bearer(admin))).json()["items"] == []


async def test_a_write_whose_trail_cannot_be_stored_is_not_done(rest: GuardedApi, database_url: str) -> None:
    admin, key = await rest.key(Scope.ADMIN), await rest.key(Scope.READ)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE audit_entry RENAME TO audit_entry_elsewhere")
        answer = await rest.api.client.delete(f"/api-keys/{key.split('_')[1]}", headers=bearer(admin))
        problem_of(answer, 503)
        assert connection.execute("SELECT count(*) FROM api_key WHERE revoked_at IS NOT NULL").fetchone() == (0,)


@pytest.mark.parametrize(
    "body", [b"\x00\xff", b'{"a": "\\u0000"}', b"[" * 900 + b"]" * 900, b'"x"', b'{"password": "hunter2"}', b"1" * 9000]
)
async def test_whatever_is_sent_can_be_written_down(rest: GuardedApi, body: bytes, database_url: str) -> None:
    admin = await rest.key(Scope.ADMIN)
    answer = await rest.api.client.put(
        "/nodes/1/config", headers=bearer(admin) | {"Content-Type": "application/json"}, content=body
    )
    assert answer.status_code in (400, 404, 422)
    with psycopg.connect(database_url) as connection:
        (row,) = connection.execute("SELECT asked::text, status FROM audit_entry").fetchall()
    assert "hunter2" not in row[0]
    assert row[1] == answer.status_code
