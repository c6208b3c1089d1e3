"""Is what a GPU does called what it is? Recordings of NVML under known loads, judged without their labels.

    .venv/bin/python benchmarks/phases.py FILE.jsonl[.gz] ...

A row has `t` (seconds), NVML's and GPM's values in their own units (tests/data/nvml/README.md), perhaps `gpu`, and
perhaps `phase`, the label: it is compared with, and nothing else.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.figures import Result, Table
from benchmarks.nvml_recording import FOLDER, looks_of, rows
from control_plane.analysis.utilization.judging import ACTIVITIES, judge
from control_plane.analysis.utilization.looks import spans, usual_interval_us
from control_plane.model.activity import Activity

# What ran in each phase of the committed recording.
TRUTH: Mapping[str, Activity] = {
    "idle": Activity.IDLE,
    "bf16_matmul": Activity.COMPUTE_BOUND,
    "mem_copy": Activity.MEMORY_BOUND,
    "small_kernels_host_bound": Activity.HOST_STARVED,
    "pcie_h2d": Activity.COPYING,
    "decode_like_gemv": Activity.MEMORY_BOUND,
    "half_duty": Activity.HALF_IDLE,
    "idle_after": Activity.IDLE,
}
# By seconds since the beginning, as its README says; both GPUs.
STUCK_TRUTH = ((8.2, Activity.IDLE), (17.2, Activity.COMMUNICATING), (89.5, Activity.STUCK), (1e9, Activity.IDLE))
HEAD = ("recording, load", "share of time", "called that", "off by, points", "of which power-capped")


def measure_file(path: Path) -> list[tuple[str, ...]]:
    """This will judge a recording and compare, load by load. Rows of HEAD."""
    found = rows(path)
    looks = looks_of(found)
    judged = judge(looks)
    seconds = spans(looks, interval_us=usual_interval_us(looks)).seconds
    shares = seconds / seconds.sum()
    began = min(row["t"] for row in found)
    truth = [_truth(path, row, row["t"] - began) for row in found]
    is_true, called = defaultdict(float), defaultdict(float)
    capped: dict[Activity, float] = defaultdict(float)
    for true, code, share, at_cap in zip(truth, judged.activity, shares, judged.power_capped, strict=True):
        if true is not None:
            is_true[true] += share
        called[ACTIVITIES[code]] += share
        capped[ACTIVITIES[code]] += share * bool(at_cap)
    name = path.name.split(".")[0]
    return [
        (
            f"{name}: {activity}",
            f"{is_true[activity]:.3f}" if any(truth) else "—",
            f"{called[activity]:.3f}",
            f"{100 * (called[activity] - is_true[activity]):+.1f}" if any(truth) else "—",
            f"{capped[activity] / called[activity]:.2f}" if called[activity] else "—",
        )
        for activity in Activity
        if is_true[activity] or called[activity]
    ]


def _truth(path: Path, row: Mapping[str, object], at: float) -> Activity | None:
    label = row.get("phase")
    if label is not None:
        return TRUTH.get(str(label))
    return next(a for end, a in STUCK_TRUTH if at < end) if "allreduce-then-stuck" in path.name else None


def measure(*, quick: bool) -> Result:
    """This will judge the committed recordings."""
    del quick
    lines = [line for path in sorted(FOLDER.glob("h200-*.jsonl.gz")) for line in measure_file(path)]
    worst = max(abs(float(line[3])) for line in lines)
    return Result(
        name="phases",
        title="What a GPU does, called what it is",
        explanation="Recordings of H200s under known loads (tests/data/nvml), judged look by look without their "
        "labels. The floor is the truth: the share of the recorded time in which each load ran. `nvidia-smi`'s "
        "utilisation reads 100 % for all of compute_bound, memory_bound, communicating, copying and stuck.",
        figures=[],
        tables=[Table(head=HEAD, rows=lines)],
        notes=[f"The largest difference is {worst:.1f} points."],
    )


def main(argv: Sequence[str] | None = None) -> int:
    """This will judge files and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    lines = []
    try:
        for path in parser.parse_args(argv).files:
            lines += measure_file(path)
    except ValueError as error:
        print(f"phases: {error}", file=sys.stderr)
        return 2
    widths = [max(len(line[i]) for line in (HEAD, *lines)) for i in range(len(HEAD))]
    for line in (HEAD, *lines):
        print(
            "  ".join(
                cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))
            )
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
