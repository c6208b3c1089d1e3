"""Keeps every connected node at the configuration that is stored for it, and stores what its agent makes of it."""

from __future__ import annotations

import asyncio
import logging

from control_plane.ingest import wire
from control_plane.ingest.sessions import Exchange, Session
from control_plane.model.configuration import (
    FLEET_REVISION,
    ConfigurationAnswer,
    ConfigurationStatus,
    NodeConfiguration,
    StoredConfiguration,
)
from control_plane.model.errors import StorageRefused, StorageUnavailable
from control_plane.runtime.clock import Clock
from control_plane.storage import configurations
from control_plane.storage.session import Database, storage_errors
from optiinfra.telemetry.v1 import link_pb2

log = logging.getLogger(__name__)

# Revisions that may be without an answer; an agent answers each in order, and at once.
MOST_SENT = 8
# Of a stream's time, which also has samples to bring; what takes longer is tried again at the next heartbeat.
SETTLE_SECONDS = 5.0
TOO_OLD = "its agent is of a release that takes nothing but a cadence; upgrade it"


class Configurations:
    """One exchange for each stream. A stream is told once when it begins, and again whenever somebody writes."""

    def __init__(self, database: Database, clock: Clock, *, fleet_interval_seconds: float | None) -> None:
        """`fleet_interval_seconds` is the cadence of every node that has none of its own; None: the host's."""
        self._database = database
        self._clock = clock
        self.fleet = NodeConfiguration(sampling_interval_seconds=fleet_interval_seconds)

    def at_welcome(self, session: Session) -> link_pb2.Configure | None:
        """This will give what an agent of an older release is asked with its Welcome: the fleet's cadence, if any.

        Every other one is told after it is registered, so that what is written meanwhile is not missed.
        """
        if session.takes_configuration or session.backlog or self.fleet.sampling_interval_seconds is None:
            return None
        session.exchange.sent[FLEET_REVISION] = self.fleet
        return wire.configure(FLEET_REVISION, self.fleet, whole=False)

    async def settle(self, session: Session) -> None:
        """This will bring a stream what it was not told yet, and store what could not be stored.

        Called when the stream is registered and at each of its heartbeats, so a database that is away delays it.
        """
        exchange = session.exchange
        if session.backlog or (exchange.is_brought and exchange.unsaved is None):
            return
        try:
            async with asyncio.timeout(SETTLE_SECONDS):
                if exchange.unsaved is not None:
                    await self._save(session, exchange, exchange.unsaved)
                if not exchange.is_brought:
                    await self._bring(session, exchange)
        except (StorageUnavailable, StorageRefused, TimeoutError) as error:
            why = str(error) or "the database does not answer"
            log.warning("node %d is configured later: %s", session.node_id, why)

    async def renew(self, session: Session, timeout_seconds: float) -> bool:
        """This will bring a stream what is stored now, and say whether its agent has answered.

        Raises StorageUnavailable.
        """
        exchange = session.exchange
        await self._bring(session, exchange)
        if session.ended.is_set() or not session.takes_configuration:
            return not session.takes_configuration
        answered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        waiter = (exchange.newest, answered)
        exchange.waiting.append(waiter)
        try:
            async with asyncio.timeout(timeout_seconds):
                return await answered
        except TimeoutError:
            return False
        finally:
            exchange.waiting.remove(waiter)

    async def answered(self, session: Session, status: link_pb2.ConfigStatus) -> None:
        """This will note what an agent says to a revision, and what holds on it now."""
        exchange = session.exchange
        asked = exchange.sent.get(status.revision)
        if asked is None:
            return  # nobody asked
        interval = wire.interval_in_force(status)
        if interval is None and status.applied:
            interval = asked.sampling_interval_seconds
        session.sampling_interval_seconds = interval or session.sampling_interval_seconds
        answer = _answer(exchange, asked, status, is_whole=session.takes_configuration)
        if not answer.is_applied:
            log.warning("node %d refuses configuration %d: %s", session.node_id, answer.revision, answer.detail)
        exchange.unsaved = answer if _is_news(exchange.stored, answer) else None
        await self.settle(session)
        for revision, waiting in exchange.waiting:
            if revision <= answer.revision and not waiting.done():
                waiting.set_result(True)

    def ended(self, session: Session) -> None:
        """This will send away who waits for the answer of a stream that has ended."""
        session.ended.set()
        for _, waiting in session.exchange.waiting:
            if not waiting.done():
                waiting.set_result(False)

    async def _bring(self, session: Session, exchange: Exchange) -> None:
        with storage_errors():
            stored = await configurations.find(self._database.engine, session.node_id)
        exchange.stored = stored
        revision = FLEET_REVISION if stored is None else stored.revision
        if not session.takes_configuration:
            await self._excuse(session, exchange)
        elif revision >= exchange.newest:  # what is read may be older than what a request has sent meanwhile
            asked = (NodeConfiguration() if stored is None else stored.desired).over(self.fleet)
            exchange.newest, exchange.sent[revision] = revision, asked
            while len(exchange.sent) > MOST_SENT:
                del exchange.sent[min(exchange.sent)]
            session.send(link_pb2.ServerMessage(configure=wire.configure(revision, asked, whole=True)))
        exchange.is_brought = True

    async def _excuse(self, session: Session, exchange: Exchange) -> None:
        """What an agent cannot be told it has not taken: GET must not say for ever that it is about to."""
        stored = exchange.stored
        if stored is None or stored.revision == FLEET_REVISION or stored.status is not ConfigurationStatus.PENDING:
            return
        answer = ConfigurationAnswer(
            revision=stored.revision, is_applied=False, detail=TOO_OLD, in_force_revision=None, in_force=None
        )
        await self._save(session, exchange, answer)

    async def _save(self, session: Session, exchange: Exchange, answer: ConfigurationAnswer) -> None:
        exchange.unsaved = answer
        with storage_errors():
            await configurations.record(self._database.engine, session.node_id, answer, self._clock.now())
        exchange.unsaved = None


def _answer(
    exchange: Exchange, asked: NodeConfiguration, status: link_pb2.ConfigStatus, *, is_whole: bool
) -> ConfigurationAnswer:
    """An agent that takes a cadence only does not say what holds: the fleet's, or nothing of ours."""
    in_force_revision: int | None = wire.in_force_revision(status) if is_whole else None
    if status.applied:
        in_force_revision = in_force_revision if is_whole else status.revision
    before = exchange.stored.answer if exchange.stored else None
    in_force = None
    if in_force_revision == status.revision and status.applied:
        in_force = asked
    elif before is not None and before.in_force_revision == in_force_revision:
        in_force = before.in_force
    elif in_force_revision is not None and in_force_revision != status.revision:
        in_force = exchange.sent.get(in_force_revision)
    return ConfigurationAnswer(
        revision=status.revision,
        is_applied=status.applied,
        detail=wire.clean_text(status.detail),
        in_force_revision=in_force_revision,
        in_force=in_force,
    )


def _is_news(stored: StoredConfiguration | None, answer: ConfigurationAnswer) -> bool:
    """At every connect each node says the same again: that is no reason to write, and nor is nothing about nothing."""
    if stored is None:
        return not answer.is_applied or answer.in_force != NodeConfiguration()
    return stored.answer != answer
