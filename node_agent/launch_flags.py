"""What may be kept of an engine's command line: the flags named here, and nothing else.

Command lines hold API keys and access tokens, so this is an allow-list. Flags that mean the
same in several engines share one name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from node_agent.untrusted import Plain, from_text

# Flags with a value: their words on the command line (- for _) and the name they are kept under.
_VALUED: Mapping[str, str] = MappingProxyType(
    {
        # vLLM, as vllm/engine/arg_utils.py has them
        "--block-size": "block_size",
        "--data-parallel-size": "data_parallel_size",
        "--dtype": "dtype",
        "--gpu-memory-utilization": "gpu_memory_utilization",
        "--kv-cache-dtype": "kv_cache_dtype",
        "--kv-cache-memory-bytes": "kv_cache_memory_bytes",
        "--kv-offloading-size": "kv_offloading_size",
        "--max-model-len": "max_model_len",
        "--max-num-batched-tokens": "max_num_batched_tokens",
        "--max-num-seqs": "max_num_seqs",
        "--num-gpu-blocks-override": "num_gpu_blocks_override",
        "--pipeline-parallel-size": "pipeline_parallel_size",
        "--port": "port",
        "--quantization": "quantization",
        "--scheduling-policy": "scheduling_policy",
        "--served-model-name": "served_model_name",
        "--tensor-parallel-size": "tensor_parallel_size",
        "-dp": "data_parallel_size",
        "-pp": "pipeline_parallel_size",
        "-q": "quantization",
        "-tp": "tensor_parallel_size",
        # SGLang, as python/sglang/srt/server_args.py has them
        "--attention-backend": "attention_backend",
        "--chunked-prefill-size": "chunked_prefill_size",
        "--context-length": "context_length",
        "--dp": "dp_size",
        "--dp-size": "dp_size",
        "--ep-size": "ep_size",
        "--max-prefill-tokens": "max_prefill_tokens",
        "--max-running-requests": "max_running_requests",
        "--max-total-tokens": "max_total_tokens",
        "--mem-fraction-static": "mem_fraction_static",
        "--page-size": "page_size",
        "--pp-size": "pp_size",
        "--schedule-conservativeness": "schedule_conservativeness",
        "--schedule-policy": "schedule_policy",
        "--speculative-algorithm": "speculative_algorithm",
        "--tp": "tp_size",
        "--tp-size": "tp_size",
        # LMCache's server, as lmcache/v1/multiprocess has them
        "--chunk-size": "chunk_size",
        "--eviction-policy": "eviction_policy",
        "--http-port": "http_port",
        "--l1-size-gb": "l1_size_gb",
        "--max-workers": "max_workers",
        # TGI, as launcher/src/main.rs has them
        "--cuda-memory-fraction": "cuda_memory_fraction",
        "--max-batch-prefill-tokens": "max_batch_prefill_tokens",
        "--max-batch-size": "max_batch_size",
        "--max-batch-total-tokens": "max_batch_total_tokens",
        "--max-concurrent-requests": "max_concurrent_requests",
        "--max-input-tokens": "max_input_tokens",
        "--num-shard": "num_shard",
        "--quantize": "quantization",
        "--waiting-served-ratio": "waiting_served_ratio",
    }
)
# Flags without one, and what they say.
_SWITCHES: Mapping[str, tuple[str, bool]] = MappingProxyType(
    {
        "--async-scheduling": ("async_scheduling", True),
        "--disable-radix-cache": ("disable_radix_cache", True),
        "--enable-chunked-prefill": ("enable_chunked_prefill", True),
        "--enable-dp-attention": ("enable_dp_attention", True),
        "--enable-expert-parallel": ("enable_expert_parallel", True),
        "--enable-hierarchical-cache": ("enable_hierarchical_cache", True),
        "--enable-mixed-chunk": ("enable_mixed_chunk", True),
        "--enable-prefix-caching": ("enable_prefix_caching", True),
        "--enforce-eager": ("enforce_eager", True),
        "--no-async-scheduling": ("async_scheduling", False),
        "--no-enable-chunked-prefill": ("enable_chunked_prefill", False),
        "--no-enable-expert-parallel": ("enable_expert_parallel", False),
        "--no-enable-prefix-caching": ("enable_prefix_caching", False),
        "--no-enforce-eager": ("enforce_eager", False),
    }
)
_HUMAN = re.compile(r"(\d+(?:\.\d+)?)([kKmMgG])")
# vLLM reads 2k as 2000 and 2K as 2048: human_readable_int in vllm/engine/arg_utils.py
_FACTORS = {"k": 10**3, "m": 10**6, "g": 10**9, "K": 2**10, "M": 2**20, "G": 2**30}
_COUNTS = frozenset({"max_model_len", "max_num_batched_tokens", "max_num_seqs", "kv_cache_memory_bytes"})


def launch_flags(words: Sequence[str]) -> dict[str, Plain]:
    """This will give the flags that may be kept, the last one of a name when it is repeated.

    A value that looks like the next flag is not taken for one.
    """
    kept: dict[str, Plain] = {}
    for position, word in enumerate(words):
        flag, equals, value = word.partition("=")
        flag = _spelled(flag)
        if flag in _SWITCHES and not equals:
            name, switch = _SWITCHES[flag]
            kept[name] = switch
        elif flag in _VALUED:
            following = words[position + 1] if position + 1 < len(words) else ""
            read = _read(_VALUED[flag], value if equals else following, is_word=bool(equals))
            if read is not None:
                kept[_VALUED[flag]] = read
    return kept


def _spelled(flag: str) -> str:
    """This will spell a flag as the tables do; vLLM and SGLang take _ for -."""
    return flag.replace("_", "-") if flag.startswith("--") else flag


def _read(name: str, value: str, *, is_word: bool) -> Plain | None:
    """This will read a flag's value, None when there is none."""
    if not is_word and value.startswith("-") and not value[1:].replace(".", "", 1).isdigit():
        return None
    matched = _HUMAN.fullmatch(value) if name in _COUNTS else None
    return int(float(matched[1]) * _FACTORS[matched[2]]) if matched else from_text(value)
