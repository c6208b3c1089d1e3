"""What is asked of an engine: how it is started, and the load that it gets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from control_plane.model.architecture import NumberFormat

# One number, or one for each of many cases at once.
Numbers = float | NDArray[np.float64]

# vLLM's default on GPUs with much memory, TensorRT-LLM's and SGLang's own (vllm/engine/arg_utils.py,
# tensorrt_llm/llmapi/llm_args.py, sglang/srt/server_args.py).
CHUNK_TOKENS = 8192.0
# vLLM's default of --gpu-memory-utilization; TensorRT-LLM's free fraction and SGLang's static one are as large.
MEMORY_SHARE = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """An engine's configuration, as far as speed and memory depend on it."""

    engine: str  # vllm, sglang, trtllm, tgi
    age_years: Numbers = 0.0  # of its release since REFERENCE; engines get faster
    attention_format: NumberFormat = NumberFormat.BF16
    feed_forward_format: NumberFormat = NumberFormat.BF16
    kv_format: NumberFormat = NumberFormat.BF16
    tensor_parallel: Numbers = 1.0  # of attention
    pipeline_parallel: Numbers = 1.0
    data_parallel: Numbers = 1.0  # of attention, within one server
    expert_parallel: Numbers = 1.0
    chunk_tokens: Numbers = CHUNK_TOKENS  # prompt tokens that one step takes at most
    max_num_seqs: Numbers = np.inf
    memory_share: Numbers = MEMORY_SHARE
    graphs: bool = True  # CUDA graphs: kernels are launched without the CPU

    @property
    def gpus(self) -> Numbers:
        """This will count the GPUs of one server."""
        return self.tensor_parallel * self.data_parallel * self.pipeline_parallel


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What comes: prompts and answers of these mean lengths, so many at a time."""

    input_tokens: Numbers
    output_tokens: Numbers
    concurrency: Numbers = 1.0

    @property
    def context(self) -> Numbers:
        """This will give the tokens that a request holds halfway through its answer."""
        return self.input_tokens + self.output_tokens / 2
