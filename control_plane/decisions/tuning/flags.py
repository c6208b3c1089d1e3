"""How each engine spells its flags. TGI's are for reading only: its project is in maintenance."""

from __future__ import annotations

MOST_RUNNING = {"vllm": "--max-num-seqs", "sglang": "--max-running-requests"}
MEMORY_SHARE = {"vllm": "--gpu-memory-utilization", "sglang": "--mem-fraction-static"}
BLOCKS = {"vllm": "--num-gpu-blocks-override"}
TOKENS = {"sglang": "--max-total-tokens"}
KV_FORMAT = {"vllm": ("--kv-cache-dtype", "fp8"), "sglang": ("--kv-cache-dtype", "fp8_e4m3")}
