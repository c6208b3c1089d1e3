"""What may be kept of an engine's command line: the flags named here, with values of their kind, and nothing else.

Flags that mean the same in several engines share one name. Names of models and files are not among them: any
text may be a secret, and an engine says itself which model it serves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from node_agent.launch import values
from node_agent.launch.program import program
from node_agent.untrusted import Plain

# Flags with a value: their words on the command line (- for _), the name they are kept under, the value's kind.
_VALUED: Mapping[str, tuple[str, values.Kind]] = MappingProxyType(
    {
        # vLLM, as vllm/engine/arg_utils.py has them
        "--block-size": ("block_size", values.COUNT),
        "--data-parallel-size": ("data_parallel_size", values.RANKS),
        "--dtype": ("dtype", values.DTYPE),
        "--gpu-memory-utilization": ("gpu_memory_utilization", values.RATIO),
        "--kv-cache-dtype": ("kv_cache_dtype", values.KV_CACHE_DTYPE),
        "--kv-cache-memory-bytes": ("kv_cache_memory_bytes", values.BYTES),
        "--kv-offloading-size": ("kv_offloading_size", values.GIGABYTES),
        "--max-model-len": ("max_model_len", values.LENGTH),
        "--max-num-batched-tokens": ("max_num_batched_tokens", values.COUNT),
        "--max-num-seqs": ("max_num_seqs", values.COUNT),
        "--num-gpu-blocks-override": ("num_gpu_blocks_override", values.COUNT),
        "--pipeline-parallel-size": ("pipeline_parallel_size", values.RANKS),
        "--port": ("port", values.PORT),
        "--quantization": ("quantization", values.QUANTIZATION),
        "--scheduling-policy": ("scheduling_policy", values.SCHEDULING_POLICY),
        "--tensor-parallel-size": ("tensor_parallel_size", values.RANKS),
        "-dp": ("data_parallel_size", values.RANKS),
        "-pp": ("pipeline_parallel_size", values.RANKS),
        "-q": ("quantization", values.QUANTIZATION),
        "-tp": ("tensor_parallel_size", values.RANKS),
        # SGLang, as python/sglang/srt/server_args.py has them
        "--attention-backend": ("attention_backend", values.ATTENTION_BACKEND),
        "--chunked-prefill-size": ("chunked_prefill_size", values.COUNT),
        "--context-length": ("context_length", values.LENGTH),
        "--dp": ("dp_size", values.RANKS),
        "--dp-size": ("dp_size", values.RANKS),
        "--ep-size": ("ep_size", values.RANKS),
        "--max-prefill-tokens": ("max_prefill_tokens", values.COUNT),
        "--max-running-requests": ("max_running_requests", values.COUNT),
        "--max-total-tokens": ("max_total_tokens", values.COUNT),
        "--mem-fraction-static": ("mem_fraction_static", values.RATIO),
        "--page-size": ("page_size", values.COUNT),
        "--pp-size": ("pp_size", values.RANKS),
        "--schedule-conservativeness": ("schedule_conservativeness", values.FACTOR),
        "--schedule-policy": ("schedule_policy", values.SCHEDULE_POLICY),
        "--speculative-algorithm": ("speculative_algorithm", values.SPECULATIVE_ALGORITHM),
        "--tp": ("tp_size", values.RANKS),
        "--tp-size": ("tp_size", values.RANKS),
        # LMCache's server, as lmcache/v1/multiprocess has them
        "--chunk-size": ("chunk_size", values.COUNT),
        "--eviction-policy": ("eviction_policy", values.EVICTION_POLICY),
        "--http-port": ("http_port", values.PORT),
        "--l1-size-gb": ("l1_size_gb", values.GIGABYTES),
        "--max-workers": ("max_workers", values.COUNT),
        "--prometheus-port": ("prometheus_port", values.PORT),
        # TGI, as launcher/src/main.rs has them
        "--cuda-memory-fraction": ("cuda_memory_fraction", values.RATIO),
        "--max-batch-prefill-tokens": ("max_batch_prefill_tokens", values.COUNT),
        "--max-batch-size": ("max_batch_size", values.COUNT),
        "--max-batch-total-tokens": ("max_batch_total_tokens", values.COUNT),
        "--max-concurrent-requests": ("max_concurrent_requests", values.COUNT),
        "--max-input-tokens": ("max_input_tokens", values.COUNT),
        "--num-shard": ("num_shard", values.RANKS),
        "--quantize": ("quantization", values.QUANTIZATION),
        "--waiting-served-ratio": ("waiting_served_ratio", values.FACTOR),
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
# An unknown flag's next word is its value unless it looks like a flag; of these it is the value whatever it looks like.
_SECRETIVE = frozenset({"auth", "credential", "credentials", "key", "keys", "password", "passwd", "secret", "token"})
FOR_DISCOVERY = frozenset({"port", "http_port", "prometheus_port"})  # where a server listens is in its address


def launch_flags(words: Sequence[str]) -> dict[str, Plain]:
    """This will give the flags that may be kept, the last one of a name when it is repeated.

    Only the engine's own arguments are read, each word as one thing only: what an unknown flag takes as its
    value is never read as a flag. A known flag whose value is not of its kind is unknown.
    """
    found = program(words)
    return {} if found is None else own_flags(found.arguments)


def own_flags(arguments: Sequence[str]) -> dict[str, Plain]:
    """This will read the arguments of an engine's program."""
    kept: dict[str, Plain] = {}
    position = 0
    while position < len(arguments) and arguments[position] != "--":  # behind it are no flags
        flag, equals, value = arguments[position].partition("=")
        following = arguments[position + 1] if position + 1 < len(arguments) else "-"
        position += 1
        if not flag.startswith("-"):
            continue
        flag = _spelled(flag)
        if flag in _SWITCHES:
            if not equals:
                name, switch = _SWITCHES[flag]
                kept[name] = switch
            continue
        taken = not equals and _takes(flag, following)
        position += taken
        if flag in _VALUED:
            _keep(kept, flag, value if equals else following if taken else "")
    return kept


def _keep(kept: dict[str, Plain], flag: str, text: str) -> None:
    """This will take over a known flag's value; one that cannot be read makes what stood before it unknown."""
    name, kind = _VALUED[flag]
    read = kind.read(text)
    if read is None:
        kept.pop(name, None)
    else:
        kept[name] = read


def _takes(flag: str, following: str) -> bool:
    """This will say whether a flag takes the following word as its value."""
    if not _SECRETIVE.isdisjoint(flag.lower().split("-")):
        return True
    return not following.startswith("-") or following[1:].replace(".", "", 1).isdigit()


def _spelled(flag: str) -> str:
    """This will spell a flag as the tables do; vLLM and SGLang take _ for -."""
    return flag.replace("_", "-") if flag.startswith("--") else flag
