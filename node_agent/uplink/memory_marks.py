"""Which numbers are in memory alone, in a file that needs no more room: what a kill takes with it is still counted."""

from __future__ import annotations

import logging
import os
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

# One page of a disk, taken when there is room; each process that fails to write needs one of its slots until the
# loss that it stands for is written down.
SLOTS, SLOT_BYTES = 64, 64
_SLOT = struct.Struct("<16sQQqq")  # epoch, first and last number, when they were taken (µs since 1970)
_CRC = struct.Struct("<I")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A run of batches of one epoch that no disk took."""

    slot: int
    epoch: bytes
    first_seq: int
    last_seq: int
    first_us: int
    last_us: int


class MemoryMarks:
    """The marks of this process and of those before it. Works on a full disk, and never raises."""

    def __init__(self, path: Path) -> None:
        """Nothing is opened yet."""
        self._path = path
        self._file: int | None = None
        self._taken: set[int] = set()
        self._run: Mark | None = None

    def open(self) -> Sequence[Mark]:
        """This will take the room that is needed, if there is any, and give what earlier processes left."""
        try:
            if self._file is None:
                self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            missing = SLOTS * SLOT_BYTES - os.fstat(self._file).st_size
            if missing > 0:  # zeros that are written, and no hole: overwriting them takes no more room
                os.pwrite(self._file, bytes(missing), SLOTS * SLOT_BYTES - missing)
            data = os.pread(self._file, SLOTS * SLOT_BYTES, 0)
        except OSError as error:
            log.warning("%s cannot be used: %s; what a kill takes from memory will not be counted", self._path, error)
            return ()
        found = [mark for slot in range(SLOTS) if (mark := _read(data, slot)) is not None]
        self._taken = {mark.slot for mark in found}
        return found

    def note(self, *, epoch: bytes, seq: int, taken_at_unix_us: int) -> None:
        """This will mark a batch that no disk took."""
        run = self._run
        if run is None or run.epoch != epoch or run.last_seq != seq - 1:
            self.sound()
            slot = next((slot for slot in range(SLOTS) if slot not in self._taken), None)
            if slot is None:
                log.error("%s is full of earlier runs", self._path)
                return
            run = Mark(
                slot=slot, epoch=epoch, first_seq=seq, last_seq=seq, first_us=taken_at_unix_us, last_us=taken_at_unix_us
            )
        self._run = Mark(
            slot=run.slot,
            epoch=epoch,
            first_seq=run.first_seq,
            last_seq=seq,
            first_us=run.first_us,
            last_us=taken_at_unix_us,
        )
        self._taken.add(run.slot)
        self._put(self._run.slot, _written(self._run))

    def sound(self) -> None:
        """This will end the run: the next batch is on disk, and the gap before it tells of these."""
        if self._run is not None:
            run, self._run = self._run, None
            self.clear(run)

    def clear(self, mark: Mark) -> None:
        """This will let go of a mark whose batches are known of elsewhere."""
        self._taken.discard(mark.slot)
        self._put(mark.slot, bytes(SLOT_BYTES))

    def close(self) -> None:
        """This will leave the marks to the next process."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _put(self, slot: int, data: bytes) -> None:
        if self._file is None:
            return
        try:
            os.pwrite(self._file, data, slot * SLOT_BYTES)
        except OSError as error:  # the disk is gone altogether
            log.debug("%s: %s", self._path, error)


def _written(mark: Mark) -> bytes:
    packed = _SLOT.pack(mark.epoch, mark.first_seq, mark.last_seq, mark.first_us, mark.last_us)
    return (packed + _CRC.pack(zlib.crc32(packed))).ljust(SLOT_BYTES, b"\0")


def _read(data: bytes, slot: int) -> Mark | None:
    """This will read a slot; None where it is empty, or torn."""
    packed = data[slot * SLOT_BYTES :][: _SLOT.size]
    checksum = data[slot * SLOT_BYTES + _SLOT.size :][: _CRC.size]
    if len(checksum) < _CRC.size or _CRC.unpack(checksum)[0] != zlib.crc32(packed):
        return None
    epoch, first_seq, last_seq, first_us, last_us = _SLOT.unpack(packed)
    if not 0 < first_seq <= last_seq:
        return None
    return Mark(slot=slot, epoch=epoch, first_seq=first_seq, last_seq=last_seq, first_us=first_us, last_us=last_us)
