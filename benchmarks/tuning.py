"""Flags recommended from the recording of a bad run, beside what came of them in a second recording.

Pairs of folders: those that are committed, and `NAME-bad`, `NAME-good` in the folder that OPTIINFRA_BENCH_TUNING names.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import Result, Table
from control_plane.diagnose import load
from control_plane.model.recommendation import Interval, Recommendation
from control_plane.recommend import overall, recommended
from node_agent.__main__ import read_exposition

VARIABLE = "OPTIINFRA_BENCH_TUNING"
COMMITTED = Path(__file__).parents[1] / "tests" / "data" / "engine-recordings"
PAIRS = {"vllm-h200, 8B": ("vllm-h200-max-num-seqs-8", "vllm-h200-max-num-seqs-default")}
RATE, PACE = "requests/s: predicted ratio", "time per token: predicted ratio"
HEAD = ("bad run", "recommended", RATE, "measured", "within", PACE, "measured", "within")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A bad run, and a run of the same load with the flags that were recommended."""

    name: str
    bad: Path
    good: Path


def pairs() -> Iterator[Pair]:
    """This will find the pairs that can be compared."""
    for name, (bad, good) in PAIRS.items():
        yield Pair(name=name, bad=COMMITTED / bad, good=COMMITTED / good)
    folder = os.environ.get(VARIABLE)
    for bad in sorted(Path(folder).glob("*-bad")) if folder else []:
        good = bad.with_name(bad.name.removesuffix("-bad") + "-good")
        if good.is_dir():
            yield Pair(name=bad.name.removesuffix("-bad"), bad=bad, good=good)


def line(pair: Pair) -> tuple[str, ...]:
    """This will compare one pair."""
    _, found = recommended(pair.bad, read_exposition)
    if not isinstance(found, Recommendation):
        return (pair.name, f"no change: {found.because}", "—", "—", "—", "—", "—", "—")
    before, after = (overall(load(path, read_exposition)) for path in (pair.bad, pair.good))
    flags = " ".join(f"{flag.name} {flag.value}" for flag in found.flags)
    rate = after.requests_per_second / before.requests_per_second
    pace = after.inter_token_seconds / before.inter_token_seconds
    return (
        pair.name, f"`{flags}`", *_compared(found.effect.requests_ratio, rate),
        *_compared(found.effect.token_time_ratio, pace),
    )  # fmt: skip


def _compared(told: Interval, came: float) -> tuple[str, str, str]:
    inside = "yes" if told.low <= came <= told.high else "no"
    return f"{told.expected:.2f} ({told.low:.2f} to {told.high:.2f})", f"{came:.2f}", inside


def measure(*, quick: bool) -> Result:
    """This will compare all pairs."""
    return Result(
        name="tuning",
        title="Flags recommended from a bad run",
        figures=[],
        tables=[Table(head=HEAD, rows=[*map(line, pairs())])],
        explanation="`optiinfra recommend` sees the recording of a badly set server alone; then the same load runs "
        "with the flags it named. Ratios are after / before, over the busy part of each recording; the floor is 1.",
        notes=[] if os.environ.get(VARIABLE) else [f"Only the committed pair: {VARIABLE} names no others."],
    )
