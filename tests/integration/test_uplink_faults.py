"""The uplink over real sockets, through everything that networks and control planes do to it."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress

import pytest

from optiinfra.telemetry.v1 import command_pb2, link_pb2
from tests.fakes.link_server import LinkServer
from tests.fakes.tcp_proxy import TcpProxy
from tests.support.uplink import IDENTITY, an_agent, announced, drained, eventually, running

ACK_TIMEOUT_SECONDS = 0.4


async def test_batches_arrive_in_order_and_leave_the_spool_when_they_are_acknowledged(server: LinkServer) -> None:
    one = an_agent(server.port)
    one.see(5)
    async with running(one):
        await drained(one)
        one.see(5)
        await drained(one)
    (session,) = server.sessions
    assert session.seqs == list(range(1, 11))
    assert len(one.spool) == 0


async def test_the_agent_introduces_itself_and_announces_before_it_sends(server: LinkServer) -> None:
    one = an_agent(server.port)
    one.see()
    async with running(one):
        await drained(one)
    (session,) = server.sessions
    hello = session.hello
    assert (hello.agent_id, hello.node_name, hello.epoch) == (IDENTITY.agent_id, "node-a", IDENTITY.epoch)
    assert (hello.protocol_min, hello.protocol_max, hello.replayed) == (1, 1, False)
    assert hello.clock.unix_us > 0
    kinds = [m.WhichOneof("body") for m in session.bodies("announce", "batch")]
    assert kinds[0] == "announce"
    assert announced(session)[0] == "sda"


async def test_heartbeats_say_how_much_is_waiting(server: LinkServer) -> None:
    server.heartbeat_seconds, server.acknowledging = 1, False
    one = an_agent(server.port)
    async with running(one):
        await eventually(lambda: server.sessions and server.sessions[0].bodies("heartbeat"))
        one.see(3)
        await eventually(lambda: len(server.sessions[0].bodies("heartbeat")) >= 2)
    first, second = (m.heartbeat for m in server.sessions[0].bodies("heartbeat")[:2])
    assert (first.last_seq, first.unsent_batches, first.lost_ticks) == (0, 0, 0)
    assert (second.last_seq, second.unsent_batches) == (3, 3)
    assert second.clock.monotonic_us > first.clock.monotonic_us


async def test_after_a_reset_exactly_the_unacknowledged_batches_are_sent_again(
    server: LinkServer, proxy: TcpProxy
) -> None:
    server.acknowledging = False
    one = an_agent(proxy.port)
    one.see(6)
    async with running(one):
        await eventually(lambda: server.sessions and server.sessions[0].seqs == [1, 2, 3, 4, 5, 6])
        await server.acknowledge(server.sessions[0], 3)
        await eventually(lambda: len(one.spool) == 3)
        server.acknowledging = True
        proxy.cut()
        await drained(one)
    assert server.sessions[1].seqs == [4, 5, 6]


async def test_a_window_that_was_full_when_the_link_broke_is_empty_on_the_next(
    server: LinkServer, proxy: TcpProxy
) -> None:
    server.window, server.acknowledging = 2, False
    one = an_agent(proxy.port)
    one.see(4)
    async with running(one):
        await eventually(lambda: server.sessions and server.sessions[0].seqs == [1, 2])
        server.acknowledging = True
        proxy.cut()
        await drained(one)
    assert server.sessions[1].seqs == [1, 2, 3, 4]


async def test_an_acknowledgement_that_was_lost_on_the_way_is_made_up_for_by_the_welcome(
    server: LinkServer, proxy: TcpProxy
) -> None:
    server.acknowledging = False
    one = an_agent(proxy.port)
    one.see(4)
    async with running(one):
        await eventually(lambda: server.sessions and len(server.sessions[0].seqs) == 4)
        server.committed[IDENTITY.epoch] = 4  # committed, and then the link broke
        proxy.cut()
        await drained(one)
        await eventually(lambda: len(server.sessions) == 2)
    assert server.sessions[1].seqs == []


async def test_a_black_hole_is_noticed_by_the_missing_acknowledgements(server: LinkServer, proxy: TcpProxy) -> None:
    one = an_agent(proxy.port, ack_timeout_seconds=ACK_TIMEOUT_SECONDS)
    one.see()
    async with running(one):
        await drained(one)
        proxy.swallowing = True
        one.see(2)
        await eventually(lambda: not one.uplink.connected.is_set(), "the agent gives up the link")
        proxy.swallowing = False
        proxy.cut()
        await drained(one)
    assert server.stored[IDENTITY.epoch] == [1, 2, 3]


async def test_a_control_plane_that_stops_reading_is_noticed_while_a_write_is_stuck(server: LinkServer) -> None:
    server.reading = False
    one = an_agent(server.port, max_bytes=64 << 20, ack_timeout_seconds=ACK_TIMEOUT_SECONDS)
    one.see(16, padding=1 << 20)  # far more than HTTP/2 lets into a stream that nobody reads
    async with running(one):
        await eventually(lambda: len(server.sessions) >= 2, "a second connection")


async def test_a_link_that_is_quiet_but_sound_is_not_given_up(server: LinkServer) -> None:
    one = an_agent(server.port, ack_timeout_seconds=0.1)
    one.see()
    async with running(one):
        await drained(one)
        await asyncio.sleep(0.4)
        assert one.uplink.connected.is_set()
    assert len(server.sessions) == 1


async def test_a_control_plane_that_dies_and_comes_back_gets_what_it_had_not_committed(server: LinkServer) -> None:
    one = an_agent(server.port)
    one.see(3)
    async with running(one):
        await drained(one)
        await server.stop()
        one.see(3)
        await eventually(lambda: not one.uplink.connected.is_set())
        await server.start()
        await drained(one)
    assert server.stored[IDENTITY.epoch] == [1, 2, 3, 4, 5, 6]


async def test_a_slow_path_loses_nothing(server: LinkServer, proxy: TcpProxy) -> None:
    proxy.latency_seconds, server.window = 0.02, 4
    one = an_agent(proxy.port)
    one.see(20)
    async with running(one):
        await drained(one)
    assert server.stored[IDENTITY.epoch] == list(range(1, 21))


@pytest.mark.parametrize("window", [1, 3])
async def test_no_more_batches_are_under_way_than_the_window_allows(server: LinkServer, window: int) -> None:
    server.window, server.acknowledging = window, False
    one = an_agent(server.port)
    one.see(10)
    async with running(one):
        for done in range(0, 10 - window):
            allowed = list(range(1, done + window + 1))
            await eventually(lambda: server.sessions and len(server.sessions[0].seqs) >= len(allowed))  # noqa: B023
            await asyncio.sleep(0.01)  # room for one too many
            assert server.sessions[0].seqs == allowed
            await server.acknowledge(server.sessions[0], done + 1)


# google.rpc.Status with a RetryInfo of 7 s and 202 ns, as its own library writes it.
RETRY_INFO = b"\x08\x08\x1a\x33\x0a\x28type.googleapis.com/google.rpc.RetryInfo\x12\x07\x0a\x05\x08\x07\x10\xca\x01"


async def test_a_loss_is_told_before_the_batches_that_came_after_it(server: LinkServer) -> None:
    one = an_agent(server.port, max_bytes=3 * 1000)
    one.see(10, padding=900)
    assert one.spool.lost_ticks > 0
    async with running(one):
        await drained(one)
    (session,) = server.sessions
    first, *rest = session.bodies("loss", "batch")
    kept = 10 - one.spool.lost_ticks
    assert (first.loss.first_seq, first.loss.last_seq, first.loss.tick_count) == (1, 10 - kept, 10 - kept)
    assert 0 < first.loss.first_taken_at_unix_us <= first.loss.last_taken_at_unix_us
    assert [m.batch.seq for m in rest] == list(range(11 - kept, 11))
    assert one.spool.losses() == []


async def test_what_a_lost_batch_would_have_announced_is_announced_all_the_same(server: LinkServer) -> None:
    server.window, server.acknowledging = 1, False
    one = an_agent(server.port, max_bytes=2000)
    async with running(one):
        one.see()
        await eventually(lambda: server.sessions and server.sessions[0].seqs == [1])
        one.see(disk="new")  # its announcement goes with it …
        one.see(4, disk="new", padding=900)  # … and it is dropped before it could leave
        assert one.spool.losses()
        server.acknowledging = True
        await server.acknowledge(server.sessions[0], 1)
        await drained(one)
    (session,) = server.sessions
    told, sent = session.messages, [m for m in session.messages if m.HasField("batch") and m.batch.seq > 1]
    known_before = [e.key for m in told[: told.index(sent[0])] for e in m.announce.entities]
    assert "new" in known_before
    assert server.lost[IDENTITY.epoch] | set(session.seqs) == set(range(1, 7))


async def test_batches_dropped_while_the_link_stands_are_told_as_lost_once(server: LinkServer) -> None:
    server.window, server.acknowledging = 2, False
    one = an_agent(server.port, max_bytes=5000)
    async with running(one):
        one.see(30, padding=900)
        await eventually(lambda: server.sessions and len(server.sessions[0].seqs) == 2)
        one.see(30, padding=900)
        server.acknowledging, server.window = True, 16
        await server.acknowledge(server.sessions[0], server.sessions[0].seqs[-1])
        await drained(one)
    (session,) = server.sessions
    losses = [m.loss for m in session.bodies("loss")]
    told = [seq for loss in losses for seq in range(loss.first_seq, loss.last_seq + 1)]
    assert sorted(told + session.seqs) == list(range(1, 61)), "each is stored or told, and none is both"


async def test_an_acknowledgement_of_the_future_does_not_silence_the_agent(
    server: LinkServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.committed[IDENTITY.epoch] = 10**9
    one = an_agent(server.port)
    async with running(one):
        await eventually(lambda: one.uplink.connected.is_set())
        server.committed[IDENTITY.epoch] = 0
        one.see(2)
        await drained(one)
    assert server.sessions[0].seqs == [1, 2]
    assert "which was never made" in caplog.text


async def test_a_refused_batch_is_named_and_not_sent_for_ever(
    server: LinkServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.acknowledging = False
    one = an_agent(server.port)
    one.see()
    async with running(one):
        await eventually(lambda: server.sessions and server.sessions[0].seqs == [1])
        refused = [link_pb2.RefusedBatch(seq=1, reason="a schema was not announced")]
        ack = link_pb2.Ack(committed_seq=1, window_batches=1, refused=refused)
        await server.sessions[0].send(link_pb2.ServerMessage(ack=ack))
        await drained(one)
    assert "refused batch 1: a schema was not announced" in caplog.text


async def test_commands_and_configuration_reach_those_who_may_obey(server: LinkServer) -> None:
    server.configure = link_pb2.Configure(revision=7, sampling_interval_ms=2000)
    one = an_agent(server.port)
    command = command_pb2.Command(id="c-1", valid_for_seconds=30, collect_now=command_pb2.CollectNow())
    unknown = command_pb2.Command(id="c-2", valid_for_seconds=30)
    async with running(one):
        await eventually(lambda: one.uplink.connected.is_set())
        (session,) = server.sessions
        await session.send(link_pb2.ServerMessage(command=command))
        await session.send(link_pb2.ServerMessage(command=unknown))
        again = link_pb2.Configure(revision=8, sampling_interval_ms=1000)
        await session.send(link_pb2.ServerMessage(configure=again))
        await eventually(lambda: len(session.bodies("config_status", "command_result")) == 3)
    assert one.asked == ["interval 2", "collect c-1 for 30", "interval 1"]
    assert [m.config_status.revision for m in session.bodies("config_status")] == [7, 8]
    assert session.hello.takes_configuration
    assert [m.command_result.id for m in session.bodies("command_result")] == ["c-2"]


async def test_what_a_newer_control_plane_may_say_is_passed_over(server: LinkServer) -> None:
    one = an_agent(server.port)
    async with running(one):
        await eventually(lambda: one.uplink.connected.is_set())
        await server.sessions[0].send(link_pb2.ServerMessage())
        one.see()
        await drained(one)
    assert len(server.sessions) == 1


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_whatever_happens_each_tick_is_stored_once_or_told_as_lost(
    server: LinkServer, proxy: TcpProxy, seed: int
) -> None:
    chance = random.Random(seed)
    one = an_agent(proxy.port, max_bytes=6000, ack_timeout_seconds=0.1)

    async def trouble() -> None:
        match chance.choice(["cut", "cut", "swallow", "refuse", "drain", "refusal", "none"]):
            case "cut":
                proxy.cut()
            case "swallow":
                proxy.swallowing = True
                await asyncio.sleep(chance.uniform(0.05, 0.2))
                proxy.swallowing = False
                proxy.cut()
            case "refuse":
                proxy.refuse()
                proxy.cut()
                await asyncio.sleep(chance.uniform(0.02, 0.1))
                await proxy.listen()
            case "drain" if server.sessions:
                with suppress(asyncio.InvalidStateError, Exception):  # boundary: that stream may be over
                    await server.sessions[-1].send(link_pb2.ServerMessage(drain=link_pb2.Drain(reconnect_after_ms=20)))
            case "refusal":
                server.refusals.append(link_pb2.Refusal(detail="busy"))
                proxy.cut()

    async with running(one):
        for _ in range(25):
            one.see(chance.randint(1, 6), padding=chance.randint(0, 900))
            await asyncio.sleep(chance.uniform(0.0, 0.05))
            await trouble()
        await drained(one)
    stored = server.stored.get(IDENTITY.epoch, [])
    assert stored == sorted(set(stored)), f"seed {seed}: in order, and none twice"
    missing = set(range(1, one.appended + 1)) - set(stored)
    assert missing <= server.lost.get(IDENTITY.epoch, set()), f"seed {seed}: {missing} are silently absent"
