"""What to do about each bottleneck, in the order in which to try it.

Sources: vLLM's docs/configuration/optimization.md (preemption, chunked prefill), BCA (arXiv 2503.08311)
for batch limits, llm-d's workload-variant-autoscaler and NVIDIA Dynamo's planner for scaling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from control_plane.model.bottleneck import Bottleneck as B

REMEDIES: Mapping[B, Sequence[str]] = MappingProxyType(
    {
        B.MISSING_DATA: (
            "see whether the server's /metrics answers, and whether the agent on its host is connected",
            "change nothing that depends on this server until it is seen again",
        ),
        B.STUCK_COLLECTIVE: (
            "restart all ranks of the job together: a collective whose peers disagree never ends",
            "look for a rank that died or ran another shape (NCCL_DEBUG=INFO, XID events)",
        ),
        B.HUNG_ENGINE: (
            "take the server out of its balancer and restart it; its /health may stay green",
            "look at its worker processes and at XID events of its GPUs",
        ),
        B.FAULTY_GPU: ("look at cooling, power supply and the GPU's events; move the load to another GPU until then",),
        B.IDLE: ("let it scale down, or share its GPU, if it stays idle longer than it takes to start",),
        B.KV_CAPACITY_BOUND: (
            "store the KV cache in FP8 (--kv-cache-dtype fp8; SGLang: --kv-cache-dtype fp8_e4m3)",
            "lower the longest request (--max-model-len; SGLang: --context-length)",
            "give the cache more memory (--gpu-memory-utilization; SGLang: --mem-fraction-static)",
            "quantise the weights, or spread them over more GPUs (--tensor-parallel-size)",
            "offload cold blocks to host memory (LMCache)",
            "add replicas",
        ),
        B.PREFIX_CACHE_MISS: (
            "route requests with the same prefix to the same replica",
            "make room for the working set: a larger KV cache, or LMCache behind it",
            "keep what is the same in every prompt at its beginning",
        ),
        B.PREFILL_BOUND: (
            "turn prefix caching on if prompts share beginnings (--enable-prefix-caching)",
            "raise the tokens of a step if TTFT matters more than time per token (--max-num-batched-tokens)",
            "use FP8 weights and activations where the GPU has FP8 units (Ada, Hopper, Blackwell)",
            "serve prefill and decode from different replicas",
            "add replicas",
        ),
        B.BATCH_LIMITED: (
            "raise the requests that may run at once (--max-num-seqs; SGLang: --max-running-requests)",
            "then look at time per output token: it grows with the batch",
        ),
        B.NETWORK_OR_CLIENT: (
            "look at clients' timeouts and at the network between them and the server",
            "do not add replicas for it",
        ),
        B.COMMUNICATION_BOUND: (
            "use fewer tensor ranks and more replicas",
            "keep tensor ranks within one NVLink domain; across hosts use pipeline parallelism",
        ),
        B.DECODE_BANDWIDTH_BOUND: (
            "quantise the weights, and the KV cache (what every step reads gets smaller)",
            "speculative decoding, while batches are small",
            "a GPU with more memory bandwidth, or more replicas",
        ),
        B.COMPUTE_BOUND: (
            "FP8 or NVFP4 compute where the GPU has it; weight-only quantisation does not help",
            "add replicas",
        ),
        B.HOST_BOUND: (
            "let CUDA graphs be captured (drop --enforce-eager)",
            "give the server more CPU cores, and no neighbours on them",
            "asynchronous scheduling (--async-scheduling), fewer log-probabilities and structured outputs",
        ),
        B.QUEUE_BOUND: (
            "add replicas, if they start sooner than the load goes away",
            "else refuse or delay the least important requests",
        ),
        B.HEALTHY: (),
    }
)
