"""The fast guard: what it says, what it never says, and how often it is wrong."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.model.slo import GuardVerdict
from control_plane.slo import guard
from control_plane.slo.guard import GuardPlan, GuardState, Seen, judge, watch

START = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
PLAN = GuardPlan(allowed_share=0.05, tolerated_share=0.025, interval_seconds=2.0)
counts = st.integers(0, 500)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def seen(seconds: float, good: float, bad: float, doubtful: float = 0.0, at_once: float = 1.0) -> Seen:
    return Seen(at=at(seconds), seconds=2.0, good=good, bad=bad, doubtful=doubtful, at_once=at_once)


def watched(*looks: Seen, plan: GuardPlan = PLAN, state: GuardState | None = None) -> GuardState:
    state = state or GuardState()
    for look in looks:
        state = watch(plan, state, look)
    return state


def steady(until: float, *, good: float, bad: float, since: float = 0.0) -> list[Seen]:
    return [seen(since + 2.0 * n, good, bad) for n in range(1, int((until - since) / 2) + 1)]


def test_nothing_seen_is_not_enough_traffic() -> None:
    assert judge(PLAN, GuardState(), at(0)).verdict is GuardVerdict.NOT_ENOUGH_TRAFFIC
    idle = watched(*steady(600, good=0, bad=0))
    said = judge(PLAN, idle, at(600))
    assert (said.verdict, said.events, said.bad_share) == (GuardVerdict.NOT_ENOUGH_TRAFFIC, 0, None)


def test_a_few_good_events_do_not_pass() -> None:
    least = guard.events_to_pass(PLAN.allowed_share)
    assert judge(PLAN, watched(seen(2, least - 1, 0)), at(2)).verdict is GuardVerdict.NOT_ENOUGH_TRAFFIC
    assert judge(PLAN, watched(seen(2, least, 0)), at(2)).verdict is GuardVerdict.PASS


def test_what_was_good_minutes_ago_does_not_pass_now() -> None:
    state = watched(*steady(60, good=20, bad=0))
    assert judge(PLAN, state, at(60)).verdict is GuardVerdict.PASS
    assert judge(PLAN, state, at(150)).verdict is GuardVerdict.NOT_ENOUGH_TRAFFIC


def test_a_total_outage_is_a_violation_after_two_scrapes_and_not_after_one() -> None:
    state = watched(*steady(60, good=4, bad=0))
    once = watched(seen(62, 0, 40), state=state)
    assert once.violated_since is None
    twice = watched(seen(64, 0, 40), state=once)
    said = judge(PLAN, twice, at(64))
    assert (said.verdict, said.since) == (GuardVerdict.VIOLATION, at(60))


def test_worse_than_usual_is_no_violation_while_it_is_allowed() -> None:
    state = watched(*steady(1200, good=381, bad=19))  # 4.75 % where 2.5 % is usual and 5 % allowed
    assert state.violated_since is None
    assert math.isfinite(max(state.statistics))
    assert guard._mixed(state.statistics) > PLAN.log_threshold, "the change was seen, and is allowed"


def test_while_something_speaks_for_trouble_there_is_no_pass() -> None:
    state = watched(*steady(120, good=100, bad=0), seen(122, 0, 8))
    said = judge(PLAN, state, at(122))
    assert said.evidence >= guard.SUSPICIOUS
    assert said.verdict is GuardVerdict.NOT_ENOUGH_TRAFFIC


def test_a_violation_ends_when_what_came_after_it_is_certainly_good() -> None:
    state = watched(*steady(20, good=0, bad=10))
    assert state.violated_since is not None
    state = watched(*steady(40, good=1, bad=0, since=20), state=state)
    assert judge(PLAN, state, at(40)).verdict is GuardVerdict.VIOLATION
    state = watched(*steady(80, good=20, bad=0, since=40), state=state)
    assert judge(PLAN, state, at(80)).verdict is GuardVerdict.PASS


def test_a_violation_without_traffic_is_not_forgotten_and_no_pass() -> None:
    state = watched(*steady(20, good=0, bad=10))
    said = judge(PLAN, state, at(600))
    assert (said.verdict, said.since) == (GuardVerdict.NOT_ENOUGH_TRAFFIC, state.violated_since)
    again = watched(seen(700, 0, 1), state=state)
    assert judge(PLAN, again, at(700)).verdict is GuardVerdict.VIOLATION


def test_what_may_have_been_good_raises_no_alarm_and_what_may_have_been_bad_never_passes() -> None:
    state = watched(*[seen(2.0 * n, 0, 0, doubtful=100) for n in range(1, 100)])
    assert state.violated_since is None
    assert judge(PLAN, state, at(200)).verdict is GuardVerdict.NOT_ENOUGH_TRAFFIC


def test_tokens_of_one_step_count_as_one_event() -> None:
    apart = watched(seen(2, 0, 8), seen(4, 0, 8))
    together = watched(seen(2, 0, 8, at_once=8), seen(4, 0, 8, at_once=8))
    assert apart.violated_since is not None
    assert together.violated_since is None


@given(counts, counts)
def test_no_events_change_nothing_but_the_time(good: int, bad: int) -> None:
    state = watched(seen(2, good, bad))
    later = watched(seen(4, 0, 0), state=state)
    assert (later.statistics, later.violated_since) == (state.statistics, state.violated_since)


@given(st.lists(st.tuples(counts, counts), min_size=1, max_size=20), counts)
def test_more_bad_events_never_speak_less_for_an_alarm(looks: list[tuple[int, int]], more: int) -> None:
    state = watched(*[seen(2.0 * n, good, bad) for n, (good, bad) in enumerate(looks)])
    events = 500
    less, worse = min(more, events // 2), min(more, events // 2) + events // 4
    few = watched(seen(100, events - less, less), state=state)
    many = watched(seen(100, events - worse, worse), state=state)
    assert guard._mixed(many.statistics) >= guard._mixed(few.statistics) or many.violated_since is not None


@pytest.mark.parametrize("share", [0.001, 0.01, 0.025])
@pytest.mark.parametrize("events", [1, 7, 60])
def test_an_evaluation_is_no_evidence_in_the_mean_while_the_share_is_tolerated(share: float, events: int) -> None:
    """This is what the rate of false alarms rests on: E[likelihood ratio] <= 1, the cap on it included."""
    means = [0.0] * guard.ALTERNATIVES
    for bad in range(events + 1):
        chance = math.comb(events, bad) * share**bad * (1 - share) ** (events - bad)
        state = watched(seen(2, events - bad, bad))
        for n, statistic in enumerate(state.statistics):  # of one look: the ratio itself
            means[n] += chance * math.exp(statistic)
    assert max(means) <= 1.0 + 1e-9


def test_the_alternatives_are_violations() -> None:
    for allowed in (0.0001, 0.01, 0.05, 0.5, 0.85):
        alternatives = GuardPlan(allowed_share=allowed).alternatives
        assert all(allowed < share <= guard.OUTAGE_SHARE + 1e-9 for share in alternatives)
        assert list(alternatives) == sorted(set(alternatives))


@pytest.mark.parametrize(
    "wrong",
    [
        {"allowed_share": 0.0}, {"allowed_share": 0.95}, {"allowed_share": 0.05, "tolerated_share": 0.06},
        {"allowed_share": 0.05, "tolerated_share": 0.0}, {"allowed_share": 0.05, "interval_seconds": 0.0},
        {"allowed_share": 0.05, "seconds_between_false_alarms": 20.0},
    ],
)  # fmt: skip
def test_a_plan_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"share|guard"):
        GuardPlan(**wrong)
