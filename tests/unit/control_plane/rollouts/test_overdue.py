from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from control_plane.rollouts.overdue import Overdue


def looks(limit: float, *seen: tuple[float, int, int, float | None]) -> list[float]:
    made = Overdue(limit_seconds=limit)
    return [made.look(at, arrived=a, in_flight=f, first_tokens=t) for at, a, f, t in seen]


def test_what_arrived_a_limit_ago_and_had_no_token_is_overdue() -> None:
    found = looks(1.0, (0, 100, 5, 95), (1, 104, 9, 95), (2, 108, 13, 95), (3, 112, 17, 95))
    assert found == [0, 0, 4, 8], "what came within the last second may still be in time, and five may be streaming"


def test_while_tokens_come_nothing_is_overdue() -> None:
    assert looks(1.0, (0, 100, 5, 95), (1, 104, 9, 96), (2, 108, 13, 97), (5, 112, 17, 98)) == [0, 0, 0, 0]


def test_long_streams_are_not_overdue() -> None:
    assert looks(1.0, *((at, 10, 10, 10.0) for at in range(100))) == [0] * 100


def test_questions_that_end_without_a_token_are_not_overdue() -> None:
    assert looks(1.0, *((at, 10 + at, 10, 10.0) for at in range(100))) == [0] * 100


def test_servers_that_say_nothing_and_end_requests_are_serving() -> None:
    assert looks(1.0, (0, 10, 5, 5), (1, 20, 6, None), (2, 30, 5, None), (3, 40, 6, None)) == [0, 0, 0, 0]


def test_servers_that_say_nothing_and_end_nothing_hang() -> None:
    assert looks(1.0, (0, 10, 5, 5), (1, 20, 15, None), (2, 30, 25, None), (3, 40, 35, None)) == [0, 0, 10, 20]


def test_a_router_that_restarts_begins_anew() -> None:
    assert looks(1.0, (0, 1000, 50, 95), (1, 5, 5, 95), (2, 10, 10, 95), (3, 15, 15, 95)) == [0, 0, 0, 5]


@given(
    st.lists(st.tuples(st.floats(0, 5), st.floats(0, 5), st.booleans()), max_size=60),
    st.floats(0.1, 3),
    st.lists(st.floats(0, 20), min_size=1, max_size=30),
)
def test_it_never_counts_more_than_wait(
    requests: list[tuple[float, float, bool]], limit: float, moments: list[float]
) -> None:
    """Requests (when they come after one another, how long to their token, whether one comes) that last a second."""
    begun, at = [], 0.0
    for gap, wait, has_token in requests:
        at += gap / 5
        begun.append((at, at + wait if has_token else float("inf")))
    made = Overdue(limit_seconds=limit)
    for now in sorted(moments):
        arrived = [b for b in begun if b[0] <= now]
        open_ones = [b for b in arrived if b[1] + 1 > now]
        tokens = sum(b[1] <= now for b in arrived)
        found = made.look(now, arrived=len(arrived), in_flight=len(open_ones), first_tokens=float(tokens))
        assert found <= sum(b[1] > now and b[0] <= now - limit for b in open_ones)
