"""How long one step of an engine takes: all layers, once, for the tokens in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from control_plane.decisions.performance.constants import Constants
from control_plane.decisions.performance.kernels import (
    BLACKWELL,
    Tuning,
    all_reduce,
    experts,
    gemm,
    rate_of,
)
from control_plane.decisions.performance.memory import kept_tokens, kv_bytes_per_token, state_bytes
from control_plane.decisions.performance.setup import Numbers, Setup
from control_plane.model.architecture import (
    Architecture,
    AttentionKind,
    AttentionLayers,
    FeedForwardLayers,
    NumberFormat,
)
from control_plane.model.machine import KernelKind, Machine

SMALL_KERNELS, SMALL_KERNEL_SECONDS = 5, 2e-6  # a layer: two norms, rotary embedding, activation, KV write
ELEMENTWISE_PASSES = 12  # times that a token's hidden state is read or written outside of multiplications
# Of a layer without CUDA graphs: some twenty launches of 8 us by a Python host (an 8B Llama under
# `--enforce-eager` on an H200 takes 10 ms a step, tests/data/engine-recordings/vllm-h200-healthy).
EAGER_LAYER_SECONDS = 2.7e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """What is in a step: sequences that each get a token, and tokens of prompts."""

    decoding: Numbers  # of one data-parallel rank
    context: Numbers  # tokens that each of those looks back on
    prefill: Numbers  # prompt tokens of one rank
    prompt: Numbers  # length of the prompts that these are of

    @property
    def all(self) -> Numbers:
        """This will count the tokens of one rank."""
        return self.decoding + self.prefill


class Step:
    """The time of a step of one model on one machine under one setup."""

    __slots__ = ("_c", "_engine", "_launch", "_machine", "_model", "_setup")

    def __init__(self, model: Architecture, machine: Machine, setup: Setup, constants: Constants) -> None:
        self._model, self._machine, self._setup, self._c = model, machine, setup, constants
        self._engine = setup.engine
        newer = constants["yearly_gain"] ** -np.asarray(setup.age_years, dtype=np.float64)
        blackwell = constants["blackwell_launch"] if BLACKWELL <= machine.architecture_code < 900 else 1.0
        self._launch = constants.of("launch", setup.engine) * blackwell * newer

    def seconds(self, tokens: Tokens) -> Numbers:
        """This will give the seconds of a step, all pipeline stages one after the other."""
        model, setup = self._model, self._setup
        layers = self._c["small_kernels"] * SMALL_KERNELS * SMALL_KERNEL_SECONDS * self._launch * model.layers
        layers = layers + self._elementwise(tokens) * model.layers
        for group in model.attention:
            layers = layers + group.count * (self._projections(group, tokens) + self._attention(group, tokens))
        for network in model.feed_forward:
            layers = layers + network.count * self._network(network, tokens)
        layers = layers + model.layers * self._communication(tokens)
        if not setup.graphs:
            layers = np.maximum(layers, model.layers * EAGER_LAYER_SECONDS)
        newer = self._c["yearly_gain"] ** -np.asarray(setup.age_years, dtype=np.float64)
        host = self._c.of("step", self._engine) + self._c.of("sequence", self._engine) * tokens.decoding
        return layers + self._head(tokens) + host * newer

    def _gemm(self, number_format: NumberFormat, tokens: Numbers, rows: Numbers, columns: Numbers) -> Numbers:
        tuning = Tuning(speed=self._c[_gemm_constant(number_format)], launch=self._launch)
        return gemm(self._machine, number_format, tuning, tokens=tokens, rows=rows, columns=columns)

    def _projections(self, group: AttentionLayers, tokens: Tokens) -> Numbers:
        hidden, form, tp = self._model.hidden, self._setup.attention_format, self._setup.tensor_parallel
        heads = np.maximum(group.query_heads / tp, 1.0)
        if group.kind is AttentionKind.STATE:
            keys, values = heads * group.head_dim, np.maximum(group.kv_heads / tp, 1.0) * group.value_dim
            first = self._gemm(form, tokens.all, hidden, 2.0 * keys + 2.0 * values)
            return first + self._gemm(form, tokens.all, values, hidden)
        out = self._gemm(form, tokens.all, heads * group.value_dim, hidden)
        if group.kind is AttentionKind.LATENT:
            down = group.latent_rank + group.rope_dim + group.query_rank
            wide = heads * group.head_dim
            queries = self._gemm(form, tokens.all, group.query_rank or hidden, wide)
            absorbed = heads * (group.head_dim - group.rope_dim + group.value_dim)
            return self._gemm(form, tokens.all, hidden, down) + queries + out + self._gemm(
                NumberFormat.BF16, tokens.all, group.latent_rank, absorbed
            )  # fmt: skip
        kv = np.maximum(group.kv_heads / tp, 1.0) * (group.head_dim + group.value_dim)
        width = heads * group.head_dim * (2.0 if group.gated else 1.0) + kv
        return out + self._gemm(form, tokens.all, hidden, width)

    def _attention(self, group: AttentionLayers, tokens: Tokens) -> Numbers:
        setup, machine = self._setup, self._machine
        kind = KernelKind.LATENT if group.kind is AttentionKind.LATENT else KernelKind.ATTENTION
        rate = rate_of(machine, kind, setup.kv_format)
        looked_at = kept_tokens(group, tokens.context)
        if group.window is not None:
            looked_at = np.minimum(looked_at, group.window)
        moved = kv_bytes_per_token(group, setup.kv_format, setup.tensor_parallel) * looked_at
        moved = moved + group.index_bytes * tokens.context + 2.0 * state_bytes(group, setup.tensor_parallel)
        memory = tokens.decoding * moved / (rate.bandwidth_share * machine.bandwidth)
        if group.kind is AttentionKind.LATENT:
            heads = np.maximum(group.query_heads / setup.tensor_parallel, 1.0)
            numbers = 2.0 * group.latent_rank + group.rope_dim
            work = 2.0 * tokens.decoding * looked_at * heads * numbers
            memory = memory + work / (rate.compute_share * machine.flops[NumberFormat.BF16])
        started = np.where(np.asarray(tokens.decoding) > 0, rate.launch_seconds * self._launch, 0.0)
        return started + memory * self._c["attention"] + self._prefill_attention(group, tokens)

    def _prefill_attention(self, group: AttentionLayers, tokens: Tokens) -> Numbers:
        rate = rate_of(self._machine, KernelKind.ATTENTION, NumberFormat.BF16)
        heads = np.maximum(group.query_heads / self._setup.tensor_parallel, 1.0)
        seen = tokens.prompt / 2.0 if group.window is None else np.minimum(tokens.prompt / 2.0, group.window)
        if group.kind is AttentionKind.STATE:
            seen = float(group.head_dim)  # a chunk of a linear recurrence
        work = 2.0 * tokens.prefill * seen * heads * (group.head_dim + group.value_dim)
        seconds = work / (rate.compute_share * self._machine.flops[NumberFormat.BF16])
        return seconds * self._c["prefill_attention"]

    def _network(self, group: FeedForwardLayers, tokens: Tokens) -> Numbers:
        hidden, form, setup = self._model.hidden, self._setup.feed_forward_format, self._setup
        dense = group.shared_width if group.experts > 1 else group.width
        seconds: Numbers = 0.0
        if dense:
            width = dense / setup.tensor_parallel
            seconds = self._gemm(form, tokens.all, hidden, (group.matrices - 1) * width)
            seconds = seconds + self._gemm(form, tokens.all, width, hidden)
        if group.experts > 1:
            seconds = seconds + self._gemm(NumberFormat.BF16, tokens.all, hidden, group.experts)
            seconds = seconds + self._experts(group, tokens)
        return seconds

    def _experts(self, group: FeedForwardLayers, tokens: Tokens) -> Numbers:
        setup = self._setup
        every = np.maximum(tokens.all * setup.data_parallel, 1e-9)  # tokens of all ranks meet at the experts
        share = group.experts_per_token / group.experts
        touched = group.experts * (1.0 - (1.0 - share) ** (every ** self._c["routing"]))
        ranks = np.minimum(setup.expert_parallel, group.experts)
        within = setup.tensor_parallel * setup.data_parallel / ranks  # GPUs that divide each expert
        tuning = Tuning(speed=self._c["experts"], launch=self._launch * self._c["experts_launch"])
        return experts(
            self._machine,
            setup.feed_forward_format,
            tuning,
            chosen=every * group.experts_per_token / ranks,
            touched=np.maximum(touched / ranks, 1.0),
            hidden=self._model.hidden,
            width=group.width / within,
            matrices=group.matrices,
        )

    def _communication(self, tokens: Tokens) -> Numbers:
        setup, wide = self._setup, self._model.hidden * 2.0
        wait = self._c.of("all_reduce", self._engine)
        attention = all_reduce(self._machine, message=tokens.all * wide, gpus=setup.tensor_parallel)
        every = tokens.all * setup.data_parallel
        group = setup.tensor_parallel * setup.data_parallel
        network = all_reduce(self._machine, message=every * wide, gpus=group)
        return (attention + network) * wait

    def _elementwise(self, tokens: Tokens) -> Numbers:
        moved = tokens.all * self._model.hidden * 2.0 * ELEMENTWISE_PASSES
        return moved / self._machine.bandwidth * self._c["elementwise"]

    def _head(self, tokens: Tokens) -> Numbers:
        sampled = tokens.decoding + tokens.prefill / np.maximum(tokens.prompt, 1.0)
        columns = self._model.vocabulary / self._setup.tensor_parallel
        return self._gemm(NumberFormat.BF16, sampled, self._model.hidden, columns)


def _gemm_constant(number_format: NumberFormat) -> str:
    if number_format is NumberFormat.BF16:
        return "gemm_bf16"
    return "gemm_8_bit" if number_format in _EIGHT_BITS else "gemm_4_bit"


_EIGHT_BITS = (NumberFormat.FP8, NumberFormat.FP8_BLOCK, NumberFormat.INT8)
