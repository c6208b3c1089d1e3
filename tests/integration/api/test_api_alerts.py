"""Alerts over REST: rules that are checked before they hold, secrets that never come out, and who has what in hand."""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from control_plane.api.resources import alerts as resource
from control_plane.runtime.redaction import LogFilter
from control_plane.stages.alerts import AlertJob
from tests.fakes.clock import FakeClock
from tests.support import fleet
from tests.support.rest import Api, problem_of

URL, SIGNING = "http://127.0.0.1:9/services/T0/B0/topsecret", "whsec_aHVudGVyMg=="
RULES: dict[str, Any] = {
    "rules": [
        {"name": "hung", "kind": "engine_hung"},
        {"name": "hot", "kind": "gpu_temperature", "severity": "critical", "parameters": {"celsius": 80},
         "matchers": {"node": "alpha|beta"}, "labels": {"team": "ops"}, "runbook_url": "https://wiki.example/hot"},
    ],
    "receivers": [
        {"name": "ops", "webhook_url": URL, "authorization": "Bearer hunter2hunter2", "signing_secret": SIGNING}
    ],
    "routes": [{"matchers": {"severity": "critical"}, "receiver": "ops"}],
    "default_receiver": "ops",
    "silences": [
        {"silence_id": "moving", "matchers": {"node": "gamma"}, "starts_at": "2026-03-04T12:00:00Z",
         "ends_at": "2026-03-04T14:00:00+01:00", "comment": "it is being moved"}
    ],
}  # fmt: skip
NEVER = ("topsecret", "hunter2", "aHVudGVyMg")


async def put(api: Api, body: Any) -> Any:
    answer = await api.client.put("/alerts/rules", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def refused(api: Api, **changed: Any) -> dict[str, str]:
    answer = await api.client.put("/alerts/rules", json={**RULES, **changed})
    return {e["pointer"].removeprefix("/body"): e["detail"] for e in problem_of(answer, 422).get("errors", [])}


async def test_until_somebody_says_otherwise_there_is_a_rule_of_every_kind(empty_api: Api) -> None:
    found = await empty_api.get("/alerts/rules")
    assert (found["revision"], found["receivers"]) == (0, [])
    assert {rule["kind"] for rule in found["rules"]} == found["kinds"].keys()


async def test_what_was_put_is_what_is_there_and_can_be_put_again(empty_api: Api) -> None:
    made = await put(empty_api, RULES)
    assert (made["revision"], made["changed_by"]) == (1, "anyone")
    assert made == await empty_api.get("/alerts/rules")
    hot = made["rules"][1]
    assert hot["parameters"] == {"celsius": 80, "memory_celsius": 95}, "what was left out is as usual"
    sent = {name: made[name] for name in (*RULES, "revision", "grouping", "inhibitions") if name in made}
    again = await put(empty_api, sent)
    assert again["revision"] == 2
    assert {**again, "revision": 1, "changed_at": made["changed_at"]} == made


async def test_somebody_elses_change_is_not_overwritten(empty_api: Api) -> None:
    await put(empty_api, {**RULES, "revision": 0})
    await put(empty_api, {**RULES, "revision": 1})
    answer = await empty_api.client.put("/alerts/rules", json={**RULES, "revision": 1})
    assert "GET it again" in problem_of(answer, 409)["detail"]
    assert (await empty_api.get("/alerts/rules"))["revision"] == 2


@pytest.mark.parametrize(
    ("changed", "places"),
    [
        ({"rules": [{"name": "x", "kind": "nothing"}]}, {"/rules/0/kind"}),
        ({"rules": [{"name": "X Y", "kind": "waste"}]}, {"/rules/0/name"}),
        ({"rules": [{"name": "x", "kind": "waste", "parameters": {"waste_ratio": 2}}]}, {"/rules/0"}),
        ({"rules": [{"name": "x", "kind": "waste", "parameters": {"colour": 2}}]}, {"/rules/0"}),
        ({"rules": [{"name": "x", "kind": "waste", "labels": {"severity": "x"}}]}, {"/rules/0"}),
        ({"rules": [{"name": "x", "kind": "waste"}, {"name": "x", "kind": "waste"}]}, {"/rules/1"}),
        ({"rules": [{"name": "x", "kind": "waste", "colour": 1}]}, {"/rules/0/colour"}),
        ({"default_receiver": "nobody"}, {"/default_receiver"}),
        ({"routes": [{"matchers": {}, "receiver": "nobody"}]}, {"/routes/0/receiver"}),
        ({"receivers": [], "routes": [], "default_receiver": None, "grouping": {"interval_seconds": 1}},
         {"/grouping/interval_seconds"}),
        ({"grouping": {"interval_seconds": 3600, "repeat_seconds": 60}}, {"/grouping/repeat_seconds"}),
        ({"inhibitions": [{"source": {}, "target": {}}]}, {"/inhibitions/0/source", "/inhibitions/0/target"}),
        ({"silences": [{"silence_id": "s", "matchers": {"a": "b"}, "starts_at": "2026-03-04T12:00:00",
                        "ends_at": "2026-03-05T12:00:00Z"}]}, {"/silences/0/starts_at"}),
        ({"silences": [{"silence_id": "s", "matchers": {"a": "b"}, "starts_at": "2026-03-05T12:00:00Z",
                        "ends_at": "2026-03-04T12:00:00Z"}]}, {"/silences/0"}),
        ({"receivers": [{"name": "ops", "webhook_url": "ftp://x/"}]}, {"/receivers/0/webhook_url"}),
        ({"receivers": [{"name": "ops", "webhook_url": "http://169.254.169.254/"}]}, {"/receivers/0/webhook_url"}),
        ({"receivers": [{"name": "ops", "webhook_url": "http://10.1.2.3/"}]}, {"/receivers/0/webhook_url"}),
        ({"receivers": [{"name": "ops", "webhook_url": "http://u:p@127.0.0.1/"}]}, {"/receivers/0/webhook_url"}),
        ({"receivers": [{"name": "ops", "webhook_url": "***"}]}, {"/receivers/0/webhook_url"}),
        ({"receivers": [{"name": "ops", "webhook_url": URL, "signing_secret": "whsec_?"}]}, {"/receivers/0"}),
        ({"receivers": [{"name": "ops", "webhook_url": URL, "authorization": "a\r\nX: y"}]}, {"/receivers/0"}),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_refused_at_its_place_and_changes_nothing(
    empty_api: Api, changed: dict[str, Any], places: set[str]
) -> None:
    assert (await refused(empty_api, **changed)).keys() == places
    assert (await empty_api.get("/alerts/rules"))["revision"] == 0


async def test_secrets_go_in_and_never_come_out(empty_api: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.handler.addFilter(LogFilter())
    caplog.set_level(logging.DEBUG)
    said = [json.dumps(await put(empty_api, RULES))]
    said.append((await empty_api.client.put("/alerts/rules", json={**RULES, "default_receiver": "nobody"})).text)
    wrong = {**RULES, "receivers": [{**RULES["receivers"][0], "colour": "red", "sends_resolved": "what"}]}
    said.append((await empty_api.client.put("/alerts/rules", json=wrong)).text)
    said += [(await empty_api.client.get(path)).text for path in ("/alerts/rules", "/audit", "/config")]
    with psycopg.connect(empty_api.context.database.url) as connection:
        for table in ("alert_configuration", "audit_entry"):
            said += [row[0] for row in connection.execute(f"SELECT to_jsonb(t)::text FROM {table} t").fetchall()]
    for secret in NEVER:
        assert [text for text in said if secret in text] == []
        assert secret not in caplog.text
    (receiver,) = (await empty_api.get("/alerts/rules"))["receivers"]
    assert receiver == {
        "name": "ops", "webhook_url": "***", "authorization": "***", "signing_secret": "***", "sends_resolved": True,
    }  # fmt: skip
    (delivery,) = (await empty_api.get("/alerts/rules"))["delivery"]
    assert (delivery["leads_to"], delivery["waiting"]) == ("http://127.0.0.1:9/…", 0)


async def test_what_is_kept_is_not_sent_to_another_place(empty_api: Api) -> None:
    await put(empty_api, RULES)
    moved = {"name": "ops", "webhook_url": "http://127.0.0.1:10/", "authorization": "***", "signing_secret": "***"}
    assert await refused(empty_api, receivers=[moved]) == {
        "/receivers/0/authorization": "give it again: the webhook_url is another one"
    }
    await put(empty_api, {**RULES, "receivers": [{**moved, "authorization": "Bearer another"}]})


def look(api: Api, seconds: float = 0) -> None:
    clock = api.context.clock
    job = AlertJob(
        api.context.database, holder="tests", now=lambda: clock.now() + timedelta(seconds=seconds), url="http://here"
    )
    job.work()
    job.close()


@pytest.fixture
async def hung(empty_api: Api, clock: FakeClock) -> Api:
    """The small fleet, in which an engine has just hung."""
    url = empty_api.context.database.url
    await asyncio.to_thread(asyncio.run, fleet.fill(url))
    await put(empty_api, {"rules": [{"name": "hung", "kind": "engine_hung", "keep_seconds": 0}]})
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "UPDATE entity SET attributes = attributes || '{\"state\": \"hung\"}' WHERE kind = 6 AND key = %s "
            "AND attributes->>'model' = %s", (fleet.QWEN_URL, fleet.QWEN),
        )  # fmt: skip
    await asyncio.to_thread(look, empty_api)
    return empty_api


async def test_an_alert_is_listed_shown_and_acknowledged(hung: Api) -> None:
    alert = await hung.one("/alerts")
    assert (alert["rule"], alert["state"], alert["severity"]) == ("hung", "firing", "critical")
    assert alert["labels"]["server"] == fleet.QWEN_URL
    assert await hung.items("/alerts", state="resolved") == []
    assert await hung.items("/alerts", severity="info") == []
    assert await hung.items("/alerts", label="model=nobody's") == []
    assert len(await hung.items("/alerts", label=f"model={fleet.QWEN}", rule="hung", severity="critical")) == 1
    path = f"/alerts/{alert['alert_id']}"
    answer = await hung.client.post(f"{path}/acknowledge", json={"comment": "on it"})
    assert (answer.status_code, answer.json()["acknowledged_by"]) == (200, "anyone")
    shown = await hung.get(path)
    assert (shown["acknowledgement"], [c["change"] for c in shown["history"]]) == ("on it", ["firing", "acknowledged"])
    await asyncio.to_thread(look, hung, 5)
    assert (await hung.get(path))["acknowledgement"] == "on it", "the job does not overwrite it"


async def test_an_alert_that_is_over_cannot_be_acknowledged(hung: Api) -> None:
    alert = await hung.one("/alerts")
    with psycopg.connect(hung.context.database.url, autocommit=True) as connection:
        connection.execute('UPDATE entity SET attributes = attributes || \'{"state": "up"}\' WHERE kind = 6')
    await asyncio.to_thread(look, hung, 5)
    answer = await hung.client.post(f"/alerts/{alert['alert_id']}/acknowledge", json={})
    assert "is over" in problem_of(answer, 409)["detail"]
    assert [a["state"] for a in await hung.items("/alerts", state="resolved")] == ["resolved"]
    problem_of(await hung.client.post("/alerts/999/acknowledge", json={}), 404)
    await hung.refused("/alerts/999", 404)
    await hung.refused("/alerts/x", 422)
    await hung.refused("/alerts", 422, label="nonsense")


async def test_a_stream_tells_each_change_from_where_it_was_left(hung: Api) -> None:
    look = resource.looking(hung.context, 0)
    (found,), more = await look()
    event = found.decode()
    assert not more
    assert event.startswith("id: 1\nevent: firing\ndata: {")
    data = json.loads(event.partition("data: ")[2])
    assert (data["rule"], data["change"]) == ("hung", "firing")
    assert await look() == ([], False)
    await hung.client.post(f"/alerts/{data['alert_id']}/acknowledge", json={})
    (following,), _ = await look()
    assert following.decode().startswith("id: 2\nevent: acknowledged\n")
    answer = await hung.client.get("/alerts", headers={"Accept": "text/event-stream", "Last-Event-ID": "x"})
    problem_of(answer, 422)
