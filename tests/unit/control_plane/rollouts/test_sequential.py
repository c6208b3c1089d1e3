from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from control_plane.model.rollout import WHOLE, Look, Plan, Strategy
from control_plane.rollouts import sequential
from control_plane.rollouts.sequential import MOST_LOOKS
from control_plane.statistics.sequences import Verdict
from control_plane.workflows.guarding import CandidateGuard

PLAN = Plan(strategy=Strategy.CANARY, shares=(500, WHOLE), replicas=1)
NOW = datetime(2026, 3, 4, tzinfo=UTC)


def look(candidate: tuple[float, float] = (10, 0), stable: tuple[float, float] = (10, 0)) -> Look:
    return Look(
        seconds=2, candidate_good=candidate[0], candidate_bad=candidate[1], stable_good=stable[0], stable_bad=stable[1]
    )


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=300))
def test_many_looks_are_few_and_lose_no_request(counts: list[tuple[int, int]]) -> None:
    looks: tuple[Look, ...] = ()
    for good, bad in counts:
        looks = sequential.added(looks, look(candidate=(good, bad)))
    assert len(looks) <= MOST_LOOKS
    assert sequential.candidate_requests(looks) == sum(g + b for g, b in counts)
    assert sum(k.seconds for k in looks) == 2 * len(counts)


def drawn(candidate: float, stable: float, seed: int) -> Verdict:
    random, looks = np.random.default_rng(seed), ()
    for _ in range(150):
        bad, worse = random.binomial(4, candidate), random.binomial(40, stable)
        looks = sequential.added(looks, look(candidate=(4 - bad, bad), stable=(40 - worse, worse)))
        verdict = sequential.compared(looks, margin=0.05, planned=400)
        if verdict is not Verdict.INCONCLUSIVE:
            return verdict
    return Verdict.INCONCLUSIVE


def test_an_equal_candidate_is_seldom_failed_and_a_bad_one_always() -> None:
    equal = [drawn(0.02, 0.02, seed) for seed in range(150)]
    assert equal.count(Verdict.FAIL) <= 0.08 * 150
    assert [drawn(0.3, 0.02, seed) for seed in range(30)].count(Verdict.FAIL) == 30
    at_margin = [drawn(0.07, 0.02, seed) for seed in range(150)]
    assert at_margin.count(Verdict.PASS) <= 0.08 * 150


def test_a_split_is_seen_from_traffic() -> None:
    assert sequential.split([look((5, 0), (95, 0))] * 10, share=500) is Verdict.PASS
    assert sequential.split([look((40, 0), (60, 0))] * 10, share=500) is Verdict.FAIL
    assert sequential.split([look((0, 0), (100, 0))] * 10, share=5000) is Verdict.INCONCLUSIVE
    assert sequential.split([look((1, 0), (9, 0))], share=5000) is Verdict.INCONCLUSIVE
    assert sequential.split([], share=500) is Verdict.INCONCLUSIVE


def test_the_guards_memory_survives_being_written() -> None:
    """A driver that dies has forgotten nothing: its guard goes on where it was."""
    random, guard = np.random.default_rng(1), CandidateGuard()
    kept: object = None
    written: object = None
    for turn in range(60):
        bad = int(random.binomial(20, 0.02 if turn < 40 else 0.3))
        seen, now = look(candidate=(20 - bad, bad)), NOW + timedelta(seconds=2 * turn)
        kept, verdict = guard.judge(kept, seen, PLAN, now)  # type: ignore[arg-type]
        written, same = CandidateGuard().judge(written, seen, PLAN, now)  # type: ignore[arg-type]
        written = json.loads(json.dumps(written))
        assert verdict is same
    assert verdict is Verdict.FAIL


def test_a_guards_memory_of_another_release_is_dropped() -> None:
    memory, verdict = CandidateGuard().judge({"something": 1}, None, PLAN, NOW)
    assert memory is not None
    assert verdict is Verdict.INCONCLUSIVE
