from __future__ import annotations

from dataclasses import replace

import numpy as np

from control_plane.analysis.serving import Served
from control_plane.analysis.workload import learnt
from control_plane.model.sample import Distribution
from control_plane.trials.load import lengths

LENGTHS = Distribution(bounds=(10.0, 100.0), counts=(100, 80, 20), sum=16_000.0)
SERVED = Served(
    seconds=100.0,
    growth={"requests_finished_total": 200.0, "prefix_cache_hits_total": 40.0, "prefix_cache_queries_total": 100.0},
    distributions={"prompt_length_tokens": LENGTHS, "output_length_tokens": LENGTHS}, unknown={},
)  # fmt: skip


def test_replicas_of_a_model_are_one_workload() -> None:
    found = learnt([SERVED, SERVED])
    assert found is not None
    assert (found.requests, found.per_second, found.cached_ratio) == (400.0, 4.0, 0.4)
    assert found.prompt_lengths == [(10, 200.0), (100, 200.0)]  # beyond the last bound: put on it
    assert found.mean_prompt_tokens == 80.0


def test_what_was_learnt_can_be_sent_again() -> None:
    found = learnt([SERVED])
    assert found is not None
    assert found.prompt_lengths is not None
    drawn = lengths.parse(lengths.counted(found.prompt_lengths)).draw(10_000, np.random.default_rng(1))
    assert 1 <= drawn.min() <= 10 < drawn.max() <= 100
    assert abs(float(np.mean(drawn <= 10)) - 0.5) < 0.03


def test_too_few_requests_teach_nothing() -> None:
    assert learnt([]) is None
    assert learnt([replace(SERVED, growth={"requests_finished_total": 99.0})]) is None
    assert learnt([replace(SERVED, growth={"requests_finished_total": None})]) is None


def test_what_one_server_does_not_count_is_unknown_and_not_zero() -> None:
    other = Distribution(bounds=(50.0,), counts=(1, 1), sum=None)
    growth = {**SERVED.growth, "prefix_cache_hits_total": None}
    found = learnt([SERVED, replace(SERVED, growth=growth, distributions={"prompt_length_tokens": other})])
    assert found is not None
    assert (found.prompt_lengths, found.cached_ratio) == (None, None)
    assert found.output_lengths is not None
