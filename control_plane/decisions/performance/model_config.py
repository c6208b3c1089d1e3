"""A model's `config.json`, as Hugging Face publishes it, read into its architecture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from control_plane.model.architecture import (
    Architecture,
    AttentionKind,
    AttentionLayers,
    FeedForwardLayers,
    NumberFormat,
)
from control_plane.model.errors import InvalidRequest

MOST_LAYERS, MOST_WIDTH, MOST_EXPERTS = 1000, 1_000_000, 100_000
LINEAR = {"linear_attention", "recurrent", "mamba", "kda", "gdn"}
WINDOWED = {"sliding_attention", "sliding", "chunked_attention", "local"}


def architecture(config: Mapping[str, Any], *, name: str, source: str = "config.json") -> Architecture:
    """This will read a config. Raises InvalidRequest when it does not say what speed depends on."""
    text = config.get("text_config") or config.get("llm_config") or config
    if not isinstance(text, Mapping):
        raise InvalidRequest(f"{name}: text_config is no object")
    hidden, layers = _whole(text, name, "hidden_size", "n_embd", "d_model"), _layer_count(text, name)
    quantization = config.get("quantization_config") or text.get("quantization_config") or {}
    attention_format, expert_format = weight_formats(quantization)
    return Architecture(
        name=name,
        hidden=hidden,
        vocabulary=_whole(text, name, "vocab_size", fallback=_optional(config, "vocab_size") or 128_000),
        attention=_attention(text, name, hidden, layers),
        feed_forward=_feed_forward(text, name, hidden, layers),
        attention_format=attention_format,
        expert_format=expert_format,
        tied_embeddings=bool(text.get("tie_word_embeddings", config.get("tie_word_embeddings", False))),
        max_positions=_optional(text, "max_position_embeddings", "seq_length", "n_positions"),
        source=source,
    )


def weight_formats(quantization: Mapping[str, Any]) -> tuple[NumberFormat, NumberFormat]:
    """This will say how attention's and how feed-forward weights are stored, by a `quantization_config`."""
    method = str(quantization.get("quant_method", quantization.get("quant_algo", ""))).lower()
    untouched = quantization.get("modules_to_not_convert") or quantization.get("ignore") or ()
    spared = isinstance(untouched, Sequence) and any("attn" in str(m) for m in untouched)
    formats = str(quantization.get("quant_algo", "")).lower() + str(quantization.get("config_groups", "")).lower()
    if method == "mxfp4":
        found = NumberFormat.MXFP4
    elif method in ("awq", "gptq", "awq_marlin", "gptq_marlin", "auto-round"):
        found = (
            NumberFormat.INT4 if int(quantization.get("bits", quantization.get("w_bit", 4))) == 4 else NumberFormat.INT8
        )
    elif "nvfp4" in formats or "fp4" in method:
        found = NumberFormat.NVFP4
    elif method in ("fp8", "fbgemm_fp8") or "fp8" in formats:
        found = NumberFormat.FP8_BLOCK if quantization.get("weight_block_size") else NumberFormat.FP8
    elif method in ("compressed-tensors", "modelopt"):
        found = _compressed(formats)
    else:
        found = NumberFormat.BF16
    return (NumberFormat.BF16 if spared else found), found


def _compressed(groups: str) -> NumberFormat:
    if "'num_bits': 4" in groups:
        return NumberFormat.NVFP4 if "'type': 'float'" in groups else NumberFormat.INT4
    if "'num_bits': 8" in groups:
        return NumberFormat.FP8 if "'type': 'float'" in groups else NumberFormat.INT8
    return NumberFormat.BF16


def _attention(text: Mapping[str, Any], name: str, hidden: int, layers: int) -> tuple[AttentionLayers, ...]:
    heads = _whole(text, name, "num_attention_heads", "n_head")
    kinds = _layer_kinds(text, layers)
    groups: list[AttentionLayers] = []
    for kind, count in kinds.items():
        if kind is AttentionKind.STATE:
            groups.append(_state_layers(text, heads, hidden, count))
        elif kind is AttentionKind.LATENT:
            groups.append(_latent_layers(text, name, heads, count))
        else:
            dim = _optional(text, "head_dim", "attention_head_dim") or hidden // heads
            window = _optional(text, "sliding_window", "attention_chunk_size")
            groups.append(
                AttentionLayers(
                    count=count,
                    kind=kind,
                    query_heads=heads,
                    kv_heads=_optional(text, "num_key_value_heads", "multi_query_group_num") or heads,
                    head_dim=dim,
                    value_dim=_optional(text, "v_head_dim") or dim,
                    window=(window or 4096) if kind is AttentionKind.WINDOW else None,
                    gated=bool(text.get("attn_output_gate", False)),
                )
            )
    return tuple(groups)


def _layer_kinds(text: Mapping[str, Any], layers: int) -> Mapping[AttentionKind, int]:
    named = text.get("layer_types") or text.get("layers_block_type")
    full = AttentionKind.LATENT if _optional(text, "kv_lora_rank") else AttentionKind.FULL
    if isinstance(named, Sequence) and not isinstance(named, str) and len(named) >= layers:
        return Counter(
            AttentionKind.STATE if kind in LINEAR else AttentionKind.WINDOW if kind in WINDOWED else full
            for kind in map(str, named[:layers])
        )
    if isinstance(marks := text.get("hybrid_layer_pattern"), Sequence) and len(marks) >= layers:  # MiMo: 1 is a window
        return {AttentionKind.WINDOW: sum(marks[:layers]), full: layers - sum(marks[:layers])}
    if isinstance(pattern := text.get("hybrid_override_pattern"), str) and pattern:  # Nemotron-H
        found = Counter({AttentionKind.STATE: pattern.count("M"), full: pattern.count("*")})
        return {kind: count for kind, count in found.items() if count}
    if interval := _optional(text, "full_attention_interval"):
        return {AttentionKind.STATE: layers - layers // interval, full: layers // interval}
    if (pattern_length := _optional(text, "sliding_window_pattern")) and _optional(text, "sliding_window"):
        return {AttentionKind.WINDOW: layers - layers // pattern_length, full: max(layers // pattern_length, 1)}
    used = text.get("use_sliding_window", True) and "max_window_layers" not in text
    if _optional(text, "sliding_window") and used:
        return {AttentionKind.WINDOW: layers}
    return {full: layers}


def _state_layers(text: Mapping[str, Any], heads: int, hidden: int, count: int) -> AttentionLayers:
    value_heads = _optional(text, "linear_num_value_heads", "mamba_num_heads") or heads
    key_heads = _optional(text, "linear_num_key_heads", "n_groups") or value_heads
    value_dim = _optional(text, "linear_value_head_dim", "mamba_head_dim") or max(hidden // heads, 1)
    return AttentionLayers(
        count=count,
        kind=AttentionKind.STATE,
        query_heads=key_heads,
        kv_heads=value_heads,
        head_dim=_optional(text, "linear_key_head_dim", "ssm_state_size") or value_dim,
        value_dim=value_dim,
        gated=True,
    )


def _latent_layers(text: Mapping[str, Any], name: str, heads: int, count: int) -> AttentionLayers:
    rope = _optional(text, "qk_rope_head_dim") or 0
    return AttentionLayers(
        count=count,
        kind=AttentionKind.LATENT,
        query_heads=heads,
        kv_heads=1,
        head_dim=(_optional(text, "qk_nope_head_dim") or 128) + rope,
        value_dim=_optional(text, "v_head_dim") or 128,
        window=_optional(text, "index_topk"),
        latent_rank=_whole(text, name, "kv_lora_rank"),
        rope_dim=rope,
        query_rank=_optional(text, "q_lora_rank") or 0,
        index_bytes=_optional(text, "index_head_dim") or 0,
    )


def _feed_forward(text: Mapping[str, Any], name: str, hidden: int, layers: int) -> tuple[FeedForwardLayers, ...]:
    experts = _optional(text, "n_routed_experts", "num_local_experts", "num_experts", "moe_num_experts") or 1
    width = _optional(text, "intermediate_size", "n_inner", "ffn_hidden_size") or 4 * hidden
    pattern = text.get("hybrid_override_pattern")
    gateless = isinstance(pattern, str) or text.get("hidden_act") in ("relu2", "gelu_new")
    matrices = 2 if gateless else 3
    if isinstance(pattern, str) and pattern:
        layers = pattern.count("-") + pattern.count("E")
    if experts == 1:
        return (FeedForwardLayers(count=layers, width=width, matrices=matrices),)
    dense = min(_dense_layers(text, layers), layers - 1)
    expert_width = _optional(text, "moe_intermediate_size", "moe_ffn_hidden_size", "expert_ffn_hidden_size") or width
    shared = _optional(text, "shared_expert_intermediate_size", "shared_intermediate_size") or 0
    if text.get("model_type") == "llama4_text":
        shared = width
    if not shared and (number := _optional(text, "n_shared_experts", "num_shared_experts")):
        shared = number * (_optional(text, "moe_shared_expert_intermediate_size") or expert_width)
    routed = FeedForwardLayers(
        count=layers - dense,
        width=expert_width,
        experts=experts,
        experts_per_token=_whole(text, name, "num_experts_per_tok", "experts_per_token", "moe_k", "top_k_experts"),
        shared_width=shared,
        matrices=matrices,
    )
    dense_width = _optional(text, "intermediate_size_mlp", "dense_intermediate_size") or width
    plain = FeedForwardLayers(count=dense, width=dense_width, matrices=matrices)
    return (plain, routed) if dense else (routed,)


def _dense_layers(text: Mapping[str, Any], layers: int) -> int:
    if step := _optional(text, "interleave_moe_layer_step"):  # Llama 4
        return layers - layers // step
    for key in ("moe_layer_freq", "mlp_layer_types"):
        each = text.get(key)
        if isinstance(each, Sequence) and not isinstance(each, str):
            return sum(kind in (0, "dense") for kind in each[:layers])
    return _optional(text, "first_k_dense_replace", "num_dense_layers") or 0


def _layer_count(text: Mapping[str, Any], name: str) -> int:
    layers = _whole(text, name, "num_hidden_layers", "n_layer", "num_layers")
    if layers > MOST_LAYERS:
        raise InvalidRequest(f"{name}: {layers} layers are no model")
    return layers


def _whole(text: Mapping[str, Any], name: str, *keys: str, fallback: int | None = None) -> int:
    found = _optional(text, *keys) or fallback
    if found is None:
        raise InvalidRequest(f"{name}: config.json says no {' or '.join(keys)}")
    return found


def _optional(text: Mapping[str, Any], *keys: str) -> int | None:
    for key in keys:
        value = text.get(key)
        if isinstance(value, Sequence) and not isinstance(value, str) and value:
            value = max((v for v in value if isinstance(v, int | float)), default=None)  # one for each layer
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= MOST_WIDTH * 100:
            return int(value)
    return None
