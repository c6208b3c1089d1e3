"""Which part of an inference engine a process is: engines write it into their process titles."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

# vLLM: VLLM::Worker_DP0_PP0_TP1_EP1, VLLM::EngineCore_DP0, VLLM::APIServer_0 (vllm/utils/system_utils.py; the prefix
# can be changed by VLLM_PROCESS_NAME_PREFIX). SGLang: sglang::scheduler_DP0_TP1, sglang::detokenizer.
_TITLE = re.compile(
    r"^(?P<prefix>[A-Za-z][\w.-]{0,63})::(?P<role>[A-Za-z]+(?:_?[A-Za-z]+)*?)(?P<tail>(?:_[A-Za-z]*\d+)*)$"
)
_PART = re.compile(r"_([A-Za-z]*)(\d{1,6})(?=_|$)")
_PARALLEL = ("dp", "pp", "tp", "ep", "pcp", "dcp", "cp", "moe_dp", "attn_dp")
_LONGEST_TITLE = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRank:
    """A process's role in its engine, and its place in each kind of parallelism that the title names."""

    engine: str  # the title's prefix in lower case: vllm, sglang, or what the operator set
    role: str  # worker, enginecore, scheduler, apiserver …
    ranks: Mapping[str, int] = field(default_factory=dict)  # {"dp": 0, "tp": 1}


def engine_rank(title: str) -> EngineRank | None:
    """This will read a process title, None when it is no engine's.

    Only the first word counts: what a program appends (a user's model name, say) is no rank.
    """
    words = title[:_LONGEST_TITLE].split()
    found = _TITLE.match(words[0]) if words else None
    if found is None:
        return None
    parts = ((name.lower(), int(number)) for name, number in _PART.findall(found["tail"]))
    return EngineRank(
        engine=found["prefix"].lower(),
        role=found["role"].lower(),
        ranks={name: number for name, number in parts if name in _PARALLEL},
    )
