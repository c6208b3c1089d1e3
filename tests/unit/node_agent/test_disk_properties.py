"""Whatever happens to an agent and its disk: what was sampled is committed once, or reported lost, and as it was."""

from __future__ import annotations

import asyncio
import itertools
import random
import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from node_agent.clock import Instant
from node_agent.model import Entity, EntityKind, Sample, Tick
from node_agent.spool import Spool
from node_agent.uplink import disk as disk_module
from node_agent.uplink.backoff import Backoff
from node_agent.uplink.channel import Disconnected
from node_agent.uplink.client import TAKEN_KEY, Identity, Outgoing
from node_agent.uplink.disk import MOST_SET_ASIDE, RETRY_SECONDS, DiskSpool
from node_agent.uplink.frames import Packed
from node_agent.uplink.lane import BacklogLane
from node_agent.uplink.wire import Encoder
from optiinfra.telemetry.v1 import link_pb2

RING_BYTES, SPOOL_BYTES, AGE_SECONDS = 3_000, 16_000, 3_600.0
START = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)


class Clock:
    """One machine's, which runs on while its agents come and go."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def now(self) -> Instant:
        self.seconds += 0.001
        return Instant(wall=START + timedelta(seconds=self.seconds), monotonic_seconds=self.seconds)


class Epoch:
    """What a control plane knows of one epoch."""

    def __init__(self) -> None:
        self.cursor = 0
        self.committed: dict[int, bytes] = {}
        self.lost: set[int] = set()

    def batch(self, seq: int, tick: bytes) -> None:
        if seq <= self.cursor:
            return  # it comes twice, and counts once
        self.lost |= set(range(self.cursor + 1, seq))
        self.committed[seq] = tick
        self.cursor = seq

    def loss(self, last: int) -> None:
        self.lost |= set(range(self.cursor + 1, last + 1))  # with the gap before it, as the control plane does
        self.cursor = max(self.cursor, last)


class Stream:
    """A stream to that control plane, which understands only what was announced in it."""

    def __init__(self, server: Server, cut_after: int | None) -> None:
        self._server = server
        self._left = cut_after
        self._answers: list[link_pb2.ServerMessage] = []
        self._epoch = b""
        self._schemas: dict[int, int] = {}
        self._entities: set[int] = set()

    async def write(self, frame: link_pb2.AgentMessage | bytes) -> None:
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                raise Disconnected("cut")
        message = link_pb2.AgentMessage.FromString(frame) if isinstance(frame, bytes) else frame
        match message.WhichOneof("body"):
            case "hello":
                self._epoch = message.hello.epoch
                welcome = link_pb2.Welcome(committed_seq=self._known.cursor, window_batches=8, backlog_lanes=True)
                self._answers.append(link_pb2.ServerMessage(welcome=welcome))
            case "announce":
                for schema in message.announce.schemas:
                    self._schemas[schema.id] = 4 + sum(8 if f.type == 2 else 4 for f in schema.fields)
                self._entities |= {entity.id for entity in message.announce.entities}
            case "batch":
                (tick,) = message.batch.ticks
                for rows in tick.rows:
                    size = self._schemas[rows.schema_id]  # KeyError: it was never announced
                    for start in range(0, len(rows.records), size):
                        assert int.from_bytes(rows.records[start : start + 4], "little") in self._entities
                self._known.batch(message.batch.seq, tick.SerializeToString())
            case "loss":
                self._known.loss(message.loss.last_seq)
        ack = link_pb2.Ack(committed_seq=self._known.cursor, window_batches=8)
        self._answers.append(link_pb2.ServerMessage(ack=ack))

    async def initial_metadata(self) -> tuple[tuple[str, str], ...]:
        return ((TAKEN_KEY, "1"),)

    async def read(self) -> object:
        if not self._answers:
            raise Disconnected("cut")
        return self._answers.pop(0)

    def cancel(self) -> None:
        self._answers.clear()

    @property
    def _known(self) -> Epoch:
        return self._server.epochs.setdefault(self._epoch, Epoch())


class Server:
    """A control plane of a few lines."""

    def __init__(self) -> None:
        self.epochs: dict[bytes, Epoch] = {}

    def channel(self, cut_after: int | None = None) -> Any:
        """This will give something that opens streams, the first of which ends after so many messages."""
        return SimpleNamespace(stream_stream=lambda *_, **__: lambda: Stream(self, cut_after))


class SpoolOnDisk(RuleBasedStateMachine):
    """The agent's ring, disk and backlog lane against everything that ever was sampled."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="spool-"))
        self.clock, self.server = Clock(), Server()
        self.sampled: dict[bytes, dict[int, bytes]] = {}
        self.excused: set[tuple[bytes, int]] = set()  # in a file that was damaged: unread, but never wrong
        self.lives = 0
        self.full = False
        self.patch = pytest.MonkeyPatch()
        more_epochs = (b"closed".rjust(12) + number.to_bytes(4, "big") for number in itertools.count())
        self.patch.setattr(disk_module.secrets, "token_bytes", lambda _count: next(more_epochs))  # the same in each run
        whole = disk_module.write
        self.patch.setattr(disk_module, "write", lambda f, d: whole(f, d[: len(d) // 2] if self.full else d))

    # -- a process --------------------------------------------------------------------------------

    @initialize()
    def start(self) -> None:
        self.lives += 1
        self.encoder = Encoder()
        me = Identity(
            agent_id="a", node_name="n", agent_version="1", epoch=self.lives.to_bytes(16, "big"), attributes_json=b"{}"
        )
        self.disk = DiskSpool(
            self.folder, self.clock,
            epoch=me.epoch, boot_id="boot", max_bytes=SPOOL_BYTES, max_age_seconds=AGE_SECONDS,
            everything=self.encoder.everything,
        )  # fmt: skip
        self.disk.recover()
        self.spool: Spool[Packed] = Spool(max_bytes=RING_BYTES, store=self.disk)
        backoff = Backoff(random.Random(1))
        self.lane = BacklogLane(self.disk, me, self.clock, backoff=backoff, boot_id="boot")
        self.keys = 1

    @rule(padding=st.integers(0, 400), new=st.booleans())
    def sample(self, padding: int, new: bool) -> None:
        self.keys += new
        kind, key = EntityKind.DISK, f"sd{self.keys}"
        tick = Tick(
            taken_at=self.clock.now(),
            entities=[Entity(kind=kind, key=key)],
            samples=[Sample(table="disk", entity=(kind, key), values={"reads_total": float(padding)})],
            reports=(),
            command_id="x" * padding,
        )
        announce, message = self.encoder.encode(tick)
        packed = Outgoing(announce=announce, tick=message).packed()
        seq = self.spool.append(packed, size_bytes=packed.size_bytes, taken_at_unix_us=message.taken_at_unix_us)
        self.sampled.setdefault(self.spool.epoch, {})[seq] = packed.tick
        self.clock.seconds += 1

    @rule()
    def sample_many(self) -> None:
        for number in range(20):
            self.sample(number * 10, new=number % 7 == 0)

    @rule()
    def killed(self) -> None:
        """The ring is gone, and with it what the disk did not take: that is lost, and counted all the same."""
        self.disk.close()
        self.start()

    # -- the link ---------------------------------------------------------------------------------

    @rule(count=st.integers(1, 30))
    def send(self, count: int) -> None:
        """The live stream, as the uplink sends: losses, then the batch, then the acknowledgement."""
        known = self.server.epochs.setdefault(self.spool.epoch, Epoch())
        for _ in range(count):
            entry = self.spool.after(known.cursor)
            if entry is None:
                break
            for loss in self.spool.losses():
                known.loss(loss.last_seq)
            known.batch(entry.seq, entry.payload.tick)
        self.spool.committed(known.cursor)

    @rule()
    def outage(self) -> None:
        self.spool.roll()

    @rule(cut_after=st.integers(0, 20))
    def bring_some_of_the_backlog(self, cut_after: int) -> None:
        self._bring(cut_after)

    @rule()
    def bring_the_backlog(self) -> None:
        self._bring(None)

    def _bring(self, cut_after: int | None) -> None:
        channel: grpc.aio.Channel = self.server.channel(cut_after)
        try:
            asyncio.run(self.lane.bring(channel, beside_live=True))
        except Disconnected:
            assert cut_after is not None

    # -- the disk ---------------------------------------------------------------------------------

    @rule(full=st.booleans())
    def disk_fills_up_or_has_room_again(self, full: bool) -> None:
        self.full = full
        self.clock.seconds += RETRY_SECONDS + 1

    @rule(seconds=st.floats(1.0, 2 * AGE_SECONDS))
    def time_passes(self, seconds: float) -> None:
        self.clock.seconds += seconds

    @precondition(lambda self: list(self.folder.glob("*.segment")))
    @rule(data=st.data())
    def a_byte_changes(self, data: st.DataObject) -> None:
        path = self._damaged(data)
        content = bytearray(path.read_bytes())
        if content:
            content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
            path.write_bytes(content)

    @precondition(lambda self: list(self.folder.glob("*.segment")))
    @rule(data=st.data())
    def a_file_is_cut_off(self, data: st.DataObject) -> None:
        path = self._damaged(data)
        content = path.read_bytes()
        path.write_bytes(content[: data.draw(st.integers(0, len(content)))])

    @precondition(lambda self: list(self.folder.glob("*.losses")))
    @rule(data=st.data())
    def a_file_of_losses_is_cut_off(self, data: st.DataObject) -> None:
        path = self._drawn(data, "*.losses")
        for loss in self.disk.losses(bytes.fromhex(path.stem)):
            self.excused |= {(bytes.fromhex(path.stem), seq) for seq in range(loss.first_seq, loss.last_seq + 1)}
        path.write_bytes(path.read_bytes()[: data.draw(st.integers(0, 200))])

    def _damaged(self, data: st.DataObject) -> Path:
        """One of the files; what is in it, and what only its numbers tell of, is excused from being accounted for."""
        segment = self._drawn(data, "*.segment")
        for known in self.disk._segments:
            if known.path == segment:
                epoch = known.header.epoch
                before = max(
                    (
                        s.last_seq
                        for s in self.disk._segments[: self.disk._segments.index(known)]
                        if s.header.epoch == epoch
                    ),
                    default=0,
                )
                self.excused |= {(epoch, seq) for seq in range(before + 1, known.last_seq + 1)}
        return segment

    def _drawn(self, data: st.DataObject, pattern: str) -> Path:
        return self.folder / data.draw(st.sampled_from(sorted(path.name for path in self.folder.glob(pattern))))

    # -- what must hold ---------------------------------------------------------------------------

    @invariant()
    def nothing_is_committed_that_was_not_sampled_like_that(self) -> None:
        for epoch, known in self.server.epochs.items():
            for seq, tick in known.committed.items():
                assert self.sampled[epoch][seq] == tick
            assert not known.lost & known.committed.keys()

    @invariant()
    def the_disk_is_bounded(self) -> None:
        held = sum(path.stat().st_size for path in self.folder.glob("*.segment"))
        assert held <= SPOOL_BYTES + RING_BYTES
        assert len(list(self.folder.glob("*.damaged"))) <= MOST_SET_ASIDE

    def teardown(self) -> None:
        """In the end all is brought, by one more process; then every number is accounted for."""
        try:
            self.full = False
            self.clock.seconds += RETRY_SECONDS + 1
            self.send(10_000)
            self.killed()
            self._bring(None)
            for epoch, ours in self.sampled.items():
                known = self.server.epochs.get(epoch, Epoch())
                unaccounted = ours.keys() - known.committed.keys() - known.lost
                assert {seq for seq in unaccounted if (epoch, seq) not in self.excused} == set()
            assert not self.lane.pending()
        finally:
            self.disk.close()
            self.patch.undo()
            shutil.rmtree(self.folder)


SpoolOnDisk.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
test_the_disk_spool_accounts_for_everything = SpoolOnDisk.TestCase
