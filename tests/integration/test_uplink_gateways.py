"""A real uplink behind what stands between a GPU host and a control plane: balancers, gateways, firewalls, restarts."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from node_agent.uplink.backoff import Kind
from tests.fakes.http2_gateway import blunt_gateway, http2_gateway
from tests.fakes.link_server import LinkServer
from tests.fakes.tcp_proxy import TcpProxy
from tests.support.proxies import haproxy, listening, nginx
from tests.support.uplink import Agent, Noted, an_agent, drained, eventually, running, stored


@asynccontextmanager
async def serving(**options: int) -> AsyncIterator[LinkServer]:
    """A control plane with gRPC options of its own."""
    server = LinkServer(**options)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
def port() -> int:
    """One that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number: int = listener.getsockname()[1]
    return number


async def seen_until(one: Agent, holds: Callable[[], bool], what: str) -> None:
    """Samples on, as agents do, until something holds."""

    def another() -> bool:
        one.see()
        return holds()

    await eventually(another, what)


def nothing_is_missing(one: Agent, *servers: LinkServer) -> None:
    """Each batch was taken once, by one of the replicas of a control plane, and none was lost."""
    taken = sorted(seq for server in servers for seq in stored(server))
    assert taken == list(range(1, one.appended + 1))
    assert not any(server.lost for server in servers)


async def test_connections_that_are_ended_by_age_lose_nothing() -> None:
    """GOAWAY after a fifth of a second, the end after another: balancers do it every hour, so that load spreads."""
    async with serving(max_connection_age_ms=200, max_connection_age_grace_ms=200) as server:
        one = an_agent(server.port)
        async with running(one):
            await seen_until(one, lambda: len(server.sessions) >= 5, "five connections")
            await drained(one)
    nothing_is_missing(one, server)


async def test_a_replica_that_leaves_hands_its_agents_to_the_next(server: LinkServer, proxy: TcpProxy) -> None:
    """A rolling update: GOAWAY, time for what is under way, and a balancer that knows the next one."""
    async with serving() as following:
        following.committed, following.stored = server.committed, {}
        one = an_agent(proxy.port)
        async with running(one):
            await seen_until(one, lambda: len(stored(server)) >= 20, "samples at the first")
            proxy.target_port = following.port
            await server.leave(0.2)
            await seen_until(one, lambda: len(stored(following)) >= 20, "samples at the second")
            await drained(one)
        nothing_is_missing(one, server, following)


async def test_a_stream_that_a_proxy_lets_live_for_a_while_only_is_opened_again(server: LinkServer) -> None:
    """Envoy's max_stream_duration, a gateway's request timeout: the stream ends, and the connection stays."""
    one = an_agent(server.port)
    async with running(one):
        for ends in range(1, 6):
            await seen_until(one, lambda ends=ends: len(server.sessions) >= ends, "a stream")  # type: ignore[misc]
            server.sessions[-1].close.set()
        await drained(one)
    nothing_is_missing(one, server)


@pytest.mark.slow
async def test_a_balancer_that_forgets_idle_connections_sees_none(server: LinkServer, proxy: TcpProxy) -> None:
    """Of five seconds, with a heartbeat every second: when there is nothing to send, that is what passes."""
    server.heartbeat_seconds, proxy.idle_seconds = 1, 5.0
    one = an_agent(proxy.port)
    async with running(one):
        await eventually(lambda: server.sessions and len(server.sessions[0].bodies("heartbeat")) >= 7)
    assert proxy.accepted == 1


async def test_an_idle_time_that_is_too_short_is_lived_with(server: LinkServer, proxy: TcpProxy) -> None:
    proxy.idle_seconds = 0.1
    one = an_agent(proxy.port)
    async with running(one):
        for connections in range(1, 6):
            await eventually(lambda connections=connections: proxy.accepted >= connections)  # type: ignore[misc]
            one.see(3)
        proxy.idle_seconds = None
        await drained(one)
    nothing_is_missing(one, server)


@pytest.mark.parametrize("towards_client", [True, False])
async def test_half_a_connection_is_given_up(server: LinkServer, proxy: TcpProxy, towards_client: bool) -> None:
    one = an_agent(proxy.port)
    async with running(one):
        await seen_until(one, lambda: len(stored(server)) >= 5, "samples")
        proxy.half_close(towards_client=towards_client)
        await seen_until(one, lambda: len(server.sessions) >= 2, "another connection")
        await drained(one)
    nothing_is_missing(one, server)


async def test_a_black_hole_is_left_for_a_new_connection_and_what_fell_in_is_sent_again(
    server: LinkServer, proxy: TcpProxy
) -> None:
    """A firewall that lost its table: packets vanish both ways, and new connections are sound."""
    one = an_agent(proxy.port, ack_timeout_seconds=0.4)
    async with running(one):
        await seen_until(one, lambda: len(stored(server)) >= 5, "samples")
        before = len(stored(server))
        proxy.swallowing = True
        one.see(10)
        await eventually(lambda: not one.uplink.connected.is_set(), "the agent gives up the link")
        assert len(stored(server)) == before
        proxy.swallowing = False
        await drained(one)
    nothing_is_missing(one, server)


async def test_a_network_of_single_bytes_is_slow_and_no_more(server: LinkServer, proxy: TcpProxy) -> None:
    proxy.piece_bytes = 1
    one = an_agent(proxy.port)
    one.see(10)
    async with running(one):
        await drained(one)
    nothing_is_missing(one, server)
    assert len(server.sessions) == 1


@pytest.mark.parametrize(
    ("status", "kind", "hint"),
    [
        (401, Kind.UNRECOGNISED, "make a join token"),
        (403, Kind.UNRECOGNISED, "make a join token"),
        (404, Kind.FOREIGN, "check --server"),
        (429, Kind.AWAY, "UNAVAILABLE"),
        (502, Kind.AWAY, "UNAVAILABLE"),
        (503, Kind.AWAY, "UNAVAILABLE"),
        (504, Kind.AWAY, "UNAVAILABLE"),
    ],
)
async def test_the_status_of_a_gateway_without_a_control_plane_behind_it_is_understood(
    status: int, kind: Kind, hint: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="node_agent")
    backoff = Noted()
    async with http2_gateway(status) as where, running(an_agent(where, backoff=backoff)):
        await eventually(lambda: sum(e.kind is kind for e, _ in backoff.endings) >= 3, "told three times")
    assert {ending.kind for ending, _ in backoff.endings} == {kind}
    assert hint in caplog.text
    assert str(status) in caplog.text


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\nContent-Length: 0\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x15\x03\x03\x00\x02\x02\x28",  # a TLS alert: the port wants TLS, and the agent speaks without
        b"",
    ],
)
async def test_what_speaks_another_language_is_outlived(
    server: LinkServer, answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="node_agent")
    backoff = Noted()
    async with blunt_gateway(answer) as where:
        one = an_agent(where, backoff=backoff)
        async with running(one):
            await eventually(lambda: len(backoff.endings) >= 3, "three attempts")
    assert {ending.kind for ending, _ in backoff.endings} <= {Kind.AWAY, Kind.UNSAID}
    assert sum("no link" in record.getMessage() for record in caplog.records) == 1


async def test_nginx_is_no_hindrance(server: LinkServer, port: int, tmp_path: Path) -> None:
    one = an_agent(port)
    with nginx(tmp_path, port, server.port):
        await listening(port)
        async with running(one):
            await seen_until(one, lambda: len(stored(server)) >= 30, "samples")
            await drained(one)
    nothing_is_missing(one, server)
    assert len(server.sessions) == 1


async def test_nginx_with_its_limits_left_as_they_are_ends_streams_and_loses_nothing(
    server: LinkServer, port: int, tmp_path: Path
) -> None:
    """client_max_body_size counts all that a stream ever sends; here 16 KiB, by default 1 MiB: some minutes."""
    one = an_agent(port)
    with nginx(tmp_path, port, server.port, more="client_max_body_size 16k; grpc_read_timeout 1s;"):
        await listening(port)
        async with running(one):
            for _ in range(8):
                one.see(4, padding=2_000)
                await drained(one)
    nothing_is_missing(one, server)
    assert len(server.sessions) >= 3


async def test_behind_nginx_a_control_plane_may_be_away(server: LinkServer, port: int, tmp_path: Path) -> None:
    backoff = Noted()
    one = an_agent(port, backoff=backoff)
    with nginx(tmp_path, port, server.port):
        await listening(port)
        async with running(one):
            await seen_until(one, lambda: len(stored(server)) >= 5, "samples")
            await server.stop()
            await seen_until(one, lambda: len(backoff.endings) >= 4, "502 Bad Gateway")
            await server.start()
            await drained(one)
    nothing_is_missing(one, server)
    assert {ending.kind for ending, _ in backoff.endings} <= {Kind.AWAY, Kind.UNSAID}


async def test_haproxy_with_a_short_patience_is_lived_with(server: LinkServer, port: int, tmp_path: Path) -> None:
    one = an_agent(port)
    with haproxy(tmp_path, port, server.port, idle="300ms"):
        await listening(port)
        async with running(one):
            for connections in range(1, 4):
                await eventually(lambda connections=connections: len(server.sessions) >= connections)  # type: ignore[misc]
                one.see(3)
                await asyncio.sleep(0.4)
            await drained(one)
    nothing_is_missing(one, server)


async def test_haproxy_that_is_reloaded_hands_over_and_loses_nothing(
    server: LinkServer, port: int, tmp_path: Path
) -> None:
    """The old process lets its streams live for hard-stop-after; the new one takes the port meanwhile."""
    one = an_agent(port)
    with haproxy(tmp_path, port, server.port, more="hard-stop-after 1s") as old:
        await listening(port)
        async with running(one):
            await seen_until(one, lambda: len(stored(server)) >= 5, "samples")
            old.send_signal(signal.SIGUSR1)
            with haproxy(tmp_path, port, server.port):
                await seen_until(one, lambda: len(server.sessions) >= 2, "the new one")
                await drained(one)
    nothing_is_missing(one, server)
