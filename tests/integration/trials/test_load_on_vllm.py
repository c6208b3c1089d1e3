"""The load generator on a real vLLM, beside what that vLLM measured of itself."""

from __future__ import annotations

import asyncio
from collections import Counter

import httpx2
import numpy as np

from control_plane.runtime.clock import SystemClock
from control_plane.trials.load import arrivals
from control_plane.trials.load.asking import served_models
from control_plane.trials.load.connection import Address
from control_plane.trials.load.lengths import Fixed
from control_plane.trials.load.plan import LoadPlan, run_load
from control_plane.trials.load.prompts import Sharing
from control_plane.trials.load.records import Outcome
from control_plane.trials.load.requesting import Target
from control_plane.trials.load.summary import Objective, summarize
from tests.support.vllm import MARKS, serving

pytestmark = MARKS


def counter(base: str, name: str) -> float:
    page = httpx2.get(f"{base}/metrics").text
    return sum(float(line.rsplit(" ", 1)[1]) for line in page.splitlines() if line.startswith(name))


async def test_a_real_vllm_and_we_count_alike() -> None:
    clock = SystemClock()
    with serving() as (base, _):
        (model,) = await served_models(Target(address=Address.parse(base), model=""), clock)
        due = arrivals.arrivals(arrivals.constant(8, 10), variation=1, random=np.random.default_rng(1))
        asked = LoadPlan(
            due_seconds=due, seconds=10, prompt_tokens=Fixed(tokens=100), output_tokens=Fixed(tokens=24),
            sharing=Sharing(groups=1, tokens=64),
        )  # fmt: skip
        before = counter(base, "vllm:generation_tokens_total")
        run = await run_load(asked, Target(address=Address.parse(base), model=model), clock, stop=asyncio.Event())
        summary = summarize(run, Objective())
        assert Counter(r.outcome for r in run.records) == {Outcome.COMPLETED: 80}
        assert {r.output_tokens for r in run.records} == {24}
        # Two more requests measured how it counts, one token each.
        assert counter(base, "vllm:generation_tokens_total") - before == 80 * 24 + 2
        assert summary.prompt_tokens_mean is not None
        assert abs(summary.prompt_tokens_mean - 100) < 5, "prompts have their length by the server's own count"
        theirs = counter(base, "vllm:time_to_first_token_seconds_sum") / counter(
            base, "vllm:time_to_first_token_seconds_count"
        )
        assert summary.ttft.mean.value is not None
        assert summary.ttft.mean.value > 0.5 * theirs, "a client waits at least as long as the server says"
