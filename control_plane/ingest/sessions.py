"""One agent's stream as the server sees it: what is known of it, and how a call's messages are read and written."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import grpc
import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError

from control_plane.ingest import wire
from control_plane.ingest.admission import StreamState
from control_plane.model.configuration import ConfigurationAnswer, NodeConfiguration, StoredConfiguration
from optiinfra.telemetry.v1 import link_pb2

Context = grpc.aio.ServicerContext[link_pb2.AgentMessage, link_pb2.ServerMessage | bytes]


log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0  # how often streams are looked after
TAKEN = (("optiinfra-link", "1"),)  # link.proto


@dataclass(slots=True)
class Exchange:
    """What one stream has carried of its node's configuration."""

    stored: StoredConfiguration | None = None  # as read last
    is_brought: bool = False
    unsaved: ConfigurationAnswer | None = None
    newest: int = 0  # the newest revision that was sent
    sent: dict[int, NodeConfiguration] = field(default_factory=dict)  # what it came to, by revision
    waiting: list[tuple[int, asyncio.Future[bool]]] = field(default_factory=list)  # for an answer to that or a newer


@dataclass(slots=True)
class Session:
    """One connected agent."""

    node_id: int
    epoch: bytes
    sampling_interval_seconds: float | None
    state: StreamState
    backlog: bool = False  # brings what was sampled before, beside the live stream
    takes_configuration: bool = False  # a whole one; without it only a cadence is asked for
    exchange: Exchange = field(default_factory=Exchange)
    entity_ids: npt.NDArray[np.int32] = field(default_factory=lambda: np.full(64, -1, np.int32))
    lasts_seconds: float | None = None  # until its certificate expires; None: it needs none
    acked_seq: int = 0
    pending_bytes: int = 0
    heard_at: float = 0.0  # loop time of the last message
    expires_at: float = float("inf")  # loop time at which its certificate does
    ended_at: float | None = None  # loop time at which it was seen to have ended
    reading: asyncio.Task[None] | None = None
    sending: asyncio.Task[None] | None = None
    refused: dict[int, str] = field(default_factory=dict)
    ack_due: bool = False
    outbox: deque[link_pb2.ServerMessage] = field(default_factory=lambda: deque(maxlen=64))
    results: dict[str, asyncio.Future[tuple[str, str]]] = field(default_factory=dict)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def send(self, message: link_pb2.ServerMessage) -> None:
        """This will queue a message; a peer that reads nothing loses the oldest, never the newest."""
        self.outbox.append(message)
        self.wake.set()

    def end(self) -> None:
        """This will let the stream end once what is queued has been sent."""
        self.ended.set()
        self.wake.set()

    def acknowledge(self, seq: int, refused: Mapping[int, str]) -> None:
        """This will let the agent know that everything up to `seq` is committed, or refused for a reason."""
        self.acked_seq = max(self.acked_seq, seq)
        self.refused |= refused
        self.ack_due = True
        self.wake.set()

    def look_after(self, now: float, *, silence_seconds: float) -> None:
        """This will end the stream if it is silent, if its certificate has expired, or if it ended and does not go."""
        if self.ended.is_set():
            self.ended_at = self.ended_at or now
            if now - self.ended_at >= LOOK_SECONDS:  # it had its time to send what was left; its peer does not read
                for task in (self.reading, self.sending):
                    if task is not None:
                        task.cancel()
        elif now - self.heard_at > silence_seconds:
            log.info("node %d has been silent for %d s; its stream is closed", self.node_id, silence_seconds)
            self.end()
        elif now >= self.expires_at:  # TLS looks at the dates when a connection begins, and never again
            self.send(wire.refusal("IDENTITY", "the certificate has expired; renew it", 1))
            self.end()


class RefusedConnection(Exception):
    """A connection that is not accepted; becomes a Refusal message."""

    def __init__(self, code: str, detail: str, retry_after_seconds: int) -> None:
        super().__init__(detail)
        self.code = code
        self.retry_after_seconds = retry_after_seconds


class Call:
    """A call's two directions. An end of the call is an end here, and no error."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.is_over = False  # the agent has left without a word, or our server was stopped

    async def take(self) -> None:
        """This will let the agent know that its call is taken by us; link.proto says why it waits for that."""
        try:
            await self.context.send_initial_metadata(TAKEN)
        except grpc.aio.BaseError:  # how grpc.aio says that the call is over
            self.is_over = True

    async def read(self) -> link_pb2.AgentMessage | None:
        """This will give the next message, or None when the agent has closed its side or the call is over.

        Raises RefusedMessage.
        """
        try:
            message: object = await self.context.read()
        except DecodeError as error:
            raise wire.RefusedMessage("undecodable", f"a message cannot be decoded: {error}") from error
        except grpc.aio.BaseError:  # how grpc.aio says that its server was stopped under the call
            self.is_over = True
            return None
        return message if isinstance(message, link_pb2.AgentMessage) else None

    async def write(self, message: link_pb2.ServerMessage | bytes) -> bool:
        """This will send a message and say whether the agent was still there to get it."""
        try:
            await self.context.write(message)
        except grpc.aio.BaseError:  # how grpc.aio says that the call is over
            self.is_over = True
            return False
        except asyncio.CancelledError:  # of the agent that reads nothing: behind this message no status can be sent
            self.is_over = True
            raise
        return True

    def leave(self) -> None:
        """This will end a handler as grpc.aio expects: cancelled, if its call is over, for there is no status to send.

        grpc.aio cancels it by itself too, but not always before it has ended.
        """
        if self.is_over:
            raise asyncio.CancelledError("the call is over")
