"""What a model's name says of its size: how many parameters it has, and how many of them a token touches."""

from __future__ import annotations

import re
from dataclasses import dataclass

BILLION = 1e9
# "8B", "1.5b", "0.6B"; not the B of "A3B", and nothing inside of a word.
_TOTAL = re.compile(r"(?<![A-Za-z0-9.])(?:(\d+)x)?(\d+(?:\.\d+)?)[bB](?![A-Za-z0-9])")
_ACTIVE = re.compile(r"(?<![A-Za-z0-9])[aA](\d+(?:\.\d+)?)[bB](?![A-Za-z0-9])")
# Bytes of a parameter by what the name says; 2 (bf16, fp16) where it says nothing.
_BYTES = (
    (re.compile(r"(?i)(?<![a-z0-9])(fp4|nvfp4|mxfp4|int4|w4a16|awq|gptq|4bit)(?![a-z0-9])"), 0.56),
    (re.compile(r"(?i)(?<![a-z0-9])(fp8|int8|w8a8|8bit)(?![a-z0-9])"), 1.0),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSize:
    """What a name says. A guess, as a name is not a configuration."""

    parameters: float
    active_parameters: float  # that one token touches; fewer than all in a mixture of experts
    bytes_per_parameter: float


def size_of(name: str | None) -> ModelSize | None:
    """This will read a model's name; None when it says nothing of its size, or nothing that can be trusted."""
    if name is None:
        return None
    last = name.rstrip("/").rsplit("/", 1)[-1]
    total = _TOTAL.search(last)
    if total is None or total[1] is not None:  # of "8x7B" the active part is not in the name
        return None
    active = _ACTIVE.search(last)
    parameters = float(total[2]) * BILLION
    return ModelSize(
        parameters=parameters,
        active_parameters=min(float(active[1]) * BILLION, parameters) if active else parameters,
        bytes_per_parameter=next((size for pattern, size in _BYTES if pattern.search(last)), 2.0),
    )
