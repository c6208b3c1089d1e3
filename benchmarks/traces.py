"""Traces of traffic: CSV files of requests over time, read into bins of equal width.

A trace is counted (`t_s,requests[,input_tokens,output_tokens]`, one row per stretch of time) or has one row per
request (`t_s[,input_tokens,output_tokens]`, or `requests` always 1). The names that published traces use are
understood too. A bin that nobody counted is NaN, which is not the same as no traffic.
"""

from __future__ import annotations

import csv
import gzip
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

Series = NDArray[np.float64]

# Column → other spellings: those of AzurePublicDataset's LLM traces, BurstGPT, Mooncake and ServeGen.
SPELLINGS: Mapping[str, Sequence[str]] = {
    "t_s": ("timestamp", "time"),
    "requests": (),
    "rate_rps": (),
    "input_tokens": ("contexttokens", "request tokens", "input_length"),
    "output_tokens": ("generatedtokens", "response tokens", "output_length"),
    "in_mean": (),
    "out_mean": (),
}
# Per row: tokens = requests × mean.
MEANS = {"in_mean": "input_tokens", "out_mean": "output_tokens"}
MOST_BINS = 2_000_000  # a year of 16-second bins; more means that t_s is in another unit
REGULAR_SHARE = 0.9  # a counted trace whose rows are this often equally far apart has a width of its own

FEWEST_DISTANCES = 2  # one distance is always equal to itself


class TraceError(Exception):
    """A file is not a trace; the text says which line, and what was expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Traffic in equal bins. Bin i is [start + i × bin_seconds, start + (i+1) × bin_seconds)."""

    name: str
    bin_seconds: float
    series: Mapping[str, Series]  # "requests" first; NaN where nobody counted
    notes: Sequence[str] = ()

    @property
    def requests(self) -> Series:
        """This will give the requests per bin."""
        return self.series["requests"]


@dataclass(slots=True)
class _Rows:
    """What the file says, column by column."""

    seconds: list[float] = field(default_factory=list)
    values: dict[str, list[float]] = field(default_factory=dict)


def read_trace(path: Path, *, bin_seconds: float, empty: str = "auto") -> Trace:
    """This will read a trace. `empty` says what a bin without a row means: "zero", "unknown", or "auto".

    TraceError when the file is not one.
    """
    if not bin_seconds > 0:
        raise TraceError(f"bins must be wider than 0 s, not {bin_seconds:g}")
    try:
        with _opened(path) as file:
            rows = _parsed(csv.reader(file))
    except (OSError, EOFError, UnicodeDecodeError, zlib.error, csv.Error) as error:
        raise TraceError(f"{path}: cannot be read: {error}") from error
    except TraceError as error:
        raise TraceError(f"{path}: {error}") from error
    if not rows.seconds:
        raise TraceError(f"{path}: there are no rows under the header")
    return _binned(path.name, rows, bin_seconds=bin_seconds, empty=empty)


def _opened(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _parsed(reader: Iterator[list[str]]) -> _Rows:
    header = next(reader, None)
    if header is None:
        raise TraceError("the file is empty; expected a header such as t_s,requests")
    columns = _columns(header)
    rows = _Rows(values={name: [] for name in columns if name != "t_s"})
    for number, row in enumerate(reader, start=2):
        if not row:
            continue
        if len(row) < len(header):
            raise TraceError(f"line {number}: {len(row)} fields, the header has {len(header)}")
        rows.seconds.append(_moment(row[columns["t_s"]], number))
        for name, index in columns.items():
            if name != "t_s":
                rows.values[name].append(_amount(row[index], name, number))
    return rows


def _columns(header: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for index, cell in enumerate(header):
        word = cell.strip().lower()
        for name, others in SPELLINGS.items():
            if word == name or word in others:
                found.setdefault(name, index)
    if "t_s" not in found:
        raise TraceError(f"line 1: no column t_s among {', '.join(header)[:200]!r}; expected t_s,requests[,…]")
    return found


def _moment(text: str, line: int) -> float:
    try:
        value = float(text)
    except ValueError:
        try:
            stamp = datetime.fromisoformat(text.strip())
        except ValueError:
            raise TraceError(f"line {line}: t_s is {text[:40]!r}; expected seconds or an ISO 8601 time") from None
        value = (stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC)).timestamp()
    if not math.isfinite(value):
        raise TraceError(f"line {line}: t_s is {text[:40]!r}; expected a finite number")
    return value


def _amount(text: str, name: str, line: int) -> float:
    if not text.strip():
        return math.nan  # an empty cell is unknown, not zero
    try:
        value = float(text)
    except ValueError:
        raise TraceError(f"line {line}: {name} is {text[:40]!r}; expected a number") from None
    if not math.isfinite(value) or value < 0:
        raise TraceError(f"line {line}: {name} is {text[:40]!r}; expected a finite number that is not negative")
    return value


def _spacing(seconds: Series) -> tuple[float, float]:
    """This will give the usual distance of neighbouring rows, and the share of rows that keep it."""
    distances = np.diff(np.unique(seconds))
    if len(distances) == 0:
        return 0.0, 0.0
    if len(distances) < FEWEST_DISTANCES:
        return float(np.median(distances)), 0.0
    usual = float(np.median(distances))
    return usual, float(np.mean(np.isclose(distances, usual, rtol=0.01)))


def _binned(name: str, rows: _Rows, *, bin_seconds: float, empty: str) -> Trace:
    seconds = np.asarray(rows.seconds)
    usual, share = _spacing(seconds)
    values = {key: np.asarray(column) for key, column in rows.values.items()}
    counted = "rate_rps" in values or ("requests" in values and bool(np.any(values["requests"] != 1)))
    notes = []
    width = bin_seconds
    regular = counted and share >= REGULAR_SHARE
    if regular and usual > bin_seconds * 1.01:
        width = usual
        notes.append(f"rows are {usual:g} s apart: bins of {usual:g} s instead of {bin_seconds:g} s")
    start = float(np.floor(seconds.min() / width) * width) if regular else float(seconds.min())
    span = float(seconds.max()) - start
    if span / width > MOST_BINS:
        raise TraceError(f"{name}: spans {span:g} s, more than {MOST_BINS} bins of {width:g} s; is t_s in seconds?")
    index = np.floor((seconds - start) / width + 1e-9).astype(np.int64)
    bins = int(index.max()) + 1
    if bins > 1 and not _last_is_whole(seconds, end=start + bins * width, width=width, step=usual * counted):
        bins -= 1
        notes.append("the last bin is not whole and left out")
    absent = np.bincount(index, minlength=bins)[:bins] == 0
    unknown, note = _unknown(values, absent, counted=counted, empty=empty)
    notes += [note] if note else []
    series = {}
    for key, amount in _amounts(values, len(seconds), usual or width).items():
        series[key] = np.bincount(index, weights=amount, minlength=bins)[:bins].astype(np.float64)
        series[key][unknown] = np.nan
    return Trace(name=name, bin_seconds=width, series=series, notes=tuple(notes))


def _last_is_whole(seconds: Series, *, end: float, width: float, step: float) -> bool:
    # Rows of single requests end where the last one came; a tenth of a bin without one proves nothing.
    return float(seconds.max()) + (step or width * 0.1) >= end - width * 1e-6


def _unknown(
    values: Mapping[str, Series], absent: NDArray[np.bool_], *, counted: bool, empty: str
) -> tuple[NDArray[np.bool_], str]:
    """This will say which bins nobody counted: with "auto", those without a row in a file that writes its zeros."""
    if empty == "zero" or not absent.any():
        return np.zeros_like(absent), ""
    traffic = values["requests" if "requests" in values else "rate_rps"] if counted else None
    writes_zeros = traffic is not None and bool(np.any(traffic == 0))
    if empty == "unknown" or writes_zeros:
        return absent, f"{int(absent.sum())} bins without a row are taken as unknown"
    return np.zeros_like(absent), f"{int(absent.sum())} bins without a row are taken as no traffic"


def _amounts(values: Mapping[str, Series], rows: int, step: float) -> dict[str, Series]:
    """This will give per row what is summed up in a bin."""
    if "requests" in values:
        requests = values["requests"]
    elif "rate_rps" in values:
        requests = values["rate_rps"] * step
    else:
        requests = np.ones(rows)
    amounts = {"requests": requests}
    for mean, total in MEANS.items():
        if total in values:
            amounts[total] = values[total]
        elif mean in values:
            amounts[total] = np.where(requests == 0, 0.0, values[mean] * requests)  # none have no mean
    return amounts
