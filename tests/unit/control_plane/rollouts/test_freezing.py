from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.model.errors import ConfigurationError
from control_plane.rollouts.freezing import is_frozen, parse

WEEKEND = parse("Fri 16:00 - Mon 07:00")


def at(day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 3, day, hour, minute, tzinfo=UTC)  # the 6th is a Friday


@pytest.mark.parametrize(
    ("now", "frozen"),
    [
        (at(6, 15, 59), False), (at(6, 16), True), (at(7, 12), True), (at(9, 6, 59), True), (at(9, 7), False),
        (at(11, 12), False),
    ],
)  # fmt: skip
def test_a_weekend_begins_on_friday_and_ends_on_monday(now: datetime, frozen: bool) -> None:
    assert is_frozen([WEEKEND], now) is frozen


def test_a_window_for_once_holds_once() -> None:
    window = parse("2026-12-20T00:00Z - 2027-01-02T00:00+02:00")
    assert window.holds(datetime(2027, 1, 1, 21, 59, tzinfo=UTC))
    assert not window.holds(datetime(2027, 1, 1, 22, tzinfo=UTC))
    assert not window.holds(datetime(2026, 12, 19, 23, 59, tzinfo=UTC))


@given(st.integers(-4 * 365 * 1440, 4 * 365 * 1440))
def test_every_week_is_alike_also_before_the_one_that_is_counted_from(minutes: int) -> None:
    now = at(6, 16) + timedelta(minutes=minutes)
    assert WEEKEND.holds(now) is WEEKEND.holds(now + timedelta(days=7))
    weekday = (now.weekday(), now.hour)
    assert WEEKEND.holds(now) is (weekday >= (4, 16) or weekday < (0, 7))


@pytest.mark.parametrize(
    "text", ["", "Fri 16:00", "Fri - Mon", "Fre 16:00 - Mon 07:00", "Fri 25:00 - Mon 07:00", "Fri 16:00 - Mon 07:61",
             "2026-12-20T00:00 - 2027-01-02T00:00", "2027-01-02T00:00Z - 2026-12-20T00:00Z"],
)  # fmt: skip
def test_what_is_no_window_is_said(text: str) -> None:
    with pytest.raises(ConfigurationError, match="no freeze window; write"):
        parse(text)
