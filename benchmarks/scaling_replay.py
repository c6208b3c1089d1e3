"""Scaling replayed in virtual time: the policy that runs, beside the usual ones and the clairvoyant.

`benchmarks/scaling_replay.py --trace FILE --capacity R --cold-start S`: R requests a minute that one replica serves (or
R/s), S seconds from the order of a replica to its first request.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.figures import Result, Table
from benchmarks.traces import Series, TraceError, read_trace
from control_plane.analysis.forecast.forecaster import Forecaster
from control_plane.decisions.scaling.predictive import PredictiveScaler
from control_plane.model.scaling import ScaleTo, ScalingFacts, ScalingLimits

LEVEL = 0.95
TRACES_VARIABLE = "OPTIINFRA_BENCH_TRACES"
COMMITTED = Path(__file__).parents[1] / "tests" / "data" / "traces"

# What a policy sees after a bin (its demand, None when unknown; replicas ready and starting; requests that wait), and
# how many replicas it wants from then on.
Policy = Callable[[float | None, int, int, float], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """What came of one policy."""

    name: str
    replica_bins: float  # paid for, those that start included
    over: float  # requests that found no capacity in their bin
    bins_over: int
    changes: int


def play(name: str, demand: Series, policy: Policy, *, capacity: float, boot: int, first: int) -> Played:
    """This will run one policy over a trace. `boot`: whole bins after the next in which an ordered replica starts.

    A replica is paid for from its order to its release; what is released is gone at once, starting ones first. A bin
    that nobody counted is unknown to the policy, and cannot be over.
    """
    ready, starting = first, [0] * boot  # starting[i]: ready after i + 1 more bins
    paid = over = waiting = 0.0
    bins_over = changes = 0
    for came in demand:
        known = None if math.isnan(came) else float(came)
        paid += ready + sum(starting)
        if known is not None:
            lacking = max(known - ready * capacity, 0.0)
            over, bins_over = over + lacking, bins_over + (lacking > 0)
            waiting = max(waiting + known - ready * capacity, 0.0)
        wanted = policy(known, ready, sum(starting), waiting)
        supply = ready + sum(starting)
        if starting:
            ready += starting[0]
            starting = [*starting[1:], 0]
        if wanted > supply:
            changes += 1
            if starting:
                starting[-1] += wanted - supply
            else:
                ready += wanted - supply
        elif wanted < supply:
            changes += 1
            ready, starting = _released(ready, starting, supply - wanted)
    return Played(name=name, replica_bins=paid, over=over, bins_over=bins_over, changes=changes)


def _released(ready: int, starting: list[int], number: int) -> tuple[int, list[int]]:
    left = list(starting)
    for place in range(len(left) - 1, -1, -1):
        dropped = min(left[place], number)
        left[place] -= dropped
        number -= dropped
    return ready - number, left


def ours(limits: ScalingLimits) -> Policy:
    """This will wire the forecaster and the policy as the product does."""
    horizons = PredictiveScaler.horizons(limits)
    forecaster = Forecaster(horizons=horizons, bin_seconds=limits.bin_seconds, levels=(LEVEL,))
    scaler = PredictiveScaler(limits)

    def policy(demand: float | None, ready: int, starting: int, waiting: float) -> int:
        forecaster.observe([math.nan if demand is None else demand])
        facts = ScalingFacts(demand=demand, ready=ready, starting=starting, forecasts=forecaster.forecasts())
        decision = scaler.decide(facts)
        return decision.replicas if isinstance(decision, ScaleTo) else ready + starting

    return policy


def static_peak(demand: Series, capacity: float) -> Policy:
    """This will keep what the highest bin needs, known beforehand."""
    peak = max(math.ceil(np.nanmax(demand) / capacity), 1)
    return lambda known, ready, starting, waiting: peak


def hpa(capacity: float, bin_seconds: float) -> Policy:
    """This will scale as Kubernetes' autoscaler does: 70 % of capacity, 10 % tolerance, 300 s before scaling down."""
    wanted_before: list[int] = []
    window = max(math.ceil(300 / bin_seconds), 1)

    def policy(demand: float | None, ready: int, starting: int, waiting: float) -> int:
        supply = ready + starting
        if demand is None or supply == 0:
            return supply
        ratio = demand / (max(ready, 1) * capacity) / 0.7
        wanted = supply if abs(ratio - 1) <= 0.1 else math.ceil(max(ready, 1) * ratio)
        wanted_before.append(max(wanted, 1))
        return max(wanted_before[-window:])

    return policy


def queue_length(capacity: float, bin_seconds: float) -> Policy:
    """This will add what the queue needs, and take one away after 360 s without one (KEDA on waiting requests)."""
    calm = [0]

    def policy(demand: float | None, ready: int, starting: int, waiting: float) -> int:
        supply = ready + starting
        if demand is None:
            return supply
        if waiting > 5:
            calm[0] = 0
            return max(supply, ready + math.ceil(waiting / capacity))
        calm[0] += 1
        if calm[0] * bin_seconds >= 360 and supply > 1 and demand < (supply - 1) * capacity:
            return supply - 1
        return supply

    return policy


def last_value(capacity: float) -> Policy:
    """This will keep a fifth more than the last bin needed."""

    def policy(demand: float | None, ready: int, starting: int, waiting: float) -> int:
        return ready + starting if demand is None else max(math.ceil(1.2 * demand / capacity), 1)

    return policy


def least_possible(demand: Series, *, capacity: float, boot: int) -> Played:
    """This will give the cheapest plan that never lacks, for one who knows the future.

    Exact: the n-th replica is needed in the bins that need n; between two of them it is kept where that is cheaper than
    to start it again, which takes `boot` + 1 paid bins.
    """
    known = np.where(np.isnan(demand), 0.0, demand)
    need = np.maximum(np.ceil(known / capacity - 1e-9), 1).astype(np.int64)
    kept = np.zeros(len(need), dtype=np.int64)
    for number in range(1, int(need.max()) + 1):
        on = need >= number
        at = np.flatnonzero(on)
        for start, gap in zip(at[:-1], np.diff(at) - 1, strict=True):
            if 0 < gap <= boot:
                on[start : start + gap + 1] = True
        kept += on
    starts = np.maximum(np.diff(np.concatenate([kept[:1], kept])), 0).sum()
    changes = int(np.count_nonzero(np.diff(kept)))
    return Played(
        name="least possible", replica_bins=float(kept.sum() + starts * boot), over=0.0, bins_over=0, changes=changes
    )


def oracle(demand: Series, limits: ScalingLimits, *, boot: int) -> Policy:
    """This will know the future and obey the same rules: ordered a cold start ahead, held as long before a release."""
    known = np.where(np.isnan(demand), 0.0, demand)
    need = np.maximum(np.ceil(known / limits.capacity - 1e-9), 1).astype(np.int64)
    held = max(math.ceil(limits.hold_seconds / limits.bin_seconds), 1)
    at = [-1]
    wanted: list[int] = []

    def policy(demand: float | None, ready: int, starting: int, waiting: float) -> int:
        at[0] += 1
        ahead = need[at[0] + 1 : at[0] + boot + 2]
        wanted.append(int(ahead.max()) if len(ahead) else 1)
        return max(wanted[-held:])

    return policy


def compare(demand: Series, limits: ScalingLimits) -> list[Played]:
    """This will play all policies over one trace."""
    boot = max(math.ceil(limits.cold_start_seconds / limits.bin_seconds - 1e-9), 0)
    seen = demand[~np.isnan(demand)]
    first = max(math.ceil(seen[0] / limits.capacity), 1) if len(seen) else 1
    policies: dict[str, Policy] = {
        "OptiInfra": ours(limits),
        "static peak": static_peak(demand, limits.capacity),
        "HPA, 70 %": hpa(limits.capacity, limits.bin_seconds),
        "queue length": queue_length(limits.capacity, limits.bin_seconds),
        "last value + 20 %": last_value(limits.capacity),
        "oracle": oracle(demand, limits, boot=boot),
    }
    played = [
        play(name, demand, policy, capacity=limits.capacity, boot=boot, first=first)
        for name, policy in policies.items()
    ]
    return [*played, least_possible(demand, capacity=limits.capacity, boot=boot)]


HEAD = ("policy", "GPU-hours", "× oracle", "× least", "requests over", "minutes over", "changes")


def lines(demand: Series, limits: ScalingLimits, gpus: int) -> list[tuple[str, ...]]:
    """This will write the table of one trace."""
    played = compare(demand, limits)
    by_name = {one.name: one for one in played}
    total = float(np.nansum(demand))
    return [
        (
            one.name,
            f"{one.replica_bins * limits.bin_seconds / 3600 * gpus:,.1f}",
            f"{one.replica_bins / by_name['oracle'].replica_bins:.3f}",
            f"{one.replica_bins / by_name['least possible'].replica_bins:.3f}",
            f"{one.over / total:.4%}" if total else "—",
            f"{one.bins_over * limits.bin_seconds / 60:g}",
            str(one.changes),
        )
        for one in played
    ]


def limits_of(capacity: str, cold_start: float, bin_seconds: float) -> ScalingLimits:
    """This will read a capacity: requests a minute, or a second with `/s`. Raises ValueError."""
    per_second = capacity.endswith("/s")
    value = float(capacity.removesuffix("/s").removesuffix("/min")) * (1.0 if per_second else 1 / 60)
    if not (value > 0 and math.isfinite(value) and cold_start >= 0 and math.isfinite(cold_start)):
        raise ValueError("capacity must be above 0, a cold start not below")
    return ScalingLimits(capacity=value * bin_seconds, bin_seconds=bin_seconds, cold_start_seconds=cold_start)


def measure(*, quick: bool) -> Result:
    """This will replay the known traces: those in the folder that OPTIINFRA_BENCH_TRACES names, else the extracts."""
    folder = Path(os.environ.get(TRACES_VARIABLE) or COMMITTED)
    rows, notes = [], [f"Traces: {'the extracts in tests/data/traces' if folder == COMMITTED else TRACES_VARIABLE}."]
    for file in sorted(folder.glob("*.csv*")):
        trace = read_trace(file, bin_seconds=60)
        peak = float(np.nanmax(trace.requests)) / trace.bin_seconds * 60
        for cold_start in (60.0,) if quick else (300.0,):
            limits = limits_of(f"{peak / 50:.3g}", cold_start, trace.bin_seconds)
            name = f"{file.name.split('.')[0]}, {cold_start / 60:g} min"
            rows += [(f"{name}: {line[0]}", *line[1:]) for line in lines(trace.requests, limits, 1)]
    return Result(
        name="scaling_replay", title="Scaling replayed", figures=[], notes=notes, tables=[Table(head=HEAD, rows=rows)],
        explanation="The scaling policy that runs, in virtual time, beside usual ones. Fifty replicas serve a trace's "
        "peak; a replica is paid for from its order on. The floors: the oracle knows the future and obeys the same "
        "rules (cold start, five minutes before a release); the least possible is the cheapest plan there is, "
        "without rules.",
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """This will replay one trace and print the table."""
    parser = argparse.ArgumentParser(prog="benchmarks/scaling_replay.py", description=__doc__)
    parser.add_argument("--trace", type=Path, required=True, metavar="FILE.csv[.gz]")
    parser.add_argument("--capacity", required=True, metavar="R", help="requests a minute of one replica (or R/s)")
    parser.add_argument("--cold-start", type=float, required=True, metavar="SECONDS")
    parser.add_argument(
        "--bin", type=float, default=60, metavar="SECONDS", help="width of a bin (default: %(default)g)"
    )
    parser.add_argument("--gpus", type=int, default=1, help="GPUs of one replica (default: %(default)s)")
    arguments = parser.parse_args(argv)
    try:
        trace = read_trace(arguments.trace, bin_seconds=arguments.bin)
        limits = limits_of(arguments.capacity, arguments.cold_start, trace.bin_seconds)
    except (TraceError, ValueError) as error:
        print(f"scaling_replay: {error}", file=sys.stderr)
        return 2
    rows = lines(trace.requests, limits, arguments.gpus)
    widths = [max(len(row[i]) for row in (HEAD, *rows)) for i in range(len(HEAD))]
    print(
        f"{trace.name}: {len(trace.requests)} bins of {trace.bin_seconds:g} s; "
        f"a replica serves {limits.capacity:g} a bin"
    )
    for row in (HEAD, *rows):
        print("  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))))
    for note in trace.notes:
        print(f"note: {note}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
