"""What another configuration of the same server would do, beside the one it has: ratios with intervals.

Both sides are predicted with the same constants, so what those leave open mostly cancels: the interval is that of the
ratio, and narrower than either side's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from control_plane.decisions.performance.constants import Constants
from control_plane.decisions.performance.formats import formats_of
from control_plane.decisions.performance.intervals import DIFFERENCE, NINE_IN_TEN
from control_plane.decisions.performance.releases import age_years
from control_plane.decisions.performance.serving import Served, serve
from control_plane.decisions.performance.setup import CHUNK_TOKENS, MEMORY_SHARE, Load, Setup
from control_plane.decisions.performance.shipped import knowledge
from control_plane.decisions.policies.facts import ServerState
from control_plane.model.architecture import Architecture
from control_plane.model.machine import Machine
from control_plane.model.recommendation import Effect, Interval
from control_plane.model.scaling import Because, NoAction

CHANGEABLE = ("vllm", "sglang")  # TGI is watched

# Standard deviation of a log ratio that constants do not explain. Of the time per token of FP8 against FP4 checkpoints
# at the same concurrency all of it is 0.18 (354 pairs of public sweeps: p10 0.94, median 1.20, p90 1.48).
UNSAID = 0.15
GUESSED = 0.2  # more, where the model is guessed from its name, or the GPU's kernels are those of another


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What stays the same on both sides."""

    model: Architecture
    machine: Machine
    load: Load


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One configuration beside the present one."""

    before: Served
    after: Served
    effect: Effect

    @property
    def gain(self) -> float:
        """This will give requests a second after / before, as expected."""
        return self.effect.requests_ratio.expected

    @property
    def fits(self) -> bool:
        """This will say whether the model fits into memory afterwards, with room for one request."""
        return float(self.after.memory.max_concurrency) >= 1.0


def subject_of(state: ServerState) -> Subject | str:
    """This will give what can be predicted of a server, or say what is missing for it."""
    if state.architecture is None:
        return f"nothing is known of the model {state.model or '(unnamed)'!s:.60}: not its layers, not its size"
    if state.machine is None:
        return "the kind of its GPUs is not known"
    if not state.input_tokens or not state.output_tokens or not state.concurrency:
        return "too little traffic was seen to say how long requests are and how many run"
    numbers = (state.input_tokens, state.output_tokens, state.concurrency)
    if not all(math.isfinite(n) and 0 < n < 1e8 for n in numbers):
        return "lengths or numbers of requests are absurd"
    load = Load(
        input_tokens=state.input_tokens, output_tokens=max(state.output_tokens, 1.0),
        concurrency=max(state.concurrency, 1.0),
    )  # fmt: skip
    return Subject(model=state.architecture, machine=state.machine, load=load)


def changeable(state: ServerState) -> Subject | NoAction:
    """This will give what can be predicted of a server that we may change, or why nothing is done."""
    if state.engine not in CHANGEABLE:
        return NoAction(
            because=Because.READ_ONLY, explanation=f"{state.engine or 'this engine'} is watched, not changed"
        )
    subject = subject_of(state)
    return NoAction(because=Because.MISSING_DATA, explanation=subject) if isinstance(subject, str) else subject


def setup_of(state: ServerState, subject: Subject) -> Setup:
    """This will give a server's present configuration, with its engine's defaults where it says nothing."""
    said = state.config
    formats = formats_of(
        subject.model, subject.machine, dense=_word(said.get("quantization")), experts="",
        kv=_word(said.get("kv_cache_dtype")),
    )  # fmt: skip
    chunk = state.whole("max_num_batched_tokens", "chunked_prefill_size", otherwise=int(CHUNK_TOKENS))
    running = state.whole("max_num_seqs", "max_running_requests", otherwise=0)
    tp, dp = state.tensor_parallel, state.data_parallel
    if state.engine == "sglang" and said.get("enable_dp_attention"):
        tp = max(tp // dp, 1)  # SGLang counts attention's ranks among those of TP
    expert = tp * dp if said.get("enable_expert_parallel") else state.whole("ep_size")
    share = said.get("gpu_memory_utilization") or said.get("mem_fraction_static")
    return Setup(
        engine=state.engine, age_years=age_years(state.engine, state.version or ""),
        attention_format=formats.attention, feed_forward_format=formats.feed_forward, kv_format=formats.kv,
        tensor_parallel=float(tp), pipeline_parallel=float(state.pipeline_parallel), data_parallel=float(dp),
        expert_parallel=float(expert), chunk_tokens=float(min(max(chunk, 1), 1_000_000)),
        max_num_seqs=float(running) if running else math.inf,
        memory_share=float(share) if isinstance(share, int | float) and 0 < share <= 1 else MEMORY_SHARE,
        graphs=not said.get("enforce_eager"),
    )  # fmt: skip


# What engines call checkpoints whose format the model's own config.json says.
_AS_PUBLISHED = {"compressed-tensors", "modelopt", "quark", "bitsandbytes", "gguf", "torchao", "marlin"}
_CALLED = {
    "modelopt_fp4": "nvfp4", "awq_marlin": "awq", "gptq_marlin": "gptq", "fbgemm_fp8": "fp8", "w8a8_int8": "int8",
    "w8a8_fp8": "fp8", "fp8_e5m2": "fp8", "fp8_inc": "fp8",
}  # fmt: skip


def _word(value: object) -> str:
    word = str(value).lower() if isinstance(value, str) else ""
    word = _CALLED.get(word, word)
    from_table = word in {
        "fp8",
        "int8",
        "awq",
        "gptq",
        "nvfp4",
        "mxfp4",
        "fp8_e4m3",
        "bf16",
        "bfloat16",
        "auto",
        "int4",
    }
    return word if from_table and word not in _AS_PUBLISHED else ""


def compare(
    subject: Subject, before: Setup, after: Setup, *, spread: float = UNSAID, guessed: bool = False
) -> Compared:
    """This will predict both configurations under the same load."""
    known = knowledge()
    told_before = _served(subject, before, known.constants)
    told_after = _served(subject, after, known.constants)
    logs = _log_ratios(told_before, told_after)
    columns = np.empty((len(logs), len(known.constants.logs)))
    for place in range(len(known.constants.logs)):
        moved = known.constants.logs.copy()
        moved[place] += DIFFERENCE
        constants = Constants(moved)
        other = _log_ratios(_served(subject, before, constants), _served(subject, after, constants))
        columns[:, place] = (other - logs) / DIFFERENCE
    unsure = spread**2 + (GUESSED**2 if guessed else 0.0)
    deviations = np.sqrt(np.einsum("ij,jk,ik->i", columns, known.covariance, columns) + unsure)
    requests, token, ttft = (
        _interval(math.exp(log), float(deviation)) for log, deviation in zip(logs, deviations, strict=True)
    )
    running = min(float(subject.load.concurrency), float(told_after.memory.max_concurrency), float(after.max_num_seqs))
    memory = float(told_after.memory.weights) + float(told_after.memory.runtime)
    memory += running / float(after.data_parallel) * float(told_after.memory.per_request)
    effect = Effect(
        requests_ratio=requests, token_time_ratio=token, ttft_ratio=ttft,
        running=Interval(low=running, expected=running, high=running),
        memory_bytes=Interval(low=0.9 * memory, expected=memory, high=1.1 * memory),
    )  # fmt: skip
    return Compared(before=told_before, after=told_after, effect=effect)


def expected_gain(subject: Subject, before: Setup, after: Setup) -> float:
    """This will give requests a second after / before, for choosing among many. 0: does not fit."""
    constants = knowledge().constants
    told = _served(subject, after, constants)
    if float(told.memory.max_concurrency) < 1.0:
        return 0.0
    return float(told.requests_per_second) / float(_served(subject, before, constants).requests_per_second)


def _served(subject: Subject, setup: Setup, constants: Constants) -> Served:
    return serve(subject.model, subject.machine, setup, subject.load, constants)


def _log_ratios(before: Served, after: Served) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    pairs = (
        (before.requests_per_second, after.requests_per_second), (before.tpot_seconds, after.tpot_seconds),
        (before.ttft_seconds, after.ttft_seconds),
    )  # fmt: skip
    return np.array([math.log(float(b) / float(a)) for a, b in pairs])


def _interval(expected: float, deviation: float) -> Interval:
    factor = math.exp(NINE_IN_TEN * deviation)
    return Interval(low=expected / factor, expected=expected, high=expected * factor)
