"""What a flush decides about numbered batches: each counts once, and what is missing is known to be missing."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.ingest.admission import AdmittedBatch
from control_plane.ingest.flush import (
    Announced,
    Arrived,
    Item,
    Lost,
    Refused,
    _Plan,
    _plan,
    as_refused,
    refusals_by_seq,
    split,
    to_datetime,
)
from control_plane.model.node import SampleLoss

NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
EPOCH = b"e" * 16
KEY = (7, EPOCH)


@dataclass
class FakeStream:
    node_id: int = 7
    epoch: bytes = EPOCH
    sampling_interval_seconds: float | None = None
    entity_ids: npt.NDArray[np.int32] = field(default_factory=lambda: np.zeros(1, np.int32))


STREAM = FakeStream()


def arrived(seq: int, stream: FakeStream = STREAM) -> Arrived:
    return Arrived(stream=stream, batch=AdmittedBatch(seq=seq, received_at_us=0, ticks=(), size_bytes=1))


def refused(seq: int) -> Refused:
    return Refused(stream=STREAM, seq=seq, cause="because", detail="of this")


def lost(first: int, last: int, ticks: int | None = None) -> Lost:
    loss = SampleLoss(
        node_id=7, epoch=EPOCH, first_seq=first, last_seq=last, first_taken_at=NOW, last_taken_at=NOW,
        tick_count=last - first + 1 if ticks is None else ticks, reason="full",
    )  # fmt: skip
    return Lost(stream=STREAM, loss=loss)


def plan(*items: Item, position: int = 0) -> tuple[_Plan, int]:
    positions = {KEY: position}
    return _plan(items, positions, NOW), positions[KEY]


def seqs(found: _Plan) -> list[int]:
    return [batch.seq for _, batch in found.batches]


def ranges(found: _Plan) -> list[tuple[int, int, int | None]]:
    return sorted((loss.first_seq, loss.last_seq, loss.tick_count) for loss in found.losses)


def test_batches_in_order_are_all_taken() -> None:
    found, position = plan(arrived(1), arrived(2), arrived(3))
    assert (seqs(found), ranges(found), found.duplicates, position) == ([1, 2, 3], [], 0, 3)


def test_what_was_committed_before_or_comes_twice_counts_once() -> None:
    found, position = plan(arrived(3), arrived(4), arrived(4), arrived(3), arrived(5), position=3)
    assert (seqs(found), found.duplicates, position) == ([4, 5], 3, 5)


def test_a_gap_that_nobody_explained_becomes_a_loss_of_unknown_size() -> None:
    found, position = plan(arrived(5), position=2)
    assert (seqs(found), ranges(found), position) == ([5], [(3, 4, None)], 5)


def test_a_batch_that_comes_after_a_newer_one_was_told_lost_and_does_not_count_as_well() -> None:
    found, _ = plan(arrived(2), arrived(1))
    assert (seqs(found), ranges(found), found.duplicates) == ([2], [(1, 1, None)], 1)


def test_a_reported_loss_fills_the_gap() -> None:
    found, position = plan(lost(1, 4), arrived(5))
    assert (seqs(found), ranges(found), position) == ([5], [(1, 4, 4)], 5)


def test_a_loss_that_is_told_again_counts_once() -> None:
    found, position = plan(lost(1, 4), lost(1, 4), arrived(5), lost(1, 4))
    assert (ranges(found), position) == ([(1, 4, 4)], 5)


def test_a_loss_that_grew_since_it_was_told_counts_only_what_is_new() -> None:
    found, position = plan(lost(1, 4), lost(1, 6))
    assert (ranges(found), position) == ([(1, 4, 4), (5, 6, 2)], 6)


def test_what_was_committed_is_not_lost_though_its_agent_dropped_it_unacknowledged() -> None:
    found, position = plan(arrived(1), arrived(2), arrived(3), lost(1, 5), arrived(6))
    assert (seqs(found), ranges(found), position) == ([1, 2, 3, 6], [(4, 5, 2)], 6)
    assert found.losses[0].first_taken_at is None


def test_the_trimmed_part_of_a_loss_takes_its_share_of_the_ticks() -> None:
    found, _ = plan(lost(1, 4, ticks=40), position=1)
    assert ranges(found) == [(2, 4, 30)]


def test_a_gap_before_a_loss_is_a_loss_too() -> None:
    found, _ = plan(lost(4, 5), position=1)
    assert ranges(found) == [(2, 3, None), (4, 5, 2)]


def test_a_refused_batch_is_settled_and_counted_once() -> None:
    found, position = plan(refused(1), refused(1), arrived(2))
    assert (len(found.refusals), position, seqs(found)) == (1, 2, [2])


def test_a_gap_before_a_refused_batch_is_not_forgotten() -> None:
    found, position = plan(refused(5), position=2)
    assert (ranges(found), position) == ([(3, 4, None)], 5)


def test_a_refused_message_without_a_number_settles_nothing() -> None:
    found, position = plan(refused(0), refused(0), position=2)
    assert (len(found.refusals), position, ranges(found)) == (2, 2, [])


def test_an_announcement_settles_nothing() -> None:
    found, position = plan(Announced(stream=STREAM, entities=(), size_bytes=0), position=2)
    assert (position, seqs(found)) == (2, [])


def test_streams_do_not_mix() -> None:
    other = FakeStream(node_id=8)
    restarted = FakeStream(epoch=b"f" * 16)
    positions = {KEY: 1, (8, EPOCH): 1, (7, b"f" * 16): 0}
    found = _plan([arrived(2), arrived(2, other), arrived(1, restarted)], positions, NOW)
    assert seqs(found) == [2, 2, 1]
    assert positions == {KEY: 2, (8, EPOCH): 2, (7, b"f" * 16): 1}


_items = st.one_of(
    st.integers(1, 12).map(arrived),
    st.integers(0, 12).map(refused),
    st.tuples(st.integers(1, 12), st.integers(0, 6)).map(lambda r: lost(r[0], r[0] + r[1])),
)


@given(items=st.lists(_items, max_size=30), position=st.integers(0, 5))
def test_whatever_comes_in_whatever_order_every_number_up_to_the_position_is_accounted_for_once(
    items: list[Item], position: int
) -> None:
    found, end = plan(*items, position=position)
    refusals = {item.seq for item in items if isinstance(item, Refused)}
    told = [seq for loss in found.losses for seq in range(loss.first_seq, loss.last_seq + 1)]
    settled = told + seqs(found)
    assert len(settled) == len(set(settled)), "stored or lost, not both, and not twice"
    assert set(range(position + 1, end + 1)) - set(settled) <= refusals
    assert all(position < seq <= end for seq in settled)
    keys = [(loss.node_id, loss.epoch, loss.first_seq) for loss in found.losses]
    assert len(keys) == len(set(keys)), "the table's key"


@given(items=st.lists(_items, max_size=20), cut=st.integers(0, 20))
def test_two_flushes_settle_the_same_as_one(items: list[Item], cut: int) -> None:
    whole, end = plan(*items)
    first, middle = plan(*items[:cut])
    second, last = plan(*items[cut:], position=middle)
    assert last == end
    assert seqs(first) + seqs(second) == seqs(whole)
    assert sorted(ranges(first) + ranges(second), key=str) == sorted(ranges(whole), key=str)


@given(items=st.lists(_items, min_size=2, max_size=20))
def test_halving_keeps_every_item_and_their_order(items: list[Item]) -> None:
    first, second = split(items)
    assert [*first, *second] == items
    assert first
    assert second


def test_an_item_that_cannot_be_stored_becomes_a_refusal_with_its_number() -> None:
    assert as_refused(arrived(4), "why") == Refused(stream=STREAM, seq=4, cause="unstorable", detail="why")
    assert as_refused(lost(1, 2), "why") == Refused(stream=STREAM, seq=0, cause="unstorable", detail="why")


def test_an_acknowledgement_names_the_refused_batches_and_why() -> None:
    assert refusals_by_seq([refused(3), refused(0), arrived(4)]) == {KEY: {3: "of this"}}


@pytest.mark.parametrize("unix_us", [0, 1, 1_772_625_600_123_457, -1])
def test_microseconds_survive_the_way_to_a_datetime(unix_us: int) -> None:
    moment = to_datetime(unix_us)
    assert moment.tzinfo is UTC
    assert (moment - to_datetime(0)).days * 86_400_000_000 + (moment - to_datetime(0)).seconds * 1_000_000 + (
        moment - to_datetime(0)
    ).microseconds == unix_us
