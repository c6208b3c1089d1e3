"""A GPU is paid for from when it was first seen until it was not seen for a week, wherever it is, and once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from control_plane.analysis.utilization.existence import paid
from control_plane.model.entity import Entity, EntityKind

START = datetime(2026, 3, 4, tzinfo=UTC)
DAY, WEEK = timedelta(days=1), timedelta(days=7)


def gpu(entity_id: int, key: str, first: datetime, last: datetime) -> Entity:
    return Entity(
        entity_id=entity_id, node_id=entity_id, node_name=f"n{entity_id}", kind=EntityKind.GPU, key=key, attributes={},
        first_seen_at=first, last_seen_at=last, state_since=first,
    )  # fmt: skip


def test_a_gpu_that_is_not_seen_any_more_is_paid_for_a_week() -> None:
    assert paid([gpu(1, "a", START, START + DAY)]) == {1: (START, START + DAY + WEEK)}


def test_a_gpu_that_moved_is_paid_where_it_was_seen_last() -> None:
    before, after = gpu(1, "a", START, START + 2 * DAY), gpu(2, "a", START + DAY, START + 3 * DAY)
    found = paid([after, before])  # in whatever order
    assert found[1] == (START, START + DAY)
    assert found[2] == (START + DAY, START + 3 * DAY + WEEK)


def test_where_both_were_seen_at_the_same_time_last_the_newer_place_holds() -> None:
    found = paid([gpu(1, "a", START, START + DAY), gpu(2, "a", START + timedelta(hours=1), START + DAY)])
    assert found[1] == (START, START + timedelta(hours=1))


def test_a_newer_place_that_was_seen_less_recently_takes_nothing_away() -> None:
    found = paid([gpu(1, "a", START, START + 3 * DAY), gpu(2, "a", START + DAY, START + 2 * DAY)])
    assert found[1] == (START, START + 3 * DAY + WEEK)


def test_different_gpus_have_nothing_to_do_with_one_another() -> None:
    found = paid([gpu(1, "a", START, START + DAY), gpu(2, "b", START + DAY, START + 2 * DAY)])
    assert found[1] == (START, START + DAY + WEEK)
