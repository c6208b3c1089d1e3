"""The architectures of well-known models, by the names under which they are published."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.resources import files
from typing import Any

from control_plane.model.architecture import (
    Architecture,
    AttentionKind,
    AttentionLayers,
    FeedForwardLayers,
    NumberFormat,
)

# Said of how a model was trained or stored, not of what it is made of.
_SUFFIXES = re.compile(
    r"[-_](?:instruct|chat|base|hf|it|thinking|fp8|fp8[-_]?(?:dynamic|block|kv|static[-_]?pertensor)|nvfp4|fp4|mxfp4|bf16|"
    r"awq|gptq|int[48]|w[48]a(?:8|16)|quantized|turbo|v0\.\d|\d{4}|\d{6,8}|preview|original)$"
)


# Published with the same config.json but for its name, as far as speed depends on it.
SAME_AS = {
    "llama-3-8b": "llama-3.1-8b", "llama-3.8b": "llama-3.1-8b", "llama-3-70b": "llama-3.1-70b",
    "llama-3.70b": "llama-3.1-70b", "llama-3.3-70b": "llama-3.1-70b", "deepseek-v3.1": "deepseek-v3",
    "deepseek-v3.1-terminus": "deepseek-v3", "deepseek-v3.2-exp": "deepseek-v3.2", "minimax-m2": "minimax-m2.5",
    "minimax-m2.1": "minimax-m2.5", "kimi-k2.6": "kimi-k2.5", "kimi-k2.7-code": "kimi-k2.5",
    "qwen3.6-27b": "qwen3.5-27b", "qwen3.6-35b-a3b": "qwen3.5-35b-a3b", "qwen3-vl-8b": "qwen3-8b",
    "qwen3-vl-32b": "qwen3-32b", "qwen3-vl-30b-a3b": "qwen3-30b-a3b", "qwen3-vl-235b-a22b": "qwen3-235b-a22b",
}  # fmt: skip


@cache
def architectures() -> dict[str, Architecture]:
    """This will give the models that are known, by their plain names."""
    text = (files("control_plane.catalogue") / "architectures.json").read_text(encoding="utf-8")
    return {plain(row["name"]): from_json(row) for row in json.loads(text)}


def known(name: str) -> Architecture | None:
    """This will give the architecture of a published model; None when the catalogue does not hold it."""
    word = plain(name)
    return architectures().get(SAME_AS.get(word, word))


def plain(name: str) -> str:
    """This will reduce a name to what tells models apart: no owner, no training, no format."""
    word = name.strip().rstrip("/").rpartition("/")[2].lower().removeprefix("meta-")
    word = word.replace("_", "-").replace("llama-3-", "llama-3.")
    while (shorter := _SUFFIXES.sub("", word)) != word:
        word = shorter
    return word


def from_json(row: dict[str, Any]) -> Architecture:
    """This will read what `to_json` wrote."""
    fields = dict(row)
    fields["attention"] = tuple(
        AttentionLayers(**{**group, "kind": AttentionKind(group["kind"])}) for group in row["attention"]
    )
    fields["feed_forward"] = tuple(FeedForwardLayers(**group) for group in row["feed_forward"])
    for key in ("attention_format", "expert_format"):
        fields[key] = NumberFormat(row.get(key, NumberFormat.BF16))
    return Architecture(**fields)
