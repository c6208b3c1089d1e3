"""Engines and GPUs as packing sees them, and what a plan must keep."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# Shares of a GPU that engines may fill together: the rest is for what varies within a second.
MOST_MEMORY, MOST_COMPUTE = 0.92, 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """A GPU, or an instance of one (MIG), that engines can be on."""

    name: str
    kind: str  # of the GPU; an engine may be choosy
    node: str
    memory_bytes: float
    compute: float  # of what engines' `compute` is counted in: 1.0 is one whole GPU of the reference kind
    usd_per_hour: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """An engine on one GPU. One that spans several is not among these: it holds them whole, and stays."""

    name: str
    at: str  # the bin that it is on
    memory_bytes: float
    compute: float  # at its busiest
    kinds: frozenset[str] | None = None  # it may be on; None: any
    apart: str | None = None  # engines of the same word never share a GPU: replicas of one model
    fixed: bool = False  # it stays where it is


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Which engine goes where, and what that stands on."""

    places: Mapping[str, str]  # engine → bin
    usd_per_hour: float
    bound_usd_per_hour: float  # no plan costs less
    before_usd_per_hour: float
    moves: Sequence[tuple[str, str, str]]  # engine, from, to
    freed: Sequence[str]  # bins that hold nothing afterwards


def broken(bins: Sequence[Bin], engines: Sequence[Engine], places: Mapping[str, str]) -> list[str]:
    """This will name every constraint that a placement breaks, in words. An empty list: it is good."""
    by_name = {b.name: b for b in bins}
    wrong = [f"{e.name} is nowhere" for e in engines if places.get(e.name) not in by_name]
    held: dict[str, list[Engine]] = {}
    for engine in engines:
        if (at := places.get(engine.name)) in by_name:
            held.setdefault(str(at), []).append(engine)
            if engine.fixed and at != engine.at:
                wrong.append(f"{engine.name} is fixed and was moved")
            if engine.kinds is not None and by_name[str(at)].kind not in engine.kinds:
                wrong.append(f"{engine.name} may not be on a {by_name[str(at)].kind}")
    for name, on in held.items():
        limit = by_name[name]
        if sum(e.memory_bytes for e in on) > limit.memory_bytes * MOST_MEMORY * (1 + 1e-9):
            wrong.append(f"{name} has not the memory")
        if sum(e.compute for e in on) > limit.compute * MOST_COMPUTE * (1 + 1e-9) and len(on) > 1:
            wrong.append(f"{name} has not the compute")
        for word, count in Counter(e.apart for e in on if e.apart is not None).items():
            if count > 1:
                wrong.append(f"{name} holds {count} of {word}")
    return wrong


def absurd(bins: Sequence[Bin], engines: Sequence[Engine]) -> str | None:
    """This will name a number that cannot be; None when there is none."""
    for b in bins:
        if not all(math.isfinite(n) and n > 0 for n in (b.memory_bytes, b.compute)) or not b.usd_per_hour >= 0:
            return f"{b.name} has a size or a price that cannot be"
    for e in engines:
        if not all(math.isfinite(n) and n >= 0 for n in (e.memory_bytes, e.compute)):
            return f"{e.name} needs what cannot be"
    names = [b.name for b in bins]
    if len(set(names)) < len(names) or len({e.name for e in engines}) < len(engines):
        return "two GPUs, or two engines, have one name"
    return None
