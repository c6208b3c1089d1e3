"""Percentiles from merged histograms of real engines, held against what the load generator measured request by request.

The two do not measure the same: the generator's clock begins before its request leaves and stops after the token has
come, so it adds the way there and back. What an engine itself observed lies between the bounds without exception.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.analysis.distributions import increase, merged, quantile
from control_plane.diagnose import load
from control_plane.model.sample import Distribution
from node_agent.__main__ import read_exposition

ENGINES = Path(__file__).parents[3] / "data" / "engine-recordings"
MEASURED = {
    "ttft": "ttft_seconds", "e2e": "end_to_end_seconds", "tpot": "time_per_output_token_seconds",
}  # fmt: skip
# The way there and back, and a client in Python that serves up to 96 streams: in 82 of the 84 percentiles it does not
# cross a bound; where it does, it is by 2 ms and by 9 ms.
WAY_SECONDS = 0.010
# Engine and HTTP share one thread there: how long an answer then waits for its way, the engine's histograms don't know.
ONE_THREAD = frozenset({"vllm-cpu-ramp", "vllm-cpu-prefix-fits", "vllm-cpu-prefix-miss"})


@pytest.mark.parametrize("folder", sorted(p.parent for p in ENGINES.glob("*/summary.json")), ids=lambda p: p.name)
def test_exact_percentiles_of_a_real_load_lie_between_the_bounds_that_are_reported(folder: Path) -> None:
    summary = json.loads((folder / "summary.json").read_text())
    readings = [r for r in load(folder, read_exposition).recorded.readings if r.values.get("up_flag", 1.0) != 0]
    compared = outside = 0
    for name, field in MEASURED.items():
        looks = [reading.distributions.get(field) for reading in readings]
        whole = merged([increase(first, last) for first, last in pairwise(looks) if last is not None])
        if whole is None:
            continue
        assert sum(whole.counts) == summary["completed"], "every request is in it, once"
        for percentile, exact in summary[name].items():
            found = quantile(whole, int(percentile[1:]) / 100)
            assert found is not None
            assert exact > found.low, "a client never sees less than the engine"
            compared += 1
            if folder.name not in ONE_THREAD:
                assert found.high is None or exact <= found.high + WAY_SECONDS
                outside += found.high is not None and exact > found.high
    assert compared >= 5
    assert outside <= 1


BOUNDS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0)
SECONDS = st.lists(st.floats(0.0, 10.0), max_size=60)


@given(st.lists(SECONDS, min_size=1, max_size=5), st.sampled_from((0.5, 0.9, 0.95, 0.99)))
def test_the_exact_percentile_over_replicas_lies_between_the_bounds_of_their_merged_histogram(
    replicas: list[list[float]], share: float
) -> None:
    every = sorted(value for replica in replicas for value in replica)
    whole = merged([observed(replica) for replica in replicas])
    assert whole is not None
    found = quantile(whole, share)
    if not every:
        assert found is None
        return
    assert found is not None
    # The smallest value that so many are not above: the rank that histogram quantiles are about.
    exact = next(v for n, v in enumerate(every, start=1) if n >= share * len(every))
    assert exact > found.low or exact == found.low == 0.0
    assert found.high is None or exact <= found.high


def observed(values: list[float]) -> Distribution:
    counts = [0] * (len(BOUNDS) + 1)
    for value in values:
        counts[next((n for n, bound in enumerate(BOUNDS) if value <= bound), len(BOUNDS))] += 1
    return Distribution(bounds=BOUNDS, counts=tuple(counts), sum=sum(values))
