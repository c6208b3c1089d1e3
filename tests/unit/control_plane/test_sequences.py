"""Verdicts that may be looked at all the time are wrong no more often than they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.statistics import sequences
from control_plane.statistics.sequences import LEAST_PER_ARM, Arm, Measure, Verdict, share_arm


def shares(candidate: tuple[int, int], baseline: tuple[int, int], margin: float = 0.02) -> Measure:
    (bad, count), (worse, others) = candidate, baseline
    return Measure(
        name="bad_share", candidate=share_arm(count=count, hits=bad), baseline=share_arm(count=others, hits=worse),
        margin=margin,
    )  # fmt: skip


def judged(*measures: Measure) -> Verdict:
    return sequences.judge(measures, alpha=0.05, planned=1000)[0]


def looked_at(candidate: float, baseline: float, seed: int, *, looks: int = 60, each: int = 50) -> Verdict:
    """Two arms of requests, looked at after every `each`; the first verdict ends it."""
    random = np.random.default_rng(seed)
    bad = worse = 0
    for look in range(1, looks + 1):
        bad += int(random.binomial(each, candidate))
        worse += int(random.binomial(each, baseline))
        verdict = judged(shares((bad, look * each), (worse, look * each)))
        if verdict is not Verdict.INCONCLUSIVE:
            return verdict
    return Verdict.INCONCLUSIVE


RUNS = 300
SLACK = 0.03  # three standard deviations of a rate of 5 % in so many runs, rounded down


def test_equal_servers_are_seldom_told_apart_however_often_one_looks() -> None:
    verdicts = [looked_at(0.02, 0.02, seed) for seed in range(RUNS)]
    assert verdicts.count(Verdict.FAIL) / RUNS <= 0.05 + SLACK
    assert verdicts.count(Verdict.PASS) / RUNS > 0.8


def test_a_candidate_at_the_margin_seldom_passes_however_often_one_looks() -> None:
    verdicts = [looked_at(0.04, 0.02, seed) for seed in range(RUNS)]
    assert verdicts.count(Verdict.PASS) / RUNS <= 0.05 + SLACK


def test_a_bad_candidate_fails() -> None:
    verdicts = [looked_at(0.15, 0.02, seed) for seed in range(100)]
    assert verdicts.count(Verdict.FAIL) == 100


def test_nothing_and_too_little_are_inconclusive() -> None:
    assert judged() is Verdict.INCONCLUSIVE
    assert judged(shares((0, 0), (0, 0))) is Verdict.INCONCLUSIVE
    few = LEAST_PER_ARM - 1
    assert judged(shares((few, few), (0, 10_000))) is Verdict.INCONCLUSIVE
    assert judged(shares((0, few), (0, 10_000))) is Verdict.INCONCLUSIVE


def test_a_server_without_a_bad_request_has_not_proved_that_there_are_none() -> None:
    assert judged(shares((0, 100), (0, 100))) is Verdict.INCONCLUSIVE
    assert judged(shares((0, 10_000), (0, 10_000))) is Verdict.PASS


def test_one_failing_measure_fails_all_and_one_unknown_keeps_from_passing() -> None:
    good, bad, unknown = shares((0, 9000), (0, 9000)), shares((4500, 9000), (0, 9000)), shares((0, 9), (0, 9000))
    assert judged(good, bad) is Verdict.FAIL
    assert judged(good, unknown) is Verdict.INCONCLUSIVE
    assert judged(good, good) is Verdict.PASS


@given(st.integers(30, 10**6), st.integers(0, 10**6), st.integers(30, 10**6), st.integers(0, 10**6))
def test_pass_and_fail_never_hold_together(count: int, bad: int, others: int, worse: int) -> None:
    measure = shares((min(bad, count), count), (min(worse, others), others))
    found = sequences.compared(measure, alpha=0.05, planned=1000)
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.high
    assert (found.verdict is Verdict.FAIL) == (found.low > 0.02)
    assert (found.verdict is Verdict.PASS) == (found.high < 0.02)


@pytest.mark.parametrize("alpha", [0.01, 0.05])
def test_a_bound_holds_at_all_moments_together(alpha: float) -> None:
    wrong = 0
    for seed in range(RUNS):
        values = np.cumsum(np.random.default_rng(seed).normal(size=3000))
        for count in range(50, 3000, 10):
            half = sequences.half_width(count=count, variance_of_mean=1 / count, alpha=alpha, planned=500)
            if abs(values[count - 1] / count) > half:
                wrong += 1
                break
    assert wrong / RUNS <= alpha + 0.015


def test_a_bound_is_tightest_where_it_was_planned() -> None:
    def width(planned: float) -> float:
        return sequences.half_width(count=500, variance_of_mean=1 / 500, alpha=0.05, planned=planned)

    assert width(500) < min(width(50), width(5000))
    assert width(500) > 1.96 / math.sqrt(500), "looking often has its price"


def test_an_unknown_variance_passes_nothing() -> None:
    unknown = Arm(count=100, mean=0.0, variance_of_mean=math.inf)
    measure = Measure(name="x", candidate=unknown, baseline=unknown, margin=0.1)
    assert judged(measure) is Verdict.INCONCLUSIVE


def at(rate: float, seconds: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.arange(round(rate * seconds)) / rate


def test_values_that_hang_together_say_less_than_as_many_independent_ones() -> None:
    random, when = np.random.default_rng(1), at(10, 600)
    alone = random.normal(size=len(when))
    together = np.repeat(random.normal(size=len(when) // 20), 20)
    assert sequences.timed_arm(when, alone, share=False).variance_of_mean == pytest.approx(1 / 6000, rel=0.6)
    assert sequences.timed_arm(when, together, share=False).variance_of_mean > 8 / 6000


def test_too_short_a_time_has_no_known_variance() -> None:
    short = at(10, sequences.STRETCH_SECONDS * (sequences.LEAST_STRETCHES - 1))
    assert math.isinf(sequences.timed_arm(short, np.zeros(len(short)), share=True).variance_of_mean)
    for few in (np.array([]), np.array([1.0])):
        assert math.isinf(sequences.timed_arm(few, few, share=True).variance_of_mean)


def test_no_bad_request_in_a_long_time_is_still_not_certain() -> None:
    when = at(10, 600)
    found = sequences.timed_arm(when, np.zeros(len(when)), share=True)
    assert found.mean == 0
    assert found.variance_of_mean > 0
