"""Coming back: after each kind of refusal in its own time, as often as it takes, and with nothing lost."""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import AsyncExitStack
from datetime import timedelta

import grpc
import pytest

from node_agent.clock import Instant, SystemClock
from node_agent.uplink.backoff import Backoff, Kind
from node_agent.uplink.channel import PlainDoor
from optiinfra.telemetry.v1 import link_pb2
from tests.fakes.link_server import LinkServer
from tests.fakes.tcp_proxy import TcpProxy
from tests.support.uplink import (
    IDENTITY,
    Answer,
    Noted,
    an_agent,
    drained,
    eventually,
    gateway,
    in_range,
    moved,
    retry_info,
    running,
    stored,
)

Code = grpc.StatusCode
Ranges = list[tuple[float, float]]
# The waits of docs/problems.md, for five failures of one kind in a row.
AWAY: Ranges = [(0, 1), (0, 2), (0, 4), (0, 8), (0, 16)]
BUSY: Ranges = [(5, 10), (10, 20), (20, 40), (40, 80), (80, 160)]
UNRECOGNISED: Ranges = [(15, 30), (30, 60), (60, 120), (120, 240), (240, 480)]
FOREIGN: Ranges = [(30, 60), (60, 120), (120, 240), (240, 480), (300, 600)]
# What was asked for, and some chance on top: up to 5 s, or up to the wait that there would have been, if that is less
# than what was asked.
ASKED: Ranges = [(7.25, 14.5)] * 5


class ShiftedClock:
    """The machine's clocks, set forward by a test."""

    def __init__(self) -> None:
        self._machine = SystemClock()
        self.ahead_seconds = 0.0

    def now(self) -> Instant:
        now = self._machine.now()
        return Instant(
            wall=now.wall + timedelta(seconds=self.ahead_seconds),
            monotonic_seconds=now.monotonic_seconds + self.ahead_seconds,
        )


class WatchedDoor(PlainDoor):
    """Counts how often it is told that our certificate is not taken."""

    def __init__(self, port: int) -> None:
        super().__init__(f"127.0.0.1:{port}")
        self.refused_count = 0

    def refused(self) -> None:
        self.refused_count += 1


@pytest.mark.parametrize(
    ("code", "details", "kind", "ranges", "told"),
    [
        (Code.UNAVAILABLE, b"", Kind.AWAY, AWAY, "UNAVAILABLE"),
        (Code.UNAVAILABLE, retry_info(7.25), Kind.AWAY, ASKED, "UNAVAILABLE"),
        (Code.RESOURCE_EXHAUSTED, b"", Kind.BUSY, BUSY, "RESOURCE_EXHAUSTED"),
        (Code.RESOURCE_EXHAUSTED, retry_info(7.25), Kind.BUSY, ASKED, "RESOURCE_EXHAUSTED"),
        (Code.UNAUTHENTICATED, b"", Kind.UNRECOGNISED, UNRECOGNISED, "make a join token"),
        (Code.PERMISSION_DENIED, b"", Kind.UNRECOGNISED, UNRECOGNISED, "make a join token"),
        (Code.UNIMPLEMENTED, b"", Kind.FOREIGN, FOREIGN, "no control plane"),
    ],
)
async def test_each_refusal_has_waits_of_its_own_is_told_once_and_outlived(
    server: LinkServer,
    code: Code,
    details: bytes,
    kind: Kind,
    ranges: Ranges,
    told: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, logger="node_agent")
    backoff = Noted()
    async with AsyncExitStack() as stack:
        async with gateway(Answer(code=code, details=details)) as (_, port):
            one = await stack.enter_async_context(running(an_agent(port, backoff=backoff)))
            one.see(3)
            await eventually(lambda: len(backoff.endings) >= 5, "five attempts")
        await moved(server, port)
        await drained(one)
    assert stored(server) == [1, 2, 3]
    endings, seconds = zip(*backoff.endings[:5], strict=True)
    assert {ending.kind for ending in endings} == {kind}
    assert in_range(seconds, ranges), seconds
    lines = [record.getMessage() for record in caplog.records if told in record.getMessage()]
    assert len(lines) == 1, "once per outage"


async def test_a_server_without_our_service_is_told_to_be_another_program() -> None:
    """It answers before it has read anything, which may cost the word: what matters is that it is told in the end."""
    other = grpc.aio.server()
    port = other.add_insecure_port("127.0.0.1:0")
    await other.start()
    backoff = Noted()
    async with running(an_agent(port, backoff=backoff)):
        await eventually(lambda: sum(e.kind is Kind.FOREIGN for e, _ in backoff.endings) >= 3, "told three times")
    await other.stop(None)
    assert {ending.kind for ending, _ in backoff.endings} <= {Kind.FOREIGN, Kind.UNSAID}


async def test_another_cause_begins_anew(server: LinkServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="node_agent")
    away, busy = Answer(code=Code.UNAVAILABLE), Answer(code=Code.RESOURCE_EXHAUSTED)
    unknown = Answer(code=Code.UNAUTHENTICATED)
    backoff = Noted()
    async with gateway(away, away, away, busy, busy, unknown, away) as (_, port):
        one = an_agent(port, backoff=backoff)
        async with running(one):
            await eventually(lambda: len(backoff.endings) >= 7, "seven attempts")
    seconds = [seconds for _, seconds in backoff.endings[:7]]
    assert in_range(seconds, [*AWAY[:3], *BUSY[:2], UNRECOGNISED[0], AWAY[0]]), seconds
    assert sum("no link" in record.getMessage() for record in caplog.records) == 4, "each cause, when it begins"


async def test_what_retry_info_asks_for_is_waited_for(server: LinkServer) -> None:
    """Where a control plane that is away would be tried again within 0.1 s."""
    answer = Answer(code=Code.UNAVAILABLE, details=retry_info(0.3))
    async with gateway(answer) as (asked, port):
        one = an_agent(port)
        async with running(one):
            await eventually(lambda: len(asked.asked_at) >= 3, "three attempts")
    first, second, third = asked.asked_at[:3]
    assert second - first >= 0.3
    assert third - second >= 0.3


async def test_a_sound_link_ends_the_outage_before_it(server: LinkServer, proxy: TcpProxy) -> None:
    clock, backoff = ShiftedClock(), Noted()
    proxy.refuse()
    one = an_agent(proxy.port, backoff=backoff, clock=clock)
    async with running(one):
        await eventually(lambda: len(backoff.endings) >= 5, "five failures")
        await proxy.listen()
        await eventually(lambda: one.uplink.connected.is_set())
        failures = len(backoff.endings)
        clock.ahead_seconds = 3_600
        proxy.cut()
        await eventually(lambda: len(backoff.endings) > failures)
    (_, seconds) = backoff.endings[failures]
    assert in_range([seconds], AWAY[:1]), "as after the first failure"


async def test_a_link_that_breaks_at_once_does_not_end_the_outage(server: LinkServer) -> None:
    server.closes_after_welcome = True
    backoff = Noted()
    one = an_agent(server.port, backoff=backoff)
    async with running(one):
        await eventually(lambda: len(backoff.endings) >= 60, "sixty attempts")
    drawn = [seconds for _, seconds in backoff.endings[6:60]]
    assert max(drawn) > 32, "by then up to a minute, by chance"
    assert max(drawn) <= 60


CODES = [
    Code.CANCELLED, Code.UNKNOWN, Code.DEADLINE_EXCEEDED, Code.ABORTED,
    Code.INTERNAL, Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED,
    Code.UNAUTHENTICATED, Code.PERMISSION_DENIED,
]  # fmt: skip


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.name)
async def test_a_stream_that_ends_under_way_is_gone_on_with_where_it_ended(server: LinkServer, code: Code) -> None:
    server.aborts = dict.fromkeys((2, 5, 6, 10), code)
    one = an_agent(server.port, backoff=Noted())
    one.see(12)
    async with running(one):
        await drained(one)
    assert stored(server) == list(range(1, 13))
    assert not server.lost
    assert len(server.sessions) == 5


async def test_only_the_control_planes_own_word_has_a_certificate_thrown_away(server: LinkServer) -> None:
    """A proxy may say UNAUTHENTICATED of its own, and pass."""
    async with gateway(Answer(code=Code.UNAUTHENTICATED)) as (_, port):
        door, backoff = WatchedDoor(port), Noted()
        one = an_agent(port, backoff=backoff, door=door)
        async with running(one):
            await eventually(lambda: len(backoff.endings) >= 3)
    assert door.refused_count == 0
    refusal = link_pb2.Refusal(code=link_pb2.REFUSAL_CODE_IDENTITY, detail="revoked", retry_after_seconds=30)
    server.refusals.append(refusal)
    door, backoff = WatchedDoor(server.port), Noted()
    one = an_agent(server.port, backoff=backoff, door=door)
    async with running(one):
        await eventually(lambda: one.uplink.connected.is_set())
    assert door.refused_count == 1
    ((ending, seconds),) = backoff.endings
    assert (ending.kind, ending.asked_seconds) == (Kind.UNRECOGNISED, 30)
    assert 30 <= seconds <= 60


async def test_a_port_that_nobody_listens_on_is_tried_until_somebody_does(server: LinkServer, proxy: TcpProxy) -> None:
    proxy.refuse()
    one = an_agent(proxy.port)
    one.see(3)
    async with running(one):
        await asyncio.sleep(0.3)
        assert not server.sessions
        await proxy.listen()
        await drained(one)
    assert server.stored[IDENTITY.epoch] == [1, 2, 3]


async def test_a_control_plane_that_hangs_up_at_once_does_not_end_the_agent(server: LinkServer) -> None:
    server.closes_after_welcome = True
    one = an_agent(server.port)
    one.see(16)
    async with running(one):
        await eventually(lambda: len(server.sessions) >= 15, "15 attempts")
        server.closes_after_welcome = False
        await drained(one)


async def test_a_refusal_is_honoured_for_as_long_as_it_asks(server: LinkServer) -> None:
    detail = "the database does not answer"
    refusal = link_pb2.Refusal(code=link_pb2.REFUSAL_CODE_UNAVAILABLE, detail=detail, retry_after_seconds=1)
    server.refusals.append(refusal)
    one = an_agent(server.port)
    one.see(2)
    async with running(one):
        await drained(one)
    first, second = server.sessions
    assert 1.0 <= second.connected_at - first.connected_at < 3.0
    assert [m.WhichOneof("body") for m in first.messages] == ["hello"], "nothing is written before a Welcome"
    assert second.seqs == [1, 2]


async def test_the_reason_of_a_refusal_is_told_once_per_outage(
    server: LinkServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="node_agent")
    server.refusals.extend([link_pb2.Refusal(detail="upgrade the agent")] * 5)
    one = an_agent(server.port)
    one.see()
    async with running(one):
        await drained(one)
        await server.stop()
        await eventually(lambda: not one.uplink.connected.is_set())
        await asyncio.sleep(0.1)
    told = [record.getMessage() for record in caplog.records if "no link" in record.getMessage()]
    assert len(told) == 2, "one outage by refusal, one by a dead server"
    assert "upgrade the agent" in told[0]


async def test_an_agent_of_a_fleet_waits_before_its_first_connection(server: LinkServer) -> None:
    wait = Backoff(random.Random(1)).start_seconds(0.3)
    one = an_agent(server.port, backoff=Noted(), start_spread_seconds=0.3)
    one.see(1)
    began = asyncio.get_running_loop().time()
    async with running(one):
        await drained(one)
    assert server.sessions[0].connected_at - began >= wait > 0


async def test_a_drain_is_honoured_and_loses_nothing(server: LinkServer) -> None:
    one = an_agent(server.port)
    one.see(2)
    async with running(one):
        await drained(one)
        drained_at = asyncio.get_running_loop().time()
        await server.sessions[0].send(link_pb2.ServerMessage(drain=link_pb2.Drain(reconnect_after_ms=300)))
        await eventually(lambda: not one.uplink.connected.is_set())
        one.see(2)
        await drained(one)
    assert 0.3 <= server.sessions[1].connected_at - drained_at < 2.0
    assert server.sessions[1].seqs == [3, 4]


async def test_a_control_plane_that_says_nothing_before_the_hello_is_greeted_all_the_same(server: LinkServer) -> None:
    server.tells_of_taking = False  # a release before
    one = an_agent(server.port)
    one.see(3)
    async with running(one):
        await drained(one)
    assert stored(server) == [1, 2, 3]
