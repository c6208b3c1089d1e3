"""Budgets and burn rates: what is certain, what is not, and what chance may do."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from control_plane.model.slo import Events
from control_plane.slo.budget import budget, burn_rate, burns, pairs, windows

MONTH = timedelta(days=30)
HOUR = timedelta(hours=1)


def test_the_workbook_windows_come_out_for_three_nines_over_a_month() -> None:
    found = [(pair.severity, pair.long, pair.factor) for pair in pairs(0.001, MONTH)]
    assert found == [
        ("page", HOUR, 14.4), ("page", timedelta(hours=6), 6.0),
        ("ticket", timedelta(days=1), 3.0), ("ticket", timedelta(days=3), 1.0),
    ]  # fmt: skip


@given(st.floats(1e-5, 0.85), st.integers(1, 90))
def test_every_threshold_can_be_reached(allowed: float, days: int) -> None:
    for pair in pairs(allowed, timedelta(days=days)):
        assert pair.factor >= 1.0
        assert pair.factor <= max(1.0, 0.5 / allowed) + 1e-3
        assert pair.short < pair.long < timedelta(days=days)
        assert {pair.long, pair.short} <= set(windows(allowed, timedelta(days=days)))


def test_both_windows_must_agree() -> None:
    bad, good = Events(good=500, bad=500), Events(good=1000)
    found = burns({HOUR: bad, timedelta(minutes=5): bad}, 0.05, MONTH)[0]
    assert (found.exceeded, found.long_rate) == (True, 10.0) or found.exceeded is False
    over = Events(good=300, bad=700)
    assert burns({HOUR: over, timedelta(minutes=5): over}, 0.05, MONTH)[0].exceeded is True
    assert burns({HOUR: over, timedelta(minutes=5): good}, 0.05, MONTH)[0].exceeded is False
    assert burns({HOUR: over}, 0.05, MONTH)[0].exceeded is None, "no event in the short window is no evidence"


def test_one_bad_request_of_a_quiet_night_is_no_burn() -> None:
    one = Events(good=1, bad=1)
    assert burn_rate(one, 0.01) == 50
    assert burns({HOUR: one, timedelta(minutes=5): one}, 0.25, MONTH)[0].exceeded is False


def test_doubtful_events_make_a_range_of_the_budget() -> None:
    found = budget(Events(good=90, bad=2, doubtful=8), 0.1)
    assert found.attained == (0.9, 0.98)
    assert found.remaining is not None
    assert found.remaining[0] < 1e-9
    assert abs(found.remaining[1] - 0.8) < 1e-9


def test_no_events_are_no_budget() -> None:
    found = budget(Events(), 0.05)
    assert (found.attained, found.remaining) == (None, None)
