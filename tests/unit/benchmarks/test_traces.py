"""Traces are read as they are: what is missing is unknown, what is wrong is named with its line."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from benchmarks.traces import Trace, TraceError, read_trace


def written(tmp_path: Path, text: str, name: str = "trace.csv") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def read(tmp_path: Path, text: str, *, bin_seconds: float = 60, empty: str = "auto") -> Trace:
    return read_trace(written(tmp_path, text), bin_seconds=bin_seconds, empty=empty)


def test_counts_are_summed_into_bins_in_whatever_order_they_come(tmp_path: Path) -> None:
    trace = read(tmp_path, "t_s,requests\n70,4\n0,1\n10,2\n60,3\n110,0\n")
    assert trace.requests.tolist() == [3, 7]


def test_a_row_per_request_is_counted_with_its_tokens(tmp_path: Path) -> None:
    trace = read(tmp_path, "t_s,input_tokens,output_tokens\n100,10,1\n130,20,2\n230,30,3\n340,0,0\n")
    assert {name: values.tolist() for name, values in trace.series.items()} == {
        "requests": [2, 0, 1, 0], "input_tokens": [30, 0, 30, 0], "output_tokens": [3, 0, 3, 0],
    }  # fmt: skip


def test_requests_that_are_always_one_are_single_requests(tmp_path: Path) -> None:
    trace = read(tmp_path, "t_s,requests\n0,1\n600,1\n1200,1\n1259,1\n")
    assert len(trace.requests) == 21
    assert trace.requests.sum() == 4


def test_the_last_bin_counts_only_when_it_is_whole(tmp_path: Path) -> None:
    whole = "t_s,requests\n" + "".join(f"{t},5\n" for t in range(0, 180, 10))
    assert read(tmp_path, whole).requests.tolist() == [30, 30, 30]
    assert read(tmp_path, whole + "180,5\n").requests.tolist() == [30, 30, 30]


def test_rows_wider_than_the_bin_asked_for_set_its_width_and_it_is_said(tmp_path: Path) -> None:
    trace = read(tmp_path, "t_s,rate_rps,in_mean\n0,2,10\n600,3,10\n1200,0,\n")
    assert trace.bin_seconds == 600
    assert trace.requests.tolist() == [1200, 1800, 0]
    assert trace.series["input_tokens"].tolist() == [12000, 18000, 0]
    assert "600 s" in trace.notes[0]


@pytest.mark.parametrize(
    ("rows", "empty", "middle"),
    [
        ("0,3\n60,0\n180,5\n", "auto", np.nan),  # it writes its zeros, so what it does not write it does not know
        ("0,3\n60,4\n180,5\n", "auto", 0),
        ("0,3\n60,4\n180,5\n", "unknown", np.nan),
        ("0,3\n60,0\n180,5\n", "zero", 0),
    ],
)
def test_a_bin_without_rows_is_unknown_where_zeros_are_written(
    tmp_path: Path, rows: str, empty: str, middle: float
) -> None:
    trace = read(tmp_path, "t_s,requests\n" + rows, empty=empty)
    assert np.array_equal(trace.requests[2], middle, equal_nan=True)
    assert any("1 bins without a row" in note for note in trace.notes) is (empty != "zero")


def test_an_empty_cell_is_unknown(tmp_path: Path) -> None:
    trace = read(tmp_path, "t_s,requests,input_tokens\n0,3,30\n60,4,\n120,5,50\n")
    assert trace.requests.tolist() == [3, 4, 5]
    assert np.array_equal(trace.series["input_tokens"], [30, np.nan, 50], equal_nan=True)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the file is empty"),
        ("t_s,requests\n", "no rows"),
        ("when,requests\n0,1\n", "line 1: no column t_s"),
        ("t_s,requests\n0,1\n60,many\n", "line 3: requests is 'many'"),
        ("t_s,requests\n0,1\nnoon,1\n", "line 3: t_s is 'noon'"),
        ("t_s,requests\n0,1\n60,-1\n", "line 3: requests is '-1'"),
        ("t_s,requests\n0,1\n60,inf\n", "line 3: requests is 'inf'"),
        ("t_s,requests\nnan,1\n", "line 2: t_s is 'nan'"),
        ("t_s,requests\n0,1\n60\n", "line 3: 1 fields, the header has 2"),
        ("t_s,requests\n0,1\n1700000000000,2\n", "is t_s in seconds?"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(TraceError, match=says.replace("?", r"\?")):
        read(tmp_path, text)


def test_gzip_is_read_and_a_torn_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv.gz"
    data = gzip.compress(b"t_s,requests\n" + b"".join(b"%d,2\n" % t for t in range(0, 6000, 60)))
    path.write_bytes(data)
    assert read_trace(path, bin_seconds=60).requests.tolist() == [2] * 100
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(TraceError, match="cannot be read"):
        read_trace(path, bin_seconds=60)
    with pytest.raises(TraceError, match="cannot be read"):
        read_trace(tmp_path / "absent.csv", bin_seconds=60)


def test_stamps_and_the_spellings_of_published_traces_are_understood(tmp_path: Path) -> None:
    azure = (
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:17:03.9799600,4808,10\n"
        "2023-11-16 18:18:03.5319600,1,2\n"
    )
    trace = read(tmp_path, azure)
    assert trace.series["input_tokens"].tolist() == [4809]
