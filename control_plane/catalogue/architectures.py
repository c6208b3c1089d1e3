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


@cache
def architectures() -> dict[str, Architecture]:
    """This will give the models that are known, by their plain names."""
    text = (files("control_plane.catalogue") / "architectures.json").read_text(encoding="utf-8")
    return {plain(row["name"]): from_json(row) for row in json.loads(text)}


def known(name: str) -> Architecture | None:
    """This will give the architecture of a published model; None when the catalogue does not hold it."""
    return architectures().get(plain(name))


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
