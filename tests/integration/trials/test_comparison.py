"""A candidate beside its baseline: what is equal passes, what is worse fails, what is little stays open."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest

from control_plane.model.errors import InvalidRequest
from control_plane.runtime.clock import SystemClock
from control_plane.statistics import sequences
from control_plane.statistics.sequences import Verdict
from control_plane.trials.comparison import interleaved
from control_plane.trials.comparison.interleaved import Comparison, compare
from control_plane.trials.comparison.measures import Margins
from control_plane.trials.comparison.quality import QualityMargins
from control_plane.trials.comparison.report import comparison_as_values, comparison_in_words, words_in_words
from control_plane.trials.comparison.wording import compare_words
from control_plane.trials.load import arrivals
from control_plane.trials.load.connection import Address
from control_plane.trials.load.lengths import Fixed
from control_plane.trials.load.plan import LoadPlan
from control_plane.trials.load.requesting import Target
from control_plane.trials.load.summary import Objective
from tests.fakes.inference_server import Behaviour, InferenceServer

CLOCK = SystemClock()
RATE = 200
OBJECTIVE = Objective()  # a good request is a completed one: no test asserts on time


@pytest.fixture(autouse=True)
def frequent_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks, and stretches of time, that fit into a short test."""
    monkeypatch.setattr(interleaved, "LOOK_SECONDS", 0.2)
    monkeypatch.setattr(sequences, "STRETCH_SECONDS", 0.02)


def target(server: InferenceServer) -> Target:
    return Target(address=Address.parse(server.url), model="tiny")


async def compared(candidate: Behaviour, *, count: int = 2000, margins: Margins | None = None) -> Comparison:
    due = arrivals.arrivals(arrivals.constant(RATE, count / RATE), variation=0, random=np.random.default_rng(1))
    plan = LoadPlan(
        due_seconds=due, seconds=count / RATE, prompt_tokens=Fixed(tokens=10), output_tokens=Fixed(tokens=4),
        timeout_seconds=60,
    )  # fmt: skip
    async with InferenceServer(candidate) as new, InferenceServer(Behaviour(prefill_seconds=0.02)) as old:
        found = await compare(
            plan, candidate=target(new), baseline=target(old), objective=OBJECTIVE,
            margins=margins or Margins(bad_share=0.05, ttft_ratio=None, tpot_ratio=None),
            clock=CLOCK, stop=asyncio.Event(),
        )  # fmt: skip
        texts = [[seen.body["messages"][0]["content"] for seen in server.seen[2:]] for server in (new, old)]
    assert abs(len(texts[0]) - len(texts[1])) <= 40, "both get the same load"
    assert len(set(texts[0]) & set(texts[1])) > 0.9 * min(map(len, texts)), "and the same words"
    assert json.dumps(comparison_as_values(found, None))
    assert comparison_in_words(found)
    return found


async def test_an_equal_candidate_passes() -> None:
    found = await compared(Behaviour(prefill_seconds=0.02))
    assert found.verdict is Verdict.PASS, found.because


async def test_a_candidate_that_fails_some_requests_fails_and_the_load_ends_at_once() -> None:
    found = await compared(Behaviour(fault="http_500", fault_every=3), count=40_000)
    assert found.verdict is Verdict.FAIL
    assert found.candidate.requests < 5_000


async def test_a_slower_candidate_fails_by_its_latency_alone() -> None:
    found = await compared(Behaviour(prefill_seconds=3.0), count=1000, margins=Margins(ttft_ratio=1.5, tpot_ratio=None))
    assert found.verdict is Verdict.FAIL
    assert {d.name: d.verdict for d in found.differences}["ttft_log_ratio"] is Verdict.FAIL


async def test_few_requests_are_inconclusive() -> None:
    found = await compared(Behaviour(), count=80)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "too few" in found.because


@pytest.mark.parametrize(("wrong", "expected"), [(0.0, Verdict.PASS), (0.4, Verdict.FAIL)])
async def test_words_decide_whether_it_is_still_the_same_model(wrong: float, expected: Verdict) -> None:
    async with InferenceServer(Behaviour(wrong_share=wrong)) as new, InferenceServer() as old:
        found = await compare_words(candidate=target(new), baseline=target(old), clock=CLOCK, margins=QualityMargins())
    assert found.verdict is expected, found
    assert found.log_likelihood is not None
    assert words_in_words(found)


async def test_a_server_that_does_not_answer_leaves_nothing_to_compare() -> None:
    async with InferenceServer(Behaviour(fault="http_500")) as new, InferenceServer() as old:
        with pytest.raises(InvalidRequest, match="out of luck"):
            await compare_words(candidate=target(new), baseline=target(old), clock=CLOCK, margins=QualityMargins())
