"""Flags are recommended from the recording of a bad run alone, and what really came lies within what was said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.__main__ import main
from control_plane.decisions.tuning.choice import recommend
from control_plane.decisions.tuning.facts import ServerFacts
from control_plane.model.bottleneck import Bottleneck
from control_plane.model.recommendation import Recommendation
from control_plane.model.scaling import Because, NoAction

RECORDINGS = Path(__file__).parents[2] / "data" / "engine-recordings"
FACTS = ServerFacts(
    engine="vllm", bottleneck=Bottleneck.BATCH_LIMITED, evidence=(), running=8, running_most=8, waiting=88, demand=96,
    requests_per_second=2.86, output_tokens=192, request_tokens=692, inter_token_seconds=0.0139,
    kv_capacity_tokens=456_208, kv_usage=0.01, block_tokens=16, blocks_override=None, memory_share=0.5,
    kv_format="auto", on_gpu=True, dram_active=0.18, tensor_active=0.04,
)  # fmt: skip


def asked(name: str, capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    assert main(["recommend", "--recording", str(RECORDINGS / name), "--json"]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def test_the_h200_that_ran_eight_at_once_is_told_to_run_more_and_the_eightfold_lies_within(
    capsys: pytest.CaptureFixture[str],
) -> None:
    recommended = asked("vllm-h200-max-num-seqs-8", capsys)["recommendation"]
    assert isinstance(recommended, dict)
    (flag,) = recommended["flags"]
    assert flag["name"] == "--max-num-seqs"
    assert int(flag["value"]) >= 96
    effect = recommended["effect"]
    # 2.857 requests a second became 22.859, 13.9 ms between tokens 17.2, with the default limit under the same load.
    assert effect["requests_ratio"]["low"] < 22.859 / 2.857 < effect["requests_ratio"]["high"]
    assert effect["token_time_ratio"]["low"] < 17.2 / 13.9 < effect["token_time_ratio"]["high"]


@pytest.mark.parametrize(
    ("name", "flag"),
    [
        ("vllm-cpu-queue-bound", "--max-num-seqs"), ("sglang-cpu-queue-bound", "--max-running-requests"),
        ("vllm-cpu-kv-bound", "--num-gpu-blocks-override"), ("sglang-cpu-kv-bound", "--max-total-tokens"),
    ],
)  # fmt: skip
def test_each_engine_is_told_its_own_flag(name: str, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    recommended = asked(name, capsys)["recommendation"]
    assert isinstance(recommended, dict)
    assert [f["name"] for f in recommended["flags"]] == [flag]
    ratio = recommended["effect"]["requests_ratio"]
    assert 1 < ratio["low"] < ratio["expected"] < ratio["high"]
    assert recommended["rollback"]


@pytest.mark.parametrize(
    ("name", "because"),
    [
        ("vllm-h200-healthy", "nothing_binds"), ("vllm-h200-max-num-seqs-default", "no_flag_helps"),
        ("vllm-cpu-prefill-bound", "no_flag_helps"), ("vllm-h200-prefill", "no_flag_helps"),
        ("vllm-cpu-healthy", "nothing_binds"),
    ],
)  # fmt: skip
def test_what_no_flag_mends_is_left_alone_with_a_reason(
    name: str, because: str, capsys: pytest.CaptureFixture[str]
) -> None:
    refusal = asked(name, capsys)["no_action"]
    assert isinstance(refusal, dict)
    assert refusal["because"] == because
    assert refusal["explanation"]


def test_people_read_it_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recommend", "--recording", str(RECORDINGS / "vllm-h200-max-num-seqs-8")]) == 0
    said = capsys.readouterr().out
    assert "set --max-num-seqs" in said
    assert "nine in ten" in said
    assert "rollback" in said


def test_a_folder_without_an_engine_is_refused_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recommend", "--recording", str(tmp_path)]) == 1
    assert "0000.prom" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["requests_per_second", "inter_token_seconds", "output_tokens", "demand"])
def test_what_is_unknown_is_no_reason_to_change_anything(missing: str) -> None:
    refusal = recommend(replace(FACTS, **{missing: None}))
    assert isinstance(refusal, NoAction)
    assert refusal.because is Because.MISSING_DATA


def test_absurd_numbers_change_nothing() -> None:
    for absurd in (float("nan"), float("inf"), -1.0):
        refusal = recommend(replace(FACTS, inter_token_seconds=absurd))
        assert isinstance(refusal, NoAction)
        assert refusal.because is Because.ABSURD_DATA


def test_no_more_run_at_once_than_the_cache_holds() -> None:
    found = recommend(replace(FACTS, kv_capacity_tokens=692 * 20))
    assert isinstance(found, Recommendation)
    assert int(found.flags[0].value or 0) == 18
    full = recommend(replace(FACTS, kv_capacity_tokens=692 * 8))
    assert isinstance(full, NoAction)
    assert full.because is Because.AT_LIMIT


def test_tgi_is_for_reading_only() -> None:
    refusal = recommend(replace(FACTS, engine="tgi"))
    assert isinstance(refusal, NoAction)
    assert refusal.because is Because.NO_FLAG_HELPS


def test_a_cache_that_has_all_the_memory_already_is_left_alone() -> None:
    refusal = recommend(replace(FACTS, bottleneck=Bottleneck.KV_CAPACITY_BOUND, memory_share=0.92))
    assert isinstance(refusal, NoAction)
    assert refusal.because is Because.NO_FLAG_HELPS


numbers = st.one_of(st.none(), st.floats(min_value=0, allow_nan=False, allow_infinity=False, max_value=1e9))


@settings(max_examples=300)
@given(
    st.sampled_from(list(Bottleneck)), st.sampled_from(["vllm", "sglang", "tgi", "unheard", "--evil; rm -rf /"]),
    st.dictionaries(
        st.sampled_from([
            "running", "running_most", "waiting", "demand", "requests_per_second", "output_tokens", "request_tokens",
            "inter_token_seconds", "kv_capacity_tokens", "kv_usage", "block_tokens", "blocks_override", "memory_share",
            "dram_active", "tensor_active",
        ]), numbers,
    ),
    st.booleans(),
)  # fmt: skip
def test_whatever_the_facts_a_recommendation_is_whole_and_its_intervals_are_in_order(
    bottleneck: Bottleneck, engine: str, values: dict[str, float | None], on_gpu: bool
) -> None:
    found = recommend(replace(FACTS, bottleneck=bottleneck, engine=engine, on_gpu=on_gpu, **values))
    if isinstance(found, NoAction):
        assert found.explanation
        return
    assert bottleneck in (Bottleneck.BATCH_LIMITED, Bottleneck.KV_CAPACITY_BOUND)
    for flag in found.flags:
        assert flag.name.startswith("--")
        assert flag.value is not None
        assert flag.value.replace(".", "", 1).isdigit()
    for interval in (found.effect.requests_ratio, found.effect.token_time_ratio, found.effect.running):
        assert 0 < interval.low <= interval.expected <= interval.high
