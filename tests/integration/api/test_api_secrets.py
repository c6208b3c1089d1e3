"""No secret that went in comes out: not in answers, rows or logs."""

from __future__ import annotations

import logging

import psycopg
import pytest

from control_plane import bootstrap
from control_plane.model.access import Scope
from control_plane.runtime.redaction import LogFilter
from control_plane.settings import SECRETS, Settings
from control_plane.storage.session import Database
from tests.fakes.clock import FakeClock
from tests.golden.write import document
from tests.support.gates import bearer, guarded_api


async def test_keys_that_are_presented_anywhere_are_found_nowhere(
    database: Database, clock: FakeClock, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.handler.addFilter(LogFilter())
    caplog.set_level(logging.DEBUG)
    async with guarded_api(database, clock) as rest:
        key, other = await rest.key(*Scope), await rest.key(Scope.READ)
        secret = other.rpartition("_")[2]
        said = []
        for path, methods in document()["paths"].items():
            for method in methods:
                filled = path.replace("{node_id}", other).replace("{server_id}", other).replace("{key_id}", other)
                answer = await rest.api.client.request(
                    method, filled, headers=bearer(key) | {"X-Whatever": other}, params={"node": other, "cursor": other}
                )
                said.append(f"{method} {path}: {answer.text} {answer.headers}")
                body = {"name": other, "scopes": ["read"], "nested": [{"note": f"Bearer {other}"}]}
                if method in ("post", "put"):
                    said.append((await rest.api.client.request(method, filled, headers=bearer(key), json=body)).text)
        trail = (await rest.api.client.get("/audit", headers=bearer(key), params={"limit": 1000})).text
    assert secret not in trail
    assert key.rpartition("_")[2] not in "".join(said) + trail + caplog.text
    # The process's own words: where a name is repeated to who sent it, it is cut short of the secret.
    assert [line for line in said if secret in line] == []
    assert secret not in caplog.text
    with psycopg.connect(database_url) as connection:
        tables = connection.execute(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        ).fetchall()
        for (table,) in tables:
            for (row,) in connection.execute(f'SELECT to_jsonb(t)::text FROM "{table}" t').fetchall():
                assert secret not in row, table


def test_settings_are_shown_without_their_secrets() -> None:
    hidden = {
        "groq_api_key": "gsk_hunter2hunter2hunter2",
        "database_url": "postgresql://u:hunter2@h/d",
        "api_key": "hunter2",
        "secret_key": "hunter2" * 8,
    }
    settings = Settings.model_validate(hidden | {"orchestrator_url": "http://me:hunter2@o:8080"})
    shown = bootstrap.shown_settings(settings)
    assert "hunter2" not in str(shown)
    assert "hunter2" not in repr(settings).replace("orchestrator_url='http://me:hunter2@o:8080'", "")
    assert {name: shown[name] for name in SECRETS} == dict.fromkeys(SECRETS, "set")
