"""What a flag's value may be. Whatever is not exactly that is not read, so that no text can pass for a value."""

from __future__ import annotations

import re
from dataclasses import dataclass

from node_agent.untrusted import Plain

_WHOLE = re.compile(r"-?[0-9]{1,15}", re.ASCII)
_REAL = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?|\.[0-9]{1,9}", re.ASCII)
_HUMAN = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)([kKmMgGtT])", re.ASCII)
# vLLM reads 2k as 2000 and 2K as 2048: human_readable_int in vllm/utils/argparse_utils.py, and SGLang alike
_FACTORS = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """A whole number; some flags take 2k for 2000, or a word in its place."""

    least: int
    most: int
    human: bool = False
    words: frozenset[str] = frozenset()

    def read(self, text: str) -> Plain | None:
        """This will read the number, None when it is none or out of range."""
        if text in self.words:
            return text
        matched = _HUMAN.fullmatch(text) if self.human else None
        if matched is not None:
            value = int(float(matched[1]) * _FACTORS[matched[2]])
        elif _WHOLE.fullmatch(text) is not None:
            value = int(text)
        else:
            return None
        return value if self.least <= value <= self.most else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Real:
    """A number that is not negative, in plain digits."""

    most: float

    def read(self, text: str) -> Plain | None:
        """This will read the number, None when it is none or out of range."""
        if _REAL.fullmatch(text) is None:
            return None
        value = float(text)
        return value if value <= self.most else None


@dataclass(frozen=True, slots=True, kw_only=True)
class OneOf:
    """A word of a closed list."""

    words: frozenset[str]

    def read(self, text: str) -> Plain | None:
        """This will give the word, None when it is not on the list."""
        return text if text in self.words else None


Kind = Whole | Real | OneOf


def _words(text: str) -> OneOf:
    """This will take a list apart."""
    return OneOf(words=frozenset(text.split()))


# Where the limits come from is no engine's manual: they are wide enough for any machine, and narrow for a secret.
PORT = Whole(least=1, most=65_535)
RANKS = Whole(least=1, most=65_536)
COUNT = Whole(least=-1, most=10**12, human=True)  # -1 switches several of SGLang's off
LENGTH = Whole(least=-1, most=10**12, human=True, words=frozenset({"auto"}))
BYTES = Whole(least=0, most=2**53, human=True)
RATIO = Real(most=1.0)
FACTOR = Real(most=10_000.0)
GIGABYTES = Real(most=1_000_000.0)

# The lists of vLLM 0.6 to 0.32 (vllm/config, vllm/v1/attention/backends/registry.py, …/layers/quantization), of SGLang
# 0.4 to 0.5 (python/sglang/srt/server_args.py) and of TGI 3 (launcher/src/main.rs), taken together.
DTYPE = _words("auto half float16 bfloat16 float float32")
KV_CACHE_DTYPE = _words(
    "auto float16 bfloat16 bf16 fp16 fp8 fp8_e4m3 fp8_e4m3fn fp8_e5m2 fp8_inc fp8_ds_mla int8 int4 nvfp4 nvfp4_4over6 "
    "fp4_e2m1 fp4_mx_block16 mxfp8 turboquant_k8v4 turboquant_4bit_nc turboquant_k3v4_nc turboquant_3bit_nc "
    "int4_per_token_head int8_per_token_head fp8_per_token_head"
)
QUANTIZATION = _words(
    "aqlm auto-round auto-round-int8 auto_awq auto_gptq awq awq_marlin bitblas bitsandbytes bitsandbytes-fp4 "
    "bitsandbytes-nf4 compressed-tensors deepspeedfp deepseek_v4_fp8 eetq exl2 experts_int8 fbgemm_fp8 fp8 "
    "fp8_per_block fp8_per_channel fp8_per_tensor fp_quant gguf gpt_oss_mxfp4 gptq gptq_bitblas gptq_marlin "
    "gptq_marlin_24 hqq humming inc int8_per_channel_weight_only ipex marlin mlx_q4 mlx_q8 modelopt modelopt_fp4 "
    "modelopt_fp8 modelopt_mixed modelopt_mxfp8 modelslim moe_wna16 mxfp4 mxfp8 mxfp_w4a8 neuron_quant nvfp4_online "
    "nvfp4_per_token online petit_nvfp4 ptpc_fp8 qqq quark quark_int4fp8_moe quark_mxfp4 rtn squeezellm torchao "
    "tpu_int8 unquant w4afp8 w8a8_fp8 w8a8_int8"
)
ATTENTION_BACKEND = _words(
    "CPU_ATTN CPU_MLA CUTLASS_MLA CUTLASS_MSA DUAL_CHUNK_FLASH_ATTN FLASHINFER FLASHINFER_MLA FLASHINFER_MLA_SPARSE "
    "FLASHMLA FLASHMLA_SPARSE FLASH_ATTN FLASH_ATTN_DIFFKV FLASH_ATTN_MLA FLASH_ATTN_MLA_SPARSE FLEX_ATTENTION "
    "HPC_ATTN MINIMAX_M3_SPARSE ROCM_AITER_FA ROCM_AITER_MLA ROCM_AITER_MLA_SPARSE ROCM_AITER_TRITON_MLA "
    "ROCM_AITER_UNIFIED_ATTN ROCM_ATTN ROCM_FLASH TOKENSPEED_MLA TORCH_SDPA TRITON_ATTN TRITON_ATTN_DIFFKV TRITON_MLA "
    "TRITON_MSA TURBOQUANT XFORMERS XPU_MLA_SPARSE aiter ascend compressed cutedsl_mla cutlass_mla dsa dsv4 "
    "dual_chunk_flash_attn fa3 fa4 flashinfer flashmla flex_attention hpc_ops intel_amx intel_xpu nsa tokenspeed_mla "
    "torch_native triton trtllm_mha trtllm_mla wave"
)
SCHEDULING_POLICY = _words("fcfs priority")
SCHEDULE_POLICY = _words("dfs-weight fcfs lof lpm priority random routing-key")
SPECULATIVE_ALGORITHM = _words("DFLASH DSPARK EAGLE EAGLE3 LOOKAHEAD NEXTN NGRAM STANDALONE")
EVICTION_POLICY = _words("ARC IsolatedLRU LRU noop")
