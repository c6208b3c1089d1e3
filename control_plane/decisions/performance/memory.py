"""What a server's memory is spent on, for each GPU, and how many requests fit into the rest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from control_plane.decisions.performance.kernels import WEIGHT_BYTES
from control_plane.decisions.performance.setup import Load, Numbers, Setup
from control_plane.model.architecture import Architecture, AttentionKind, AttentionLayers, NumberFormat
from control_plane.model.machine import Machine

# The CUDA context, the allocator's slack and CUDA graphs of a 70B model: 2 to 4 GB in vLLM's start-up logs;
# aiconfigurator reserves 3.5 GiB in each of its systems/*.yaml.
RUNTIME_BYTES = 3.0e9
# NCCL's buffers on GPUs that talk to others (aiconfigurator systems/*.yaml, misc.nccl_mem).
COMMUNICATION_BYTES = 0.4e9
STATE_BYTES = 4.0  # a state's numbers are kept in float32 (`mamba_ssm_dtype`)
# Activations of the largest step: hidden states, gate and up of a few layers at once, in 16 bits.
ACTIVATION_WIDTHS = 6.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryUse:
    """Bytes on each GPU of a server."""

    weights: Numbers
    kv_per_token: Numbers  # of tokens within every window
    per_request: Numbers  # what a request of the load holds halfway, states and windows included
    runtime: Numbers  # context, graphs, communication, activations
    room: Numbers  # for the KV cache; negative: the model does not fit
    max_concurrency: Numbers  # requests of the load that the room holds; 0: the model does not fit


def attention_parameters(group: AttentionLayers, hidden: int) -> float:
    """This will count the weights of one attention layer."""
    if group.kind is AttentionKind.STATE:
        keys, values = group.query_heads * group.head_dim, group.kv_heads * group.value_dim
        return hidden * (2.0 * keys + 2.0 * values) + values * hidden
    out = group.query_heads * group.value_dim * hidden
    if group.kind is AttentionKind.LATENT:
        wide, rank = group.query_heads * group.head_dim, group.query_rank
        squeezed = hidden * rank + rank * wide if rank else hidden * wide
        back = group.latent_rank * group.query_heads * (group.head_dim - group.rope_dim + group.value_dim)
        return squeezed + hidden * (group.latent_rank + group.rope_dim) + back + out
    queries = group.query_heads * group.head_dim * (2.0 if group.gated else 1.0)
    return hidden * (queries + group.kv_heads * (group.head_dim + group.value_dim)) + out


def parameters(model: Architecture) -> float:
    """This will count all weights."""
    attention = sum(group.count * attention_parameters(group, model.hidden) for group in model.attention)
    networks = sum(
        group.count * group.matrices * model.hidden * (group.experts * group.width + group.shared_width)
        for group in model.feed_forward
    )
    return attention + networks + model.hidden * model.vocabulary * (1 if model.tied_embeddings else 2)


def weight_bytes(model: Architecture, setup: Setup) -> Numbers:
    """This will give the bytes of weights on each GPU: experts are divided among all, the rest among ranks of TP."""
    attention = sum(group.count * attention_parameters(group, model.hidden) for group in model.attention)
    routed = sum(g.count * g.matrices * model.hidden * g.experts * g.width for g in model.feed_forward if g.experts > 1)
    dense = sum(
        g.count * g.matrices * model.hidden * (g.shared_width + (g.width if g.experts == 1 else 0))
        for g in model.feed_forward
    )
    ends = model.hidden * model.vocabulary * (1 if model.tied_embeddings else 2) * 2.0
    replicated = attention * WEIGHT_BYTES[setup.attention_format] + dense * WEIGHT_BYTES[setup.feed_forward_format]
    split = setup.tensor_parallel * setup.pipeline_parallel
    return (replicated + ends) / split + routed * WEIGHT_BYTES[setup.feed_forward_format] / setup.gpus


def kv_bytes_per_token(group: AttentionLayers, kv_format: NumberFormat, tensor_parallel: Numbers) -> Numbers:
    """This will give the bytes that one layer keeps of a token on one GPU. Heads that cannot be divided are copied."""
    if group.kind is AttentionKind.STATE:
        return 0.0
    if group.kind is AttentionKind.LATENT:
        return (group.latent_rank + group.rope_dim) * WEIGHT_BYTES[kv_format] + group.index_bytes
    heads = np.maximum(group.kv_heads / tensor_parallel, 1.0)
    return heads * (group.head_dim + group.value_dim) * WEIGHT_BYTES[kv_format]


def state_bytes(group: AttentionLayers, tensor_parallel: Numbers) -> Numbers:
    """This will give the bytes that one layer keeps of a request, however long."""
    if group.kind is not AttentionKind.STATE:
        return 0.0
    heads = np.maximum(group.kv_heads / tensor_parallel, 1.0)
    return heads * group.value_dim * group.head_dim * STATE_BYTES


def kept_tokens(group: AttentionLayers, tokens: Numbers) -> Numbers:
    """This will say how many of a request's tokens a layer keeps; sparse attention keeps all and looks at some."""
    if group.kind is AttentionKind.WINDOW and group.window is not None:
        return np.minimum(tokens, group.window)
    return tokens


def memory_use(model: Architecture, machine: Machine, setup: Setup, load: Load) -> MemoryUse:
    """This will divide each GPU's memory; negative room means that the model does not fit."""
    tp, pp = setup.tensor_parallel, setup.pipeline_parallel
    per_token, per_request = 0.0 * np.asarray(tp), 0.0 * np.asarray(load.context)
    for group in model.attention:
        each = kv_bytes_per_token(group, setup.kv_format, tp) * group.count / pp
        per_token = per_token + each
        per_request = per_request + each * kept_tokens(group, load.context)
        per_request = per_request + state_bytes(group, tp) * group.count / pp
    weights = weight_bytes(model, setup)
    activations = setup.chunk_tokens * model.hidden * 2.0 * ACTIVATION_WIDTHS
    runtime = RUNTIME_BYTES + activations + np.where(np.asarray(setup.gpus) > 1, COMMUNICATION_BYTES, 0.0)
    room = machine.memory_bytes * setup.memory_share - weights - runtime
    fit = np.floor(np.maximum(room, 0.0) / np.maximum(per_request, 1.0)) * setup.data_parallel
    return MemoryUse(
        weights=weights, kv_per_token=per_token, per_request=per_request, runtime=runtime, room=room,
        max_concurrency=fit,
    )  # fmt: skip
