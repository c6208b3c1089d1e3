"""Batches that the control plane has not acknowledged yet: bounded, oldest dropped first, every drop told.

In memory; what is in it when the process is killed is lost with it, and the epoch ends.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

Payload = TypeVar("Payload")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry(Generic[Payload]):
    """One numbered batch of one tick."""

    seq: int
    taken_at_unix_us: int
    size_bytes: int
    payload: Payload


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """A run of batches that were dropped."""

    first_seq: int
    last_seq: int
    first_taken_at_unix_us: int
    last_taken_at_unix_us: int
    reason: str

    @property
    def tick_count(self) -> int:
        """This will give the number of ticks lost: one for each batch."""
        return self.last_seq - self.first_seq + 1

    def after(self, seq: int) -> Loss | None:
        """This will give the part of the loss that is newer than `seq`; None when there is none.

        A batch can be sent, dropped here for want of room, and arrive all the same.
        """
        if self.last_seq <= seq:
            return None
        return replace(self, first_seq=max(self.first_seq, seq + 1))


class Spool(Generic[Payload]):
    """A ring of batches between the sampler and the uplink. Never blocks the sampler."""

    def __init__(self, *, max_bytes: int) -> None:
        """`max_bytes` bounds what is kept; a single batch larger than that is still kept alone."""
        self._max_bytes = max_bytes
        self._entries: deque[Entry[Payload]] = deque()
        self._bytes = 0
        self._next_seq = 1
        self._losses: list[Loss] = []
        self.lost_ticks = 0  # since the epoch began
        self.changed = asyncio.Event()  # set when there may be something new to send

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def kept_bytes(self) -> int:
        """This will give what the kept batches take."""
        return self._bytes

    @property
    def last_seq(self) -> int:
        """This will give the newest number handed out; 0 before the first."""
        return self._next_seq - 1

    def append(self, payload: Payload, *, size_bytes: int, taken_at_unix_us: int) -> int:
        """This will number and keep a batch, dropping the oldest ones when there is no room."""
        seq = self._next_seq
        self._next_seq += 1
        entry = Entry(seq=seq, taken_at_unix_us=taken_at_unix_us, size_bytes=size_bytes, payload=payload)
        self._entries.append(entry)
        self._bytes += size_bytes
        while self._bytes > self._max_bytes and len(self._entries) > 1:
            self._drop(self._entries.popleft(), reason="the agent's buffer was full while the control plane was away")
        self.changed.set()
        return seq

    def after(self, seq: int) -> Entry[Payload] | None:
        """This will give the oldest kept batch that is newer than `seq`."""
        if not self._entries or self._entries[-1].seq <= seq:
            return None
        index = max(0, seq + 1 - self._entries[0].seq)  # numbers are contiguous within the ring
        return self._entries[index]

    def committed(self, seq: int) -> None:
        """This will let go of every batch up to `seq`: the control plane has it, or knows it is lost."""
        while self._entries and self._entries[0].seq <= seq:
            self._bytes -= self._entries.popleft().size_bytes
        self._losses = [trimmed for loss in self._losses if (trimmed := loss.after(seq)) is not None]
        self.changed.set()

    def losses(self) -> list[Loss]:
        """This will give the losses that the control plane does not know of, oldest first."""
        return list(self._losses)

    def _drop(self, entry: Entry[Payload], *, reason: str) -> None:
        self._bytes -= entry.size_bytes
        self.lost_ticks += 1
        first, first_at = entry.seq, entry.taken_at_unix_us
        if self._losses and self._losses[-1].last_seq == entry.seq - 1:
            previous = self._losses.pop()
            first, first_at = previous.first_seq, previous.first_taken_at_unix_us
        self._losses.append(
            Loss(
                first_seq=first,
                last_seq=entry.seq,
                first_taken_at_unix_us=first_at,
                last_taken_at_unix_us=entry.taken_at_unix_us,
                reason=reason,
            )
        )
