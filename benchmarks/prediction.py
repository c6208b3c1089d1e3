"""How well the model of performance predicts servers that it was not fitted on, beside what could be reached.

`benchmarks/prediction.py --rows FILE.csv[.gz]` cross-validates; with `--fit` it also writes the constants that ship.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.figures import Result, Table
from control_plane.catalogue.architectures import architectures, known
from control_plane.catalogue.machines import machine
from control_plane.decisions.performance.constants import NAMES, PRIORS, believed, spreads
from control_plane.decisions.performance.fitting import Fit, fit
from control_plane.decisions.performance.intervals import NINE_IN_TEN, Knowledge, spread_of
from control_plane.decisions.performance.rows import Case, blocks, case_of, log_tpots
from control_plane.decisions.performance.similar import like_its_name
from control_plane.model.architecture import Architecture
from control_plane.predict import read_rows

Vector = NDArray[np.float64]
ROWS_VARIABLE = "OPTIINFRA_BENCH_THROUGHPUT"
CONSTANTS = Path(__file__).parents[1] / "control_plane" / "catalogue" / "engine_constants.json"
DIFFERENT = 0.1  # pairs that were measured closer than this are no pairs
ORDER_LIMIT = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Rows that could be understood, with what was measured."""

    cases: Sequence[Case]
    tpot: Vector  # log seconds
    skipped: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Predictions of rows beside what was measured."""

    name: str
    error: Vector  # log of predicted / measured
    spread: Vector
    cases: Sequence[Case]
    tpot: Vector


def find_model(name: str) -> Architecture | None:
    """This will find or guess a model by its name."""
    return known(name) or like_its_name(name, architectures().values())


def read(path: Path) -> Measured:
    """This will read a table of measurements."""
    cases, tpot, skipped = [], [], []
    for number, row in enumerate(read_rows(path), 2):
        try:
            seconds = float(row["measured_tpot_ms"]) / 1000
            cases.append(case_of(row, find_model=find_model, find_machine=machine))
            tpot.append(np.log(seconds))
        except ValueError as error:
            skipped.append(f"line {number}: {error}")
    return Measured(cases=cases, tpot=np.array(tpot), skipped=skipped)


def fitted(cases: Sequence[Case], tpot: Vector) -> Fit:
    """This will fit the constants to these rows."""
    groups = blocks(cases)
    return fit(lambda constants: log_tpots(groups, constants, len(cases)), tpot, [case.sweep for case in cases])


def judged(name: str, knowledge: Knowledge, cases: Sequence[Case], tpot: Vector) -> Judged:
    """This will predict rows with given constants."""
    groups = blocks(cases)
    error = log_tpots(groups, knowledge.constants, len(cases)) - tpot
    spread = spread_of(groups, knowledge, len(cases))
    return Judged(name=name, error=error, spread=spread, cases=cases, tpot=tpot)


def left_out(measured: Measured, of: Callable[[Case], str], name: str) -> tuple[Judged, list[Judged]]:
    """This will predict each group of rows with constants that were fitted on all the others."""
    groups = sorted({of(case) for case in measured.cases})
    error, spread = np.empty(len(measured.cases)), np.empty(len(measured.cases))
    parts = []
    for group in groups:
        inside = np.array([of(case) == group for case in measured.cases])
        rest = [case for case, out in zip(measured.cases, inside, strict=True) if not out]
        if not rest:
            continue
        found = fitted(rest, measured.tpot[~inside])
        knowledge = Knowledge(constants=found.constants, covariance=found.covariance)
        part = judged(
            f"  {group}",
            knowledge,
            [c for c, i in zip(measured.cases, inside, strict=True) if i],
            measured.tpot[inside],
        )
        error[inside], spread[inside] = part.error, part.spread
        parts.append(part)
    return Judged(name=name, error=error, spread=spread, cases=measured.cases, tpot=measured.tpot), parts


def in_order(found: Judged) -> tuple[float | None, int]:
    """This will give the share of pairs at the same load whose order is predicted, and how many there are.

    A pair: two configurations with equal prompts, answers and concurrency whose times differ by a tenth or more.
    """
    loads: dict[tuple[float, float, float], list[int]] = defaultdict(list)
    for place, case in enumerate(found.cases):
        loads[case.input_tokens, case.output_tokens, case.concurrency].append(place)
    right = pairs = 0
    for places in loads.values():
        real, told = found.tpot[places], (found.tpot + found.error)[places]
        apart, said = real[:, None] - real[None, :], told[:, None] - told[None, :]
        upper = np.triu(np.abs(apart) >= np.log1p(DIFFERENT), 1)
        pairs += int(upper.sum())
        right += int((upper & (apart * said > 0)).sum())
    return (right / pairs if pairs else None), pairs


def floor_of(measured: Measured) -> tuple[float | None, int]:
    """This will say how well neighbours in a sweep tell a row, a floor for models that know no sweep.

    It is the error of interpolating between the next lower and the next higher concurrency, in the logarithms.
    """
    curves: dict[tuple[object, ...], dict[float, float]] = defaultdict(dict)
    for case, tpot in zip(measured.cases, measured.tpot, strict=True):
        key = (
            case.sweep, case.tensor_parallel, case.pipeline_parallel, case.expert_parallel, case.data_parallel,
            case.input_tokens, case.output_tokens,
        )  # fmt: skip
        curves[key][np.log(case.concurrency)] = float(tpot)
    gaps = []
    for curve in curves.values():
        loads = sorted(curve)
        for low, here, high in zip(loads, loads[1:], loads[2:], strict=False):
            between = np.interp(here, [low, high], [curve[low], curve[high]])
            gaps.append(abs(float(between) - curve[here]))
    return (float(np.median(gaps)) if gaps else None), len(gaps)


HEAD = (
    "rows that were not fitted on",
    "n",
    "median error",
    "mean",
    "bias",
    "90th",
    "within 90 % interval",
    "width",
    "order",
)


def line(found: Judged) -> tuple[str, ...]:
    """This will write one row of the table."""
    relative = np.abs(np.expm1(found.error))
    inside = np.abs(found.error) <= NINE_IN_TEN * found.spread
    order, pairs = in_order(found)
    return (
        found.name, str(len(found.error)), f"{np.median(relative):.1%}", f"{np.mean(relative):.1%}",
        f"{np.median(found.error):+.3f}", f"{np.quantile(relative, 0.9):.1%}", f"{np.mean(inside):.1%}",
        f"÷× {np.exp(NINE_IN_TEN * np.median(found.spread)):.2f}", "—" if order is None else f"{order:.1%} of {pairs}",
    )  # fmt: skip


def table(path: Path) -> tuple[list[tuple[str, ...]], list[str], Fit]:
    """This will cross-validate one table."""
    measured = read(path)
    whole = fitted(measured.cases, measured.tpot)
    believed_only = Knowledge(constants=believed(), covariance=np.diag(spreads() ** 2))
    every = Knowledge(constants=whole.constants, covariance=whole.covariance)
    lines = [
        line(judged("beliefs alone, nothing fitted", believed_only, measured.cases, measured.tpot)),
        line(judged("in sample: fitted on all", every, measured.cases, measured.tpot)),
    ]
    for name, of in (("leave one model out", lambda c: c.model.name), ("leave one GPU out", lambda c: c.machine.name)):
        all_of_it, parts = left_out(measured, of, name)
        lines += [line(all_of_it), *map(line, parts)]
    apart, pairs = floor_of(measured)
    notes = [f"{path.name}: {len(measured.cases)} rows, {len(measured.skipped)} left out {measured.skipped[:3]}"]
    if apart is not None:
        notes.append(
            f"Floor: interpolated between its two neighbours of the same sweep, a row is off by a median of "
            f"{np.expm1(apart):.1%} ({pairs} rows)."
        )
    within = np.array([whole.offsets[case.sweep] for case in measured.cases])
    inner = log_tpots(blocks(measured.cases), whole.constants, len(measured.cases)) + within - measured.tpot
    notes.append(
        f"Within a sweep, its own offset known (as after calibration): {np.median(np.abs(np.expm1(inner))):.1%}."
    )
    return lines, notes, whole


def write_constants(whole: Fit, source: str) -> None:
    """This will write the constants that ship."""
    document = {
        "source": source,
        "names": list(NAMES),
        "values": [float(f"{np.exp(value):.5g}") for value in whole.constants.logs],
        "believed": [prior.value for prior in PRIORS],
        "covariance": [[float(f"{v:.4g}") for v in row] for row in whole.covariance],
    }
    text = json.dumps(document, indent=1)
    CONSTANTS.write_text(text + "\n", encoding="utf-8")


def measure(*, quick: bool) -> Result:
    """This will cross-validate the table that OPTIINFRA_BENCH_THROUGHPUT names."""
    named = os.environ.get(ROWS_VARIABLE)
    explanation = (
        "Time per output token of servers whose model (GPU) was left out of the fit, predicted from the model's "
        "config, the GPU's data sheet and the configuration. The floor is how well a row is told by its neighbours in "
        "the same sweep. docs/performance.md says how to read it."
    )
    rows, notes = [], [f"Not measured: {ROWS_VARIABLE} names no table."]
    if named:
        rows, notes, _ = table(Path(named))
    return Result(
        name="prediction", title="Prediction of performance", explanation=explanation, figures=[], notes=notes,
        tables=[Table(head=HEAD, rows=rows)] if rows else [],
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """This will cross-validate a table of measurements and print what came of it."""
    parser = argparse.ArgumentParser(prog="benchmarks/prediction.py", description=__doc__)
    parser.add_argument("--rows", type=Path, required=True, metavar="FILE.csv[.gz]")
    parser.add_argument("--fit", metavar="SOURCE", help="write the constants that ship, naming where the rows are from")
    arguments = parser.parse_args(argv)
    lines, notes, whole = table(arguments.rows)
    widths = [max(len(row[i]) for row in (HEAD, *lines)) for i in range(len(HEAD))]
    for row in (HEAD, *lines):
        print("  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))))
    for note in notes:
        print(f"note: {note}")
    for name, value, prior, spread in zip(NAMES, np.exp(whole.constants.logs), PRIORS, spreads(), strict=True):
        print(
            f"  {name:24s} {value:.4g} (believed {prior.value:g}, moved "
            f"{np.log(value / prior.value) / spread:+.1f} spreads)"
        )
    if arguments.fit:
        write_constants(whole, arguments.fit)
    return 0


if __name__ == "__main__":
    sys.exit(main())
