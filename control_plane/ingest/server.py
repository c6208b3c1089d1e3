"""The service behind the gRPC server: one bidirectional stream for each agent."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence

import grpc

from control_plane import __version__
from control_plane.ingest import wire
from control_plane.ingest.admission import MAX_BATCH_BYTES, StreamState
from control_plane.ingest.clocks import Arrival, NodeClock
from control_plane.ingest.configurations import Configurations
from control_plane.ingest.counters import IngestCounters
from control_plane.ingest.enrolment import NOT_IN_FORCE, EnrolmentService, NotAdmitted
from control_plane.ingest.flush import Announced, Arrived, Lost, Refused, to_datetime
from control_plane.ingest.reception import Reception
from control_plane.ingest.sessions import LOOK_SECONDS, Call, Context, RefusedConnection, Session
from control_plane.ingest.writer import StreamKey, Writer, gather_seconds
from control_plane.model.configuration import NodeConfiguration
from control_plane.model.errors import StorageRefused, StorageUnavailable
from control_plane.model.node import SampleLoss
from control_plane.runtime.clock import Clock
from control_plane.storage.introductions import Caller
from control_plane.storage.session import Database
from optiinfra.telemetry.v1 import link_pb2, link_pb2_grpc, telemetry_pb2

log = logging.getLogger(__name__)

PROTOCOL_MIN, PROTOCOL_MAX = 1, 1
# Batches an agent may have unacknowledged: a minute and more of 5 s samples, a quarter minute of 1 s ones.
WINDOW_BATCHES = 16
# A sign of life from agents that sample rarely, and a fresh look at their clocks; acknowledgements are others.
HEARTBEAT_SECONDS = 30
HELLO_TIMEOUT_SECONDS = 10
# Two heartbeats missed: the link is dead, whatever TCP still believes.
SILENCE_SECONDS = 2 * HEARTBEAT_SECONDS + 5
COMMAND_VALID_SECONDS = 30
# What arrives is taken in bursts from so many streams on: a tenth of the time for which they are gathered is not felt.
MANY_STREAMS, GATHERINGS_SHARE = 64, 0.1
# grpc.aio takes a call and asks for the next only then: one for each burst. So there are none right after a call came.
EAGER_SECONDS = 0.3


class LinkService(link_pb2_grpc.LinkServicer):
    """Admits agents, reads their batches, acknowledges what is committed."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        retention_days: int,
        fleet_interval_seconds: float | None = None,
        enrolment: EnrolmentService | None = None,
    ) -> None:
        """Samples older than `retention_days` are refused: their partition would be dropped at once.

        `fleet_interval_seconds` is the cadence that every agent is asked to keep; None: its own.
        `enrolment` judges who an agent is; None: its word is taken, as on loopback.
        """
        self._enrolment = enrolment
        self.configurations = Configurations(database, clock, fleet_interval_seconds=fleet_interval_seconds)
        self.counters = IngestCounters()
        self._reception = Reception(database, clock)
        self._clock = clock
        self._retention_us = retention_days * 86_400 * 1_000_000
        self._sessions: dict[int, Session] = {}
        self._backlogs: dict[StreamKey, Session] = {}
        self._streams: dict[int, Session] = {}  # all, also those that others have taken the place of
        self._commands: dict[str, asyncio.Future[None]] = {}
        self._draining = False
        self._eager_until = 0.0  # loop time
        self.writer = Writer(database, clock, self.counters, self._committed, self._commands_done)

    def pause_seconds(self) -> float:
        """This will say how long to let messages wait for more of them."""
        streams = self.counters.streams
        if asyncio.get_running_loop().time() < self._eager_until:
            return 0.0
        return gather_seconds(streams, 0.0) * GATHERINGS_SHARE if streams >= MANY_STREAMS else 0.0

    # -- what others ask ------------------------------------------------------------------------

    def connected_nodes(self) -> frozenset[int]:
        """This will give the nodes that have a stream to this replica."""
        return frozenset(self._sessions)

    def figures(self) -> Mapping[str, float]:
        """This will give ingest's counters by name."""
        return self.counters.figures()

    def last_error(self) -> str | None:
        """This will give why commits fail at the moment; None when they do not."""
        return self.counters.last_error

    def listening(self) -> bool:
        """This will say whether agents can connect."""
        return not self._draining

    async def collect_now(self, node_ids: Sequence[int], timeout_seconds: float) -> dict[int, str]:
        """This will ask nodes for a sample now and say of each what came: committed, not_connected, timed_out."""
        waiting: dict[int, asyncio.Future[None]] = {}
        outcome: dict[int, str] = {}
        for node_id in node_ids:
            session = self._sessions.get(node_id)
            if session is None:
                outcome[node_id] = "not_connected"
                continue
            command_id = uuid.uuid4().hex
            waiting[node_id] = self._commands[command_id] = asyncio.get_running_loop().create_future()
            session.send(wire.collect_now(command_id, COMMAND_VALID_SECONDS))
        if waiting:
            await asyncio.wait(waiting.values(), timeout=timeout_seconds)
        for node_id, future in waiting.items():
            outcome[node_id] = "committed" if future.done() else "timed_out"
        self._commands = {k: f for k, f in self._commands.items() if f not in waiting.values()}
        return outcome

    async def release_gpus(self, node_id: int, *, seconds: int, timeout_seconds: float) -> tuple[str, str]:
        """This will ask a node to let go of its GPUs and give what it answered, with its words."""
        session = self._sessions.get(node_id)
        if session is None:
            return "not_connected", "its agent has no stream to this control plane"
        command_id = uuid.uuid4().hex
        answered = session.results[command_id] = asyncio.get_running_loop().create_future()
        session.send(wire.release_gpus(command_id, round(timeout_seconds) or 1, seconds=seconds))
        try:
            async with asyncio.timeout(timeout_seconds):
                outcome: tuple[str, str] = await answered
                return outcome
        except TimeoutError:
            return "timed_out", "the agent did not answer in time; the command has expired"
        finally:
            session.results.pop(command_id, None)

    def fleet_configuration(self) -> NodeConfiguration:
        """This will give what holds for every node that has no word of its own."""
        return self.configurations.fleet

    async def configure(self, node_id: int, timeout_seconds: float) -> None:
        """This will bring a node what is stored for it now, if it is connected here, and wait for its answer."""
        session = self._sessions.get(node_id)
        if session is not None:
            await self.configurations.renew(session, timeout_seconds)

    async def drain(self) -> None:
        """This will ask every agent to come back later, and let what has arrived be committed."""
        self._draining = True
        for session in self._all_sessions():
            session.send(wire.drain(reconnect_after_ms=1000))
        self.writer.hurry()
        await self.writer.drained()
        await asyncio.sleep(0.05)  # lets the last acknowledgements leave
        for session in self._all_sessions():
            session.end()

    # -- the stream -----------------------------------------------------------------------------

    async def Connect(  # type: ignore[override]  # the stubs only know servicers that yield
        self,
        request_iterator: AsyncIterator[link_pb2.AgentMessage],
        context: Context,
    ) -> None:
        """This will serve one agent until it leaves, falls silent, or is superseded."""
        self._eager_until = asyncio.get_running_loop().time() + EAGER_SECONDS
        call = Call(context)
        await call.take()
        try:
            session, welcome = await self._introduced(call)
        except RefusedConnection as refused:
            log.info("refused an agent: %s", refused)
            await call.write(wire.refusal(refused.code, str(refused), refused.retry_after_seconds))
        else:
            await self._welcomed(session, welcome, call)
        call.leave()

    async def _welcomed(self, session: Session, welcome: link_pb2.ServerMessage, call: Call) -> None:
        self._replace(session)
        self.counters.streams += 1
        try:
            await self.configurations.settle(session)
            if await call.write(welcome):
                await self._serve(session, call)
        except Exception:  # boundary: a mistake of ours in one stream must not look like one of grpc's
            self.counters.streams_failed += 1
            log.exception("the stream of node %d ends by a mistake of the control plane", session.node_id)
            await call.context.abort(grpc.StatusCode.INTERNAL, "a mistake of the control plane; its log says which")
        finally:
            self.counters.streams -= 1
            self.configurations.ended(session)
            key = (session.node_id, session.epoch)
            if self._backlogs.get(key) is session:
                del self._backlogs[key]
            if self._sessions.get(session.node_id) is session:
                del self._sessions[session.node_id]

    async def _introduced(self, call: Call) -> tuple[Session, link_pb2.ServerMessage]:
        """This will admit an agent and give its Welcome."""
        hello = await self._hello(call)
        arrived = self._arrival()
        if self._draining:
            raise RefusedConnection("UNAVAILABLE", "the control plane is going down", 2)
        protocol = min(hello.protocol_max, PROTOCOL_MAX)
        if protocol < max(hello.protocol_min, PROTOCOL_MIN):
            raise RefusedConnection(
                "PROTOCOL",
                f"the agent speaks protocol {hello.protocol_min} to {hello.protocol_max}, "
                f"this control plane {PROTOCOL_MIN} to {PROTOCOL_MAX}; upgrade the older one",
                300,
            )
        try:
            session = await self._open(hello, arrived, call.context)
        except NotAdmitted as error:
            raise RefusedConnection("IDENTITY", str(error), 60) from error
        except (wire.RefusedMessage, StorageRefused) as error:
            raise RefusedConnection("INVALID_HELLO", str(error), 60) from error
        except StorageUnavailable as error:
            log.warning("an agent could not be admitted: %s", error)
            raise RefusedConnection("UNAVAILABLE", "the database does not answer", 5) from error
        except Exception as error:  # boundary: a database that is away must not look like a broken protocol
            log.exception("an agent could not be admitted")
            raise RefusedConnection("UNAVAILABLE", "the database does not answer", 5) from error
        welcome = wire.welcome(
            protocol=protocol,
            committed_seq=session.acked_seq,
            window=WINDOW_BATCHES,
            max_batch_bytes=MAX_BATCH_BYTES,
            heartbeat_seconds=HEARTBEAT_SECONDS,
            version=__version__,
            configure=None if hello.replayed else self.configurations.at_welcome(session),
        )
        return session, welcome

    async def _hello(self, call: Call) -> link_pb2.Hello:
        try:
            async with asyncio.timeout(HELLO_TIMEOUT_SECONDS):
                message = await call.read()
        except TimeoutError as error:
            raise RefusedConnection("INVALID_HELLO", f"no Hello came within {HELLO_TIMEOUT_SECONDS} s", 30) from error
        except wire.RefusedMessage as error:
            raise RefusedConnection("INVALID_HELLO", str(error), 60) from error
        if message is None or message.WhichOneof("body") != "hello":
            raise RefusedConnection("INVALID_HELLO", "the first message must be a Hello", 60)
        return message.hello

    async def _open(self, hello: link_pb2.Hello, arrived: Arrival, context: Context) -> Session:
        introduction = wire.introduction_from(hello)
        shown = None if self._enrolment is None else self._enrolment.shown(context, hello.agent_id)
        enrolment_id = None if shown is None else shown.enrolment_id
        known = await self._reception.introduce(
            Caller(introduction=introduction, epoch=bytes(hello.epoch), enrolment_id=enrolment_id)
        )
        if known is None:
            raise NotAdmitted(NOT_IN_FORCE)
        clock = NodeClock()
        clock.reading(node_monotonic_us=hello.clock.monotonic_us, arrived=arrived)
        return Session(
            node_id=known.node_id,
            epoch=bytes(hello.epoch),
            sampling_interval_seconds=wire.sampling_interval_seconds(introduction.attributes),
            backlog=hello.backlog,
            takes_configuration=hello.takes_configuration and not hello.replayed,
            state=StreamState(
                node_id=known.node_id, clock=clock, retention_us=self._retention_us, backlog=hello.backlog
            ),
            lasts_seconds=None if shown is None else shown.lasts_seconds,
            acked_seq=known.committed_seq,
        )

    def _replace(self, session: Session) -> None:
        """This will make `session` the one of its node, ending an older one."""
        key = (session.node_id, session.epoch)
        older = self._backlogs.get(key) if session.backlog else self._sessions.get(session.node_id)
        if older is not None:
            older.send(wire.refusal("SUPERSEDED", "the same agent connected again", 30))
            older.end()
        if session.backlog:
            self._backlogs[key] = session
        else:
            self._sessions[session.node_id] = session

    def _all_sessions(self) -> list[Session]:
        return [*self._sessions.values(), *self._backlogs.values()]

    async def _serve(self, session: Session, call: Call) -> None:
        """This will read and write until either ends. Silence and expiry are looked after by `run`."""
        loop = asyncio.get_running_loop()
        session.heard_at = loop.time()
        if session.lasts_seconds is not None:
            session.expires_at = session.heard_at + session.lasts_seconds
        self._streams[id(session)] = session
        try:
            async with asyncio.TaskGroup() as tasks:
                session.reading = tasks.create_task(self._read(session, call))
                session.sending = tasks.create_task(self._send(session, call))
        finally:
            del self._streams[id(session)]

    async def _send(self, session: Session, call: Call) -> None:
        try:
            while True:
                await session.wake.wait()
                session.wake.clear()
                if session.ack_due:
                    session.ack_due = False
                    refused, session.refused = session.refused, {}
                    await call.write(wire.ack(session.acked_seq, WINDOW_BATCHES, refused))
                while session.outbox and not call.is_over:
                    await call.write(session.outbox.popleft())
                if session.ended.is_set() or call.is_over:
                    return
        finally:
            assert session.reading is not None
            session.reading.cancel()

    async def _read(self, session: Session, call: Call) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    message = await call.read()
                except wire.RefusedMessage as error:
                    await self._refuse(session, error)
                    continue
                if message is None:
                    return  # the agent closed its side
                session.heard_at = loop.time()
                await self._handle(session, message)
        finally:
            session.end()

    async def run(self) -> None:
        """This will commit what arrives and look after streams, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.writer.run())
            tasks.create_task(self._look_after_streams())

    def close(self) -> None:
        """This will let the database go; call it when the server has stopped and `run` has ended."""
        self.writer.close()
        self._reception.close()

    async def _look_after_streams(self) -> None:
        """This will end what is silent, expired, or has ended and does not go. One look for all costs less than a
        timer for each message."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(LOOK_SECONDS, SILENCE_SECONDS))
            now = loop.time()
            for session in list(self._streams.values()):
                session.look_after(now, silence_seconds=SILENCE_SECONDS)

    async def _handle(self, session: Session, message: link_pb2.AgentMessage) -> None:
        seq = message.batch.seq if message.WhichOneof("body") == "batch" else 0
        try:
            await self._dispatch(session, message)
        except wire.RefusedMessage as error:
            await self._refuse(session, error, seq if seq < wire.HIGHEST_SEQ else 0)

    async def _refuse(self, session: Session, error: wire.RefusedMessage, seq: int = 0) -> None:
        if not self.counters.batches_refused[error.cause]:  # once per cause; the rest is counted
            log.warning("node %d: refused (%s): %s", session.node_id, error.cause, error)
        await self.writer.submit(Refused(stream=session, seq=seq, cause=error.cause, detail=str(error)))

    async def _dispatch(self, session: Session, message: link_pb2.AgentMessage) -> None:
        arrived = self._arrival()
        match message.WhichOneof("body"):
            case "announce":
                announced = session.state.announce(message.announce)
                await self.writer.submit(
                    Announced(stream=session, entities=announced.entities, size_bytes=announced.size_bytes)
                )
                for error in announced.refused:
                    await self._refuse(session, error)
            case "batch":
                await self._admit(session, message.batch, arrived)
            case "loss":
                await self.writer.submit(Lost(stream=session, loss=_loss(session, message.loss)))
            case "heartbeat":
                clock = message.heartbeat.clock
                session.state.clock.reading(node_monotonic_us=clock.monotonic_us, arrived=arrived)
                session.send(wire.heartbeat(unix_us=arrived.unix_us, monotonic_us=arrived.monotonic_us))
                await self.configurations.settle(session)
            case "config_status":
                await self.configurations.answered(session, message.config_status)
            case "command_result":  # CollectNow is known by its committed tick
                answered = session.results.get(message.command_result.id)
                if answered is not None and not answered.done():
                    answered.set_result(wire.command_outcome(message.command_result))
            case None:
                pass  # a field of a newer agent is nothing we need
            case other:
                raise wire.RefusedMessage("unexpected", f"a {other} message is not expected here")

    async def _admit(self, session: Session, batch: telemetry_pb2.Batch, arrived: Arrival) -> None:
        if not 0 < batch.seq < wire.HIGHEST_SEQ:
            raise wire.RefusedMessage("bad_sequence", f"batches are numbered from 1 to 2^62, not {batch.seq}")
        admitted = session.state.admit(batch, arrived)
        self.counters.stamps_corrected += sum(tick.clock_corrected for tick in admitted.ticks)
        await self.writer.submit(Arrived(stream=session, batch=admitted))

    # -- after a commit -------------------------------------------------------------------------

    def _committed(self, key: StreamKey, seq: int, refused: Mapping[int, str]) -> None:
        live = self._sessions.get(key[0])
        for session in (live if live is not None and live.epoch == key[1] else None, self._backlogs.get(key)):
            if session is not None:
                session.acknowledge(seq, refused)

    def _commands_done(self, command_ids: Sequence[str]) -> None:
        for command_id in command_ids:
            future = self._commands.get(command_id)
            if future is not None and not future.done():
                future.set_result(None)

    def _arrival(self) -> Arrival:
        return Arrival(
            unix_us=int(self._clock.now().timestamp() * 1e6), monotonic_us=int(self._clock.monotonic() * 1e6)
        )


def _loss(session: Session, loss: link_pb2.Loss) -> SampleLoss:
    if not 0 < loss.first_seq <= loss.last_seq < wire.HIGHEST_SEQ:
        raise wire.RefusedMessage("bad_sequence", f"a loss from {loss.first_seq} to {loss.last_seq} is no range")
    try:
        first, last = to_datetime(loss.first_taken_at_unix_us), to_datetime(loss.last_taken_at_unix_us)
    except OverflowError as error:
        raise wire.RefusedMessage("bad_sequence", "a loss names a time that does not exist") from error
    return SampleLoss(
        node_id=session.node_id,
        epoch=session.epoch,
        first_seq=loss.first_seq,
        last_seq=loss.last_seq,
        first_taken_at=first,
        last_taken_at=last,
        tick_count=min(loss.tick_count, 1 << 62),
        reason=wire.clean_text(loss.reason),
    )
