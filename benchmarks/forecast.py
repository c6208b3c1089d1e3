"""How good are the forecasts of demand? Back-test on a trace, against simple forecasts and AutoETS.

    .venv/bin/python benchmarks/forecast.py --trace FILE.csv[.gz] --bin 60 --horizon 5 30 60

A program of its own, because traces are brought along; `python -m benchmarks forecast` runs it on the known ones.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from benchmarks import autoets, backtest
from benchmarks.figures import Result, Table
from benchmarks.traces import Trace, TraceError, read_trace
from control_plane.analysis.forecast.thin import best_accuracy, requests_needed

TRACES_VARIABLE = "OPTIINFRA_BENCH_TRACES"
COMMITTED = Path(__file__).parents[1] / "tests" / "data" / "traces"
HORIZONS_MINUTES = (5.0, 30.0, 60.0)
ETS_ORIGINS = 1000
HEAD = ("series", "min", "bins", "1-WAPE", "bias", "cover 95", "skill: last", "EWMA", "AutoETS", "gap", "ceiling")
DEFINITIONS = """\
1-WAPE    1 - sum |forecast - what came| / sum of what came, over all bins that were forecast ("accuracy")
bias      (sum of forecasts - sum of what came) / sum of what came
cover 95  share of bins that held no more than the 95 % upper bound; 93 to 97 % is right
skill     1 - our error / its error, on the same bins; above 0 we are nearer. Beside it its own 1-WAPE
gap       our 1-WAPE less that of the best of the three, each on the same bins
ceiling   the best 1-WAPE that anyone can have if requests arrive at random (Poisson) around what was forecast
last      the last known value repeated; EWMA: 0.3 of the newest bin; AutoETS: statsforecast, ZZN, on the {window} bins
          before each of {origins} evenly spread bins
Nothing is looked at ahead of time: each forecast is made from earlier bins alone and judged later. Forecasts from the
first {warm} bins (or a quarter of a shorter trace) are not counted, for none of the four."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One series at one horizon."""

    series: str
    minutes: float
    ceiling: float | None  # the best 1-WAPE there can be; of requests only
    score: backtest.Score

    @property
    def gap(self) -> float | None:
        """This will give our lead over the best simple forecast."""
        compared = (self.score.last, self.score.ewma, self.score.ets)
        leads = [c.lead for c in compared if c is not None and c.lead is not None]
        return min(leads) if leads else None


def measure_trace(trace: Trace, *, minutes: Sequence[float], ets_origins: int) -> list[Row]:
    """This will back-test all series of a trace. Horizons are rounded up to whole bins."""
    horizons = bins_ahead(minutes, trace.bin_seconds)
    running = {}
    for name, values in trace.series.items():
        origins = backtest.origins_for_ets(values, horizons=horizons, most=ets_origins)
        if origins:
            running[name] = autoets.Running(values, origins=origins, horizons=horizons)
    told = backtest.tell(list(trace.series.values()), horizons=horizons, bin_seconds=trace.bin_seconds)
    rows = []
    for (name, values), one in zip(trace.series.items(), told, strict=True):
        ets = _awaited(name, running.get(name))
        for place, score in enumerate(backtest.score(values, one, ets)):
            ceiling = (
                best_accuracy(said for said in one.point[:, place] if said == said)
                if name == "requests" and score.origins
                else None
            )
            minutes_ahead = score.horizon * trace.bin_seconds / 60
            rows.append(Row(series=name, minutes=minutes_ahead, ceiling=ceiling, score=score))
    return rows


def _awaited(name: str, running: autoets.Running | None) -> autoets.EtsForecasts | None:
    try:
        return running.result() if running else None
    except autoets.EtsError as error:
        print(f"forecast: {name}: AutoETS is missing: {error}", file=sys.stderr)
        return None


def bins_ahead(minutes: Sequence[float], bin_seconds: float) -> list[int]:
    """This will turn minutes into whole bins, rounded up, without repetition."""
    return sorted({max(1, -int(-m * 60 // bin_seconds)) for m in minutes})


def table(rows: Sequence[Row]) -> str:
    """This will write the rows as one table."""
    lines = [HEAD, *map(_cells, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEAD))]
    return "\n".join(
        "  ".join(
            c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _cells(row: Row) -> tuple[str, ...]:
    s = row.score
    return (
        row.series, f"{row.minutes:g}", str(s.origins), _number(s.accuracy), _number(s.bias, signed=True),
        _number(s.coverage), _against(s.last), _against(s.ewma), _against(s.ets), _number(row.gap, signed=True),
        _number(row.ceiling),
    )  # fmt: skip


def _number(value: float | None, *, signed: bool = False) -> str:
    return "—" if value is None else f"{value:+.3f}" if signed else f"{value:.3f}"


def _against(compared: backtest.Comparison | None) -> str:
    if compared is None or compared.origins == 0:
        return "—"
    return f"{_number(compared.skill, signed=True)} ({_number(compared.accuracy)})"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benchmarks/forecast.py",
        description="Back-tests the forecaster on a trace, without look-ahead, against simple forecasts and AutoETS.",
    )
    parser.add_argument(
        "--trace", type=Path, required=True, metavar="FILE.csv[.gz]",
        help="t_s,requests[,input_tokens,output_tokens] with totals per row, or one row per request without `requests`",
    )  # fmt: skip
    parser.add_argument(
        "--bin", type=float, default=60, metavar="SECONDS", help="width of a bin (default: %(default)g)"
    )
    parser.add_argument(
        "--horizon", type=float, nargs="+", default=HORIZONS_MINUTES, metavar="MINUTES",
        help="how far ahead, in minutes, rounded up to whole bins; what is forecast is the content of the one bin that "
        "ends so far ahead (default: 5 30 60)",
    )  # fmt: skip
    parser.add_argument(
        "--empty", choices=("auto", "zero", "unknown"), default="auto",
        help="what a bin without a row means; auto: unknown if the file writes its zeros (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--ets-origins", type=int, default=ETS_ORIGINS, metavar="N",
        help="bins at which AutoETS is fitted, for each series; 0 leaves it out (default: %(default)s)",
    )  # fmt: skip
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """This will back-test one trace and print the table."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if not all(0 < minutes <= MOST_MINUTES for minutes in arguments.horizon):
        parser.error(f"--horizon must be above 0 and at most {MOST_MINUTES:g} minutes")
    try:
        trace = read_trace(arguments.trace, bin_seconds=arguments.bin, empty=arguments.empty)
    except TraceError as error:
        print(f"forecast: {error}", file=sys.stderr)
        return 2
    why_not = autoets.available(set_up=True) if arguments.ets_origins > 0 else "left out by --ets-origins 0"
    rows = measure_trace(trace, minutes=arguments.horizon, ets_origins=0 if why_not else arguments.ets_origins)
    print(f"{trace.name}: {len(trace.requests)} bins of {trace.bin_seconds:g} s\n")
    print(table(rows))
    for note in (*trace.notes, *([f"AutoETS is missing: {why_not}"] if why_not else ()), *_remarks(trace, rows)):
        print(f"note: {note}")
    print()
    print(DEFINITIONS.format(window=autoets.WINDOW, origins=arguments.ets_origins, warm=backtest.WARM_UP))
    return 0


MOST_MINUTES = 7 * 24 * 60.0
WANTED_ACCURACY = 0.85  # what is commonly promised of forecasts of demand


def _remarks(trace: Trace, rows: Sequence[Row]) -> list[str]:
    notes = []
    for row in rows:
        if np.isnan(trace.series[row.series]).all():
            notes.append(f"{row.series}, {row.minutes:g} minutes: the trace says nothing about them")
        elif row.score.origins == 0:
            notes.append(f"{row.series}, {row.minutes:g} minutes: the trace is too short for any forecast to be judged")
        elif row.score.accuracy is None:
            notes.append(f"{row.series}, {row.minutes:g} minutes: nothing came, so there is no 1-WAPE")
        elif row.ceiling is not None and row.ceiling < WANTED_ACCURACY:
            notes.append(
                f"{row.series}, {row.minutes:g} minutes: too thin for {WANTED_ACCURACY:g}: with Poisson arrivals "
                f"no one can exceed {row.ceiling:.3f}; it takes {requests_needed(WANTED_ACCURACY):.0f} requests a bin: "
                "take wider bins (--bin)"
            )
    return notes


def measure(*, quick: bool) -> Result:
    """This will back-test the known traces: those in the folder that OPTIINFRA_BENCH_TRACES names, else the extracts
    that are committed.
    """
    folder = Path(os.environ.get(TRACES_VARIABLE) or COMMITTED)
    files = sorted(folder.glob("*.csv*"))
    why_not = autoets.available(set_up=not quick)
    notes = [
        f"Traces: {'the extracts in tests/data/traces' if folder == COMMITTED else TRACES_VARIABLE}"
        f"{'' if folder != COMMITTED else f'; whole ones are measured when {TRACES_VARIABLE} names their folder'}.",
        *([f"AutoETS is missing: {why_not}."] if why_not else []),
    ]  # fmt: skip
    lines = []
    for file in files:
        trace = read_trace(file, bin_seconds=60)
        name = f"{file.name.split('.')[0]}, {trace.bin_seconds:g} s"
        rows = measure_trace(trace, minutes=HORIZONS_MINUTES, ets_origins=0 if why_not else (50 if quick else 400))
        lines += [(f"{name}: {line[0]}", *line[1:]) for line in map(_cells, rows) if line[3] != "—"]
        notes += [f"{file.name}: {note}." for note in (*trace.notes, *_remarks(trace, rows))]
    return Result(
        name="forecast",
        title="Forecasts of demand",
        explanation="1-WAPE (1 - sum of |errors| / sum of what came) of back-tested forecasts of requests and tokens, "
        "each made from earlier bins alone; bins of a minute, or of the trace's rows where those are wider. The floors "
        "are repeating the last value, EWMA and AutoETS, each on the same bins: skill is 1 - our error / theirs, gap "
        "our 1-WAPE less the best of theirs. docs/forecast.md says how to read it.",
        figures=[],
        tables=[Table(head=HEAD, rows=lines)],
        notes=notes,
    )


if __name__ == "__main__":
    sys.exit(main())
