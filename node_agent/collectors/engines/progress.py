"""Whether a server that has requests in work gets anywhere: its /health does not say so.

vLLM's /health and /metrics answer 200 while its worker is stopped; what stands still are the
engine's own numbers. So every number that moves with an engine step is watched per data-parallel
rank, and a rank that has running requests while all of them stand still for longer than a prefill
can take is hung. A chunked prefill moves at least the KV-cache usage, step by step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from node_agent.clock import Instant
from node_agent.collectors.engines.mapping import Engine
from node_agent.collectors.exposition import Exposition

# No recorded server, the noisy ones included, stood for longer than 5 s with requests running (vLLM's
# shared-memory ring re-checks after 5 s). Twelve times that leaves room for compilation at the first requests.
LEAST_PATIENCE_SECONDS = 60.0
# vLLM (VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS) and SGLang (--watchdog-timeout) give up by themselves after 300 s.
MOST_PATIENCE_SECONDS = 300.0
# The slowest recorded prefill, a model on one CPU core, worked off 2,500 tokens a second; an H200 35,000.
SLOWEST_PREFILL_TOKENS_PER_SECOND = 1_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One rank's running requests, and a mark that changes with every step of its engine."""

    running: float
    mark: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Since when one rank has had work and not moved."""

    work: Work
    since: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What is remembered of a server's ranks between two looks."""

    ranks: Mapping[str, Standing] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hang:
    """A rank that stands still, and for how long that was excused."""

    rank: str  # "" when the server has no ranks
    running: float
    since: datetime
    patience_seconds: float

    def __str__(self) -> str:
        """This will say it to people, in words that stay the same while it lasts."""
        who = f" on rank {self.rank}" if self.rank else ""
        return (
            f"{self.running:g} requests run{who}, but since {self.since.isoformat(timespec='seconds')} "
            f"no counter or gauge of the engine has moved (a prefill may take {self.patience_seconds:g} s)"
        )


def patience_seconds(max_model_len: int | None) -> float:
    """This will give how long a server may stand still: the longest prompt that it takes, at the slowest pace.

    Of a server that does not say how long its prompts may be, the longest patience is right.
    """
    if max_model_len is None:
        return MOST_PATIENCE_SECONDS
    slowest = max_model_len / SLOWEST_PREFILL_TOKENS_PER_SECOND
    return min(max(slowest, LEAST_PATIENCE_SECONDS), MOST_PATIENCE_SECONDS)


def work(engine: Engine, exposition: Exposition) -> dict[str, Work]:
    """This will give every rank's work; copies of one rank (tensor-parallel ones) run the same requests."""
    running: dict[str, float] = {}
    marks: dict[str, list[tuple[object, ...]]] = {}
    for name in engine.progress_names:
        for labels, value in exposition.series(name).items():
            rank = dict(labels).get(engine.rank_label or "", "")
            # repr: a NaN equals no other, and would look like a step at every look
            marks.setdefault(rank, []).append((name, labels, repr(value)))
            if name == engine.running_name and math.isfinite(value):
                running[rank] = max(running.get(rank, 0.0), value)
    return {rank: Work(running=count, mark=hash(frozenset(marks[rank]))) for rank, count in running.items()}


def in_step(seen: Mapping[str, Work]) -> dict[str, Work]:
    """This will make one of ranks that only step together.

    A rank of SGLang's data-parallel attention that has nothing to do keeps stepping with the others but
    leaves its gauges as they were (sgl-project/sglang 40215): alone it would look like one that stands.
    """
    if not seen:
        return {}
    return {"": Work(running=sum(each.running for each in seen.values()), mark=hash(frozenset(seen.items())))}


def follow(before: Progress, seen: Mapping[str, Work], now: Instant) -> Progress:
    """This will take one look: a rank that moved, or has nothing to do, begins anew."""
    ranks: dict[str, Standing] = {}
    for rank, each in seen.items():
        last = before.ranks.get(rank)
        if each.running > 0:
            ranks[rank] = last if last is not None and last.work == each else Standing(work=each, since=now)
    return Progress(ranks=ranks)


def hang(progress: Progress, now: Instant, *, patience: float) -> Hang | None:
    """This will give the rank that has stood for longest, None while all are within `patience` seconds."""
    if not progress.ranks:
        return None
    rank, longest = min(progress.ranks.items(), key=lambda item: item[1].since.monotonic_seconds)
    if now.monotonic_seconds - longest.since.monotonic_seconds <= patience:
        return None
    return Hang(rank=rank, running=longest.work.running, since=longest.since.wall, patience_seconds=patience)
