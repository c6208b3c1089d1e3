"""What was dropped of each closed epoch, kept in files until the control plane knows it."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

from node_agent.spool import Loss

log = logging.getLogger(__name__)

_NUMBERS = ("first_seq", "last_seq", "first_taken_at_unix_us", "last_taken_at_unix_us")


class LossBook:
    """One file for each epoch, one line for each loss."""

    def __init__(self, folder: Path) -> None:
        """Nothing is read yet."""
        self._folder = folder
        self._losses: dict[bytes, list[Loss]] = {}
        self._unwritten: set[bytes] = set()  # epochs whose file lacks something, for want of room

    def recover(self) -> None:
        """This will read what earlier processes left. Raises OSError."""
        for path in sorted(self._folder.glob("*.losses")):
            try:
                epoch = bytes.fromhex(path.stem)
            except ValueError:
                log.error("%s is named after no epoch", path)
                continue
            self._losses[epoch] = list(_read(path))

    def epochs(self) -> list[bytes]:
        """This will give the epochs that lost something."""
        return list(self._losses)

    def of(self, epoch: bytes) -> list[Loss]:
        """This will give what of an epoch was lost, oldest first."""
        return sorted(self._losses.get(epoch, []), key=lambda loss: loss.first_seq)

    def add(self, epoch: bytes, loss: Loss) -> None:
        """This will note a loss. On a disk without room it is written by `settle`."""
        self._losses.setdefault(epoch, []).append(loss)
        try:
            with self._path(epoch).open("ab+") as file:
                torn = file.tell() > 0 and _last_byte(file) != b"\n"  # by a kill: it must not take this line along
                file.write(b"\n" * torn + json.dumps(asdict(loss)).encode() + b"\n")
        except OSError:
            self._unwritten.add(epoch)

    def is_written(self, epoch: bytes) -> bool:
        """This will say whether the next process would find all that an epoch lost."""
        return epoch not in self._unwritten

    def settle(self) -> None:
        """This will write what could not be written, once there may be room again."""
        for epoch in list(self._unwritten):
            text = "".join(json.dumps(asdict(loss)) + "\n" for loss in self._losses.get(epoch, []))
            try:
                unfinished = self._path(epoch).with_suffix(".new")
                unfinished.write_text(text)
                unfinished.replace(self._path(epoch))
            except OSError:
                return
            self._unwritten.discard(epoch)

    def acknowledged(self, epoch: bytes, seq: int) -> None:
        """This will let go of what the control plane knows."""
        if epoch not in self._losses:
            return
        left = [rest for loss in self._losses[epoch] if (rest := loss.after(seq)) is not None]
        if left:
            self._losses[epoch] = left
            return
        del self._losses[epoch]
        self._unwritten.discard(epoch)
        with suppress(OSError):
            self._path(epoch).unlink(missing_ok=True)

    def _path(self, epoch: bytes) -> Path:
        return self._folder / f"{epoch.hex()}.losses"


def _last_byte(file: BinaryIO) -> bytes:
    file.seek(-1, os.SEEK_END)
    return file.read(1)


def _read(path: Path) -> Iterator[Loss]:
    """A line may be torn, or anything: the others count, and the gap in the numbers still tells of that one."""
    for line in path.read_text(errors="replace").splitlines():
        try:
            said = json.loads(line)
            numbers = {name: int(said[name]) for name in _NUMBERS}
            found = Loss(**numbers, reason=str(said["reason"]))
        except (ValueError, TypeError, KeyError) as error:
            log.error("a line of %s cannot be read: %s", path, error)
            continue
        if 0 < found.first_seq <= found.last_seq:
            yield found
