"""Packing random fleets onto fewer GPUs, beside what no plan can beat, and beside first fit by size."""

from __future__ import annotations

import time
from collections.abc import Sequence

from benchmarks.figures import Result, Table
from control_plane.decisions.consolidation.fleet import MOST_COMPUTE, MOST_MEMORY, Bin, Engine, Plan, broken
from control_plane.decisions.consolidation.planning import plan
from tests.unit.control_plane.decisions.test_consolidation import random_fleet

SIZES, SEEDS = (50, 100, 200, 500), (1, 2, 3, 4, 5)
SECONDS = 8.0


def first_fit(bins: Sequence[Bin], engines: Sequence[Engine]) -> float:
    """This will give dollars an hour of the usual heuristic: the largest engine first, onto the first open GPU."""
    order = sorted(engines, key=lambda e: (not e.fixed, -max(e.memory_bytes / 80e9, e.compute)))
    by_price = sorted(bins, key=lambda b: b.usd_per_hour)
    left = {b.name: [b.memory_bytes * MOST_MEMORY, b.compute * MOST_COMPUTE] for b in bins}
    words: dict[str, set[str]] = {b.name: set() for b in bins}
    used: set[str] = set()
    for engine in order:
        for b in sorted(by_price, key=lambda b: b.name not in used):
            if engine.fixed and b.name != engine.at:
                continue
            fits = engine.memory_bytes <= left[b.name][0] and engine.compute <= left[b.name][1]
            allowed = (engine.kinds is None or b.kind in engine.kinds) and engine.apart not in words[b.name]
            if fits and allowed:
                left[b.name] = [left[b.name][0] - engine.memory_bytes, left[b.name][1] - engine.compute]
                words[b.name] |= {engine.apart} if engine.apart else set()
                used.add(b.name)
                break
    return sum(b.usd_per_hour for b in bins if b.name in used)


def measure(*, quick: bool = False) -> Result:
    """This will pack fleets of several sizes."""
    rows = []
    for size in SIZES[:1] if quick else SIZES:
        over, seconds, saved, greedy, wrong = [], [], [], [], 0
        for seed in SEEDS[:2] if quick else SEEDS:
            bins, engines = random_fleet(seed, size)
            began = time.monotonic()
            found = plan(bins, engines, seconds=SECONDS)
            seconds.append(time.monotonic() - began)
            assert isinstance(found, Plan)
            wrong += len(broken(bins, engines, found.places))
            over.append(found.usd_per_hour / found.bound_usd_per_hour - 1.0)
            saved.append(1.0 - found.usd_per_hour / found.before_usd_per_hour)
            greedy.append(first_fit(bins, engines) / found.bound_usd_per_hour - 1.0)
        rows.append((
            f"{size}", f"{sum(over) / len(over):.2%}", f"{max(over):.2%}", f"{sum(greedy) / len(greedy):.2%}",
            f"{max(seconds):.1f}", f"{sum(saved) / len(saved):.0%}", f"{wrong}",
        ))  # fmt: skip
    return Result(
        name="consolidation", title="Consolidation",
        explanation="Random fleets of three kinds of GPUs and 25 models, an engine on most GPUs; a tenth of them "
        "are fixed, a third may not be on the smallest GPU, a third are replicas that must not share one. The bound is "
        "that of the linear programme over all ways to fill a GPU: no plan, known or not, costs less, and of a small "
        "fleet no plan reaches it. Beside it first fit by size, the usual heuristic.",
        figures=(),
        tables=(
            Table(
                head=("GPUs", "over the bound, mean", "worst", "first fit over the bound", "seconds, worst", "saved",
                      "constraints broken"),
                rows=rows,
            ),
        ),
    )  # fmt: skip
