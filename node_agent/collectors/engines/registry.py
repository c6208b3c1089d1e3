"""The engines that are known, and how their metrics give them away."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from node_agent.collectors.engines.lmcache import LMCACHE
from node_agent.collectors.engines.mapping import Engine
from node_agent.collectors.engines.sglang import SGLANG
from node_agent.collectors.engines.tgi import TGI
from node_agent.collectors.engines.vllm import VLLM

INFERENCE = (VLLM, SGLANG, TGI)
ENGINES: Mapping[str, Engine] = MappingProxyType({engine.name: engine for engine in (*INFERENCE, LMCACHE)})
WANTED: Mapping[str, Mapping[str, str]] = MappingProxyType({name: each.wanted() for name, each in ENGINES.items()})

_BY_PREFIX = {prefix.encode(): engine.name for engine in ENGINES.values() for prefix in engine.prefixes}


# Where the first metric of an engine must stand: real bodies have it within 10 KB, and all of 0.4 MB.
_HEAD_BYTES = 1024 * 1024


def _first_of(engines: Iterable[Engine]) -> re.Pattern[bytes]:
    """This will give a pattern that finds the first metric of one of these."""
    prefixes = (re.escape(prefix.encode()) for engine in engines for prefix in engine.prefixes)
    return re.compile(rb"^(?:# (?:HELP|TYPE) )?(" + b"|".join(prefixes) + rb")\w", re.MULTILINE)


_SERVER, _CACHE = _first_of(INFERENCE), _first_of((LMCACHE,))


def identify(body: bytes) -> str | None:
    """This will name the engine whose metrics come first in an exposition, None when there are none.

    An inference server that shows its LMCache's metrics as well is still an inference server.
    """
    found = _SERVER.search(body, 0, _HEAD_BYTES) or _CACHE.search(body, 0, _HEAD_BYTES)
    return None if found is None else _BY_PREFIX[found[1]]


def has_cache_inside(body: bytes) -> bool:
    """This will say whether an inference server's exposition also has the metrics of an LMCache."""
    return _CACHE.search(body, 0, _HEAD_BYTES) is not None
