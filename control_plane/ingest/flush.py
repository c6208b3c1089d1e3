"""One commit: everything that has arrived since the last one, in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Protocol

import numpy as np
import numpy.typing as npt

from control_plane.ingest.admission import AdmittedBatch, AdmittedTick
from control_plane.ingest.decode import Piece, decode
from control_plane.model.entity import AnnouncedEntity
from control_plane.model.errors import StorageRefused
from control_plane.model.event import AdmittedEvent
from control_plane.model.node import Refusal, SampleLoss
from control_plane.storage import cursors, entities, events, statuses
from control_plane.storage.cursors import CursorKey
from control_plane.storage.rollups import marks
from control_plane.storage.samples import SampleWriter
from control_plane.storage.session import SyncConnection
from control_plane.storage.statuses import Status

# Ten fleets of the largest size that one replica takes; beyond it all are read again, once.
MOST_POSITIONS = 100_000
UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_datetime(unix_us: int) -> datetime:
    """This will turn microseconds since 1970 into an aware time, without float rounding."""
    return UNIX_EPOCH + timedelta(microseconds=unix_us)


class Stream(Protocol):
    """What a flush needs of a connected agent."""

    node_id: int
    epoch: bytes
    sampling_interval_seconds: float | None
    backlog: bool  # brings what was sampled before, beside the live stream
    pending_bytes: int  # of it, and not committed yet
    entity_ids: npt.NDArray[np.int32]  # by the agent's ids; written by the flush, read by it


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """Entities that later batches of the stream name."""

    stream: Stream
    entities: Sequence[tuple[int, AnnouncedEntity]]
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """A batch to be stored."""

    stream: Stream
    batch: AdmittedBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A batch, or a message without a number (seq 0), that cannot be stored."""

    stream: Stream
    seq: int
    cause: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """Batches that an agent says will never come."""

    stream: Stream
    loss: SampleLoss


Item = Announced | Arrived | Refused | Lost


@dataclass(slots=True)
class Outcome:
    """What a flush did, for acknowledgements and for the counters."""

    positions: dict[tuple[int, bytes], int] = field(default_factory=dict)
    rows: int = 0
    batches: int = 0
    duplicates: int = 0
    impossible_values: int = 0
    command_ids: list[str] = field(default_factory=list)


class _Overtaken(Exception):
    """Another replica has moved a cursor: what this transaction was about to do is done in part already."""


Look = Callable[[SyncConnection, set[CursorKey], datetime], dict[CursorKey, int]]


class Flusher:
    """Writes items in one transaction each call. Owned by one thread."""

    def __init__(self) -> None:
        """The partitions that exist are learnt as days are met, and where the cursors stand as streams are."""
        self._samples = SampleWriter()
        self._days: set[date] = set()
        self._positions: dict[CursorKey, int] = {}  # as this process committed them; others may have moved on

    def missing_days(self, items: Iterable[Item]) -> set[date]:
        """This will name the days for which a partition may still have to be made."""
        days = {
            to_datetime(tick.taken_at_us).date()
            for item in items
            if isinstance(item, Arrived)
            for tick in item.batch.ticks
        }
        return days - self._days

    def partitions_made(self, days: Iterable[date]) -> None:
        """This will remember that the partitions of `days` exist."""
        self._days |= set(days)

    def forget(self) -> None:
        """This will look again next time: retention may have dropped partitions, and a commit that failed be done."""
        self._days.clear()
        self._positions.clear()

    def flush(self, connection: SyncConnection, items: Sequence[Item], now: datetime) -> Outcome:
        """This will store `items`, in order, and commit. On any error nothing is stored."""
        try:
            try:
                outcome = self._transaction(connection, items, now, self._expected)
            except _Overtaken:
                connection.rollback()
                self._samples.rolled_back()
                outcome = self._transaction(connection, items, now, cursors.lock)
            connection.commit()
        except BaseException:
            self._samples.rolled_back()
            raise
        self._samples.committed()
        if len(self._positions) > MOST_POSITIONS:
            self._positions.clear()
        self._positions |= outcome.positions
        return outcome

    def _expected(self, connection: SyncConnection, keys: set[CursorKey], now: datetime) -> dict[CursorKey, int]:
        """This will say where cursors stand as far as we know: nearly always nobody else has moved them."""
        known = {key: self._positions[key] for key in keys & self._positions.keys()}
        return known | cursors.read(connection, keys - known.keys(), now)

    def _transaction(self, connection: SyncConnection, items: Sequence[Item], now: datetime, look: Look) -> Outcome:
        closed = marks.hold_open(connection)
        self._resolve_entities(connection, items, now)
        keys = {(item.stream.node_id, item.stream.epoch) for item in items if _numbered(item)}
        before = look(connection, keys, now)
        positions = dict(before)
        plan = _plan(items, positions, now)
        if not cursors.claim(connection, before, positions, now):
            raise _Overtaken
        pieces = [
            piece for stream, batch in plan.batches for tick in batch.ticks for piece in _pieces(stream, batch, tick)
        ]
        blocks, impossible = decode(pieces)
        rows = self._samples.write(connection, blocks)
        marks.note_late(connection, blocks, closed)
        statuses.update(connection, [_status(s, b, t) for s, b in plan.batches for t in b.ticks])
        events.insert(connection, [row for s, b in plan.batches for t in b.ticks for row in _events(s, b, t)])
        cursors.record_losses(connection, plan.losses, now)
        cursors.record_refusals(connection, plan.refusals)
        return Outcome(
            positions=positions,
            rows=rows,
            batches=len(plan.batches),
            duplicates=plan.duplicates,
            impossible_values=impossible,
            command_ids=[t.command_id for _, b in plan.batches for t in b.ticks if t.command_id],
        )

    def _resolve_entities(self, connection: SyncConnection, items: Sequence[Item], now: datetime) -> None:
        announced = [(item.stream, pair) for item in items if isinstance(item, Announced) for pair in item.entities]
        ids = entities.upsert(connection, [entity for _, (_, entity) in announced], now)
        for stream, (local_id, entity) in announced:
            # Another array each time: what was looked up in the one before is seen to be old.
            known = np.full(max(64, len(stream.entity_ids), 2 * local_id), -1, np.int32)
            known[: len(stream.entity_ids)] = stream.entity_ids
            known[local_id] = ids[(entity.node_id, entity.kind, entity.key)]
            stream.entity_ids = known


@dataclass(slots=True)
class _Plan:
    batches: list[tuple[Stream, AdmittedBatch]] = field(default_factory=list)
    losses: list[SampleLoss] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    duplicates: int = 0


def _numbered(item: Item) -> bool:
    return not isinstance(item, Announced)


def _plan(items: Sequence[Item], positions: dict[tuple[int, bytes], int], now: datetime) -> _Plan:
    """This will decide what is new, moving `positions` on; a hole that nobody explained becomes a loss."""
    plan = _Plan()
    for item in items:
        if isinstance(item, Announced):
            continue
        key = (item.stream.node_id, item.stream.epoch)
        match item:
            case Refused(cause=cause, detail=detail, seq=seq):
                if seq == 0 or seq > positions[key]:
                    plan.refusals.append(Refusal(node_id=key[0], cause=cause, detail=detail, count=1, at=now))
                    _note_gap(plan, key, positions[key], seq)
            case Lost(loss=loss):
                seq = loss.last_seq
                if seq > positions[key]:
                    plan.losses.append(_after(loss, positions[key]))
                    _note_gap(plan, key, positions[key], loss.first_seq)
            case Arrived(batch=batch):
                seq = batch.seq
                if seq <= positions[key]:
                    plan.duplicates += 1
                else:
                    plan.batches.append((item.stream, batch))
                    _note_gap(plan, key, positions[key], seq)
        positions[key] = max(positions[key], seq)
    return plan


def _after(loss: SampleLoss, position: int) -> SampleLoss:
    """This will give the part of a loss that is newer than `position`: what came before has arrived, or is told."""
    if loss.first_seq > position:
        return loss
    left, told = loss.last_seq - position, loss.last_seq - loss.first_seq + 1
    ticks = None if loss.tick_count is None else loss.tick_count * left // told  # exact with one tick in each batch
    return replace(loss, first_seq=position + 1, first_taken_at=None, tick_count=ticks)


def _note_gap(plan: _Plan, key: tuple[int, bytes], position: int, seq: int) -> None:
    if seq > position + 1:
        plan.losses.append(
            SampleLoss(
                node_id=key[0],
                epoch=key[1],
                first_seq=position + 1,
                last_seq=seq - 1,
                first_taken_at=None,
                last_taken_at=None,
                tick_count=None,
                reason="never arrived, and the agent did not say why",
            )
        )


def _pieces(stream: Stream, batch: AdmittedBatch, tick: AdmittedTick) -> Iterable[Piece]:
    for layout, records, roster in tick.rows:
        if roster.entity_ids is None or roster.looked_up_in is not stream.entity_ids:
            roster.entity_ids = _resolved(stream, roster.local_ids)
            roster.looked_up_in = stream.entity_ids
        yield Piece(
            layout,
            records,
            roster.entity_ids,
            stream.node_id,
            tick.taken_at_us,
            batch.received_at_us,
            tick.clock_offset_seconds,
        )


def _resolved(stream: Stream, local_ids: npt.NDArray[np.uint32]) -> npt.NDArray[np.int32]:
    """This will give the database's ids. Raises StorageRefused for an entity that Postgres would not take."""
    ids = stream.entity_ids
    if len(local_ids) and (local_ids.max() >= len(ids) or (ids[local_ids] < 0).any()):
        raise StorageRefused("a row is about an entity whose announcement could not be stored")
    return ids[local_ids]


def _events(
    stream: Stream, batch: AdmittedBatch, tick: AdmittedTick
) -> Iterable[tuple[int, datetime, datetime, AdmittedEvent]]:
    for event in tick.events:
        yield stream.node_id, to_datetime(event.taken_at_us), to_datetime(batch.received_at_us), event


def _status(stream: Stream, batch: AdmittedBatch, tick: AdmittedTick) -> Status:
    return Status(
        stream.node_id,
        tick.taken_at_us,
        batch.received_at_us,
        tick.clock_offset_seconds,
        stream.sampling_interval_seconds,
        tick.collectors,
    )


def split(items: Sequence[Item]) -> tuple[Sequence[Item], Sequence[Item]]:
    """This will halve `items`, keeping their order, to find the one that cannot be stored."""
    middle = len(items) // 2
    return items[:middle], items[middle:]


def as_refused(item: Item, reason: str) -> Item:
    """This will turn an item that Postgres will not take into a counted refusal."""
    seq = item.batch.seq if isinstance(item, Arrived) else 0
    return Refused(stream=item.stream, seq=seq, cause="unstorable", detail=reason)


def refusals_by_seq(items: Sequence[Item]) -> Mapping[tuple[int, bytes], dict[int, str]]:
    """This will give, by stream, the reason for each refused batch."""
    out: dict[tuple[int, bytes], dict[int, str]] = {}
    for item in items:
        if isinstance(item, Refused) and item.seq:
            out.setdefault((item.stream.node_id, item.stream.epoch), {})[item.seq] = item.detail
    return out
