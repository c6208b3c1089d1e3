"""What would the scaling policy have cost and missed? Drives the real policy over a trace in virtual time.

    .venv/bin/python benchmarks/scaling_replay.py --trace FILE.csv[.gz] --capacity 10 --cold-start 300

A program of its own, because traces are brought along; `python -m benchmarks scaling_replay` runs it on a known one.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from benchmarks.figures import Figure, Result
from benchmarks.forecast import COMMITTED, TRACES_VARIABLE
from benchmarks.replicas import Fleet, needed, oracle
from benchmarks.scaling_policies import LastValue, Predictive, Queue, Scaler, Seen, Static, Utilisation
from benchmarks.traces import Trace, TraceError, read_trace
from control_plane.model.scaling import ScalingRules

FINEST_BIN = 10.0  # seconds; within them a server's queue levels what comes
INTERVAL = 60.0  # seconds between decisions
BUDGET = 0.0005
MOST_REPLICAS = 100_000
DEFINITIONS = """\
GPU-hours     of all replicas from the moment that they are asked for, their cold start included, {gpus} GPU(s) each
x oracle      GPU-hours, in times the oracle's
over capacity share of all requests that arrived, in a bin of {bin:g} s, above what the ready replicas serve in it
minutes over  time in such bins
changes       how often the number of replicas asked for changed
oracle        the least GPU-hours that serve every bin with the same cold start, all of the future being known: the k-th
              replica is kept over a gap, or stopped and started again one cold start before, whichever is shorter
static peak   as many as the busiest bin needs, which nobody knows beforehand
HPA           Kubernetes: ceil(ready x utilisation / 0.7), tolerance 10 %, down after 300 s
queue length  up when more than 5 requests wait per ready replica, by what serves them in an interval; down by one
              after each 360 s without
last + 20 %   ceil(1.2 x the demand of the last interval / capacity), down after 300 s
All begin with what the first bin needs, decide every {interval:g} s from what has come until then, and never have fewer
than {minimum}. Only the predictive policy has at most one change in flight. Its budget over capacity is {budget:.3%}."""

# What `python -m benchmarks scaling_replay` replays: small replicas, and such as serve an 8B model on one GPU.
CAPACITIES = (5 / 3, 10.0)
COLD_START = 300.0
KNOWN_TRACES = ("azure2024_conv_10s.csv.gz", "azure2024_conv_1m.csv.gz", "azure2024_conv_1m_3d.csv.gz")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a replay assumes."""

    capacity: float  # requests/s of one replica
    cold_start_seconds: float
    minimum: int
    maximum: int
    overload_budget: float
    gpus_per_replica: float
    interval_seconds: float  # a whole number of bins


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one policy cost and missed."""

    name: str
    gpu_hours: float
    over_ratio: float
    minutes_over: float
    changes: int


def replay(trace: Trace, setting: Setting) -> list[Outcome]:
    """This will run all policies over a trace; the oracle's outcome is the last."""
    width = trace.bin_seconds
    cold_steps = math.ceil(setting.cold_start_seconds / width - 1e-9)
    known = np.where(np.isnan(trace.requests), 0.0, trace.requests)
    need = np.maximum(needed(_carried(trace.requests), setting.capacity * width), setting.minimum)
    if need.max() > MOST_REPLICAS:
        raise TraceError(f"{need.max()} replicas would be needed; is --capacity in requests per second?")
    rules = ScalingRules(
        minimum=setting.minimum,
        maximum=setting.maximum,
        cold_start_seconds=setting.cold_start_seconds,
        overload_budget=setting.overload_budget,
    )
    scalers: dict[str, Callable[[], Scaler]] = {
        "predictive": lambda: Predictive(
            capacity=setting.capacity, rules=rules, interval_seconds=setting.interval_seconds
        ),
        "static peak": lambda: Static(int(need.max())),
        "HPA, 70 %": lambda: Utilisation(capacity=setting.capacity, minimum=setting.minimum),
        "queue length": lambda: Queue(
            capacity=setting.capacity, interval_seconds=setting.interval_seconds, minimum=setting.minimum
        ),
        "last + 20 %": lambda: LastValue(capacity=setting.capacity, minimum=setting.minimum),
    }
    outcomes = []
    for name, make in scalers.items():
        ready = int(need.max() if name == "static peak" else need[0])
        outcomes.append(_run(name, make(), trace, setting, Fleet(ready=ready, cold_start_steps=cold_steps)))
    paid = oracle(need, cold_start_steps=cold_steps)
    outcomes.append(
        Outcome(
            name="oracle",
            gpu_hours=float(paid.sum()) * width / 3600 * setting.gpus_per_replica,
            over_ratio=float(np.maximum(known - paid * setting.capacity * width, 0).sum() / max(known.sum(), 1e-300)),
            minutes_over=0.0,
            changes=int(np.count_nonzero(np.diff(paid))),
        )
    )
    return outcomes


def _carried(requests: np.ndarray) -> np.ndarray:
    """This will put the last known value where nobody counted, and nothing before the first."""
    index = np.maximum.accumulate(np.where(np.isnan(requests), -1, np.arange(len(requests))))
    return np.where(index >= 0, requests[np.maximum(index, 0)], 0.0)


def _run(name: str, scaler: Scaler, trace: Trace, setting: Setting, fleet: Fleet) -> Outcome:
    width, requests = trace.bin_seconds, trace.requests
    bins = round(setting.interval_seconds / width)
    paid, over, over_bins, waiting, total = 0, 0.0, 0, 0.0, 0.0
    came, missed, counted = 0.0, 0.0, 0
    for step, value in enumerate(requests):
        fleet.begin(step)
        serves = fleet.ready * setting.capacity * width
        paid += fleet.there
        if not np.isnan(value):
            above = max(0.0, value - serves)
            over += above
            over_bins += above > serves * 1e-9
            waiting = max(0.0, waiting + value - serves)
            total += value
            came, missed, counted = came + value, missed + above, counted + 1
        if (step + 1) % bins == 0:
            # Half of an interval's bins speak for the others; fewer do not.
            demand = came / (counted * width) if counted * 2 >= bins else None
            ratio = None if demand is None else (missed / came if came else 0.0)
            seen = Seen(at_seconds=(step + 1) * width, demand=demand, over_capacity_ratio=ratio, waiting=waiting)
            fleet.scale(scaler.wanted(seen, fleet), step=step)
            came, missed, counted = 0.0, 0.0, 0
    return Outcome(
        name=name,
        gpu_hours=paid * width / 3600 * setting.gpus_per_replica,
        over_ratio=over / total if total else 0.0,
        minutes_over=over_bins * width / 60,
        changes=fleet.changes,
    )


def table(outcomes: Sequence[Outcome]) -> str:
    """This will write the outcomes as a table."""
    best = outcomes[-1].gpu_hours
    lines = [("policy", "GPU-hours", "x oracle", "over capacity", "minutes over", "changes")]
    lines += [
        (o.name, f"{o.gpu_hours:,.1f}", f"{o.gpu_hours / best:.3f}" if best else "—", f"{o.over_ratio:.4%}",
         f"{o.minutes_over:,.1f}", f"{o.changes:,}")
        for o in outcomes
    ]  # fmt: skip
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True)))
        for line in lines
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benchmarks/scaling_replay.py",
        description="Replays a trace against the scaling policy in virtual time, beside simple policies and an oracle.",
    )
    parser.add_argument(
        "--trace", type=Path, required=True, metavar="FILE.csv[.gz]",
        help="t_s,requests, or one row per request (see benchmarks/forecast.py)",
    )  # fmt: skip
    parser.add_argument("--capacity", type=float, required=True, metavar="R", help="requests/s that one replica serves")
    parser.add_argument(
        "--cold-start", type=float, required=True, metavar="S", help="seconds from asking for a replica until it serves"
    )
    parser.add_argument(
        "--bin", type=float, default=FINEST_BIN, metavar="SECONDS",
        help="width of the bins whose requests are held against the capacity; the trace's rows if those are wider "
        "(default: %(default)g)",
    )  # fmt: skip
    parser.add_argument("--gpus-per-replica", type=float, default=1, metavar="N", help="(default: %(default)g)")
    parser.add_argument("--minimum", type=int, default=1, metavar="N", help="replicas, always (default: %(default)s)")
    parser.add_argument(
        "--maximum",
        type=int,
        default=MOST_REPLICAS,
        metavar="N",
        help="replicas of the predictive policy (default: none)",
    )
    parser.add_argument(
        "--budget", type=float, default=BUDGET, metavar="SHARE",
        help="share of requests that the predictive policy may let come over capacity (default: %(default)g)",
    )  # fmt: skip
    parser.add_argument("--empty", choices=("auto", "zero", "unknown"), default="auto", help="as in forecast.py")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """This will replay one trace and print the table."""
    parser = _parser()
    a = parser.parse_args(argv)
    if not (a.capacity > 0 and a.cold_start >= 0 and a.gpus_per_replica > 0 and 0 < a.budget < 1):
        parser.error("--capacity and --gpus-per-replica must be above 0, --cold-start not below, --budget from 0 to 1")
    if not 0 <= a.minimum <= a.maximum:
        parser.error("--minimum must not be above --maximum")
    try:
        trace = read_trace(a.trace, bin_seconds=a.bin, empty=a.empty)
        setting = Setting(
            capacity=a.capacity, cold_start_seconds=a.cold_start, minimum=a.minimum, maximum=a.maximum,
            overload_budget=a.budget, gpus_per_replica=a.gpus_per_replica, interval_seconds=interval(trace.bin_seconds),
        )  # fmt: skip
        outcomes = replay(trace, setting)
    except TraceError as error:
        print(f"scaling_replay: {error}", file=sys.stderr)
        return 2
    hours = len(trace.requests) * trace.bin_seconds / 3600
    print(
        f"{trace.name}: {hours:.1f} h in bins of {trace.bin_seconds:g} s, {np.nansum(trace.requests):,.0f} requests; "
        f"{a.capacity:g} requests/s a replica, {a.cold_start:g} s cold start\n"
    )
    print(table(outcomes))
    for note in trace.notes:
        print(f"note: {note}")
    print()
    print(
        DEFINITIONS.format(
            gpus=f"{a.gpus_per_replica:g}", bin=trace.bin_seconds, interval=setting.interval_seconds,
            minimum=a.minimum, budget=a.budget,
        )
    )  # fmt: skip
    return 0


def measure(*, quick: bool) -> Result:
    """This will replay Azure's conversation trace: from the folder that OPTIINFRA_BENCH_TRACES names, else three days
    of it that are committed.
    """
    folder = Path(os.environ.get(TRACES_VARIABLE) or COMMITTED)
    paths = [path for path in (folder / name for name in KNOWN_TRACES) if path.exists()]
    figures: list[Figure] = []
    for path in paths[:1] if quick else paths:
        trace = read_trace(path, bin_seconds=FINEST_BIN)
        for capacity in CAPACITIES:
            setting = Setting(
                capacity=capacity, cold_start_seconds=COLD_START, minimum=1, maximum=MOST_REPLICAS,
                overload_budget=BUDGET, gpus_per_replica=1, interval_seconds=interval(trace.bin_seconds),
            )  # fmt: skip
            figures += _figures(f"{path.name.split('.')[0]}, {capacity:.3g}/s", replay(trace, setting))
    return Result(
        name="scaling_replay",
        title="Scaling in virtual time",
        explanation="GPU-hours of each policy over Azure's conversation trace, with replicas of 1.67 and 10 requests/s "
        "that take five minutes to start, and the share of requests that came above what the ready replicas serve in a "
        "row of the trace. The floor is an oracle: the least GPU-hours that serve every row, all of the future being "
        "known. The policy is the product's, fed by the product's forecaster; definitions: "
        "`benchmarks/scaling_replay.py`.",
        figures=figures,
        notes=() if figures else (f"No trace of {', '.join(KNOWN_TRACES)} is in {folder}.",),
    )


def _figures(name: str, outcomes: Sequence[Outcome]) -> list[Figure]:
    figures = []
    for o in outcomes:
        floor = None if o.name == "oracle" else f"{name}: oracle"
        figures.append(Figure(name=f"{name}: {o.name}", unit="GPU-hours", values=[o.gpu_hours], floor=floor))
        if o.name != "oracle":
            over = [o.over_ratio * 100]
            figures.append(Figure(name=f"{name}: {o.name}, over capacity", unit="% of requests", values=over))
    return figures


def interval(bin_seconds: float) -> float:
    """This will give the time between decisions: a minute, or the whole number of bins that is nearest above."""
    return math.ceil(INTERVAL / bin_seconds - 1e-9) * bin_seconds


if __name__ == "__main__":
    sys.exit(main())
