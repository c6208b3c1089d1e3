"""Models are read from their config.json, found by their published names, and guessed honestly."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.catalogue.architectures import architectures, known
from control_plane.decisions.performance.memory import kv_bytes_per_token, parameters
from control_plane.decisions.performance.model_config import architecture
from control_plane.decisions.performance.similar import active_parameters, like_its_name
from control_plane.model.architecture import Architecture, AttentionKind, NumberFormat
from control_plane.model.errors import InvalidRequest

LLAMA_8B: dict[str, Any] = {
    "num_hidden_layers": 32, "hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 8,
    "intermediate_size": 14336, "vocab_size": 128256,
}  # fmt: skip


def named(name: str) -> Architecture:
    found = known(name)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("meta-llama/Llama-3.1-8B", 8.03), ("meta-llama/Llama-3.1-70B-Instruct", 70.6), ("Qwen/Qwen3-32B", 32.8),
        ("openai/gpt-oss-120b", 116.8), ("deepseek-ai/DeepSeek-R1-0528", 671), ("Qwen/Qwen3-235B-A22B-FP8", 235),
        ("moonshotai/Kimi-K2-Instruct", 1026), ("deepseek-ai/DeepSeek-V3.1", 671), ("meta-llama/Llama-3.3-70B", 70.6),
        ("mistralai/Mixtral-8x7B-v0.1", 46.7),
    ],
)  # fmt: skip
def test_a_published_model_has_as_many_weights_as_its_publisher_says(name: str, billions: float) -> None:
    assert parameters(named(name)) / 1e9 == pytest.approx(billions, rel=0.005)


@pytest.mark.parametrize(
    ("name", "size"),
    [("Llama-3.1-8B", 131_072), ("Llama-3.1-70B", 327_680), ("Qwen3-32B", 262_144), ("DeepSeek-V3", 70_272)],
)
def test_a_token_takes_as_much_of_the_kv_cache_as_the_formula_says(name: str, size: int) -> None:
    groups = named(name).attention
    assert sum(g.count * float(kv_bytes_per_token(g, NumberFormat.BF16, 1.0)) for g in groups) == size


def test_active_weights_are_those_that_a_token_passes() -> None:
    assert active_parameters(named("DeepSeek-R1")) / 1e9 == pytest.approx(37.5, rel=0.02)
    assert active_parameters(named("gpt-oss-120b")) / 1e9 == pytest.approx(5.7, rel=0.05)


def test_formats_are_read_from_the_quantisation_of_the_checkpoint() -> None:
    assert named("gpt-oss-120b").expert_format is NumberFormat.MXFP4
    assert named("gpt-oss-120b").attention_format is NumberFormat.BF16
    fp8 = architecture(
        {**LLAMA_8B, "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}, name="x"
    )
    assert fp8.attention_format is fp8.expert_format is NumberFormat.FP8_BLOCK
    awq = architecture({**LLAMA_8B, "quantization_config": {"quant_method": "awq", "bits": 4}}, name="x")
    assert awq.expert_format is NumberFormat.INT4


def test_windows_states_and_experts_are_told_apart() -> None:
    hybrid = named("Qwen3.5-397B-A17B")
    assert {g.kind for g in hybrid.attention} == {AttentionKind.STATE, AttentionKind.FULL}
    assert [g.experts for g in named("DeepSeek-R1").feed_forward] == [1, 256]
    assert {g.kind for g in named("gpt-oss-20b").attention} == {AttentionKind.WINDOW, AttentionKind.FULL}


@pytest.mark.parametrize("missing", ["num_hidden_layers", "hidden_size", "num_attention_heads"])
def test_a_config_that_says_too_little_is_refused_in_words(missing: str) -> None:
    config = {key: value for key, value in LLAMA_8B.items() if key != missing}
    with pytest.raises(InvalidRequest, match=missing):
        architecture(config, name="mine")


@given(
    st.dictionaries(
        st.sampled_from([*LLAMA_8B, "num_local_experts", "kv_lora_rank", "layer_types", "sliding_window", "head_dim"]),
        st.one_of(st.none(), st.integers(), st.floats(), st.text(), st.lists(st.integers()), st.booleans()),
    )
)
def test_no_config_does_more_than_be_refused(config: dict[str, Any]) -> None:
    with contextlib.suppress(InvalidRequest):
        assert architecture(config, name="any").layers > 0


def test_a_name_that_says_a_size_gives_a_guess_that_says_so() -> None:
    guess = like_its_name("someone/Unheard-Of-13B-Chat", architectures().values())
    assert guess is not None
    assert guess.guessed
    assert parameters(guess) / 1e9 == pytest.approx(13, rel=0.05)
    sparse = like_its_name("someone/unheard-100B-A10B", architectures().values())
    assert sparse is not None
    assert sparse.has_experts
    assert parameters(sparse) / 1e9 == pytest.approx(100, rel=0.05)


def test_a_name_without_a_size_is_no_guess() -> None:
    assert like_its_name("someone/mystery", architectures().values()) is None
