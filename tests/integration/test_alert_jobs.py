"""Alerts on a real Postgres, in virtual time: told once, in order, whatever the webhook does and whoever dies when."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import psycopg
import pytest

from control_plane.alerts.kinds import usual_rule
from control_plane.model.alert import AlertConfiguration, Grouping, Receiver, RuleKind
from control_plane.runtime.destinations import Policy
from control_plane.runtime.sealing import Sealer
from control_plane.stages import alerts as stage
from control_plane.stages import delivery
from control_plane.stages.alerts import AlertJob
from control_plane.stages.delivery import DeliveryJob, NotTaken, Parcel, Unsure, over_http
from control_plane.storage import alert_configuration, alert_outbox
from control_plane.storage.session import Database
from tests.fakes.clock import START
from tests.fakes.webhook import Webhook
from tests.support.rollups import RollupWorld

SERVERS = (21, 22)
INTERVAL = timedelta(minutes=5)
SEALER = Sealer(lambda: b"k" * 32)
SECRET_URL = "https://hooks.example/services/T0/B0/topsecret"
OPS = Receiver(
    name="ops", shown_url="https://hooks.example:443/…", sealed_url=SEALER.seal(SECRET_URL, "ops/webhook_url"),
    sealed_signing_secret=SEALER.seal("whsec_c2VjcmV0", "ops/signing_secret"),
)  # fmt: skip
CONFIGURATION = AlertConfiguration(
    rules=[replace(usual_rule(RuleKind.ENGINE_HUNG), keep=timedelta(seconds=10))],
    receivers=[OPS], default_receiver="ops",
    grouping=Grouping(by=("rule",), wait=timedelta(seconds=1), interval=INTERVAL, repeat=timedelta(days=7)),
)  # fmt: skip


class Death(BaseException):
    """A process ends without another instruction: what it had begun stays as it is."""


class World:
    """Servers that hang and come back, replicas of both jobs, and somebody's webhook."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.connection = psycopg.connect(database.url, autocommit=True)
        self.now = START
        self.samples = RollupWorld(database, START)
        self.samples.entities(*SERVERS, kind=6)
        self.mode = "up"
        self.taken: list[tuple[datetime, dict[str, Any]]] = []
        self.attempts = 0
        self.jobs: list[AlertJob | DeliveryJob] = []
        self.replicas(0)

    def sql(self, statement: str) -> list[Any]:
        cursor = self.connection.execute(statement)  # type: ignore[call-overload]  # a test's own
        return cursor.fetchall() if cursor.description else []

    def replicas(self, number: int) -> None:
        """This will start both jobs anew; those before are not told."""
        self.alerts = AlertJob(self.database, holder=f"a{number}", now=lambda: self.now, url="http://here")
        self.delivery = DeliveryJob(
            self.database, holder=f"d{number}", now=lambda: self.now, sealer=SEALER, send=self.send
        )
        self.jobs += [self.alerts, self.delivery]

    async def send(self, parcel: Parcel) -> None:
        self.attempts += 1
        assert parcel.url == SECRET_URL
        assert parcel.headers["webhook-signature"].startswith("v1,")
        if self.mode == "dies before":
            raise Death
        if self.mode == "down":
            raise NotTaken("connection refused")
        if self.mode == "500":
            raise NotTaken("the webhook answered 500")
        body = json.loads(parcel.content)
        self.taken.append((self.now, body))
        if self.mode == "slow":
            self.now += timedelta(seconds=10)
            raise Unsure("hooks.example did not answer within 10 s")
        if self.mode == "dies after":
            raise Death

    def hang(self, *servers: int, state: str = "hung") -> None:
        ids = ", ".join(map(str, servers))
        self.sql(f"UPDATE entity SET attributes = attributes || '{{\"state\": \"{state}\"}}', "
                 f"state_since = '{self.now.isoformat()}' WHERE entity_id IN ({ids})")  # fmt: skip

    def step(self, seconds: float = 2) -> None:
        """This will let time pass, with a sample of each server, and do what is due. A job that dies is replaced."""
        self.now += timedelta(seconds=seconds)
        self.sql(
            "INSERT INTO inference_latest (taken_at, node_id, entity_id, up_flag) "
            f"SELECT '{self.now.isoformat()}', 1, e, 1 FROM unnest(ARRAY[{', '.join(map(str, SERVERS))}]) e "
            "ON CONFLICT (entity_id) DO UPDATE SET taken_at = excluded.taken_at"
        )
        try:
            self.alerts.work()
            self.delivery.work()
        except BaseException as error:
            if not died(error):
                raise
            self.mode = "up"
            self.replicas(len(self.jobs))
            self.now += max(stage.LEASE_LIFETIME, delivery.LEASE_LIFETIME)

    def run(self, seconds: float) -> None:
        """This will let time pass in steps of two seconds, or of twenty where there is much of it."""
        until = self.now + timedelta(seconds=seconds)
        while self.now < until:
            self.step(2 if seconds <= 60 else 20)

    def told(self) -> list[list[tuple[str, str]]]:
        """This will give what was taken: of each notification, server and status."""
        return [sorted((a["labels"]["server"], a["status"]) for a in body["alerts"]) for _, body in self.taken]

    def spacing_was_kept(self) -> bool:
        times = [at for at, _ in self.taken]
        return all(later - sooner >= INTERVAL for sooner, later in pairwise(times))

    def close(self) -> None:
        for job in self.jobs:
            job.close()
        self.connection.close()
        self.samples.close()


def died(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return any(died(one) for one in error.exceptions)
    return isinstance(error, Death)


@pytest.fixture
async def configured(database: Database) -> Database:
    await alert_configuration.write(database.engine, CONFIGURATION, now=START, by="tests", expected=None)
    return database


@pytest.fixture
def world(configured: Database) -> Iterator[World]:
    world = World(configured)
    world.hang(*SERVERS, state="up")
    yield world
    world.close()


A, B = "thing-21", "thing-22"


def test_what_fires_is_told_within_seconds_and_what_is_over_after_the_interval(world: World) -> None:
    world.run(10)
    assert world.taken == []
    world.hang(21)
    began = world.now
    world.run(10)
    assert world.told() == [[(A, "firing")]]
    assert world.taken[0][0] - began <= timedelta(seconds=6)
    world.hang(21, state="up")
    world.run(280)
    assert len(world.taken) == 1
    world.run(60)
    assert world.told() == [[(A, "firing")], [(A, "resolved")]]
    world.run(1000)
    assert len(world.taken) == 2
    assert world.sql("SELECT count(*) FROM alert WHERE NOT is_settled") == [(0,)]


@pytest.mark.parametrize("mode", ["down", "500"])
def test_a_webhook_that_is_out_of_order_for_an_hour_misses_nothing(world: World, mode: str) -> None:
    world.mode = mode
    world.hang(21)
    for _ in range(60):  # looked at every half minute, for an hour
        world.step(30)
        world.step(30)
        if world.now - START > timedelta(minutes=20):
            world.hang(21, state="up")
        if timedelta(minutes=30) < world.now - START < timedelta(minutes=40):
            world.hang(22)
        if world.now - START > timedelta(minutes=45):
            world.hang(22, state="up")
    assert world.taken == []
    assert 10 < world.attempts < 100, "it was tried, and more and more seldom"
    world.mode = "up"
    world.run(900)
    assert world.told() == [[(A, "firing")], [(A, "resolved"), (B, "resolved")]]
    assert world.spacing_was_kept()
    assert world.sql("SELECT count(*) FROM alert_outbox WHERE state <> 'sent'") == [(0,)]


def test_a_webhook_that_is_slow_is_not_told_twice_within_the_interval(world: World) -> None:
    world.mode = "slow"
    world.hang(21)
    world.run(60)
    assert len(world.taken) == 1, "nobody knows whether it arrived"
    world.run(400)
    assert world.told()[:2] == [[(A, "firing")], [(A, "firing")]]
    world.mode = "up"
    world.run(700)
    assert world.spacing_was_kept()
    world.hang(21, state="up")
    world.run(700)
    assert world.told()[-1] == [(A, "resolved")]


@pytest.mark.parametrize("mode", ["dies before", "dies after"])
def test_a_death_between_firing_and_sent_loses_nothing_and_tells_nothing_twice_within_the_interval(
    world: World, mode: str
) -> None:
    world.mode = mode
    world.hang(21)
    world.run(10)
    assert len(world.taken) == (mode == "dies after")
    world.run(900)
    assert world.spacing_was_kept()
    assert set(map(tuple, world.told())) == {((A, "firing"),)}
    assert len(world.taken) == 1 + (mode == "dies after")
    assert world.sql("SELECT count(*) FROM alert WHERE state = 'firing'") == [(1,)], "it fired once"


@pytest.mark.parametrize("seed", range(3))
def test_whatever_goes_wrong_each_firing_is_told_in_order_and_spaced(world: World, seed: int) -> None:
    chance = random.Random(seed)
    hung = {21: False, 22: False}
    for _ in range(120):
        world.mode = chance.choices(
            ["up", "down", "500", "slow", "dies before", "dies after"], weights=[60, 10, 10, 8, 6, 6]
        )[0]
        if chance.random() < 0.1:
            server = chance.choice(SERVERS)
            hung[server] = not hung[server]
            world.hang(server, state="hung" if hung[server] else "up")
        world.step(chance.uniform(1, 40))
    world.mode = "up"
    world.hang(*SERVERS, state="up")
    world.run(2000)
    assert world.spacing_was_kept()
    fired = world.sql("SELECT alert_id, labels->>'server' FROM alert WHERE fired_at IS NOT NULL")
    assert fired
    status: dict[str, dict[str, str]] = {}
    for _, body in world.taken:
        for told in body["alerts"]:
            seen = status.setdefault(told["fingerprint"] + told["startsAt"], {})
            assert not (told["status"] == "firing" and seen.get("last") == "resolved"), "never back from the dead"
            seen["last"] = told["status"]
    assert len(status) == len(fired), "each that fired was told"
    assert {seen["last"] for seen in status.values()} == {"resolved"}


async def test_secrets_are_in_no_row_and_no_error(world: World) -> None:
    world.mode = "500"
    world.hang(21)
    await asyncio.to_thread(world.run, 10)
    for table in ("alert_configuration", "alert_outbox", "alert"):
        for row in world.sql(f"SELECT to_jsonb(t)::text FROM {table} t"):
            assert "topsecret" not in row[0]
            assert "c2VjcmV0" not in row[0]
    (state,) = await alert_outbox.states(world.database.engine, ["ops"])
    assert (state.waiting, state.last_error) == (1, "the webhook answered 500")


def test_a_secret_of_another_key_is_said_and_the_alert_waits(world: World) -> None:
    world.hang(21)
    world.delivery = DeliveryJob(
        world.database, holder="d0", now=lambda: world.now, sealer=Sealer(lambda: b"o" * 32), send=world.send
    )
    world.jobs.append(world.delivery)
    world.run(10)
    (error,) = world.sql("SELECT last_error FROM alert_outbox")[0]
    assert "another key" in error
    assert world.taken == []


async def test_a_receiver_that_is_no_more_is_not_told(world: World) -> None:
    world.mode = "down"
    world.hang(21)
    await asyncio.to_thread(world.run, 10)
    nobody = replace(CONFIGURATION, receivers=[], default_receiver=None)
    await alert_configuration.write(world.database.engine, nobody, now=world.now, by="tests", expected=None)
    await asyncio.to_thread(world.run, 30)
    assert world.sql("SELECT state, last_error FROM alert_outbox") == [("given_up", "the receiver is no more")]


def parcel(url: str) -> Parcel:
    from control_plane.model.alert import Notification

    notification = Notification(
        notification_id=1, receiver="ops", group_key="g", body={}, created_at=START, due_at=START, attempts=1
    )
    return Parcel(notification=notification, url=url, content=b'{"a":1}', headers={"Content-Type": "application/json"})


async def test_over_http_an_answer_counts_and_the_lack_of_one_is_not_knowing(monkeypatch: pytest.MonkeyPatch) -> None:
    hook = Webhook()
    server = hook.serve()
    url = f"http://127.0.0.1:{server.server_address[1]}/x"
    send = over_http(Policy(("127.0.0.1",)))
    try:
        await send(parcel(url))
        assert [body for _, _, body in hook.taken] == [{"a": 1}]
        hook.status = 503
        with pytest.raises(NotTaken, match="503"):
            await send(parcel(url))
        hook.seconds, hook.status = 2.0, 200
        monkeypatch.setattr(delivery, "SECONDS", 0.2)
        with pytest.raises(Unsure):
            await send(parcel(url))
    finally:
        server.shutdown()
        server.server_close()
    with pytest.raises(NotTaken, match=r"refused|Connect"):
        await send(parcel(url))
    with pytest.raises(NotTaken, match="not a public address"):
        await over_http(Policy())(parcel(url))
