"""The account of the faults: each tick once, by its time where it is stored and by its number where it is lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.faults.book import SAME_TICK_SECONDS, Account, account
from benchmarks.ledger import Taken

EPOCH = b"e" * 16


def taken(*numbers: int | None) -> list[Taken]:
    """Ticks half a second apart."""
    return [
        Taken(at=100 + 0.5 * index, number=None if number is None else (EPOCH, number))
        for index, number in enumerate(numbers)
    ]


def lost(*numbers: int) -> list[tuple[bytes, int]]:
    return [(EPOCH, number) for number in numbers]


def test_what_is_stored_or_told_as_lost_is_accounted_for() -> None:
    found = account(taken(1, 2, 3), [100.0, 101.01], lost(2))
    assert found == Account(sampled=3, committed=2, lost=1, neither=0, both=0)


def test_a_tick_that_is_nowhere_is_not_made_up_for_by_one_that_is_in_two_places() -> None:
    found = account(taken(1, 2, 3), [100.0, 101.0], lost(1))
    assert (found.sampled, found.committed + found.lost) == (3, 3), "sums alone would agree"
    assert (found.neither, found.both) == (1, 1)


def test_a_row_that_no_agent_sampled_and_one_that_is_there_twice_are_seen() -> None:
    assert account(taken(1), [100.0, 300.0], []).both == 1
    assert account(taken(1), [100.0, 100.001], []).both == 1


def test_a_loss_that_nobody_had_is_seen() -> None:
    assert account(taken(1), [100.0], lost(7)).both == 1


def test_a_tick_in_the_moment_of_the_kill_counts_if_it_turns_up() -> None:
    assert account(taken(1, None), [100.0], []) == Account(sampled=1, committed=1, lost=0, neither=0, both=0)
    assert account(taken(1, None), [100.0, 100.5], []) == Account(sampled=2, committed=2, lost=0, neither=0, both=0)
    assert account(taken(1, None, 3), [100.0, 101.0], lost(2)) == Account(
        sampled=3, committed=2, lost=1, neither=0, both=0
    )


@given(
    st.lists(st.sampled_from("sl"), max_size=50),
    st.floats(-SAME_TICK_SECONDS, SAME_TICK_SECONDS).map(lambda x: x * 0.9),
)
def test_any_fate_is_told_right_however_the_stamps_are_off(fates: list[str], off: float) -> None:
    ticks = taken(*range(1, len(fates) + 1))
    rows = [tick.at + off for tick, fate in zip(ticks, fates, strict=True) if fate == "s"]
    told = [tick.number for tick, fate in zip(ticks, fates, strict=True) if fate == "l" and tick.number]
    found = account(ticks, rows, told)
    assert found == Account(sampled=len(fates), committed=len(rows), lost=len(told), neither=0, both=0)
