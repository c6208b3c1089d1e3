"""Gathers what streams deliver and commits it, many nodes at a time.

Large commits are what makes durable acknowledgements cheap: the wait for the disk is shared. While
Postgres is away everything is kept and tried again; the bounds on kept bytes, of all and of each
stream, stop reading from streams, so agents keep what does not fit.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from control_plane.ingest.counters import IngestCounters
from control_plane.ingest.fair import FairQueue
from control_plane.ingest.flush import (
    Announced,
    Arrived,
    Flusher,
    Item,
    Lost,
    Outcome,
    Refused,
    Stream,
    as_refused,
    refusals_by_seq,
    split,
)
from control_plane.model.errors import StorageRefused, StorageUnavailable
from control_plane.runtime.clock import Clock
from control_plane.storage.bulk import BulkThread
from control_plane.storage.partitions import ensure_days
from control_plane.storage.session import LOOKUPS_ONLY, Database, storage_errors

log = logging.getLogger(__name__)

# Gathering for longer makes commits larger but acknowledgements later; a quarter second is far
# below any sampling interval.
GATHER_SECONDS = 0.25
# With many streams a commit for each quarter second is mostly the commit's own cost: up to so many quarters then.
MOST_QUARTERS, STREAMS_PER_QUARTER = 4, 64
# One commit's share: keeps a commit after an outage at a second or two. Some 2,000 hosts' ticks.
MOST_ITEMS_PER_COMMIT = 4000
MOST_BYTES_PER_COMMIT = 16 * 1024 * 1024
# Kept in memory while Postgres is away. Beyond it streams are not read, and agents buffer.
MOST_PENDING_BYTES = 128 * 1024 * 1024
# Of one stream: two of the largest batches. Who sends more, and faster than it is stored, is read more slowly.
MOST_STREAM_BYTES = 2 * 1024 * 1024
RETRY_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)

StreamKey = tuple[int, bytes]
Committed = Callable[[StreamKey, int, Mapping[int, str]], None]
CommandsDone = Callable[[Sequence[str]], None]


def _size(item: Item) -> int:
    match item:
        case Arrived(batch=batch):
            return batch.size_bytes
        case Announced(size_bytes=size_bytes):
            return size_bytes + 256
        case Refused() | Lost():
            return 256  # numbers and a sentence


def _is_awaited(item: Item) -> bool:
    """This will say whether somebody asked for it, and waits until it is stored."""
    return isinstance(item, Arrived) and any(tick.command_id for tick in item.batch.ticks)


def gather_seconds(streams: int, commit_seconds: float) -> float:
    """This will say for how long to gather: longer with many streams, and less where commits take long themselves.

    What arrives right after a commit began waits for that one, for gathering and for its own.
    """
    quarters = min(float(MOST_QUARTERS), max(1.0, streams / STREAMS_PER_QUARTER))
    return max(GATHER_SECONDS, GATHER_SECONDS * quarters - 2 * commit_seconds)


class Writer:
    """The queue between streams and Postgres, and the thread that empties it."""

    def __init__(
        self, database: Database, clock: Clock, counters: IngestCounters, committed: Committed, commands: CommandsDone
    ) -> None:
        """`committed` and `commands` are called on the event loop after each commit."""
        self._database = database
        self._clock = clock
        self._counters = counters
        self._committed = committed
        self._commands_done = commands
        self._queue: FairQueue[Item] = FairQueue()
        self._arrived = asyncio.Event()
        self._hurry = asyncio.Event()  # gathering for longer would gain nothing, or somebody waits
        self._first_at = 0.0  # loop time at which the oldest of what is gathered came
        self._commit_seconds = 0.0  # of the last one
        self._room = asyncio.Condition()
        self._idle = asyncio.Event()
        self._idle.set()
        self._thread = BulkThread(database, "ingest-writer", settings=LOOKUPS_ONLY)
        self._flusher = Flusher()

    async def submit(self, item: Item) -> None:
        """This will queue an item, waiting while too much is pending, of its stream or of all."""
        stream = item.stream
        if not self._has_room(stream):
            await self._held_back(stream)
        size_bytes = _size(item)
        stream.pending_bytes += size_bytes
        self._counters.pending_bytes += size_bytes
        if not len(self._queue):
            self._first_at = asyncio.get_running_loop().time()
            self._idle.clear()
            self._arrived.set()
        self._queue.put(stream.node_id, item, size_bytes=size_bytes, backlog=stream.backlog)
        if self._counters.pending_bytes >= MOST_BYTES_PER_COMMIT or _is_awaited(item):
            self._hurry.set()

    def _has_room(self, stream: Stream) -> bool:
        pending = self._counters.pending_bytes
        if not stream.pending_bytes:  # who holds nothing is let in even when others have filled what there is
            return pending < 2 * MOST_PENDING_BYTES
        return stream.pending_bytes < MOST_STREAM_BYTES and pending < MOST_PENDING_BYTES

    async def _held_back(self, stream: Stream) -> None:
        """This will return when the stream may go on. Until then it is not read, and its agent cannot send."""
        counters, began = self._counters, self._clock.monotonic()
        if not counters.held_back[stream.node_id]:  # once for each node; the rest is counted
            log.warning("node %d is read more slowly: %d bytes of it wait", stream.node_id, stream.pending_bytes)
        counters.held_back[stream.node_id] += 1
        counters.streams_held_back += 1
        try:
            async with self._room:
                await self._room.wait_for(lambda: self._has_room(stream))
        finally:
            counters.streams_held_back -= 1
            counters.held_back_seconds += self._clock.monotonic() - began

    async def run(self) -> None:
        """This will commit what arrives until cancelled."""
        while True:
            await self._arrived.wait()
            await self._gathered()
            items = self._queue.take(most_bytes=MOST_BYTES_PER_COMMIT, most_items=MOST_ITEMS_PER_COMMIT)
            if len(self._queue):
                self._hurry.set()
            else:
                self._hurry.clear()
                self._arrived.clear()
            await self._commit_until_done(items)
            for item in items:
                size_bytes = _size(item)
                item.stream.pending_bytes -= size_bytes
                self._counters.pending_bytes -= size_bytes
            async with self._room:
                self._room.notify_all()
            if not len(self._queue):
                self._idle.set()

    async def _gathered(self) -> None:
        """This will return when enough has been gathered, or what came first has waited for long enough."""
        until = self._first_at + gather_seconds(self._counters.streams, self._commit_seconds)
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await self._hurry.wait()

    def hurry(self) -> None:
        """This will commit what is there without gathering any longer."""
        self._hurry.set()

    async def drained(self) -> None:
        """This will return once everything submitted has been committed."""
        await self._idle.wait()

    def close(self) -> None:
        """This will close the connection; call it after `run` has ended."""
        self._thread.close()

    async def _commit_until_done(self, items: Sequence[Item]) -> None:
        attempt = 0
        while True:
            try:
                await self._commit(items)
                return
            except StorageUnavailable as error:
                self._counters.commit_failures += 1
                self._counters.last_error = str(error)
                if attempt == 0:
                    log.warning("samples wait for Postgres: %s", self._counters.last_error)
                await asyncio.sleep(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])
                attempt += 1

    async def _commit(self, items: Sequence[Item]) -> None:
        loop = asyncio.get_running_loop()
        started = self._clock.monotonic()
        try:
            outcome = await loop.run_in_executor(self._thread.executor, self._flush, items)
        except StorageUnavailable:
            raise
        except Exception as error:  # boundary: one node's data must not stop the samples of the others
            await self._commit_parts(items, error)
            return
        self._commit_seconds = self._clock.monotonic() - started
        self._counters.commit_seconds += self._commit_seconds
        self._count(items, outcome)
        refused = refusals_by_seq(items)
        for key, seq in outcome.positions.items():
            self._committed(key, seq, refused.get(key, {}))
        self._commands_done(outcome.command_ids)

    async def _commit_parts(self, items: Sequence[Item], error: Exception) -> None:
        """This will find the item that Postgres will not take, refuse it, and commit the others."""
        if len(items) > 1:
            for part in split(items):
                await self._commit(part)
            return
        item, reason = items[0], f"{type(error).__name__}: {error}".splitlines()[0]
        trace = None if isinstance(error, StorageRefused) else error  # anything else is a mistake of ours
        if isinstance(item, Refused):
            # Its node is gone. Not acknowledged: the agent connects again, is introduced anew, and sends again.
            log.error("not even a refusal can be stored (node %d): %s", item.stream.node_id, reason, exc_info=trace)
            self._counters.batches_refused["unrecordable"] += 1
            return
        log.error("refused what cannot be stored (node %d): %s", item.stream.node_id, reason, exc_info=trace)
        await self._commit([as_refused(item, reason)])

    def _count(self, items: Sequence[Item], outcome: Outcome) -> None:
        counters = self._counters
        counters.commits += 1
        counters.batches_committed += outcome.batches
        counters.rows_committed += outcome.rows
        counters.batches_duplicate += outcome.duplicates
        counters.values_impossible += outcome.impossible_values
        counters.last_error = None
        for item in items:
            if isinstance(item, Refused):
                counters.batches_refused[item.cause] += 1
            elif isinstance(item, Lost):
                counters.ticks_lost += item.loss.tick_count or 0

    def _flush(self, items: Sequence[Item]) -> Outcome:
        """Runs on the writer's thread."""
        try:
            with storage_errors():
                flushing = self._thread.connection()
                days = self._flusher.missing_days(items)
                if days:
                    with self._database.connect(autocommit=True) as connection:
                        ensure_days(connection, days)
                    self._flusher.partitions_made(days)
                return self._flusher.flush(flushing, items, self._clock.now())
        except BaseException:
            self._flusher.forget()
            self._thread.disconnect()
            raise
