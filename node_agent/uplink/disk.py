"""What is not acknowledged, on disk: survives a kill, is bounded by size and age, and never stops the agent.

Only closed epochs are read back: those of earlier processes, and what a long outage left of this one's.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import logging
import os
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from node_agent.clock import Clock
from node_agent.spool import Entry, Loss
from node_agent.uplink.damage import understood
from node_agent.uplink.frames import Packed
from node_agent.uplink.loss_book import LossBook
from node_agent.uplink.memory_marks import MemoryMarks
from node_agent.uplink.room import KEEP_FREE_SHARE, Room, allowed_bytes
from node_agent.uplink.segment import Header, Record, SegmentDamaged, header_bytes, read_header, record_bytes, scan
from optiinfra.telemetry.v1 import link_pb2

log = logging.getLogger(__name__)

# One is read whole when it is sent, and dropped whole when there is no room.
SEGMENT_BYTES = 4 * 1024 * 1024
# After the disk failed, how long the samples stay in memory alone before it is tried again.
RETRY_SECONDS = 5.0
SYNC_SECONDS = 1.0
# Files that could not be read at all: enough to see why, and never more than a share of the spool.
SET_ASIDE = ".damaged"
MOST_SET_ASIDE = 4
ASIDE_SHARE = 8
_NAME = re.compile(r"(\d+)(?:-([0-9a-f]{32}))?\.segment")  # serial number, and the epoch since the second release
TOO_MUCH = "the agent's disk spool was full while the control plane was away"
DAMAGED = "the agent's disk spool was damaged"
UNKEPT = "the agent ended while its disk took nothing"
TOO_OLD = "the agent's disk spool keeps no sample for longer"


@dataclass(slots=True)
class _Segment:
    path: Path
    header: Header
    size_bytes: int
    last_written_at: float  # monotonic seconds of this process
    first_seq: int = 0  # 0: nothing but announcements so far
    last_seq: int = 0
    first_us: int = 0
    last_us: int = 0
    lost_seq: int = 0  # a last record that is damaged

    def note(self, record: Record) -> None:
        """This will widen the range by a record."""
        if record.seq == 0:
            return
        if self.first_seq == 0:
            self.first_seq, self.first_us = record.seq, record.taken_at_unix_us
        self.last_seq, self.last_us = record.seq, record.taken_at_unix_us


class DiskSpool:
    """Segment files of one agent's epochs. Owned by the event loop; only syncing leaves it."""

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        *,
        epoch: bytes,
        boot_id: str,
        max_bytes: int,
        max_age_seconds: float,
        everything: Callable[[], link_pb2.Announce],
    ) -> None:
        """`epoch` is the live one; `everything` announces all that its batches may name."""
        self.epoch = epoch
        self.failures = 0  # writes that did not reach the disk
        self.backlog_changed = asyncio.Event()  # set when an epoch was closed
        self._folder = folder
        self._clock = clock
        self._boot_id = boot_id
        self._max_bytes = max_bytes
        self._segment_bytes = min(SEGMENT_BYTES, max(1, max_bytes // 8))
        self._max_age_seconds = max_age_seconds
        self._everything = everything
        self._segments: list[_Segment] = []  # oldest first
        self._losses = LossBook(folder)
        self._marks = MemoryMarks(folder / "unkept")
        self._aside_bytes = 0
        self._file: int | None = None
        self._serial = 0
        self._failed_at: float | None = None
        self._lock: int | None = None
        # What the control plane has needs no disk under it, so with a link that works nothing is ever synced.
        self._unsynced_seq = 0  # the newest batch of the live epoch that is neither synced nor acknowledged; 0: none
        self._unsynced_since = 0.0  # monotonic seconds, when the oldest such batch was written
        self._unclosed: list[int] = []  # files that are whole, to be synced and closed off the loop
        self._dirty = asyncio.Event()  # set when there is something to sync

    # -- what earlier processes left --------------------------------------------------------------

    def recover(self) -> None:
        """This will find what earlier processes left. A disk that fails is said, and the agent goes on without."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(self._folder / "lock")
            self._losses.recover()
            for path in sorted(self._folder.glob("*.segment")):
                named = _NAME.match(path.name)
                self._serial = max(self._serial, int(named[1]) if named else 0)
                self._recover_segment(path)
            self._note_lost_ends()
            self._note_unkept()
            self._bound_damaged()
        except OSError as error:
            self._fail(error)

    def _recover_segment(self, path: Path) -> None:
        try:
            data = path.read_bytes()
            header, written_at = _header(path, data), self._written_at(path)
        except (SegmentDamaged, OSError) as error:
            log.error("%s is set aside: %s", path, error)
            with suppress(OSError):
                path.rename(path.with_suffix(SET_ASIDE))
            return
        found = scan(data, after_seq=self._last_seq(header.epoch))
        segment = _Segment(path=path, header=header, size_bytes=len(data), last_written_at=written_at)
        for record in found.records:
            segment.note(record)
        segment.lost_seq = found.lost_seq
        if segment.first_seq or segment.lost_seq:
            self._segments.append(segment)
        else:
            self._remove(segment)

    def _last_seq(self, epoch: bytes) -> int:
        return max((s.last_seq for s in self._segments if s.header.epoch == epoch), default=0)

    def _note_lost_ends(self) -> None:
        """A damaged record within an epoch is a gap in the numbers; at its very end nobody would miss it."""
        for segment in {s.header.epoch: s for s in self._segments}.values():  # the last one of each
            if segment.lost_seq:
                when = segment.last_us
                self._lose(segment, first_seq=segment.lost_seq, last_seq=segment.lost_seq, when=when, reason=DAMAGED)
                if not segment.first_seq:
                    self._segments.remove(segment)
                    self._remove(segment)

    def _note_unkept(self) -> None:
        """What was in memory alone ended with its process; what of it the control plane has, it will say."""
        for mark in self._marks.open():
            first_seq = max(mark.first_seq, self._last_seq(mark.epoch) + 1)
            loss = Loss(
                first_seq=first_seq,
                last_seq=mark.last_seq,
                first_taken_at_unix_us=mark.first_us,
                last_taken_at_unix_us=mark.last_us,
                reason=UNKEPT,
            )
            if first_seq <= mark.last_seq and loss not in self._losses.of(mark.epoch):
                self._losses.add(mark.epoch, loss)
            if self._losses.is_written(mark.epoch):
                self._marks.clear(mark)

    def _bound_damaged(self) -> None:
        """This will keep the newest files that could not be read, for whoever wants to know why."""
        aside = sorted(self._folder.glob(f"*{SET_ASIDE}"), reverse=True)
        self._aside_bytes = 0
        for count, path in enumerate(aside):
            size = path.stat().st_size
            if count < MOST_SET_ASIDE and self._aside_bytes + size <= self._max_bytes // ASIDE_SHARE:
                self._aside_bytes += size
            else:
                path.unlink(missing_ok=True)

    def _written_at(self, path: Path) -> float:
        """This will place a file's last write on this process's clock; one of the future counts as now."""
        now = self._clock.now()
        return now.monotonic_seconds - max(0.0, now.wall.timestamp() - path.stat().st_mtime)

    # -- the live epoch ---------------------------------------------------------------------------

    def keep(self, entry: Entry[Packed]) -> bool:
        """This will write a batch and say whether it is on disk now."""
        kept = self._keep(entry)
        if kept:
            self._marks.sound()
        else:
            self._marks.note(epoch=self.epoch, seq=entry.seq, taken_at_unix_us=entry.taken_at_unix_us)
        return kept

    def _keep(self, entry: Entry[Packed]) -> bool:
        now = self._clock.now().monotonic_seconds
        if self._failed_at is not None and now - self._failed_at < RETRY_SECONDS:
            return False
        if self._lock is None:
            self.recover()
            if self._lock is None:
                return False
        record = Record(
            seq=entry.seq,
            taken_at_unix_us=entry.taken_at_unix_us,
            announce=entry.payload.announce,
            tick=entry.payload.tick,
        )
        try:
            self._make_room()
            if self._file is None or self._segments[-1].size_bytes >= self._segment_bytes:
                self._rotate()
            self._write(record)
        except OSError as error:
            self._fail(error)
            return False
        if self._failed_at is not None:
            log.warning("samples are kept on disk again")
            self._failed_at = None
        if not self._unsynced_seq:
            self._unsynced_since = now
        self._unsynced_seq = entry.seq
        self._dirty.set()
        return True

    def _rotate(self) -> None:
        self._end_file()
        self._serial += 1
        header = Header(epoch=self.epoch, boot_id=self._boot_id)
        path = self._folder / f"{self._serial:012d}-{self.epoch.hex()}.segment"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        now = self._clock.now().monotonic_seconds
        self._segments.append(_Segment(path=path, header=header, size_bytes=0, last_written_at=now))
        head = header_bytes(header)
        self._put(head)
        self._write(Record(seq=0, taken_at_unix_us=0, announce=self._everything().SerializeToString(), tick=b""))

    def _write(self, record: Record) -> None:
        self._put(record_bytes(record))
        segment = self._segments[-1]
        segment.note(record)
        segment.last_written_at = self._clock.now().monotonic_seconds

    def _put(self, data: bytes) -> None:
        assert self._file is not None
        written = write(self._file, data)
        self._segments[-1].size_bytes += written
        if written < len(data):
            raise OSError(errno.ENOSPC, "No space left on device")

    def _fail(self, error: OSError) -> None:
        """This will go on in memory. What was torn is at its file's end, where no reader minds it."""
        self.failures += 1
        if self._failed_at is None:
            log.error("samples are kept in memory only, the disk spool %s fails: %s", self._folder, error)
        self._failed_at = self._clock.now().monotonic_seconds
        self._end_file()
        for segment in [s for s in self._segments if s.first_seq == 0]:
            self._segments.remove(segment)
            self._remove(segment)

    def _end_file(self) -> None:
        """This will write no more to the live file; syncing and closing it may take a slow disk long."""
        if self._file is not None:
            self._unclosed.append(self._file)
            self._file = None
            self._dirty.set()

    def committed(self, seq: int) -> None:
        """This will let go of the live epoch's segments up to `seq`."""
        if seq >= self._unsynced_seq:
            self._unsynced_seq = 0
        self.acknowledged(self.epoch, seq)

    def close_epoch(self, losses: list[Loss]) -> None:
        """This will end the live epoch: what is on disk of it becomes backlog, and a new one begins."""
        for loss in losses:
            self._losses.add(self.epoch, loss)
        self._end_file()
        self._unsynced_seq = 0
        self.epoch = secrets.token_bytes(16)
        self.backlog_changed.set()

    # -- closed epochs ----------------------------------------------------------------------------

    def backlog_epochs(self) -> list[bytes]:
        """This will give the closed epochs that have something to send, oldest first."""
        epochs = dict.fromkeys([s.header.epoch for s in self._segments] + self._losses.epochs())
        return [epoch for epoch in epochs if epoch != self.epoch]

    def stored(self, epoch: bytes) -> Iterator[tuple[Header, Sequence[Record]]]:
        """This will give an epoch's segments, one at a time. What cannot be read any more is lost, and said so."""
        after_seq = 0
        for segment in [s for s in self._segments if s.header.epoch == epoch]:
            found = self._read(segment, after_seq=after_seq)
            last = max((record.seq for record in found), default=0)
            if last < segment.first_seq:
                self._drop(segment, reason=DAMAGED)
                continue
            if last < segment.last_seq:
                when = segment.last_us
                self._lose(segment, first_seq=last + 1, last_seq=segment.last_seq, when=when, reason=DAMAGED)
                segment.last_seq = last
            after_seq = last
            yield segment.header, found

    def _read(self, segment: _Segment, *, after_seq: int) -> Sequence[Record]:
        try:
            data = segment.path.read_bytes()
        except OSError as error:
            log.error("%s cannot be read: %s", segment.path, error)
            return ()
        found = scan(data, after_seq=max(after_seq, segment.first_seq - 1))
        begins_whole = bool(found.records) and found.records[0].seq == 0
        return found.records if begins_whole and not found.is_damaged else list(understood(found.records))

    def losses(self, epoch: bytes) -> list[Loss]:
        """This will give what of a closed epoch was dropped, oldest first."""
        return self._losses.of(epoch)

    def acknowledged(self, epoch: bytes, seq: int) -> None:
        """This will let go of an epoch up to `seq`; the file that is being written stays."""
        writing = self._segments[-1] if self._file is not None else None
        done = [s for s in self._segments if s.header.epoch == epoch and s.last_seq <= seq and s is not writing]
        for segment in done:
            self._segments.remove(segment)
            self._remove(segment)
        self._losses.acknowledged(epoch, seq)

    def _make_room(self) -> None:
        """This will drop the oldest segments of closed epochs; the live one is bounded by memory.

        Raises OSError when that is not enough.
        """
        oldest_allowed = self._clock.now().monotonic_seconds - self._max_age_seconds
        held, allowed = self._held_bytes(), self._allowed_bytes()
        for segment in [s for s in self._segments if s.header.epoch != self.epoch]:
            too_old = segment.last_written_at < oldest_allowed
            if held <= allowed and not too_old:
                break
            held -= segment.size_bytes
            self._drop(segment, reason=TOO_OLD if too_old else TOO_MUCH)
        self._losses.settle()
        if held > allowed:  # others fill the disk, and there is nothing left to drop
            raise OSError(errno.ENOSPC, f"less than {KEEP_FREE_SHARE:.0%} of the disk is free")

    def _held_bytes(self) -> int:
        return self._aside_bytes + sum(s.size_bytes for s in self._segments)

    def _allowed_bytes(self) -> int:
        seen = os.statvfs(self._folder)
        room = Room(total_bytes=seen.f_blocks * seen.f_frsize, available_bytes=seen.f_bavail * seen.f_frsize)
        return allowed_bytes(room, held_bytes=self._held_bytes(), most_bytes=self._max_bytes)

    def _drop(self, segment: _Segment, *, reason: str) -> None:
        if segment not in self._segments:
            return
        when = segment.last_us
        self._lose(segment, first_seq=segment.first_seq, last_seq=segment.last_seq, when=when, reason=reason)
        self._segments.remove(segment)
        self._remove(segment)
        self.backlog_changed.set()

    def _lose(self, segment: _Segment, *, first_seq: int, last_seq: int, when: int, reason: str) -> None:
        first_us = segment.first_us if first_seq <= segment.first_seq else when
        self._losses.add(
            segment.header.epoch,
            Loss(
                first_seq=first_seq,
                last_seq=last_seq,
                first_taken_at_unix_us=first_us,
                last_taken_at_unix_us=when,
                reason=reason,
            ),
        )

    def _remove(self, segment: _Segment) -> None:
        with suppress(OSError):
            segment.path.unlink(missing_ok=True)

    # -- durability -------------------------------------------------------------------------------

    async def run(self) -> None:
        """This will bring to the disk itself what was not acknowledged within a second, off the loop."""
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            files, self._unclosed = self._unclosed, []
            try:
                if files:
                    await sync(files)
                await self._sync_live()
            except OSError as error:
                self._fail(error)

    async def _sync_live(self) -> None:
        while self._unsynced_seq and self._file is not None:
            due = self._unsynced_since + SYNC_SECONDS - self._clock.now().monotonic_seconds
            if due > 0:
                await asyncio.sleep(due)
                continue
            self._unsynced_seq = 0  # before it begins: what is written meanwhile is not in it
            await sync([os.dup(self._file)])  # the loop may close its own at any time

    def close(self) -> None:
        """This will end the live file; the next process finds what is left."""
        self._end_file()
        files, self._unclosed = self._unclosed, []
        with suppress(OSError):
            _sync_and_close(files)
        self._marks.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _header(path: Path, data: bytes) -> Header:
    """This will say who wrote a file. Raises SegmentDamaged.

    The epoch is in its name too: records prove themselves, and need not be lost with the header. From which boot they
    are is then unknown, so that they are stamped by their wall time.
    """
    try:
        return read_header(data)
    except SegmentDamaged:
        named = _NAME.match(path.name)
        if named is None or named[2] is None or not scan(data).records:
            raise
        log.error("the header of %s is damaged; its records are read by the epoch in its name", path)
        return Header(epoch=bytes.fromhex(named[2]), boot_id="")


async def sync(files: list[int]) -> None:
    """This will bring files to the disk and close them, off the loop. Raises OSError."""
    await asyncio.to_thread(_sync_and_close, files)


def _sync_and_close(files: list[int]) -> None:
    """This will bring files to the disk. Raises the last OSError, after all of them are closed."""
    failed: OSError | None = None
    for file in files:
        try:
            os.fsync(file)
        except OSError as error:
            failed = error
        os.close(file)
    if failed is not None:
        raise failed


def _locked(path: Path) -> int:
    """This will give the lock that makes one process the folder's owner. Raises OSError when another is."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise
    return lock


def write(file: int, data: bytes) -> int:
    """This will write to a file and say how many bytes arrived; a disk that fills up takes a part."""
    return os.write(file, data)
