"""Brings closed epochs from disk to the control plane, oldest first, beside the live stream."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import grpc

from node_agent.clock import Clock
from node_agent.uplink import wire
from node_agent.uplink.backoff import Backoff, Ending
from node_agent.uplink.channel import Disconnected
from node_agent.uplink.client import (
    ACK_TIMEOUT_SECONDS,
    Identity,
    greet,
    loss_message,
    read,
    write,
)
from node_agent.uplink.disk import DiskSpool
from node_agent.uplink.endings import ending_of
from node_agent.uplink.frames import Stream, announce_frame, batch_frame, open_stream
from node_agent.uplink.segment import Record
from optiinfra.telemetry.v1 import link_pb2, telemetry_pb2

log = logging.getLogger(__name__)

# Of the window: the backlog must not take more of the control plane than the live samples may.
SHARE = 2


class BacklogLane:
    """One stream after the other, each for one closed epoch."""

    def __init__(self, disk: DiskSpool, identity: Identity, clock: Clock, *, backoff: Backoff, boot_id: str) -> None:
        """`boot_id` is this boot's: monotonic stamps of another one mean nothing now."""
        self._disk = disk
        self._identity = identity
        self._clock = clock
        self._backoff = backoff
        self._boot_id = boot_id
        self._sent_seq = 0
        self._committed_seq = 0

    def pending(self) -> bool:
        """This will say whether there is anything to bring."""
        return bool(self._disk.backlog_epochs())

    async def run(self, channel: grpc.aio.Channel) -> None:
        """This will bring every closed epoch, and those that close later, until cancelled."""
        while True:
            self._disk.backlog_changed.clear()
            if not self.pending():
                await self._disk.backlog_changed.wait()
                continue
            started, ending = self._clock.now().monotonic_seconds, Ending()
            try:
                await self.bring(channel, beside_live=True)
                continue
            except (Disconnected, grpc.aio.AioRpcError, TimeoutError) as error:
                log.debug("the backlog waits: %s", error)
                ending = ending_of(error)
            except Exception:  # boundary: what is wrong with old samples must not stop the live ones
                log.exception("the backlog cannot be brought")
            lasted = self._clock.now().monotonic_seconds - started
            await asyncio.sleep(self._backoff.delay_seconds(ending, lasted_seconds=lasted))

    async def bring(self, channel: grpc.aio.Channel, *, beside_live: bool) -> None:
        """This will bring the closed epochs that there are. Without `beside_live` the stream is an ordinary one."""
        for epoch in self._disk.backlog_epochs():
            stream = open_stream(channel)
            try:
                await self._bring_epoch(stream, epoch, beside_live=beside_live)
            finally:
                stream.cancel()

    async def _bring_epoch(self, stream: Stream, epoch: bytes, *, beside_live: bool) -> None:
        async with asyncio.timeout(ACK_TIMEOUT_SECONDS):
            welcome = await greet(stream, self._identity, epoch=epoch, clock=self._clock, backlog=beside_live)
        self._sent_seq = self._committed_seq = welcome.committed_seq
        self._disk.acknowledged(epoch, welcome.committed_seq)
        window = max(1, welcome.window_batches // SHARE)
        for header, records in self._disk.stored(epoch):
            first = next((r.seq for r in records if r.seq), 0)
            await self._tell_losses(stream, epoch, before=first)
            await self._send(stream, epoch, records, window=window, restamp=header.boot_id != self._boot_id)
        await self._tell_losses(stream, epoch, before=None)
        await self._settle(stream, epoch)

    async def _send(
        self, stream: Stream, epoch: bytes, records: Sequence[Record], *, window: int, restamp: bool
    ) -> None:
        under_way = 0
        for record in records:
            if record.announce:
                await write(stream, announce_frame(record.announce))
            if record.seq <= self._sent_seq:
                continue
            tick = self._restamped(record.tick) if restamp else record.tick
            await write(stream, batch_frame(record.seq, tick))
            self._sent_seq = record.seq
            under_way += 1
            if under_way >= window:
                await self._settle(stream, epoch)
                under_way = 0
        await self._settle(stream, epoch)

    def _restamped(self, serialised: bytes) -> bytes:
        """This will put a tick of another boot on this one's monotonic clock, by its wall time."""
        tick, now = telemetry_pb2.Tick.FromString(serialised), self._clock.now()
        age_us = max(0, wire.unix_us(now) - tick.taken_at_unix_us)
        tick.taken_at_monotonic_us = wire.monotonic_us(now) - age_us
        return tick.SerializeToString()

    async def _tell_losses(self, stream: Stream, epoch: bytes, *, before: int | None) -> None:
        for loss in self._disk.losses(epoch):
            if before is not None and loss.first_seq >= before:
                return
            unsent = loss.after(self._sent_seq)
            if unsent is not None:
                await write(stream, link_pb2.AgentMessage(loss=loss_message(unsent)))
                self._sent_seq = unsent.last_seq

    async def _settle(self, stream: Stream, epoch: bytes) -> None:
        """This will wait until all that was sent is acknowledged, and let go of it."""
        while self._committed_seq < self._sent_seq:
            async with asyncio.timeout(ACK_TIMEOUT_SECONDS):
                message = await read(stream)
            match message.WhichOneof("body"):
                case "ack":
                    for refused in message.ack.refused:
                        log.error("the control plane refused batch %d of the backlog: %s", refused.seq, refused.reason)
                    self._committed_seq = max(self._committed_seq, message.ack.committed_seq)
                case "refusal":
                    raise Disconnected(
                        message.refusal.detail, retry_after_seconds=float(message.refusal.retry_after_seconds)
                    )
                case "drain":
                    seconds = message.drain.reconnect_after_ms / 1000
                    raise Disconnected("the control plane is restarting", retry_after_seconds=seconds)
                case _:
                    pass
        self._disk.acknowledged(epoch, self._sent_seq)
