"""Which format a model's numbers are in: as published, as asked for, and as a GPU can multiply them."""

from __future__ import annotations

from dataclasses import dataclass

from control_plane.model.architecture import Architecture, AttentionKind, NumberFormat
from control_plane.model.machine import Machine

# How tables of measurements and engines' flags spell formats.
SPELLINGS = {
    "": None, "none": None, "auto": None, "default": None,
    "bf16": NumberFormat.BF16, "bfloat16": NumberFormat.BF16, "float16": NumberFormat.BF16, "fp16": NumberFormat.BF16,
    "fp8": NumberFormat.FP8, "fp8_e4m3": NumberFormat.FP8, "fp8_static": NumberFormat.FP8,
    "fp8_block": NumberFormat.FP8_BLOCK, "int8": NumberFormat.INT8, "sq": NumberFormat.INT8,
    "int8_wo": NumberFormat.INT8, "int4": NumberFormat.INT4, "int4_wo": NumberFormat.INT4, "awq": NumberFormat.INT4,
    "gptq": NumberFormat.INT4, "w4afp8": NumberFormat.INT4, "fp4": NumberFormat.NVFP4, "nvfp4": NumberFormat.NVFP4,
    "mxfp4": NumberFormat.MXFP4, "w4a16_mxfp4": NumberFormat.MXFP4, "w4a8_mxfp4_mxfp8": NumberFormat.MXFP4,
    "w4a8_mxfp4_fp8": NumberFormat.MXFP4,
}  # fmt: skip
EIGHT_BITS = (NumberFormat.FP8, NumberFormat.FP8_BLOCK)
FOUR_BITS = (NumberFormat.NVFP4, NumberFormat.MXFP4, NumberFormat.INT4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Formats:
    """The formats that a server uses."""

    attention: NumberFormat
    feed_forward: NumberFormat
    kv: NumberFormat


def parsed(text: str) -> NumberFormat | None:
    """This will read a format's name; None: as the model is published. Raises ValueError for another word."""
    word = text.strip().lower().replace("-", "_")
    if word not in SPELLINGS:
        raise ValueError(f"{text[:40]!r} is no format; known are {', '.join(sorted(w for w in SPELLINGS if w))}")
    return SPELLINGS[word]


def formats_of(model: Architecture, machine: Machine, *, dense: str, experts: str, kv: str) -> Formats:
    """This will say what is stored how when a checkpoint in these formats is served.

    A model that is published in four bits is meant as it is published by any "fp4". Checkpoints in NVFP4 of models with
    compressed attention leave attention in 16 bits; so do those whose own format spares it.
    """
    wanted = (parsed(experts) if model.has_experts else None) or parsed(dense)
    if (
        wanted is None
        or (wanted in FOUR_BITS and model.expert_format in FOUR_BITS)
        or (wanted is NumberFormat.FP8 and model.expert_format in (NumberFormat.FP8_BLOCK, *FOUR_BITS))
    ):
        wanted = model.expert_format
    spared = model.attention_format is NumberFormat.BF16 and model.expert_format is not NumberFormat.BF16
    latent = any(group.kind is AttentionKind.LATENT for group in model.attention)
    attention = NumberFormat.BF16 if spared or (latent and wanted in FOUR_BITS) else wanted
    known_kv = parsed(kv)
    if known_kv is None:
        # Quantised checkpoints carry scales for an FP8 cache, and public sweeps use them; a latent cache stays 16 bits
        # outside of Blackwell.
        quantised = wanted is not NumberFormat.BF16 and NumberFormat.FP8 in machine.flops
        known_kv = (
            NumberFormat.FP8 if quantised and not (latent and machine.architecture_code < 100) else NumberFormat.BF16
        )
    return Formats(attention=attention, feed_forward=wanted, kv=known_kv)
