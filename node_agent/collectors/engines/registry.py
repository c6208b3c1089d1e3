"""The engines that are known, and how their metrics give them away."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from node_agent.collectors.engines.mapping import Engine
from node_agent.collectors.engines.sglang import SGLANG
from node_agent.collectors.engines.tgi import TGI
from node_agent.collectors.engines.vllm import VLLM

ENGINES: Mapping[str, Engine] = MappingProxyType({engine.name: engine for engine in (VLLM, SGLANG, TGI)})
WANTED: Mapping[str, Mapping[str, str]] = MappingProxyType({name: each.wanted() for name, each in ENGINES.items()})

_BY_PREFIX = {prefix.encode(): engine.name for engine in ENGINES.values() for prefix in engine.prefixes}
_PREFIX = re.compile(rb"^(?:# (?:HELP|TYPE) )?(" + b"|".join(map(re.escape, _BY_PREFIX)) + rb")\w", re.MULTILINE)


def identify(body: bytes) -> str | None:
    """This will name the engine whose metrics come first in an exposition, None when there are none."""
    found = _PREFIX.search(body)
    return None if found is None else _BY_PREFIX[found[1]]
