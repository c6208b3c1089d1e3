"""Verdicts, held against real engines in known states, and against everything that could be thrown at them."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.analysis.bottlenecks.facts import EngineHistory, EngineWindow, GpuWindow
from control_plane.analysis.bottlenecks.gpu_facts import GpuLook, gpu_window
from control_plane.analysis.bottlenecks.remedies import REMEDIES
from control_plane.analysis.bottlenecks.scores import scores, stands_still
from control_plane.analysis.bottlenecks.timeline import Recorded, timeline
from control_plane.analysis.bottlenecks.verdicts import judge
from control_plane.diagnose import load
from control_plane.model.bottleneck import Bottleneck
from node_agent.__main__ import read_exposition

ENGINES = Path(__file__).parents[3] / "data" / "engine-recordings"
BEGIN = datetime(1970, 1, 1, tzinfo=UTC)

NOTHING = EngineWindow(**{f.name: None for f in fields(EngineWindow) if f.name != "seconds"}, seconds=5.0)
# A service at its ease, in round numbers.
AT_EASE = replace(
    NOTHING,
    running=1.0,
    running_most=1.0,
    waiting=0.0,
    waiting_least=0.0,
    kv_usage=0.1,
    preemptions=0.0,
    prompt_tokens=2000.0,
    output_tokens=1000.0,
    steps=800.0,
    step_tokens=4.0,
    narrow_steps=780.0,
    decoding=0.5,
    inter_token_seconds=0.0025,
    first_tokens=25.0,
    ttft_seconds=0.01,
    queue_seconds=0.0,
    finished=25.0,
    aborted=0.0,
    failed=0.0,
)


def loaded_seconds(folder: Path) -> float:
    """For how long the load generator sent."""
    return float(json.loads((folder / "summary.json").read_text())["args"]["duration"])


@pytest.mark.parametrize(
    ("name", "bottleneck"),
    [
        ("vllm-cpu-healthy", Bottleneck.HEALTHY),
        ("vllm-cpu-kv-bound", Bottleneck.KV_CAPACITY_BOUND),
        ("vllm-cpu-queue-bound", Bottleneck.BATCH_LIMITED),
        ("vllm-cpu-prefill-bound", Bottleneck.PREFILL_BOUND),
        ("vllm-cpu-prefix-fits", Bottleneck.HEALTHY),
        ("vllm-cpu-prefix-miss", Bottleneck.PREFIX_CACHE_MISS),
        ("vllm-h200-healthy", Bottleneck.HEALTHY),
        ("vllm-h200-max-num-seqs-8", Bottleneck.BATCH_LIMITED),
        ("vllm-h200-max-num-seqs-default", Bottleneck.HEALTHY),
        ("vllm-h200-prefill", Bottleneck.PREFILL_BOUND),
        ("vllm-h200-x2-tp2-prefill", Bottleneck.PREFILL_BOUND),
        ("sglang-cpu-healthy", Bottleneck.HEALTHY),
        ("sglang-cpu-kv-bound", Bottleneck.KV_CAPACITY_BOUND),
        ("sglang-cpu-queue-bound", Bottleneck.BATCH_LIMITED),
    ],
)
def test_a_real_engine_in_a_known_state_is_called_what_it_is(name: str, bottleneck: Bottleneck) -> None:
    folder = ENGINES / name
    judged = timeline(load(folder, read_exposition).recorded)
    end = BEGIN + timedelta(seconds=loaded_seconds(folder))
    under_load = [each.verdict.bottleneck for each in judged if each.until <= end]
    assert len(under_load) >= 8
    assert under_load.count(bottleneck) >= 0.9 * len(under_load)


@pytest.mark.parametrize(
    "name", ["vllm-cpu-healthy", "vllm-cpu-kv-bound", "vllm-cpu-queue-bound", "sglang-cpu-healthy"]
)
def test_a_real_engine_is_idle_once_the_load_is_gone(name: str) -> None:
    judged = timeline(load(ENGINES / name, read_exposition).recorded)
    assert judged[-1].verdict.bottleneck is Bottleneck.IDLE


def test_without_gpu_metrics_it_says_which_classes_cannot_be_told() -> None:
    verdict = judge(AT_EASE, EngineHistory(), None)
    assert verdict.bottleneck is Bottleneck.HEALTHY
    assert {Bottleneck.COMPUTE_BOUND, Bottleneck.HOST_BOUND, Bottleneck.STUCK_COLLECTIVE} <= set(verdict.cannot_tell)


def test_not_knowing_is_missing_data_and_never_idle_or_healthy() -> None:
    assert judge(NOTHING, EngineHistory(), None).bottleneck is Bottleneck.MISSING_DATA
    assert judge(None, EngineHistory(), None).bottleneck is Bottleneck.MISSING_DATA
    blind = gpu_window([GpuLook(gpu="0")])
    assert judge(None, EngineHistory(), blind).bottleneck is Bottleneck.MISSING_DATA


def test_waiting_with_a_full_kv_cache_is_not_blamed_on_the_batch_limit() -> None:
    window = replace(AT_EASE, running=8.0, running_most=8.0, waiting=30.0, waiting_least=30.0, kv_usage=0.97)
    verdict = judge(window, EngineHistory(most_running=8.0), None)
    assert verdict.bottleneck is Bottleneck.KV_CAPACITY_BOUND


def test_an_engine_that_reserves_whole_requests_is_kv_bound_before_its_cache_looks_full() -> None:
    window = replace(AT_EASE, running=6.0, running_most=6.0, waiting=26.0, waiting_least=26.0, kv_usage=0.5)
    history = EngineHistory(most_running=6.0, kv_capacity_tokens=4096.0, request_tokens=680.0)
    assert judge(window, history, None).bottleneck is Bottleneck.KV_CAPACITY_BOUND


def test_a_cache_without_repeating_prompts_is_not_a_cache_miss() -> None:
    prefill = replace(
        AT_EASE, steps=8.0, step_tokens=1900.0, narrow_steps=0.0, inter_token_seconds=0.65, decoding=5.0,
        prompt_tokens=12_000.0, output_tokens=40.0,
    )  # fmt: skip
    fresh = EngineHistory(prefix_caching=True, cache_hit_ratio=0.0, kv_capacity_tokens=12_800.0,
                          prompt_tokens_per_second=2400.0)  # fmt: skip
    assert judge(prefill, fresh, None).bottleneck is Bottleneck.PREFILL_BOUND
    repeating = replace(fresh, cache_hit_ratio=0.11)
    assert judge(prefill, repeating, None).bottleneck is Bottleneck.PREFIX_CACHE_MISS
    roomy = replace(repeating, kv_capacity_tokens=10_000_000.0)
    assert judge(prefill, roomy, None).bottleneck is Bottleneck.PREFILL_BOUND


def test_a_standstill_is_hung_from_its_beginning_once_it_has_lasted() -> None:
    still = replace(
        AT_EASE, steps=0.0, output_tokens=0.0, prompt_tokens=0.0, first_tokens=0.0, finished=0.0, decoding=0.0,
        inter_token_seconds=None, ttft_seconds=None,
    )  # fmt: skip
    assert stands_still(still)
    assert judge(still, EngineHistory(), None).bottleneck is not Bottleneck.HUNG_ENGINE  # a stall that may pass
    assert judge(replace(still, seconds=10.0), EngineHistory(), None).bottleneck is Bottleneck.HUNG_ENGINE


def test_gpus_that_spin_in_a_collective_are_stuck_although_classic_utilization_is_full() -> None:
    spinning = [
        GpuLook(gpu=gpu, classic_utilization=1.0, sm_active=sm, tensor_active=0.0, dram_active=0.0,
                link_bytes_per_second=0.0)
        for gpu, sm in (("a", 0.18182), ("b", 0.00758))
        for _ in range(5)
    ]  # fmt: skip
    verdict = judge(None, EngineHistory(), gpu_window(spinning))
    assert verdict.bottleneck is Bottleneck.STUCK_COLLECTIVE


def test_heat_is_named_before_what_it_causes() -> None:
    hot = [
        GpuLook(gpu="a", classic_utilization=1.0, sm_active=0.9, tensor_active=0.8, dram_active=0.2,
                slowed_by_heat=True, sm_clock_share=0.6)
        for _ in range(5)
    ]  # fmt: skip
    assert judge(AT_EASE, EngineHistory(), gpu_window(hot)).bottleneck is Bottleneck.FAULTY_GPU


def test_a_verdict_is_kept_while_its_score_hovers() -> None:
    window = replace(AT_EASE, running=4.0, running_most=4.0, waiting=0.9, waiting_least=0.9, kv_usage=0.9)
    alone, kept = (
        judge(window, EngineHistory(), None, before=before) for before in (None, Bottleneck.KV_CAPACITY_BOUND)
    )
    assert alone.bottleneck is Bottleneck.HEALTHY
    assert kept.bottleneck is Bottleneck.KV_CAPACITY_BOUND


def test_a_gap_between_two_looks_is_missing_data() -> None:
    recorded = load(ENGINES / "vllm-cpu-healthy", read_exposition).recorded
    readings = [*recorded.readings[:3], *recorded.readings[7:]]
    judged = timeline(replace(recorded, readings=readings))
    gap = next(each for each in judged if each.until - each.since > timedelta(seconds=15))
    assert gap.verdict.bottleneck is Bottleneck.MISSING_DATA


def test_every_class_has_a_remedy_but_health() -> None:
    assert {name for name, remedies in REMEDIES.items() if not remedies} == {Bottleneck.HEALTHY}
    assert set(REMEDIES) == set(Bottleneck)


def test_a_recording_without_anything_has_no_windows() -> None:
    assert timeline(Recorded(readings=())) == []


maybe = st.none() | st.floats(min_value=0.0, max_value=1e9)
positive = st.floats(min_value=1e-6, max_value=1e6)
share = st.none() | st.floats(min_value=0.0, max_value=1.0)


def windows() -> st.SearchStrategy[EngineWindow]:
    names = [f.name for f in fields(EngineWindow)]
    return st.fixed_dictionaries({n: share if n == "kv_usage" else maybe for n in names}).map(
        lambda values: EngineWindow(**{**values, "seconds": values["seconds"] or 5.0})
    )


def histories() -> st.SearchStrategy[EngineHistory]:
    names = [f.name for f in fields(EngineHistory) if f.name not in ("prefix_caching", "cache_hit_ratio", "paces")]
    return st.fixed_dictionaries(
        {
            **dict.fromkeys(names, maybe),
            "prefix_caching": st.none() | st.booleans(),
            "cache_hit_ratio": share,
            "paces": st.lists(st.tuples(positive, positive), max_size=3).map(tuple),
        }
    ).map(lambda values: EngineHistory(**values))


def gpus() -> st.SearchStrategy[GpuWindow | None]:
    names = [f.name for f in fields(GpuWindow) if f.name not in ("gpus", "samples")]
    values = {**{n: maybe if "bytes" in n or "watts" in n else share for n in names}}
    counts = {"gpus": st.integers(1, 8), "samples": st.integers(1, 80)}
    return st.none() | st.fixed_dictionaries({**values, **counts}).map(lambda found: GpuWindow(**found))


@given(window=st.none() | windows(), history=histories(), gpu=gpus())
def test_whatever_is_known_or_not_every_score_is_a_share_and_there_is_one_verdict(
    window: EngineWindow | None, history: EngineHistory, gpu: GpuWindow | None
) -> None:
    assert all(0.0 <= score <= 1.0 for score in scores(window, history, gpu).values())
    verdict = judge(window, history, gpu)
    assert verdict.runner_up is not verdict.bottleneck
    assert 0.0 <= verdict.score <= 1.0
    assert judge(window, history, gpu) == verdict


@given(window=windows(), gpu=gpus())
def test_forgetting_a_fact_never_makes_a_standstill_out_of_progress(
    window: EngineWindow, gpu: GpuWindow | None
) -> None:
    if window.output_tokens:
        assert not stands_still(window)
