"""Configurations on their way: from a request over a real Postgres and a real stream to a node, and what comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from control_plane.ingest import configurations as ingest_configurations
from control_plane.ingest.configurations import TOO_OLD
from control_plane.model.configuration import NodeConfiguration
from control_plane.storage import configurations
from control_plane.storage.session import Database
from node_agent.commands.configure import Configurator
from node_agent.configuration.kept import KeptConfiguration
from node_agent.sampler import Sampler
from optiinfra.telemetry.v1 import link_pb2
from tests.fakes.clock import FakeClock, FakeNodeClock
from tests.support.configured_host import POLICY, Host, applied, known, put
from tests.support.ingest import PATIENCE_SECONDS, ControlPlane, RawAgent, Store, until
from tests.support.rest import Api, client_of, context_of, problem_of


@pytest.fixture
def host(plane: ControlPlane, clock: FakeClock, tmp_path: Path) -> Host:
    return Host(plane, clock, tmp_path)


@pytest.fixture
async def api(plane: ControlPlane, clock: FakeClock, database: Database) -> AsyncIterator[Api]:
    async with client_of(context_of(database, clock, plane.service)) as api:
        yield api


# -- a request and its answer ---------------------------------------------------------------------


async def test_a_configuration_is_applied_before_its_request_is_answered(api: Api, host: Host) -> None:
    async with host.running():
        wanted = {"sampling_interval_seconds": 2.0, "scrape_targets": ["http://127.0.0.1:8000"]}
        said = await put(api, wanted)
        assert (said["status"], said["detail"], said["revision"]) == ("applied", "", 2)
        assert said["desired"] == said["in_force"] == wanted
        assert (said["in_force_revision"], said["unknown"]) == (2, {})
        assert host.interval_seconds == 2.0


async def test_a_new_configuration_takes_the_place_of_the_whole_one_before(api: Api, host: Host) -> None:
    async with host.running():
        await put(api, {"sampling_interval_seconds": 2.0, "discover_engines": False})
        said = await put(api, {"discover_engines": True})
        assert (said["revision"], said["in_force"]) == (3, {"discover_engines": True})
        assert host.interval_seconds == 5.0
        said = await put(api, {})
        assert (said["status"], said["revision"], said["in_force"], said["in_force_revision"]) == ("applied", 4, {}, 4)


async def test_a_refusal_says_why_and_leaves_what_held_before(api: Api, host: Host) -> None:
    async with host.running():
        await put(api, {"sampling_interval_seconds": 2.0})
        said = await put(api, {"sampling_interval_seconds": 0.5, "scrape_targets": ["http://169.254.169.254"]})
        assert said["status"] == "refused"
        assert said["detail"] == (
            "0.5 s is outside the 1 to 60 s that this host accepts; scrape target 'http://169.254.169.254' "
            "is not on this host, and not among its pushed_targets"
        )
        assert (said["revision"], said["in_force_revision"]) == (3, 2)
        assert said["in_force"] == {"sampling_interval_seconds": 2.0}
        assert host.interval_seconds == 2.0


async def test_a_first_configuration_that_is_refused_leaves_the_hosts_own_settings(api: Api, host: Host) -> None:
    host.policy = replace(POLICY, allowed=frozenset())
    async with host.running():
        said = await put(api, {"sampling_interval_seconds": 2.0})
        assert said["detail"] == "sampling_interval_seconds is not among this host's allowed_configuration"
        # Of the empty one that came with the connection nothing had to be stored: it changed nothing.
        assert said["in_force_revision"] == 1
        assert host.interval_seconds == 5.0


async def test_the_same_again_keeps_its_revision_and_is_asked_again(api: Api, host: Host, clock: FakeClock) -> None:
    async with host.running():
        first = await put(api, {"sampling_interval_seconds": 2.0})
        clock.advance(60)
        assert await put(api, {"sampling_interval_seconds": 2.0}) == first
        assert (await put(api, {"sampling_interval_seconds": 2}))["revision"] == 2
        assert (await put(api, {"sampling_interval_seconds": 3}))["revision"] == 3


async def test_requests_at_the_same_moment_get_revisions_of_their_own_and_the_newest_holds(
    api: Api, host: Host
) -> None:
    async with host.running():
        async with asyncio.TaskGroup() as tasks:
            for seconds in range(2, 12):
                tasks.create_task(api.client.put("/nodes/host-a/config", json={"sampling_interval_seconds": seconds}))
        said = await api.get("/nodes/host-a/config")
        assert (said["status"], said["revision"], said["in_force_revision"]) == ("applied", 11, 11)
        assert said["in_force"] == said["desired"] == {"sampling_interval_seconds": host.interval_seconds}


async def test_the_cadence_that_a_node_is_judged_by_is_the_acknowledged_one(
    api: Api, host: Host, clock: FakeClock
) -> None:
    async with host.running() as agent:
        await put(api, {"sampling_interval_seconds": 60.0})
        agent.sample({"power_draw_watts": 1.0})
        await agent.drained()
        clock.advance(50)
        node = await api.get("/nodes/host-a")
        assert (node["sampling_interval_seconds"], node["state"]) == (60.0, "connected")
        await put(api, {"sampling_interval_seconds": 0.5})
        agent.sample({"power_draw_watts": 1.0})
        await agent.drained()
        assert (await api.get("/nodes/host-a"))["sampling_interval_seconds"] == 60.0, "it was refused"


# -- nodes that are not there ---------------------------------------------------------------------


async def test_a_node_that_is_away_is_told_when_it_connects(
    api: Api, host: Host, database: Database, clock: FakeClock
) -> None:
    await known(database, clock)
    said = await put(api, {"sampling_interval_seconds": 2.0}, status=202)
    assert (said["status"], said["in_force"]) == ("pending", None)
    assert "no stream to this control plane; it is told when it connects" in said["detail"]
    assert said["unknown"] == dict.fromkeys(("in_force", "in_force_revision", "answered_at"), "never_answered")
    async with host.running():
        await applied(api, 2)
        assert host.interval_seconds == 2.0


async def test_a_node_that_does_not_exist_cannot_be_configured(api: Api) -> None:
    assert (await put(api, {}, status=404, node="nobody"))["type"] == "/problems/not-found"


async def test_a_recording_takes_no_configuration(api: Api, database: Database, clock: FakeClock) -> None:
    await known(database, clock, agent_id="played", replayed=True)
    answer = await api.client.put("/nodes/played/config", json={})
    assert "is a recording that is played" in problem_of(answer, 409)["detail"]


async def test_an_agent_that_does_not_answer_leaves_it_pending(
    plane: ControlPlane, clock: FakeClock, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("control_plane.api.resources.node_config.ANSWER_SECONDS", 0.05)
    async with RawAgent(plane, clock, agent_id="host-a") as agent:
        await agent.welcome(node_name="host-a", takes_configuration=True)
        assert (await agent.read()).configure == link_pb2.Configure(revision=1, whole_state=True)
        said = await put(api, {"gpu_monitoring_enabled": False}, status=202)
        assert said["detail"] == "it was sent, and the agent has not answered yet"
        assert (await agent.read()).configure == link_pb2.Configure(
            revision=2, whole_state=True, gpu_monitoring_enabled=False
        )


async def test_a_stream_that_ends_sends_away_who_waits_for_its_answer(
    plane: ControlPlane, clock: FakeClock, api: Api
) -> None:
    async with AsyncExitStack() as stack:
        agent = await stack.enter_async_context(RawAgent(plane, clock, agent_id="host-a"))
        await agent.welcome(node_name="host-a", takes_configuration=True)
        await agent.read()
        async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:  # half of the time that it would wait
            tasks.create_task(put(api, {"discover_engines": False}, status=202))
            await agent.read()
            await stack.aclose()


async def test_an_older_agent_is_said_to_have_taken_nothing(plane: ControlPlane, clock: FakeClock, api: Api) -> None:
    async with RawAgent(plane, clock, agent_id="host-a") as agent:
        await agent.welcome(node_name="host-a")
        said = await put(api, {"sampling_interval_seconds": 2.0})
        assert (said["status"], said["detail"], said["in_force"]) == ("refused", TOO_OLD, None)
        await agent.settled()  # and was sent nothing that it would half understand


async def test_an_agent_that_is_upgraded_is_told_what_waited_for_it(
    plane: ControlPlane, clock: FakeClock, api: Api, host: Host
) -> None:
    async with RawAgent(plane, clock, agent_id="host-a") as agent:
        await agent.welcome(node_name="host-a")
        await put(api, {"sampling_interval_seconds": 2.0})
    await until(lambda: not plane.service.connected_nodes(), "it is gone")
    async with host.running():
        await applied(api, 2)


async def test_a_target_is_stored_once_and_without_its_slash(api: Api, database: Database, clock: FakeClock) -> None:
    await known(database, clock)
    said = await put(
        api, {"scrape_targets": ["http://127.0.0.1:8000/", "http://127.0.0.1:8000"], "discover_engines": None}, 202
    )
    assert said["desired"] == {"scrape_targets": ["http://127.0.0.1:8000"]}


# -- restarts -------------------------------------------------------------------------------------


async def test_an_agent_keeps_its_configuration_while_the_control_plane_is_away(
    api: Api, plane: ControlPlane, host: Host
) -> None:
    async with host.running():
        await put(api, {"sampling_interval_seconds": 2.0})
    await plane.crash()
    node = FakeNodeClock(host.clock)
    sampler = Sampler([], node, interval_seconds=5.0)
    again = Configurator(
        POLICY, KeptConfiguration(host.folder), own_interval_seconds=5.0, own_addresses=frozenset,
        sampler=sampler, engines=host.engines, gpus=None,
    )  # fmt: skip
    await again.restore()
    assert again.standing().sampling_interval_seconds == 2.0
    await plane.start()


async def test_a_policy_that_became_tighter_is_shown_after_the_restart(api: Api, host: Host) -> None:
    async with host.running():
        await put(api, {"sampling_interval_seconds": 2.0})
    await until(lambda: not host.plane.service.connected_nodes(), "it is gone")
    host.policy = replace(POLICY, shortest_interval_seconds=10.0)
    async with host.running():
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (said := await api.get("/nodes/host-a/config"))["status"] != "refused":
                await asyncio.sleep(0.01)
        assert said["detail"] == "2 s is outside the 10 to 60 s that this host accepts"
        assert (said["in_force"], said["unknown"]["in_force"]) == (None, "own_settings")
        assert host.interval_seconds == 5.0


async def test_a_node_that_was_forgotten_begins_with_its_own_settings(api: Api, host: Host, database: Database) -> None:
    async with host.running():
        await put(api, {"sampling_interval_seconds": 2.0})
    await until(lambda: not host.plane.service.connected_nodes(), "it is gone")
    assert (await api.client.delete("/nodes/host-a")).status_code == 200
    async with host.running():
        await until(lambda: host.interval_seconds == 5.0, "what was kept is given up")
        assert (await api.get("/nodes/host-a/config"))["status"] == "default"


async def test_nothing_is_written_for_nodes_that_say_the_same_again(
    api: Api, host: Host, store: Store, clock: FakeClock
) -> None:
    async with host.running():
        pass
    await until(lambda: not host.plane.service.connected_nodes(), "it is gone")
    assert store.rows("SELECT * FROM node_configuration") == [], "nothing was asked and nothing refused"
    async with host.running():
        await put(api, {"sampling_interval_seconds": 2.0})
    await until(lambda: not host.plane.service.connected_nodes(), "it is gone")
    before = store.rows("SELECT * FROM node_configuration")
    clock.advance(60)
    async with host.running():
        await until(lambda: host.interval_seconds == 2.0, "it is told again")
        await put(api, {"sampling_interval_seconds": 2.0})
    assert store.rows("SELECT * FROM node_configuration") == before


# -- the fleet's cadence --------------------------------------------------------------------------


def fleet_at(plane: ControlPlane, seconds: float) -> None:
    plane.service.configurations.fleet = NodeConfiguration(sampling_interval_seconds=seconds)


async def test_a_nodes_own_cadence_wins_over_the_fleets(api: Api, host: Host) -> None:
    fleet_at(host.plane, 10.0)
    async with host.running():
        await until(lambda: host.interval_seconds == 10.0, "the fleet's cadence holds")
        said = await applied(api, 1)
        assert (said["desired"], said["fleet"], said["in_force"]) == (
            {}, {"sampling_interval_seconds": 10.0}, {"sampling_interval_seconds": 10.0},
        )  # fmt: skip
        await put(api, {"sampling_interval_seconds": 2.0})
        assert host.interval_seconds == 2.0
        said = await put(api, {"discover_engines": False})
        assert said["desired"] == {"discover_engines": False}
        assert said["in_force"] == {"sampling_interval_seconds": 10.0, "discover_engines": False}
        assert host.interval_seconds == 10.0


async def test_a_fleets_cadence_that_a_host_refuses_is_shown(api: Api, host: Host) -> None:
    fleet_at(host.plane, 0.5)
    async with host.running():
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (said := await api.get("/nodes/host-a/config"))["status"] != "refused":
                await asyncio.sleep(0.01)
    assert said["detail"] == "0.5 s is outside the 1 to 60 s that this host accepts"
    assert said["revision"] == 1


async def test_an_older_agent_is_asked_for_the_fleets_cadence_with_its_welcome(
    plane: ControlPlane, clock: FakeClock, api: Api
) -> None:
    fleet_at(plane, 10.0)
    async with RawAgent(plane, clock, agent_id="host-a") as agent:
        welcome = await agent.welcome(node_name="host-a")
        assert welcome.configure == link_pb2.Configure(revision=1, sampling_interval_ms=10_000)
        await agent.send(config_status=link_pb2.ConfigStatus(revision=1, applied=True))
        await agent.settled()
        (session,) = plane.service._sessions.values()
        assert session.sampling_interval_seconds == 10.0
        assert (await api.get("/nodes/host-a/config"))["in_force"] == {"sampling_interval_seconds": 10.0}


@pytest.mark.parametrize("hello", [{"replayed": True}, {"backlog": True}])
async def test_recordings_and_backlogs_are_never_configured(
    hello: dict[str, bool], plane: ControlPlane, clock: FakeClock
) -> None:
    fleet_at(plane, 10.0)
    async with RawAgent(plane, clock) as agent:
        welcome = await agent.welcome(takes_configuration="replayed" in hello, **hello)
        assert not welcome.HasField("configure")
        await agent.send(heartbeat=link_pb2.Heartbeat(clock=agent.clock_reading()))
        assert (await agent.read()).WhichOneof("body") == "heartbeat"


# -- races and faults -----------------------------------------------------------------------------


async def test_what_is_written_while_an_agent_connects_is_not_missed(
    plane: ControlPlane, clock: FakeClock, database: Database, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request finds no stream, for the Hello is still being admitted."""
    node_id = await known(database, clock)
    admitted = plane.service._open

    async def slowly(*arguments: Any) -> Any:
        session = await admitted(*arguments)
        said = await put(api, {"sampling_interval_seconds": 2.0}, status=202)
        assert "no stream" in said["detail"]
        return session

    monkeypatch.setattr(plane.service, "_open", slowly)
    async with RawAgent(plane, clock, agent_id="host-a") as agent:
        await agent.welcome(node_name="host-a", takes_configuration=True)
        assert (await agent.read()).configure.revision == 2
    assert node_id


async def test_what_was_read_before_a_request_wrote_is_not_sent_after_it(
    plane: ControlPlane, clock: FakeClock, database: Database, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    node_id = await known(database, clock)
    await configurations.write(database.engine, node_id, NodeConfiguration(discover_engines=False), clock.now())
    read, held = configurations.find, asyncio.Event()

    async def late(*arguments: Any) -> Any:
        found = await read(*arguments)
        if found is not None and found.revision == 2 and not held.is_set():
            held.set()
            await configurations.write(database.engine, node_id, NodeConfiguration(), clock.now())
            await plane.service.configure(node_id, 0.02)
        return found

    monkeypatch.setattr(ingest_configurations.configurations, "find", late)
    async with RawAgent(plane, clock, agent_id="host-a") as agent:
        await agent.welcome(node_name="host-a", takes_configuration=True)
        assert (await agent.read()).configure.revision == 3
        await agent.send(heartbeat=link_pb2.Heartbeat(clock=agent.clock_reading()))
        assert (await agent.read()).WhichOneof("body") == "heartbeat", "and nothing older behind it"


async def test_a_database_that_is_away_delays_a_configuration_and_never_the_samples(
    plane: ControlPlane, clock: FakeClock, database: Database, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    node_id = await known(database, clock)
    await configurations.write(database.engine, node_id, NodeConfiguration(discover_engines=False), clock.now())
    store.rows("ALTER TABLE node_configuration RENAME TO hidden")
    async with RawAgent(plane, clock, agent_id="host-a") as agent:
        await agent.welcome(node_name="host-a", takes_configuration=True)
        await agent.send(heartbeat=link_pb2.Heartbeat(clock=agent.clock_reading()))
        assert (await agent.read()).WhichOneof("body") == "heartbeat"
        assert "is configured later" in caplog.text
        store.rows("ALTER TABLE hidden RENAME TO node_configuration")
        await agent.send(heartbeat=link_pb2.Heartbeat(clock=agent.clock_reading()))
        said = [await agent.read(), await agent.read()]
        (told,) = (message.configure for message in said if message.WhichOneof("body") == "configure")
        assert told.revision == 2
        store.rows("ALTER TABLE node_configuration RENAME TO hidden")
        await agent.send(config_status=link_pb2.ConfigStatus(revision=2, applied=True, in_force_revision=2))
        await agent.settled()
        store.rows("ALTER TABLE hidden RENAME TO node_configuration")
        await agent.settled()
        await agent.settled()  # a heartbeat is answered before it settles anything: the next one comes after that
    assert store.one("SELECT answered_revision FROM node_configuration") == 2


async def test_what_nobody_asked_is_no_answer(plane: ControlPlane, clock: FakeClock, store: Store, api: Api) -> None:
    async with RawAgent(plane, clock, agent_id="host-a") as agent:
        await agent.welcome(node_name="host-a", takes_configuration=True)
        for revision in (0, 7, 2**64 - 1):
            await agent.send(
                config_status=link_pb2.ConfigStatus(
                    revision=revision, applied=True, sampling_interval_ms=2**32 - 1, in_force_revision=2**64 - 1
                )
            )
        await agent.settled()
        (session,) = plane.service._sessions.values()
        assert session.sampling_interval_seconds == 5.0
    assert store.rows("SELECT * FROM node_configuration") == []


async def test_an_answer_is_taken_with_care(plane: ControlPlane, clock: FakeClock, api: Api) -> None:
    async with RawAgent(plane, clock, agent_id="host-a") as agent:
        await agent.welcome(node_name="host-a", takes_configuration=True)
        await agent.send(
            config_status=link_pb2.ConfigStatus(
                revision=1, detail="no\x00\x1b[2J" + "x" * 5000, sampling_interval_ms=1, in_force_revision=2**64 - 1
            )
        )
        await agent.settled()
    said = await api.get("/nodes/host-a/config")
    assert said["detail"].startswith("no[2Jx")
    assert len(said["detail"]) == 512
    assert said["in_force_revision"] is None


async def test_an_answer_to_an_older_revision_never_covers_one_to_a_newer(database: Database, clock: FakeClock) -> None:
    node_id = await known(database, clock)
    await configurations.write(database.engine, node_id, NodeConfiguration(discover_engines=False), clock.now())
    await configurations.write(database.engine, node_id, NodeConfiguration(), clock.now())
    for revision in (3, 2):
        answer = ingest_configurations.ConfigurationAnswer(
            revision=revision, is_applied=True, detail="", in_force_revision=revision, in_force=NodeConfiguration()
        )
        await configurations.record(database.engine, node_id, answer, clock.now())
    stored = await configurations.find(database.engine, node_id)
    assert stored is not None
    assert stored.answer is not None
    assert (stored.revision, stored.answer.revision) == (3, 3)
