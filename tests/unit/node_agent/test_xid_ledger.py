"""Two sources that tell of the same faults: nothing is told twice, and nothing is swallowed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from node_agent.collectors.xid_ledger import SAME_FAULT, XidLedger

START = datetime(2026, 11, 22, 8, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def test_lines_of_one_process_within_a_second_are_one_fault() -> None:
    ledger = XidLedger()
    assert [ledger.line("gpu", at(s), 7) for s in (0.0, 0.1, 0.99, 1.0, 1.5)] == [True, False, False, True, False]


def test_an_event_answers_one_line_and_the_next_one_is_news() -> None:
    ledger = XidLedger()
    ledger.line("gpu", at(0.5), 7)
    assert ledger.events("gpu", at(0), at(1), 2) == 1


def test_a_line_answers_one_event() -> None:
    ledger = XidLedger()
    assert ledger.events("gpu", at(0), at(1), 1) == 1
    assert not ledger.line("gpu", at(1.2), 7)
    assert ledger.line("gpu", at(1.3), 8)


def test_what_is_long_past_answers_nothing() -> None:
    ledger = XidLedger()
    ledger.line("gpu", at(0), 7)
    assert ledger.events("gpu", at(60), at(61), 1) == 1
    assert ledger.line("gpu", at(100), 7)


@given(st.lists(st.integers(min_value=0, max_value=200), unique=True, max_size=30), st.booleans())
def test_faults_that_both_tell_of_are_each_told_once_whoever_is_first(seconds: list[int], log_first: bool) -> None:
    """Ten seconds a look, faults of one process a second apart at least: as many told as there were."""
    ledger = XidLedger()
    news = 0
    for look in range(21):
        since, until = at(10 * look), at(10 * look + 10)
        here = sorted(s for s in seconds if 10 * look <= s < 10 * look + 10)

        def lines(found: list[int] = here) -> int:
            return sum(ledger.line("gpu", at(s) + SAME_FAULT / 2, 7) for s in found)

        if log_first:
            news += lines()
        if here:
            news += ledger.events("gpu", since, until, len(here))
        if not log_first:
            news += lines()
    assert news == len(seconds)


@given(st.lists(st.integers(min_value=1, max_value=5), max_size=30))
def test_without_a_log_every_event_is_told(counts: list[int]) -> None:
    ledger = XidLedger()
    assert sum(ledger.events("gpu", at(n), at(n + 1), count) for n, count in enumerate(counts)) == sum(counts)
