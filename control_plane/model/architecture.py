"""What a language model is made of, as far as its speed and its memory depend on it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class NumberFormat(StrEnum):
    """How numbers are stored and multiplied; weights, activations and the KV cache each have one."""

    BF16 = "bf16"  # and fp16: the same bytes and the same rate
    FP8 = "fp8"  # one scale for a tensor or a channel
    FP8_BLOCK = "fp8_block"  # a scale for each block of 128 x 128, as DeepSeek's checkpoints have
    INT8 = "int8"
    INT4 = "int4"  # weights only: multiplied in 16 bits
    MXFP4 = "mxfp4"  # OCP microscaling, 32 weights to a scale
    NVFP4 = "nvfp4"  # 16 weights to a scale


class AttentionKind(StrEnum):
    """What is kept of the past, and so what is read for each new token."""

    FULL = "full"  # keys and values of all tokens (MHA, GQA, MQA)
    WINDOW = "window"  # of the newest ones only
    LATENT = "latent"  # one compressed vector for each token (MLA)
    STATE = "state"  # a state that does not grow (Mamba, linear attention)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionLayers:
    """Layers of one kind of attention."""

    count: int
    kind: AttentionKind
    query_heads: int
    kv_heads: int  # of a STATE: value heads
    head_dim: int  # of queries and keys
    value_dim: int
    window: int | None = None  # tokens that are looked at, at most; also of sparse attention
    latent_rank: int = 0  # LATENT: numbers kept for a token, without the next
    rope_dim: int = 0
    query_rank: int = 0  # LATENT: the width that queries are squeezed through; 0: not squeezed
    index_bytes: int = 0  # sparse attention: read of every token to choose those that are looked at
    gated: bool = False  # the output has a gate as wide as the queries


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedForwardLayers:
    """Layers of one kind of feed-forward network; `experts` 1 is a dense one."""

    count: int
    width: int  # of one expert
    experts: int = 1
    experts_per_token: int = 1
    shared_width: int = 0  # of what every token passes beside its experts
    matrices: int = 3  # gate, up and down; 2 without a gate


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A model's layers, sizes and the formats of its published weights."""

    name: str
    hidden: int
    vocabulary: int
    attention: tuple[AttentionLayers, ...]
    feed_forward: tuple[FeedForwardLayers, ...]
    attention_format: NumberFormat = NumberFormat.BF16
    expert_format: NumberFormat = NumberFormat.BF16  # and of dense feed-forward layers
    tied_embeddings: bool = False
    max_positions: int | None = None
    source: str = ""
    guessed: bool = False  # from its name only: layers and widths are those of similar models

    @property
    def layers(self) -> int:
        """This will count the layers."""
        return sum(group.count for group in self.attention)

    @property
    def has_experts(self) -> bool:
        """This will say whether some layers choose among experts."""
        return any(group.experts > 1 for group in self.feed_forward)
