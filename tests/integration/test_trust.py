"""Enrolment and mutual TLS over real sockets: who is let in, who is not, and that nothing is lost on the way."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import stat
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from control_plane.ingest.authority import Authority
from control_plane.ingest.listening import start_server
from control_plane.ingest.server import LinkService
from control_plane.storage import nodes
from control_plane.storage.session import Database
from node_agent.uplink import enrolment as agents
from node_agent.uplink.channel import Disconnected
from optiinfra.telemetry.v1 import enrolment_pb2, enrolment_pb2_grpc, link_pb2, link_pb2_grpc
from tests.support.ingest import PATIENCE_SECONDS, Store, until
from tests.support.rest import client_of, context_of
from tests.support.trust import LIFE, Host, Plane, RealClock, handshake_fails, refusal, running


@pytest.fixture
def clock() -> RealClock:
    return RealClock()


@pytest.fixture
async def plane(database: Database, clock: RealClock, tmp_path: Path, quick_commits: None) -> AsyncIterator[Plane]:
    async with running(Plane(database, clock, tmp_path / "authority")) as plane:
        yield plane


@pytest.fixture
def host(plane: Plane, tmp_path: Path) -> Host:
    return Host(plane, tmp_path / "tls")


# -- the way in -----------------------------------------------------------------------------------


async def test_a_node_with_a_join_token_is_enrolled_and_its_samples_arrive(plane: Plane, host: Host) -> None:
    host.token = await plane.token()
    async with host.agent() as agent:
        agent.sample({"power_draw_watts": 100.0})
        await agent.drained()


async def test_a_restarted_agent_needs_no_token_again(plane: Plane, host: Host) -> None:
    host.token = await plane.token()
    first = await host.enrolled()
    host.token = ""
    assert await host.enrolled() == first


async def test_keys_are_for_their_owner_only_and_the_token_is_not_stored(
    plane: Plane, host: Host, tmp_path: Path, database_url: str
) -> None:
    host.token = await plane.token()
    await host.enrolled()
    for path in (host.folder / "key.pem", tmp_path / "authority" / "ca.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    secret = host.token.split(".")[2]
    assert not [p for p in host.folder.iterdir() if secret in p.read_text()]
    assert secret.encode() not in Store(database_url).one("SELECT digest FROM join_token")


async def test_nothing_secret_is_logged(plane: Plane, host: Host, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    host.token = await plane.token()
    kept = await host.enrolled()
    secrets = (host.token, host.token.split(".")[2], kept.key_pem.decode(), "PRIVATE KEY")
    assert not [s for s in secrets if s in caplog.text]


# -- tokens ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["unknown", "expired", "used", "another node's"])
async def test_a_token_that_is_not_valid_is_refused_with_one_sentence_for_every_cause(
    plane: Plane, host: Host, tmp_path: Path, clock: RealClock, change: str
) -> None:
    host.token = await plane.token(node_name="host-b" if change == "another node's" else None)
    if change == "unknown":
        version, port, secret, fingerprint = host.token.split(".")
        host.token = ".".join((version, port, secret[::-1], fingerprint))
    if change == "used":
        await Host(plane, tmp_path / "other", host.token).enrolled()
    if change == "expired":
        clock.advance(3601)
    with pytest.raises(Disconnected, match="the join token is not valid: unknown, expired, used up, or for another"):
        await host.enrolled()


@pytest.mark.parametrize("uses", [1, 3])
async def test_of_many_that_come_at_once_only_as_many_enrol_as_the_token_allows(
    plane: Plane, tmp_path: Path, database_url: str, uses: int
) -> None:
    token = await plane.token(max_uses=uses)

    async def tried(number: int) -> bool:
        try:
            await Host(plane, tmp_path / str(number), token).enrolled()
        except Disconnected:
            return False
        return True

    async with asyncio.TaskGroup() as tasks:
        tries = [tasks.create_task(tried(number)) for number in range(12)]
    assert sum(task.result() for task in tries) == uses
    assert Store(database_url).one("SELECT uses FROM join_token") == uses
    assert Store(database_url).one("SELECT count(*) FROM enrolment") == uses


async def test_an_answer_that_was_lost_is_asked_for_again_without_a_second_use(plane: Plane, host: Host) -> None:
    host.token = await plane.token()
    await host.enrolled()
    (host.folder / "issued.json").unlink()
    await host.enrolled()


async def test_a_token_does_not_let_one_node_take_over_another(plane: Plane, host: Host, tmp_path: Path) -> None:
    host.token = await plane.token(max_uses=9)
    await host.enrolled()
    with pytest.raises(Disconnected, match="enrolled with another key"):
        await Host(plane, tmp_path / "thief", host.token, agent_id=host.agent_id).enrolled()


async def test_a_flood_of_enrolments_is_slowed_down(plane: Plane, host: Host) -> None:
    host.token = await plane.token()
    kept = await host.enrolled()
    async with agents._channel(plane.enrolment_address, kept.ca_pem) as channel:
        codes = []
        for _ in range(60):
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await enrolment_pb2_grpc.EnrolmentStub(channel).Enrol(enrolment_pb2.EnrolRequest(csr_pem=b"x" * 9999))
            codes.append(error.value.code())
    assert set(codes) == {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED}


# -- who is who -----------------------------------------------------------------------------------


async def test_another_control_plane_is_told_by_its_authority_and_never_sees_the_token(
    plane: Plane, host: Host, database: Database, clock: RealClock, tmp_path: Path
) -> None:
    async with running(Plane(database, clock, tmp_path / "impostor")) as impostor:
        version, _, *rest = (await plane.token()).split(".")
        host.token = ".".join((version, str(impostor.enrolment.enrolment_port), *rest))
        with pytest.raises(Disconnected, match="is not the control plane that made the join token"):
            await host.enrolled()


async def test_a_certificate_of_another_authority_is_not_let_in(
    plane: Plane, host: Host, database: Database, clock: RealClock, tmp_path: Path
) -> None:
    async with running(Plane(database, clock, tmp_path / "other-authority")) as other:
        stranger = Host(other, tmp_path / "stranger", await other.token())
        kept = await stranger.enrolled()
    await handshake_fails(agents._channel(plane.address, plane.authority.ca_pem, kept.key_pem, kept.certificate_pem))


async def test_an_agents_certificate_does_not_make_a_control_plane(plane: Plane, host: Host) -> None:
    """Whoever takes over one node must not be able to pose as the control plane before the others."""
    host.token = await plane.token()
    kept = await host.enrolled()
    server = grpc.aio.server()
    credentials = grpc.ssl_server_credentials([(kept.key_pem, kept.certificate_pem + kept.ca_pem)])
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    await handshake_fails(kept.channel(f"127.0.0.1:{port}"))
    await server.stop(grace=None)


async def test_a_certificate_speaks_for_its_own_agent_only(plane: Plane, host: Host) -> None:
    host.token = await plane.token()
    kept = await host.enrolled()
    assert "another agent's" in await refusal(kept.channel(plane.address), str(uuid.uuid4()))


async def test_without_a_certificate_there_is_no_stream_at_either_port(plane: Plane, host: Host) -> None:
    await handshake_fails(agents._channel(plane.address, plane.authority.ca_pem))
    open_port = agents._channel(plane.enrolment_address, plane.authority.ca_pem)
    assert "with a certificate only" in await refusal(open_port, host.agent_id)


@pytest.mark.parametrize("door", ["address", "enrolment_address"])
async def test_plain_text_is_not_understood(plane: Plane, door: str) -> None:
    await handshake_fails(grpc.aio.insecure_channel(getattr(plane, door)))


async def test_an_enrolled_agent_does_not_fall_back_to_plain_text(host: Host, plane: Plane, database: Database) -> None:
    host.token = await plane.token()
    kept = await host.enrolled()
    plain = LinkService(database, plane.clock, retention_days=14)
    server, port = await start_server(plain, "127.0.0.1:0")
    await handshake_fails(kept.channel(f"127.0.0.1:{port}"))
    await server.stop(grace=None)
    plain.close()


# -- the way on -----------------------------------------------------------------------------------


async def test_a_certificate_renews_itself_at_half_its_life_with_the_same_key(
    plane: Plane, host: Host, clock: RealClock
) -> None:
    host.token = await plane.token()
    first = await host.enrolled()
    host.token = ""
    clock.advance(LIFE.total_seconds() / 2 + 1)
    second = await host.enrolled()
    assert second.certificate_pem != first.certificate_pem
    assert second.key_pem == first.key_pem
    assert second.expires_at > first.expires_at


async def test_samples_taken_while_certificates_are_renewed_all_arrive_once(
    database: Database,
    clock: RealClock,
    tmp_path: Path,
    quick_commits: None,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    renewals = 0
    store = agents._store

    def counted(folder: Path, kept: agents.Credentials) -> None:
        nonlocal renewals
        renewals += 1
        # Its life is long for TLS; the agent believes that half of it is over at once.
        soon = kept if renewals > 6 else dataclasses.replace(kept, renew_at=clock.now().timestamp())
        object.__setattr__(kept, "renew_at", soon.renew_at)
        store(folder, kept)

    monkeypatch.setattr(agents, "_store", counted)
    async with running(Plane(database, clock, tmp_path / "authority")) as plane:
        host = Host(plane, tmp_path / "tls", await plane.token())
        async with host.agent() as agent:
            watts = [float(w) for w in range(1, 201)]
            for value in watts:
                agent.sample({"power_draw_watts": value})
                clock.advance(1)
                await asyncio.sleep(0)
            await agent.drained()
            await until(lambda: renewals > 6, "the certificate was renewed several times")
            await agent.drained()
    assert Store(database_url).watts() == watts


async def test_an_expired_certificate_needs_a_join_token_and_the_agent_says_so(
    plane: Plane, host: Host, clock: RealClock
) -> None:
    host.token = await plane.token()
    await host.enrolled()
    host.token = ""
    clock.advance(LIFE.total_seconds() + 1)
    with pytest.raises(Disconnected, match="the certificate expired; make a join token and set OPTIINFRA_JOIN_TOKEN"):
        await host.enrolled()


async def test_an_expired_certificate_is_refused_by_the_control_plane(
    plane: Plane, host: Host, clock: RealClock
) -> None:
    clock.jump(-3 * LIFE.total_seconds())  # what is signed now expired two days ago
    host.token = await plane.token()
    kept = await host.enrolled()
    await handshake_fails(kept.channel(plane.address))


async def test_a_stream_ends_with_its_certificate(
    database: Database, clock: RealClock, quick_commits: None, tmp_path: Path
) -> None:
    """TLS, which has the machine's clock, lets it in; by the control plane's own the certificate ends right then."""
    async with running(Plane(database, clock, tmp_path / "authority")) as plane:
        host = Host(plane, tmp_path / "tls", await plane.token())
        kept = await host.enrolled()
        clock.advance(LIFE.total_seconds())
        async with kept.channel(plane.address) as channel, asyncio.timeout(PATIENCE_SECONDS):
            call = link_pb2_grpc.LinkStub(channel).Connect()
            hello = link_pb2.Hello(
                agent_id=host.agent_id, node_name="n", epoch=b"e" * 16, protocol_min=1, protocol_max=1,
                attributes_json=b"{}",
            )  # fmt: skip
            await call.write(link_pb2.AgentMessage(hello=hello))
            said = [await call.read(), await call.read()]
    assert [message.WhichOneof("body") for message in said] == ["welcome", "refusal"]
    assert said[1].refusal.detail == "the certificate has expired; renew it"


async def test_a_forgotten_node_is_refused_until_it_enrols_again(plane: Plane, host: Host, clock: RealClock) -> None:
    host.token = await plane.token()
    async with host.agent() as agent:
        agent.sample({"power_draw_watts": 1.0})
        await agent.drained()
    old = await host.enrolled()
    await until(lambda: not plane.service.connected_nodes(), "the stream ended")
    (node,) = await nodes.find(plane.database.engine)
    await nodes.forget(plane.database.engine, node.node_id, clock.now())
    assert await nodes.find(plane.database.engine) == []
    assert "no longer in force" in await refusal(old.channel(plane.address), host.agent_id)
    async with old.channel(plane.address) as channel:
        with pytest.raises(grpc.aio.AioRpcError, match="no longer in force"):
            await enrolment_pb2_grpc.EnrolmentStub(channel).Renew(enrolment_pb2.RenewRequest(csr_pem=old.csr_pem))
    host.token = await plane.token()
    door = host.door()
    door.refused()
    await (await door.open()).close()
    assert "no longer in force" in await refusal(old.channel(plane.address), host.agent_id)
    async with host.agent() as agent:
        agent.sample({"power_draw_watts": 2.0})
        await agent.drained()
    assert [n.node_id for n in await nodes.find(plane.database.engine)] == [node.node_id]


async def test_a_renewal_that_fails_leaves_the_certificate_in_use(
    plane: Plane, host: Host, clock: RealClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.token = await plane.token()
    first = await host.enrolled()

    async def fails(_call: object) -> enrolment_pb2.Enrolled:
        raise Disconnected("the database does not answer")

    monkeypatch.setattr(agents, "_asked", fails)
    clock.advance(LIFE.total_seconds() / 2 + 1)
    door = host.door()
    await (await door.open()).close()
    assert agents._load(host.folder) == first
    assert door.seconds_until_renewal() > 60


def test_an_authority_is_the_same_after_a_restart(tmp_path: Path, clock: RealClock) -> None:
    assert Authority.open(tmp_path, clock.now()).ca_pem == Authority.open(tmp_path, clock.now()).ca_pem


# -- what an administrator asks for -----------------------------------------------------------------


async def test_a_host_that_does_not_allow_it_keeps_its_gpus_and_says_why(plane: Plane, host: Host) -> None:
    host.token = await plane.token()
    async with host.agent() as agent:
        agent.sample({"power_draw_watts": 1.0})
        await agent.drained()
        (node_id,) = plane.service.connected_nodes()
        asked = await plane.service.release_gpus(node_id, seconds=60, timeout_seconds=PATIENCE_SECONDS)
    assert asked == ("refused", "release_gpus is not among this host's allowed_commands")


async def test_a_node_without_a_stream_is_not_asked(plane: Plane) -> None:
    outcome, _ = await plane.service.release_gpus(7, seconds=60, timeout_seconds=1)
    assert outcome == "not_connected"


async def test_join_tokens_are_made_over_rest_and_shown_once(plane: Plane, host: Host) -> None:
    context = dataclasses.replace(context_of(plane.database, plane.clock, plane.service), enrolment=plane.enrolment)
    async with client_of(context) as api:
        made = await api.client.post("/nodes/join-tokens", params={"hours": 2, "node_name": host.name})
        assert (made.status_code, made.headers["cache-control"]) == (201, "no-store")
        host.token = made.json()["token"]
    await host.enrolled()


async def test_without_certificates_there_are_no_join_tokens(plane: Plane) -> None:
    async with client_of(context_of(plane.database, plane.clock, plane.service)) as api:
        await api.refused("/nodes/join-tokens", 409, method="POST")


async def test_only_a_node_that_is_not_connected_can_be_forgotten(plane: Plane, host: Host) -> None:
    host.token = await plane.token()
    async with client_of(context_of(plane.database, plane.clock, plane.service)) as api:
        async with host.agent() as agent:
            agent.sample({"power_draw_watts": 1.0})
            await agent.drained()
            await api.refused(f"/nodes/{host.name}", 409, method="DELETE")
        await until(lambda: not plane.service.connected_nodes(), "the stream ended")
        assert (await api.client.delete(f"/nodes/{host.name}")).status_code == 200
        await api.refused(f"/nodes/{host.name}", 404)
        await api.refused(f"/nodes/{host.name}", 404, method="DELETE")
