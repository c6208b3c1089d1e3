"""The ring between sampler and uplink: every tick is kept, let go of, or told as lost."""

from __future__ import annotations

import asyncio
from itertools import pairwise

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from node_agent.spool import Loss, Spool

ROOM = 100


class SpoolAgainstModel(RuleBasedStateMachine):
    """The spool beside a plain list of everything that was ever appended."""

    def __init__(self) -> None:
        super().__init__()
        self.spool: Spool[int] = Spool(max_bytes=ROOM)
        self.kept: list[tuple[int, int]] = []  # seq, size
        self.appended = 0
        self.released = 0
        self.dropped: list[int] = []
        self.acknowledged = 0

    @rule(size=st.integers(0, 2 * ROOM))
    def append(self, size: int) -> None:
        self.appended += 1
        seq = self.spool.append(self.appended, size_bytes=size, taken_at_unix_us=self.appended * 10)
        assert seq == self.appended, "numbers grow by one"
        self.kept.append((seq, size))
        while sum(s for _, s in self.kept) > ROOM and len(self.kept) > 1:
            self.dropped.append(self.kept.pop(0)[0])

    @precondition(lambda self: self.appended)
    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        upto = data.draw(st.integers(0, self.appended))
        self.spool.committed(upto)
        self.acknowledged = max(self.acknowledged, upto)
        self.released += sum(seq <= upto for seq, _ in self.kept)
        self.kept = [(seq, size) for seq, size in self.kept if seq > upto]

    @rule(data=st.data())
    def send(self, data: st.DataObject) -> None:
        sent = data.draw(st.integers(0, self.appended))
        expected = next((seq for seq, _ in self.kept if seq > sent), None)
        entry = self.spool.after(sent)
        assert (entry and entry.seq) == expected
        assert entry is None or (entry.payload, entry.taken_at_unix_us) == (entry.seq, entry.seq * 10)

    @invariant()
    def nothing_is_silently_absent(self) -> None:
        assert self.appended == self.released + self.spool.lost_ticks + len(self.spool)
        assert self.spool.lost_ticks == len(self.dropped)
        assert len(self.spool) == len(self.kept)
        assert self.spool.last_seq == self.appended

    @invariant()
    def losses_name_exactly_what_was_dropped_and_is_not_acknowledged(self) -> None:
        told = [seq for loss in self.spool.losses() for seq in range(loss.first_seq, loss.last_seq + 1)]
        assert told == [seq for seq in self.dropped if seq > self.acknowledged]
        assert sum(loss.tick_count for loss in self.spool.losses()) == len(told)

    @invariant()
    def neighbouring_drops_are_one_loss(self) -> None:
        losses = self.spool.losses()
        assert all(a.last_seq + 1 < b.first_seq for a, b in pairwise(losses))
        for loss in losses:
            assert loss.last_taken_at_unix_us == loss.last_seq * 10
            assert loss.first_taken_at_unix_us <= loss.first_seq * 10, "the range may be too wide, never too narrow"

    @invariant()
    def what_is_kept_fits_or_stands_alone(self) -> None:
        assert sum(size for _, size in self.kept) <= ROOM or len(self.kept) == 1


SpoolAgainstModel.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
test_the_spool_agrees_with_its_model = SpoolAgainstModel.TestCase


def test_a_batch_larger_than_the_buffer_is_kept_until_the_next_one_comes() -> None:
    spool: Spool[str] = Spool(max_bytes=10)
    spool.append("huge", size_bytes=1000, taken_at_unix_us=1)
    assert len(spool) == 1
    spool.append("next", size_bytes=1, taken_at_unix_us=2)
    assert [loss.first_seq for loss in spool.losses()] == [1]


def test_an_acknowledgement_inside_a_loss_leaves_the_newer_part_of_it() -> None:
    loss = Loss(first_seq=3, last_seq=7, first_taken_at_unix_us=30, last_taken_at_unix_us=70, reason="full")
    rest = loss.after(5)
    assert rest is not None
    assert (rest.first_seq, rest.last_seq, rest.tick_count) == (6, 7, 2)
    assert loss.after(7) is None
    assert loss.after(2) == loss


async def test_whoever_waits_wakes_for_new_batches_and_for_acknowledgements() -> None:
    spool: Spool[str] = Spool(max_bytes=10)
    for wake in (
        lambda: spool.append("a", size_bytes=1, taken_at_unix_us=1),
        lambda: spool.committed(1),
    ):
        spool.changed.clear()
        wake()
        async with asyncio.timeout(1):
            await spool.changed.wait()
