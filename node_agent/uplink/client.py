"""Keeps one stream to the control plane: sends what the spool holds, lets go of what is acknowledged."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass

import grpc

from node_agent.clock import Clock
from node_agent.spool import Loss, Spool
from node_agent.uplink import wire
from optiinfra.telemetry.v1 import command_pb2, link_pb2, link_pb2_grpc, telemetry_pb2

log = logging.getLogger(__name__)

PROTOCOL_MIN, PROTOCOL_MAX = 1, 1
CONNECT_TIMEOUT_SECONDS = 10.0
# Sent and not acknowledged for this long: the path swallows what we send (a black hole looks alive to TCP).
ACK_TIMEOUT_SECONDS = 30.0
# Full jitter, so that a fleet does not come back in step after an outage.
BACKOFF_BASE_SECONDS = 0.5
BACKOFF_MOST_SECONDS = 30.0
CHANNEL_OPTIONS = (
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_receive_message_length", 4 * 1024 * 1024),
    ("grpc.enable_http_proxy", 0),  # an HTTP proxy meant for package downloads would break the stream
)

Stream = grpc.aio.StreamStreamCall[link_pb2.AgentMessage, link_pb2.ServerMessage]


class Disconnected(Exception):
    """The stream ended; `retry_after_seconds` is what the control plane asked for, if it did."""

    def __init__(self, detail: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds


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
    """One batch, and what has to be announced before it."""

    announce: link_pb2.Announce | None
    tick: telemetry_pb2.Tick


@dataclass(frozen=True, slots=True, kw_only=True)
class Handlers:
    """What the control plane may cause."""

    on_command: Callable[[command_pb2.Command], command_pb2.CommandResult | None]
    on_configure: Callable[[link_pb2.Configure], link_pb2.ConfigStatus]


class Uplink:
    """The stream and everything that keeps it going."""

    def __init__(
        self,
        server: str,
        identity: Identity,
        spool: Spool[Outgoing],
        clock: Clock,
        *,
        everything: Callable[[], link_pb2.Announce],
        handlers: Handlers,
        jitter: random.Random,
    ) -> None:
        """`server` is host:port; `everything` announces all that any kept batch may name."""
        self._server = server
        self._identity = identity
        self._spool = spool
        self._clock = clock
        self._everything = everything
        self._handlers = handlers
        self._jitter = jitter
        self._window = 0
        self._sent_seq = 0
        self._committed_seq = 0
        self._progress_at = 0.0  # monotonic; when the oldest unacknowledged batch began to wait
        self.connected = asyncio.Event()

    async def run(self) -> None:
        """This will connect, and connect again after every failure, until cancelled."""
        attempt = 0
        while True:
            started = self._clock.now().monotonic_seconds
            try:
                await self._session()
                raise Disconnected("the control plane closed the stream")
            except (Disconnected, grpc.aio.AioRpcError, TimeoutError) as error:
                self.connected.clear()
                if self._clock.now().monotonic_seconds - started > 120:  # it had been stable
                    attempt = 0
                delay = self._delay(error, attempt)
                level = logging.WARNING if attempt == 0 else logging.DEBUG  # once per outage
                log.log(level, "no link to %s (%s); samples are kept and sent later", self._server, _reason(error))
                attempt += 1
                await asyncio.sleep(delay)

    async def drained(self) -> None:
        """This will return once everything in the spool has been acknowledged."""
        while len(self._spool) or self._spool.losses():
            self._spool.changed.clear()
            await self._spool.changed.wait()

    def _delay(self, error: BaseException, attempt: int) -> float:
        asked = error.retry_after_seconds if isinstance(error, Disconnected) else None
        most = min(BACKOFF_MOST_SECONDS, BACKOFF_BASE_SECONDS * 2**attempt)
        if asked is not None:
            return asked + self._jitter.uniform(0, min(asked, 5.0))
        return self._jitter.uniform(0, most)

    async def _session(self) -> None:
        async with grpc.aio.insecure_channel(self._server, options=CHANNEL_OPTIONS) as channel:
            stream: Stream = link_pb2_grpc.LinkStub(channel).Connect()
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                    welcome = await self._hello(stream)
                self._resume(welcome)
                await self._serve(stream, welcome)
            finally:
                stream.cancel()

    async def _hello(self, stream: Stream) -> link_pb2.Welcome:
        """This will introduce the agent and wait: nothing else is written before the answer is there."""
        me = self._identity
        hello = link_pb2.Hello(
            agent_id=me.agent_id,
            node_name=me.node_name,
            epoch=me.epoch,
            protocol_min=PROTOCOL_MIN,
            protocol_max=PROTOCOL_MAX,
            agent_version=me.agent_version,
            clock=wire.clock_reading(self._clock.now()),
            attributes_json=me.attributes_json,
            replayed=me.replayed,
        )
        await stream.write(link_pb2.AgentMessage(hello=hello))
        answer = await _read(stream)
        if answer.WhichOneof("body") == "refusal":
            raise _refused(answer.refusal)
        if answer.WhichOneof("body") != "welcome":
            raise Disconnected("the control plane did not answer the Hello with a Welcome")
        return answer.welcome

    def _resume(self, welcome: link_pb2.Welcome) -> None:
        self._committed_seq = self._sent_seq = welcome.committed_seq
        self._window = max(1, welcome.window_batches)
        self._spool.committed(welcome.committed_seq)
        self._progress_at = self._clock.now().monotonic_seconds
        log.info("linked to %s (control plane %s)", self._server, welcome.server_version)
        self.connected.set()

    async def _serve(self, stream: Stream, welcome: link_pb2.Welcome) -> None:
        await stream.write(link_pb2.AgentMessage(announce=self._everything()))
        if welcome.HasField("configure"):
            await self._configure(stream, welcome.configure)
        write_lock = asyncio.Lock()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._send_batches(stream, write_lock))
                tasks.create_task(self._heartbeats(stream, write_lock, max(1, welcome.heartbeat_interval_seconds)))
                tasks.create_task(self._receive(stream, write_lock))
        except ExceptionGroup as group:  # one end of the stream failed and took the others along
            raise _first(group) from group

    async def _send_batches(self, stream: Stream, write_lock: asyncio.Lock) -> None:
        while True:
            self._spool.changed.clear()
            entry = self._spool.after(self._sent_seq)
            if entry is None or self._sent_seq - self._committed_seq >= self._window:
                await self._wait_for_change()
                continue
            if self._sent_seq == self._committed_seq:
                self._progress_at = self._clock.now().monotonic_seconds
            async with write_lock:
                for loss in self._spool.losses():
                    unsent = loss.after(self._sent_seq)  # what was sent before it was dropped still arrives
                    if unsent is not None and unsent.last_seq < entry.seq:
                        await stream.write(link_pb2.AgentMessage(loss=_loss(unsent)))
                if entry.payload.announce is not None:
                    await stream.write(link_pb2.AgentMessage(announce=entry.payload.announce))
                batch = telemetry_pb2.Batch(seq=entry.seq, ticks=[entry.payload.tick])
                await stream.write(link_pb2.AgentMessage(batch=batch))
            self._sent_seq = entry.seq

    async def _wait_for_change(self) -> None:
        try:
            async with asyncio.timeout(1.0):
                await self._spool.changed.wait()
        except TimeoutError:
            pass
        waiting = self._clock.now().monotonic_seconds - self._progress_at
        if self._sent_seq > self._committed_seq and waiting > ACK_TIMEOUT_SECONDS:
            raise Disconnected(f"nothing was acknowledged for {ACK_TIMEOUT_SECONDS:.0f} s")

    async def _heartbeats(self, stream: Stream, write_lock: asyncio.Lock, interval_seconds: int) -> None:
        while True:
            heartbeat = link_pb2.Heartbeat(
                clock=wire.clock_reading(self._clock.now()),
                last_seq=self._spool.last_seq,
                unsent_batches=len(self._spool),
                lost_ticks=self._spool.lost_ticks,
            )
            async with write_lock:
                await stream.write(link_pb2.AgentMessage(heartbeat=heartbeat))
            await asyncio.sleep(interval_seconds)

    async def _receive(self, stream: Stream, write_lock: asyncio.Lock) -> None:
        while True:
            message = await _read(stream)
            match message.WhichOneof("body"):
                case "ack":
                    self._acknowledged(message.ack)
                case "command":
                    result = self._handlers.on_command(message.command)
                    if result is not None:
                        async with write_lock:
                            await stream.write(link_pb2.AgentMessage(command_result=result))
                case "configure":
                    async with write_lock:
                        await self._configure(stream, message.configure)
                case "refusal":
                    raise _refused(message.refusal)
                case "drain":
                    seconds = message.drain.reconnect_after_ms / 1000
                    raise Disconnected("the control plane is restarting", retry_after_seconds=seconds)
                case _:
                    pass  # heartbeats, and what a newer control plane may say

    async def _configure(self, stream: Stream, configure: link_pb2.Configure) -> None:
        await stream.write(link_pb2.AgentMessage(config_status=self._handlers.on_configure(configure)))

    def _acknowledged(self, ack: link_pb2.Ack) -> None:
        for refused in ack.refused:
            log.error("the control plane refused batch %d: %s", refused.seq, refused.reason)
        self._committed_seq = max(self._committed_seq, ack.committed_seq)
        self._sent_seq = max(self._sent_seq, self._committed_seq)
        self._window = max(1, ack.window_batches)
        self._progress_at = self._clock.now().monotonic_seconds
        self._spool.committed(ack.committed_seq)


async def _read(stream: Stream) -> link_pb2.ServerMessage:
    message: object = await stream.read()
    if not isinstance(message, link_pb2.ServerMessage):
        raise Disconnected("the control plane closed the stream")
    return message


def _refused(refusal: link_pb2.Refusal) -> Disconnected:
    return Disconnected(refusal.detail, retry_after_seconds=float(refusal.retry_after_seconds))


def _loss(loss: Loss) -> link_pb2.Loss:
    return link_pb2.Loss(
        first_seq=loss.first_seq,
        last_seq=loss.last_seq,
        first_taken_at_unix_us=loss.first_taken_at_unix_us,
        last_taken_at_unix_us=loss.last_taken_at_unix_us,
        tick_count=loss.tick_count,
        reason=loss.reason,
    )


def _first(group: ExceptionGroup[Exception]) -> Exception:
    error: Exception = group
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def _reason(error: BaseException) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return str(error) or type(error).__name__
