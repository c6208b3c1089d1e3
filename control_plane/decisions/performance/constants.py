"""The constants of engines that no data sheet gives: what was believed before measurements, and what came of them.

`PRIORS` are beliefs with a spread, each with its reason. `benchmarks/prediction.py --fit` moves them by measured
servers and writes `control_plane/catalogue/engine_constants.json`; where nothing was measured the belief stands.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ENGINES = ("vllm", "trtllm", "sglang")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """What a constant is believed to be before any measurement: log-normal."""

    name: str
    value: float
    spread: float  # standard deviation of its logarithm
    why: str


def _priors() -> tuple[Prior, ...]:
    def prior(name: str, value: float, spread: float, why: str) -> Prior:
        return Prior(name=name, value=value, spread=spread, why=why)

    table = "factor on kernels measured alone (aiconfigurator-core 0.12.0 tables); their own scatter is some 10 %"
    found = [
        prior("gemm_bf16", 1.0, 0.12, table),
        prior("gemm_8_bit", 1.0, 0.12, table),
        prior("gemm_4_bit", 1.0, 0.12, table),
        prior("experts", 1.0, 0.2, table + ", of grouped kernels 15 to 20 %"),
        prior("experts_launch", 1.0, 0.4, "choosing and sorting tokens is outside of the measured kernels"),
        prior("routing", 0.84, 0.12, "experts touched by T tokens are as many as T^routing independent ones would "
              "touch; 0.84 turns the measured time of evenly spread tokens into that of a power law of 1.2"),
        prior("attention", 1.0, 0.15, table),
        prior("prefill", 1.0, 0.2, "prompts of a step are not multiplied at the best shapes"),
        prior("prefill_attention", 1.0, 0.3, "prompts come in chunks, so attention is less square than measured"),
        prior("small_kernels", 1.0, 0.3, "norms, rotary embedding, activation, KV write: five launches of 2 us"),
        prior("elementwise", 1.0, 0.3, "each token's hidden state is read or written some twelve times a layer"),
        prior("blackwell_launch", 0.8, 0.25, "programmatic dependent launch hides part of a launch from 10.0 on"),
        prior("yearly_gain", 1.6, 0.3, "launches and the host's part shrink with releases: vLLM's and TensorRT-LLM's "
              "release notes of 2025 speak of 1.3 to 2 times a year"),
    ]  # fmt: skip
    for engine in ENGINES:
        share = 0.6 if engine == "sglang" else 0.95
        found += [
            prior(f"launch_{engine}", 0.85, 0.2, "in a CUDA graph launches overlap with the kernel before"),
            prior(f"all_reduce_{engine}", 1.1, 0.25, "ranks wait for the slowest one"),
            prior(f"step_{engine}", 6e-4, 0.6, "seconds a step: scheduling, sampling, what of it does not overlap"),
            prior(f"sequence_{engine}", 10e-6, 0.5, "seconds a step and request: sampling, detokenising"),
            prior(f"prefill_share_{engine}", share, 0.2, "share of others' prompts that delays one's tokens; SGLang "
                  "runs prompts before decoding, in waves, which shows as time to first token instead"),
        ]  # fmt: skip
    return tuple(found)


PRIORS = _priors()
NAMES = tuple(prior.name for prior in PRIORS)


@dataclass(frozen=True, slots=True)
class Constants:
    """Logarithms of the constants, in the order of NAMES."""

    logs: NDArray[np.float64]

    def __getitem__(self, name: str) -> float:
        return math.exp(float(self.logs[NAMES.index(name)]))

    def of(self, name: str, engine: str) -> float:
        """This will give an engine's own constant; vLLM's for an engine that was never measured."""
        return self[f"{name}_{engine if engine in ENGINES else 'vllm'}"]


def believed() -> Constants:
    """This will give the constants before any measurement."""
    return Constants(np.array([math.log(prior.value) for prior in PRIORS]))


def spreads() -> NDArray[np.float64]:
    """This will give the spreads of the beliefs."""
    return np.array([prior.spread for prior in PRIORS])


def from_mapping(values: Mapping[str, float]) -> Constants:
    """This will take constants by name; what is not named is as believed."""
    return Constants(np.array([math.log(values.get(prior.name, prior.value)) for prior in PRIORS]))
