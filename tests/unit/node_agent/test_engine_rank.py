"""Ranks from the titles that engines give their processes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node_agent.engine_rank import engine_rank

TITLES = {
    "VLLM::Worker_DP0_PP0_TP1_EP1": ("vllm", "worker", {"dp": 0, "pp": 0, "tp": 1, "ep": 1}),
    "VLLM::Worker_TP3": ("vllm", "worker", {"tp": 3}),
    "VLLM::Worker": ("vllm", "worker", {}),
    "VLLM::EngineCore_DP0": ("vllm", "enginecore", {"dp": 0}),
    "VLLM::EngineCore": ("vllm", "enginecore", {}),
    "VLLM::APIServer_0": ("vllm", "apiserver", {}),
    "myprefix::Worker_TP1": ("myprefix", "worker", {"tp": 1}),
    "sglang::scheduler_DP0_TP1": ("sglang", "scheduler", {"dp": 0, "tp": 1}),
    "sglang::scheduler_DP1_PP0_TP12_EP3 and more": ("sglang", "scheduler", {"dp": 1, "pp": 0, "tp": 12, "ep": 3}),
    "sglang::detokenizer": ("sglang", "detokenizer", {}),
}


@pytest.mark.parametrize(("title", "expected"), TITLES.items(), ids=TITLES.keys())
def test_a_title_gives_engine_role_and_ranks(title: str, expected: tuple[str, str, dict[str, int]]) -> None:
    found = engine_rank(title)
    assert found is not None
    assert (found.engine, found.role, found.ranks) == expected


@pytest.mark.parametrize(
    "title", ["", "python3", "/usr/bin/vllm serve", "a::", "::Worker_TP1", "std::vector<int>", "x y::Worker_TP1"]
)
def test_what_is_no_title_gives_no_rank(title: str) -> None:
    assert engine_rank(title) is None


@given(st.text(max_size=400))
def test_no_text_breaks_the_parser(title: str) -> None:
    engine_rank(title)
