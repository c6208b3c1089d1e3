"""What is usual for an engine: never more than is allowed, and nothing from too little."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from control_plane.slo.habit import LEAST_EVENTS, tolerated_share, upper_bound


def test_too_few_events_say_nothing() -> None:
    assert tolerated_share(0.05, events=LEAST_EVENTS - 1, bad=0) is None


def test_an_engine_that_breaks_its_promise_gets_no_right_to() -> None:
    assert tolerated_share(0.05, events=1e6, bad=2e5) == 0.05


def test_an_engine_without_a_bad_event_is_still_allowed_some() -> None:
    assert tolerated_share(0.05, events=1e9, bad=0) == 0.0125


@given(st.floats(1000, 1e9), st.floats(0, 1), st.floats(1e-4, 0.5))
def test_it_lies_between_what_was_seen_and_what_is_allowed(events: float, share: float, allowed: float) -> None:
    found = tolerated_share(allowed, events=events, bad=share * events)
    assert found is not None
    assert min(share, allowed) <= found <= allowed
    assert upper_bound(events=events, bad=share * events) >= share * (1 - 1e-12)
