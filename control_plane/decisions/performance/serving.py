"""What a user of a continuously batching server sees: time per token, time to first token, throughput."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from control_plane.decisions.performance.constants import Constants
from control_plane.decisions.performance.memory import MemoryUse, memory_use
from control_plane.decisions.performance.setup import Load, Numbers, Setup
from control_plane.decisions.performance.step import Step, Tokens
from control_plane.model.architecture import Architecture
from control_plane.model.machine import Machine

ROUNDS = 8  # of the fixed point between the time of a token and the requests that decode; it settles to 0.1 %


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """How a load is served when as many requests are kept in flight as it says."""

    tpot_seconds: Numbers  # of one request, the mean after its first token
    ttft_seconds: Numbers  # from its arrival, waiting included
    decoding: Numbers  # requests that get a token in each step, of all ranks together
    output_tokens_per_second: Numbers  # of the whole server
    requests_per_second: Numbers
    memory: MemoryUse


def serve(model: Architecture, machine: Machine, setup: Setup, load: Load, constants: Constants) -> Served:
    """This will find the steady state of a closed loop of `load.concurrency` requests.

    Requests that do not fit (KV cache, max_num_seqs) wait; while one's prompt is computed others get their tokens in
    the same steps. Pipeline stages each work on another part of them, so a token still takes all layers once. In a
    steady state each of B decoding requests is followed by a new prompt every O tokens.
    """
    step = Step(model, machine, setup, constants)
    memory = memory_use(model, machine, setup, load)
    ranks = setup.data_parallel
    fitting = np.minimum(np.maximum(memory.max_concurrency, 1.0), setup.max_num_seqs)
    running = np.minimum(load.concurrency, fitting)
    slots = np.maximum(running / ranks / setup.pipeline_parallel, 1.0)  # of one rank and pipeline stage
    chunk = np.minimum(load.input_tokens, setup.chunk_tokens)
    share = constants.of("prefill_share", setup.engine)
    outputs = np.maximum(load.output_tokens, 1.0)
    decoding: Numbers = slots
    for _ in range(ROUNDS):
        alone = step.seconds(Tokens(decoding=decoding, context=load.context, prefill=0.0, prompt=load.input_tokens))
        mixed = step.seconds(Tokens(decoding=decoding, context=load.context, prefill=chunk, prompt=load.input_tokens))
        chunks = load.input_tokens / chunk
        added = (mixed - alone) * constants["prefill"] * chunks  # by one prompt, to the steps that it is in
        tpot = alone + share * decoding / outputs * added
        own = mixed * chunks
        decoding = 0.5 * decoding + 0.5 * slots * outputs * tpot / (own + outputs * tpot)
    whole = own + outputs * tpot
    rate = running / whole
    waiting = np.maximum(load.concurrency - running, 0.0) / rate
    held_up = (1.0 - share) * decoding * added * 0.5  # prompts that go first, in waves
    return Served(
        tpot_seconds=tpot,
        ttft_seconds=own + waiting + held_up,
        decoding=decoding * ranks * setup.pipeline_parallel,
        output_tokens_per_second=rate * outputs,
        requests_per_second=rate,
        memory=memory,
    )
