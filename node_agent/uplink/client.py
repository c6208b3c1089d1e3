"""Keeps one stream to the control plane: sends what the spool holds, lets go of what is acknowledged."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Protocol

import grpc

from node_agent.clock import Clock
from node_agent.spool import Entry, Loss, Spool
from node_agent.uplink import wire
from node_agent.uplink.backoff import Backoff, Kind
from node_agent.uplink.channel import Disconnected, Door, PlainDoor, Renewing, Unrecognised
from node_agent.uplink.endings import HINTS, ending_of
from node_agent.uplink.frames import Packed, Stream, announce_frame, batch_frame, open_stream
from node_agent.uplink.requests import Handlers, answer_command, answer_configure
from optiinfra.telemetry.v1 import link_pb2, telemetry_pb2

log = logging.getLogger(__name__)

PROTOCOL_MIN, PROTOCOL_MAX = 1, 1
CONNECT_TIMEOUT_SECONDS = 10.0
# Sent and not acknowledged for this long: the path swallows what we send (a black hole looks alive to TCP).
ACK_TIMEOUT_SECONDS = 30.0
# What a control plane puts into its initial metadata when it takes a call, and how long one is waited for (link.proto).
TAKEN_KEY = "optiinfra-link"
TAKEN_SECONDS = 1.0
# More than this is a backlog: what is sampled from now on goes first, and beside it what waited.
# Four windows, a few seconds' work for the control plane.
FRESH_BATCHES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who connects."""

    agent_id: str
    node_name: str
    agent_version: str
    epoch: bytes  # 16 bytes
    attributes_json: bytes
    replayed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One batch, and what has to be announced before it, as messages: for those who read or change them."""

    announce: link_pb2.Announce | None
    tick: telemetry_pb2.Tick

    def packed(self) -> Packed:
        """This will serialise both, once."""
        announce = b"" if self.announce is None else self.announce.SerializeToString()
        return Packed(announce, self.tick.SerializeToString())


class Backlog(Protocol):
    """What is kept of closed epochs, and the way it goes."""

    def pending(self) -> bool:
        """This will say whether there is anything to bring."""
        ...

    async def run(self, channel: grpc.aio.Channel) -> None:
        """This will bring it beside the live stream until cancelled."""
        ...

    async def bring(self, channel: grpc.aio.Channel, *, beside_live: bool) -> None:
        """This will bring what there is."""
        ...


class _ConnectAgain(Exception):
    """The live epoch is another one now; nothing is wrong with the link."""


class Uplink:
    """The stream and everything that keeps it going."""

    def __init__(
        self,
        server: str,
        identity: Identity,
        spool: Spool[Packed],
        clock: Clock,
        *,
        everything: Callable[[], link_pb2.Announce],
        handlers: Handlers,
        backoff: Backoff,
        ack_timeout_seconds: float = ACK_TIMEOUT_SECONDS,
        door: Door | None = None,
        backlog: Backlog | None = None,
        start_spread_seconds: float = 0.0,
    ) -> None:
        """`server` is host:port; `everything` announces all that any kept batch may name.

        `door` opens the channel to it; None: without encryption. The first attempt is made at a
        moment drawn from `start_spread_seconds`.
        """
        self._start_spread_seconds = start_spread_seconds
        self._backlog = backlog
        self._generation = 0  # the spool's, when the stream began
        self._door = door or PlainDoor(server)
        self._server = server
        self._identity = identity
        self._spool = spool
        self._clock = clock
        self._everything = everything
        self._handlers = handlers
        self._backoff = backoff
        self._ack_timeout_seconds = ack_timeout_seconds
        self._window = 1
        self._sent_seq = 0  # handed to gRPC, whether or not it has left
        self._committed_seq = 0
        self._under_way: deque[int] = deque()  # batches sent and not acknowledged; lost ones are not among them
        self._waiting_since = 0.0  # monotonic; the last progress while a batch is under way
        self._write_lock = asyncio.Lock()
        self._told_of: Kind | None = None  # what is known of the outage that lasts
        self.connected = asyncio.Event()
        self.sessions_total = 0  # streams that were welcomed
        self.acknowledged_at: float | None = None  # monotonic seconds of the last acknowledgement

    async def run(self) -> None:
        """This will connect, and connect again after every failure, until cancelled."""
        await asyncio.sleep(self._backoff.start_seconds(self._start_spread_seconds))
        while True:
            started = self._clock.now().monotonic_seconds
            try:
                await self._session()
                raise Disconnected("the control plane closed the stream")
            except _ConnectAgain:
                self.connected.clear()
            except (Disconnected, grpc.aio.AioRpcError, TimeoutError) as error:
                self.connected.clear()
                ending = ending_of(error)
                self._tell(ending.kind, error)
                if isinstance(error, Unrecognised):  # its own word: a proxy's might pass
                    self._door.refused()
                lasted = self._clock.now().monotonic_seconds - started
                await asyncio.sleep(self._backoff.delay_seconds(ending, lasted_seconds=lasted))

    async def drained(self) -> None:
        """This will return once everything in the spool has been acknowledged."""
        while len(self._spool) or self._spool.losses():
            self._spool.changed.clear()
            await self._spool.changed.wait()

    def _tell(self, kind: Kind, error: BaseException) -> None:
        if kind is Kind.RENEWING:
            return
        if kind is Kind.UNSAID:  # nothing new, in an outage; else it was there a moment ago
            kind = self._told_of or Kind.AWAY
        level = logging.DEBUG if kind is self._told_of else logging.WARNING  # once per outage and kind of reason
        hint = HINTS.get(kind, "") if isinstance(error, grpc.aio.AioRpcError) else ""
        log.log(level, "no link to %s (%s%s); samples are kept and sent later", self._server, _reason(error), hint)
        self._told_of = kind

    async def _session(self) -> None:
        async with await self._door.open() as channel:
            stream = open_stream(channel)
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                    self._generation = self._spool.generation
                    epoch = self._spool.epoch or self._identity.epoch
                    welcome = await greet(stream, self._identity, epoch=epoch, clock=self._clock)
                    await write(stream, link_pb2.AgentMessage(announce=self._everything()))
                    if welcome.HasField("configure"):
                        status = await answer_configure(welcome.configure, self._handlers)
                        await write(stream, link_pb2.AgentMessage(config_status=status))
                self._resume(welcome)
                if self._backlog is not None and self._backlog.pending() and not welcome.backlog_lanes:
                    stream.cancel()  # it knows one stream of each agent: one after the other
                    await self._backlog.bring(channel, beside_live=False)
                    raise _ConnectAgain
                if welcome.backlog_lanes and len(self._spool) > FRESH_BATCHES and self._spool.roll():
                    raise _ConnectAgain
                lane = self._backlog.run(channel) if self._backlog is not None and welcome.backlog_lanes else None
                await self._serve(stream, welcome.heartbeat_interval_seconds, lane)
            finally:
                stream.cancel()

    def _resume(self, welcome: link_pb2.Welcome) -> None:
        self._committed_seq = self._sent_seq = self._believable(welcome.committed_seq)
        self._under_way.clear()
        self._window = max(1, welcome.window_batches)
        self._spool.committed(self._committed_seq)
        log.info("linked to %s (control plane %s)", self._server, welcome.server_version)
        self._told_of = None
        self.sessions_total += 1
        self.connected.set()

    def _believable(self, committed_seq: int) -> int:
        """This will cut an acknowledgement to what exists: one of the future would silence all until then."""
        if committed_seq > self._spool.last_seq:
            log.error("the control plane acknowledged batch %d, which was never made", committed_seq)
        return min(committed_seq, self._spool.last_seq)

    async def _serve(
        self, stream: Stream, heartbeat_interval_seconds: int, lane: Coroutine[None, None, None] | None
    ) -> None:
        self._write_lock = asyncio.Lock()  # an order of messages belongs to one stream
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._send_batches(stream))
                tasks.create_task(self._heartbeats(stream, max(1, heartbeat_interval_seconds)))
                tasks.create_task(self._reopen())
                tasks.create_task(self._receive(stream))
                tasks.create_task(self._watch())
                if lane is not None:
                    tasks.create_task(lane)
        except ExceptionGroup as group:  # one end of the stream failed and took the others along
            raise most_telling(group) from group

    async def _send_batches(self, stream: Stream) -> None:
        while True:
            self._spool.changed.clear()
            self._same_epoch()
            if self._next() is None:
                await self._spool.changed.wait()
                continue
            async with self._write_lock:
                await self._send_next(stream)

    def _same_epoch(self) -> None:
        if self._spool.generation != self._generation:
            raise _ConnectAgain

    def _next(self) -> Entry[Packed] | None:
        """This will give the batch to send, None while there is none or the window is full."""
        if len(self._under_way) >= self._window:
            return None
        return self._spool.after(self._sent_seq)

    async def _send_next(self, stream: Stream) -> None:
        """This will send one batch, after the losses and the announcements that come before it.

        All are chosen before the first is written: while a write waits, the ring may drop more.
        """
        self._same_epoch()
        entry = self._next()
        if entry is None:
            return
        messages: list[link_pb2.AgentMessage | bytes] = [
            link_pb2.AgentMessage(loss=loss_message(unsent))
            for loss in self._spool.losses()
            if (unsent := loss.after(self._sent_seq)) is not None  # what was sent before it was dropped still arrives
        ]
        if entry.seq != self._sent_seq + 1:  # what the lost batches would have announced must not be lost with them
            messages.append(link_pb2.AgentMessage(announce=self._everything()))
        if entry.payload.announce:
            messages.append(announce_frame(entry.payload.announce))
        messages.append(batch_frame(entry.seq, entry.payload.tick))
        if not self._under_way:
            self._waiting_since = self._clock.now().monotonic_seconds
        self._under_way.append(entry.seq)
        self._sent_seq = entry.seq
        for message in messages:
            await write(stream, message)

    async def _watch(self) -> None:
        """This will end the stream when what was sent is not acknowledged, even while a write is stuck."""
        while True:
            await asyncio.sleep(self._ack_timeout_seconds / 8)
            waiting = self._clock.now().monotonic_seconds - self._waiting_since
            if self._under_way and waiting > self._ack_timeout_seconds:
                raise Disconnected(f"nothing was acknowledged for {self._ack_timeout_seconds:g} s")

    async def _reopen(self) -> None:
        """This will end the stream when its certificate is due for renewal; the next one goes on where it ended."""
        seconds = self._door.seconds_until_renewal()
        if seconds is not None:
            await asyncio.sleep(seconds)
            raise Renewing()

    async def _heartbeats(self, stream: Stream, interval_seconds: int) -> None:
        while True:
            async with self._write_lock:
                heartbeat = link_pb2.Heartbeat(
                    clock=wire.clock_reading(self._clock.now()),  # read as it is sent: the other side compares clocks
                    last_seq=self._spool.last_seq,
                    unsent_batches=len(self._spool),
                    lost_ticks=self._spool.lost_ticks,
                )
                await write(stream, link_pb2.AgentMessage(heartbeat=heartbeat))
            await asyncio.sleep(interval_seconds)

    async def _receive(self, stream: Stream) -> None:
        while True:
            message = await read(stream)
            match message.WhichOneof("body"):
                case "ack":
                    self._acknowledged(message.ack)
                case "command":
                    result = await answer_command(message.command, self._handlers)
                    if result is not None:
                        async with self._write_lock:
                            await write(stream, link_pb2.AgentMessage(command_result=result))
                case "configure":
                    status = await answer_configure(message.configure, self._handlers)
                    async with self._write_lock:
                        await write(stream, link_pb2.AgentMessage(config_status=status))
                case "refusal":
                    raise _refused(message.refusal)
                case "drain":
                    seconds = message.drain.reconnect_after_ms / 1000
                    raise Disconnected("the control plane is restarting", retry_after_seconds=seconds)
                case _:
                    pass  # heartbeats, and what a newer control plane may say

    def _acknowledged(self, ack: link_pb2.Ack) -> None:
        self._same_epoch()
        for refused in ack.refused:
            log.error("the control plane refused batch %d: %s", refused.seq, refused.reason)
        committed = self._believable(ack.committed_seq)
        if committed > self._committed_seq:
            self._waiting_since = self.acknowledged_at = self._clock.now().monotonic_seconds
        self._committed_seq = max(self._committed_seq, committed)
        self._sent_seq = max(self._sent_seq, self._committed_seq)
        while self._under_way and self._under_way[0] <= self._committed_seq:
            self._under_way.popleft()
        self._window = max(1, ack.window_batches)
        self._spool.committed(self._committed_seq)


async def greet(stream: Stream, me: Identity, *, epoch: bytes, clock: Clock, backlog: bool = False) -> link_pb2.Welcome:
    """This will introduce the agent and wait: nothing else is written before the answer is there.

    Raises Disconnected when the control plane refuses, and AioRpcError when something else does.
    """
    await _taken(stream)
    hello = link_pb2.Hello(
        agent_id=me.agent_id,
        node_name=me.node_name,
        epoch=epoch,
        protocol_min=PROTOCOL_MIN,
        protocol_max=PROTOCOL_MAX,
        agent_version=me.agent_version,
        clock=wire.clock_reading(clock.now()),
        attributes_json=me.attributes_json,
        replayed=me.replayed,
        backlog=backlog,
        takes_configuration=not backlog,
    )
    await write(stream, link_pb2.AgentMessage(hello=hello))
    answer = await read(stream)
    if answer.WhichOneof("body") == "refusal":
        raise _refused(answer.refusal)
    if answer.WhichOneof("body") != "welcome":
        raise Disconnected("the control plane did not answer the Hello with a Welcome")
    return answer.welcome


async def _taken(stream: Stream) -> None:
    """This will wait until a control plane has taken the call. Raises what the call ended with, if it did.

    A control plane of before says so with its Welcome only, so it is not waited for without end.
    """
    try:
        async with asyncio.timeout(TAKEN_SECONDS):
            if not any(key == TAKEN_KEY for key, _ in await stream.initial_metadata()):
                await stream.code()
                await read(stream)
    except TimeoutError:
        log.debug("nobody has taken the call yet; the Hello is sent all the same")


async def read(stream: Stream) -> link_pb2.ServerMessage:
    """This will give the next message. Raises Disconnected when there is none."""
    message: object = await stream.read()
    if not isinstance(message, link_pb2.ServerMessage):
        raise Disconnected("the control plane closed the stream")
    return message


async def write(stream: Stream, message: link_pb2.AgentMessage | bytes) -> None:
    """This will send a message or a frame. Raises Disconnected or AioRpcError when the call has ended."""
    try:
        await stream.write(message)
    except asyncio.InvalidStateError as error:  # how grpc.aio says that the call has ended
        await read(stream)  # which tells by which status
        raise Disconnected("the control plane closed the stream") from error


def _refused(refusal: link_pb2.Refusal) -> Disconnected:
    kind = Unrecognised if refusal.code == link_pb2.REFUSAL_CODE_IDENTITY else Disconnected
    return kind(refusal.detail, retry_after_seconds=float(refusal.retry_after_seconds))


def loss_message(loss: Loss) -> link_pb2.Loss:
    """This will give a loss as it goes over the wire."""
    return link_pb2.Loss(
        first_seq=loss.first_seq,
        last_seq=loss.last_seq,
        first_taken_at_unix_us=loss.first_taken_at_unix_us,
        last_taken_at_unix_us=loss.last_taken_at_unix_us,
        tick_count=loss.tick_count,
        reason=loss.reason,
    )


def most_telling(group: ExceptionGroup[Exception]) -> Exception:
    """This will give the error to act on: one that says when to come back, else the first."""
    errors = [most_telling(error) if isinstance(error, ExceptionGroup) else error for error in group.exceptions]
    return next((e for e in errors if _says_when(e)), errors[0])


def _says_when(error: Exception) -> bool:
    return isinstance(error, _ConnectAgain) or (
        isinstance(error, Disconnected) and error.retry_after_seconds is not None
    )


def _reason(error: BaseException) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return str(error) or type(error).__name__
