"""The spool never takes the last twentieth of a disk, nor more than it was given."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from node_agent.uplink.room import KEEP_FREE_SHARE, Room, allowed_bytes

GIB = 1 << 30


def test_on_an_empty_disk_the_setting_is_the_bound() -> None:
    room = Room(total_bytes=100 * GIB, available_bytes=90 * GIB)
    assert allowed_bytes(room, held_bytes=0, most_bytes=GIB) == GIB


def test_on_a_disk_that_fills_up_the_spool_gives_way() -> None:
    held = 2 * GIB
    assert allowed_bytes(Room(total_bytes=100 * GIB, available_bytes=6 * GIB), held_bytes=held, most_bytes=held) == held
    assert allowed_bytes(Room(total_bytes=100 * GIB, available_bytes=4 * GIB), held_bytes=held, most_bytes=held) == GIB
    assert allowed_bytes(Room(total_bytes=100 * GIB, available_bytes=0), held_bytes=held, most_bytes=held) == 0


@given(st.integers(1, 1 << 45), st.floats(0, 1), st.integers(0, 1 << 40), st.integers(0, 1 << 40))
def test_whoever_keeps_to_it_leaves_a_twentieth_free_or_frees_all_that_it_holds(
    total: int, share: float, held: int, most: int
) -> None:
    available = min(int(total * share), total)
    allowed = allowed_bytes(Room(total_bytes=total, available_bytes=available), held_bytes=held, most_bytes=most)
    assert 0 <= allowed <= most
    left_free = available + held - allowed
    assert allowed == 0 or left_free >= int(total * KEEP_FREE_SHARE) - 1
