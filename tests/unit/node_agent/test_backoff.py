"""When an agent comes back after an outage: spread out, soon enough, and never in a hot loop."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node_agent.settings import Settings, SettingsError
from node_agent.uplink.backoff import (
    MOST_ASKED_SECONDS,
    MOST_ASKED_SPREAD_SECONDS,
    PACES,
    STABLE_SECONDS,
    Backoff,
    Ending,
    Kind,
    Outage,
    next_outage,
    wait_range_seconds,
)
from node_agent.uplink.client import Disconnected, most_telling

AWAY = Ending()
KINDS = st.sampled_from(list(PACES))
ASKED = st.floats(0, 1e12) | st.none()


class Latest(random.Random):
    """The jitter that delays the most."""

    def uniform(self, a: float, b: float) -> float:
        return b


def delays(backoff: Backoff, count: int, ending: Ending = AWAY, *, lasted_seconds: float = 0.0) -> list[float]:
    return [backoff.delay_seconds(ending, lasted_seconds=lasted_seconds) for _ in range(count)]


def test_attempts_get_rarer_from_a_second_to_a_minute() -> None:
    assert delays(Backoff(Latest()), 9) == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_the_shortest_wait_is_none_so_that_a_fleet_is_spread_over_the_whole_of_it() -> None:
    outage = Outage()
    for failures in range(1, 30):
        outage = next_outage(outage, AWAY, lasted_seconds=0.0)
        assert outage.failures == failures
        assert wait_range_seconds(outage, AWAY)[0] == 0.0


def test_an_outage_of_weeks_does_not_end_the_agent() -> None:
    assert delays(Backoff(Latest()), 5000)[-1] == PACES[Kind.AWAY].most_seconds


def test_after_a_stable_link_the_next_outage_begins_anew() -> None:
    backoff = Backoff(Latest())
    delays(backoff, 10)
    assert delays(backoff, 1, lasted_seconds=60.0) == [60], "a link that breaks every minute is not stable"
    assert delays(backoff, 2, lasted_seconds=STABLE_SECONDS + 1)[0] == 1


def test_another_reason_is_another_outage() -> None:
    backoff = Backoff(Latest())
    delays(backoff, 10)
    assert delays(backoff, 2, Ending(kind=Kind.BUSY)) == [10, 20], "it answers again, and is busy"
    assert delays(backoff, 1) == [1]


def test_a_reason_that_was_lost_is_the_one_before() -> None:
    backoff, unsaid = Backoff(Latest()), Ending(kind=Kind.UNSAID)
    assert delays(backoff, 2, unsaid) == [1, 2], "of nothing before: it was there a moment ago"
    assert delays(backoff, 2, Ending(kind=Kind.BUSY)) == [10, 20]
    assert delays(backoff, 2, unsaid) == [40, 80]
    assert delays(backoff, 1, Ending(kind=Kind.BUSY)) == [160]
    assert delays(backoff, 1, unsaid, lasted_seconds=STABLE_SECONDS + 1) == [1]


def test_a_certificate_that_is_renewed_is_no_failure() -> None:
    backoff = Backoff(Latest())
    assert delays(backoff, 5, Ending(kind=Kind.RENEWING)) == [1] * 5
    assert delays(backoff, 1) == [1]


@pytest.mark.parametrize("kind", [Kind.BUSY, Kind.UNRECOGNISED, Kind.FOREIGN])
def test_where_coming_early_cannot_help_half_of_the_wait_is_certain(kind: Kind) -> None:
    ending = Ending(kind=kind)
    least, most = wait_range_seconds(Outage(kind=kind, failures=1), ending)
    assert least == most / 2 > PACES[Kind.AWAY].base_seconds
    assert wait_range_seconds(Outage(kind=kind, failures=99), ending)[1] <= 600, "what was put right is seen"


@given(st.lists(st.tuples(KINDS, ASKED, st.floats(0, 1e6)), max_size=60), st.integers())
def test_a_wait_is_never_less_than_was_asked_and_always_bounded(
    endings: list[tuple[Kind, float | None, float]], seed: int
) -> None:
    backoff = Backoff(random.Random(seed))
    for kind, asked, lasted in endings:
        delay = backoff.delay_seconds(Ending(kind=kind, asked_seconds=asked), lasted_seconds=lasted)
        heard = min(asked or 0.0, MOST_ASKED_SECONDS)
        assert heard <= delay <= max(PACES[kind].most_seconds, 2 * heard + MOST_ASKED_SPREAD_SECONDS)


@given(KINDS, st.integers(0, 10_000), ASKED)
def test_a_wait_has_room_for_chance(kind: Kind, failures: int, asked: float | None) -> None:
    ending = Ending(kind=kind, asked_seconds=asked)
    least, most = wait_range_seconds(Outage(kind=kind, failures=failures), ending)
    assert 0 <= least < most
    if not asked:
        assert most >= 1.0, "no hot loop"


@given(st.lists(st.tuples(KINDS, st.floats(0, STABLE_SECONDS)), min_size=1, max_size=100))
def test_failures_of_one_kind_never_make_the_wait_shorter(endings: list[tuple[Kind, float]]) -> None:
    outage, most_before = Outage(), 0.0
    for kind, lasted in endings:
        before = outage
        outage = next_outage(before, Ending(kind=kind), lasted_seconds=lasted)
        _, most = wait_range_seconds(outage, Ending(kind=kind))
        if before.failures and kind is before.kind:
            assert most >= most_before
        most_before = most


def test_being_asked_to_come_back_at_once_is_no_licence_for_a_hot_loop() -> None:
    asked = delays(Backoff(Latest()), 4, Ending(asked_seconds=0.0))
    assert asked == [1, 2, 4, 8]


def test_agents_that_lose_one_server_do_not_come_back_together() -> None:
    backoffs = [Backoff(random.Random(seed)) for seed in range(50)]
    assert len({round(delays(backoff, 1)[0], 3) for backoff in backoffs}) > 30
    asked = {round(delays(b, 1, Ending(asked_seconds=1.0))[0], 2) for b in backoffs}
    assert len(asked) > 30


def test_those_who_are_asked_again_and_again_spread_more_and_more() -> None:
    ending = Ending(kind=Kind.BUSY, asked_seconds=60.0)
    spreads = [wait_range_seconds(Outage(kind=Kind.BUSY, failures=n), ending)[1] - 60 for n in range(1, 6)]
    assert spreads == [10, 20, 40, 60, 60]


def test_a_fleet_that_starts_at_once_connects_over_the_whole_spread() -> None:
    spread = Settings(server="10.0.0.1:8004", allow_plaintext=True).first_wait_seconds
    starts = sorted(Backoff(random.Random(seed)).start_seconds(spread) for seed in range(5000))
    per_second = [sum(second <= start < second + 1 for start in starts) for second in range(int(spread))]
    assert sum(per_second) == 5000
    assert max(per_second) < 1.2 * 5000 / spread


def test_nobody_waits_for_a_fleet_on_loopback() -> None:
    for server in ("127.0.0.1:8004", "localhost:8004", "[::1]:8004"):
        assert Settings(server=server).first_wait_seconds == 0.0
    assert Settings(server="10.0.0.1:8004", allow_plaintext=True, start_spread_seconds=0.0).first_wait_seconds == 0.0


def test_a_spread_that_makes_no_sense_is_refused() -> None:
    for seconds in (-1.0, 601.0, float("nan")):
        with pytest.raises(SettingsError, match="0 to 600 are accepted"):
            Settings(start_spread_seconds=seconds)


def test_when_to_come_back_is_heard_although_the_other_half_of_the_stream_failed_first() -> None:
    broken, asked = Disconnected("a write failed"), Disconnected("restarting", retry_after_seconds=5.0)
    assert most_telling(ExceptionGroup("", [broken, ExceptionGroup("", [asked])])) is asked
    assert most_telling(ExceptionGroup("", [broken, OSError()])) is broken
