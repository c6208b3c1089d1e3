"""When an agent comes back after an outage: spread out, soon enough, and never in a hot loop."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from node_agent.uplink.backoff import MOST_ASKED_JITTER_SECONDS, MOST_ASKED_SECONDS, MOST_SECONDS, Backoff
from node_agent.uplink.client import Disconnected, most_telling


class Latest(random.Random):
    """The jitter that delays the most."""

    def uniform(self, a: float, b: float) -> float:
        return b


def delays(backoff: Backoff, count: int, *, lasted_seconds: float = 0.0) -> list[float]:
    return [backoff.delay_seconds(lasted_seconds=lasted_seconds, asked_seconds=None) for _ in range(count)]


def test_attempts_get_rarer_up_to_a_limit() -> None:
    assert delays(Backoff(Latest()), 9) == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_an_outage_of_weeks_does_not_end_the_agent() -> None:
    assert delays(Backoff(Latest()), 5000)[-1] == MOST_SECONDS


def test_after_a_stable_link_the_next_outage_begins_anew() -> None:
    backoff = Backoff(Latest())
    delays(backoff, 10)
    assert delays(backoff, 1, lasted_seconds=60.0) == [MOST_SECONDS], "a link that breaks every minute is not stable"
    assert delays(backoff, 2, lasted_seconds=121.0)[0] == 0.5


@given(st.integers(), st.integers(0, 50), st.floats(0, 1e12) | st.none())
def test_a_delay_is_bounded_and_never_less_than_was_asked(seed: int, failures: int, asked: float | None) -> None:
    backoff = Backoff(random.Random(seed))
    delays(backoff, failures)
    delay = backoff.delay_seconds(lasted_seconds=0.0, asked_seconds=asked)
    assert min(asked or 0.0, MOST_ASKED_SECONDS) <= delay
    assert delay <= max(MOST_SECONDS, min(asked or 0.0, MOST_ASKED_SECONDS) + MOST_ASKED_JITTER_SECONDS)


def test_being_asked_to_come_back_at_once_is_no_licence_for_a_hot_loop() -> None:
    backoff = Backoff(Latest())
    asked = [backoff.delay_seconds(lasted_seconds=0.0, asked_seconds=0.0) for _ in range(4)]
    assert asked == [0.5, 1, 2, 4]


def test_agents_that_lose_one_server_do_not_come_back_together() -> None:
    backoffs = [Backoff(random.Random(seed)) for seed in range(50)]
    assert len({round(delays(backoff, 1)[0], 3) for backoff in backoffs}) > 30
    asked = {round(b.delay_seconds(lasted_seconds=0.0, asked_seconds=1.0), 2) for b in backoffs}
    assert len(asked) > 30


def test_when_to_come_back_is_heard_although_the_other_half_of_the_stream_failed_first() -> None:
    broken, asked = Disconnected("a write failed"), Disconnected("restarting", retry_after_seconds=5.0)
    assert most_telling(ExceptionGroup("", [broken, ExceptionGroup("", [asked])])) is asked
    assert most_telling(ExceptionGroup("", [broken, OSError()])) is broken
