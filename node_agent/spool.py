"""Batches that the control plane has not acknowledged yet: bounded, oldest dropped first, every drop told.

In memory, and by way of a `Store` on disk, where it survives the process.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

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


class Store(Protocol[Payload]):
    """Where batches survive the process."""

    @property
    def epoch(self) -> bytes:
        """This will give the live epoch."""
        ...

    def keep(self, entry: Entry[Payload]) -> bool:
        """This will write a batch and say whether it is safe. It never raises."""
        ...

    def committed(self, seq: int) -> None:
        """This will let go of the live epoch up to `seq`."""
        ...

    def close_epoch(self, losses: list[Loss]) -> None:
        """This will end the live epoch, to be sent from disk, and begin a new one."""
        ...


class Spool(Generic[Payload]):
    """A ring of batches between the sampler and the uplink. Never blocks the sampler."""

    def __init__(self, *, max_bytes: int, store: Store[Payload] | None = None) -> None:
        """`max_bytes` bounds what is in memory; a single batch larger than that is still kept alone."""
        self._store = store
        self._unsafe_seq = 0  # the newest batch that the store did not take
        self.generation = 0  # grows when the epoch is closed and the numbers begin again
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
    def epoch(self) -> bytes:
        """This will give the live epoch where a store numbers them; empty without one."""
        return b"" if self._store is None else self._store.epoch

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
        if self._entries and self._bytes + size_bytes > self._max_bytes:
            self.roll()
        seq = self._next_seq
        self._next_seq += 1
        entry = Entry(seq=seq, taken_at_unix_us=taken_at_unix_us, size_bytes=size_bytes, payload=payload)
        if self._store is not None and not self._store.keep(entry):
            self._unsafe_seq = seq
        self._entries.append(entry)
        self._bytes += size_bytes
        while self._bytes > self._max_bytes and len(self._entries) > 1:
            self._drop(self._entries.popleft(), reason="the agent's buffer was full while the control plane was away")
        self.changed.set()
        return seq

    def roll(self) -> bool:
        """This will close the epoch and empty the ring, if the store has all of it; it is sent from there."""
        if self._store is None or not self._entries or self._entries[0].seq <= self._unsafe_seq:
            return False
        self._store.close_epoch(self._losses)
        self._entries.clear()
        self._losses, self.lost_ticks = [], 0
        self._bytes, self._next_seq, self._unsafe_seq = 0, 1, 0
        self.generation += 1
        self.changed.set()
        return True

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
        if self._store is not None:
            self._store.committed(seq)
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
