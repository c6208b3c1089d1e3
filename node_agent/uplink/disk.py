"""What is not acknowledged, on disk: survives a kill, is bounded by size and age, and never stops the agent.

Only closed epochs are read back: those of earlier processes, and what a long outage left of this one's.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from node_agent.clock import Clock
from node_agent.spool import Entry, Loss
from node_agent.uplink.frames import Packed
from node_agent.uplink.segment import Header, Record, SegmentDamaged, header_bytes, read_header, record_bytes, records
from optiinfra.telemetry.v1 import link_pb2

log = logging.getLogger(__name__)

# One is read whole when it is sent, and dropped whole when there is no room.
SEGMENT_BYTES = 4 * 1024 * 1024
# After the disk failed, how long the samples stay in memory alone before it is tried again.
RETRY_SECONDS = 5.0
SYNC_SECONDS = 1.0
TOO_MUCH = "the agent's disk spool was full while the control plane was away"
DAMAGED = "the agent's disk spool was damaged"
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
        self._losses: dict[bytes, list[Loss]] = {}
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
            for path in sorted(self._folder.glob("*.losses")):
                self._recover_losses(path)
            for path in sorted(self._folder.glob("*.segment")):
                self._serial = max(self._serial, int(path.stem) if path.stem.isdecimal() else 0)
                self._recover_segment(path)
        except OSError as error:
            self._fail(error)

    def _recover_segment(self, path: Path) -> None:
        try:
            data = path.read_bytes()
            segment = _Segment(
                path=path, header=read_header(data), size_bytes=len(data), last_written_at=self._written_at(path)
            )
        except (SegmentDamaged, OSError) as error:
            log.error("%s is set aside: %s", path, error)
            with suppress(OSError):
                path.rename(path.with_suffix(".damaged"))
            return
        for record in records(data):
            segment.note(record)
        if segment.first_seq:
            self._segments.append(segment)
        else:
            self._remove(segment)

    def _written_at(self, path: Path) -> float:
        """This will place a file's last write on this process's clock; one of the future counts as now."""
        now = self._clock.now()
        return now.monotonic_seconds - max(0.0, now.wall.timestamp() - path.stat().st_mtime)

    def _recover_losses(self, path: Path) -> None:
        try:
            epoch = bytes.fromhex(path.stem)
            found = [Loss(**json.loads(line)) for line in path.read_text().splitlines()]
        except (
            ValueError,
            TypeError,
            OSError,
        ) as error:  # its last line may be torn: the gap in the numbers still tells
            log.error("%s cannot be read: %s", path, error)
            return
        self._losses[epoch] = found

    # -- the live epoch ---------------------------------------------------------------------------

    def keep(self, entry: Entry[Packed]) -> bool:
        """This will write a batch and say whether it is on disk now."""
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
        self._bound()
        return True

    def _rotate(self) -> None:
        self._end_file()
        self._serial += 1
        header = Header(epoch=self.epoch, boot_id=self._boot_id)
        path = self._folder / f"{self._serial:012d}.segment"
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
            raise OSError(28, "No space left on device")

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
            self._lose(self.epoch, loss)
        self._end_file()
        self._unsynced_seq = 0
        self.epoch = secrets.token_bytes(16)
        self.backlog_changed.set()

    # -- closed epochs ----------------------------------------------------------------------------

    def backlog_epochs(self) -> list[bytes]:
        """This will give the closed epochs that have something to send, oldest first."""
        epochs = dict.fromkeys([s.header.epoch for s in self._segments] + list(self._losses))
        return [epoch for epoch in epochs if epoch != self.epoch]

    def stored(self, epoch: bytes) -> Iterator[tuple[Header, list[Record]]]:
        """This will give an epoch's segments, one at a time. One that cannot be read any more is a gap."""
        for segment in [s for s in self._segments if s.header.epoch == epoch]:
            try:
                data = segment.path.read_bytes()
                header, found = read_header(data), list(records(data))
            except (OSError, SegmentDamaged) as error:
                log.error("%s cannot be read: %s", segment.path, error)
                self._drop(segment, reason=DAMAGED)
                continue
            last = max((record.seq for record in found), default=0)
            if last < segment.first_seq:
                self._drop(segment, reason=DAMAGED)
                continue
            segment.last_seq = last  # what was torn off since is a gap that the control plane sees
            yield header, found

    def losses(self, epoch: bytes) -> list[Loss]:
        """This will give what of a closed epoch was dropped, oldest first."""
        return sorted(self._losses.get(epoch, []), key=lambda loss: loss.first_seq)

    def acknowledged(self, epoch: bytes, seq: int) -> None:
        """This will let go of an epoch up to `seq`; the file that is being written stays."""
        writing = self._segments[-1] if self._file is not None else None
        done = [s for s in self._segments if s.header.epoch == epoch and s.last_seq <= seq and s is not writing]
        for segment in done:
            self._segments.remove(segment)
            self._remove(segment)
        if epoch in self._losses:
            left = [rest for loss in self._losses[epoch] if (rest := loss.after(seq)) is not None]
            self._losses[epoch] = left
            if not left:
                self.forget_losses(epoch)

    def forget_losses(self, epoch: bytes) -> None:
        """This will let go of losses that the control plane knows."""
        self._losses.pop(epoch, None)
        with suppress(OSError):
            (self._folder / f"{epoch.hex()}.losses").unlink(missing_ok=True)

    def _bound(self) -> None:
        """This will drop the oldest segments of closed epochs; the live one is bounded by memory."""
        oldest_allowed = self._clock.now().monotonic_seconds - self._max_age_seconds
        total = sum(s.size_bytes for s in self._segments)
        for segment in [s for s in self._segments if s.header.epoch != self.epoch]:
            too_old = segment.last_written_at < oldest_allowed
            if total <= self._max_bytes and not too_old:
                return
            total -= segment.size_bytes
            self._drop(segment, reason=TOO_OLD if too_old else TOO_MUCH)

    def _drop(self, segment: _Segment, *, reason: str) -> None:
        if segment not in self._segments:
            return
        self._lose(
            segment.header.epoch,
            Loss(
                first_seq=segment.first_seq,
                last_seq=segment.last_seq,
                first_taken_at_unix_us=segment.first_us,
                last_taken_at_unix_us=segment.last_us,
                reason=reason,
            ),
        )
        self._segments.remove(segment)
        self._remove(segment)
        self.backlog_changed.set()

    def _lose(self, epoch: bytes, loss: Loss) -> None:
        self._losses.setdefault(epoch, []).append(loss)
        with suppress(OSError), (self._folder / f"{epoch.hex()}.losses").open("a") as file:
            file.write(json.dumps(asdict(loss)) + "\n")

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
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


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
