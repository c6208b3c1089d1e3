"""The reader of the Prometheus text format, against Prometheus' own client as the oracle."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from node_agent.collectors import exposition
from node_agent.collectors.exposition import read

RECORDINGS = sorted((Path(__file__).parents[2] / "data" / "engines").glob("*/*.prom"))

_names = st.from_regex(r"[a-zA-Z_:][a-zA-Z0-9_:]{0,20}", fullmatch=True)
_label_names = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,10}", fullmatch=True)
_label_values = st.text(max_size=30)
_values = st.floats(allow_nan=True, allow_infinity=True)


def _everything(body: bytes) -> dict[str, str]:
    return {name: name for line in body.decode().split("\n") if (name := line.partition("{")[0].partition(" ")[0])}


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _written(value: float) -> str:
    return (
        "NaN" if math.isnan(value) else "+Inf" if value == math.inf else "-Inf" if value == -math.inf else repr(value)
    )


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_sample_of_a_recording_reads_as_prometheus_own_client_reads_it(path: Path) -> None:
    body = path.read_bytes()
    ours = read(body, _everything(body))
    count = 0
    for family in text_string_to_metric_families(body.decode()):
        for sample in family.samples:
            count += 1
            found = ours.series(sample.name)[tuple(sorted(sample.labels.items()))]
            assert found == sample.value or (math.isnan(found) and math.isnan(sample.value))
    assert count == sum(len(series) for series in ours.samples.values())
    assert ours.malformed_lines == 0


@given(
    name=_names,
    labels=st.dictionaries(_label_names, _label_values, max_size=5),
    value=_values,
    timestamp=st.none() | st.integers(min_value=-(10**15), max_value=10**15),
)
def test_any_written_sample_reads_back_as_the_oracle_reads_it(
    name: str, labels: dict[str, str], value: float, timestamp: int | None
) -> None:
    inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    stamp = "" if timestamp is None else f" {timestamp}"
    line = f"{name}{{{inside}}} {_written(value)}{stamp}"
    ((found_labels, found),) = read(line.encode(), {name: name}).series(name).items()
    (family,) = text_string_to_metric_families(line)
    (oracle,) = family.samples
    assert dict(found_labels) == labels == oracle.labels
    assert found == value == oracle.value or (math.isnan(found) and math.isnan(oracle.value))


@given(st.binary(max_size=400))
def test_no_bytes_whatsoever_raise(body: bytes) -> None:
    read(b"wanted" + body, {"wanted": "wanted"})


@pytest.mark.parametrize(
    "line",
    [
        "wanted",
        "wanted{",
        'wanted{a="b"',
        'wanted{a="b} 1',
        "wanted{a=b} 1",
        'wanted{a="1" b="2"} 1',
        'wanted{a="1",a="2"} 1',
        "wanted 1_000",
        "wanted 0x10",
        "wanted one",
        "wanted 1 2 3",
        "wanted " + "1" * exposition.MAX_LINE_BYTES,
        "wanted{" + ",".join(f'l{n}="v"' for n in range(exposition.MAX_LABELS + 1)) + "} 1",
    ],
)
def test_a_line_that_cannot_be_read_is_counted_and_the_others_still_count(line: str) -> None:
    found = read(f"{line}\nwanted 5\n".encode(), {"wanted": "wanted"})
    assert found.malformed_lines == 1
    assert found.series("wanted") == {(): 5.0}


def test_lines_of_metrics_that_nobody_wants_are_not_even_judged() -> None:
    found = read(b"other{ nonsense\nwanted 1\n", {"wanted": "wanted"})
    assert found.malformed_lines == 0
    assert found.samples == {"wanted": {(): 1.0}}


def test_openmetrics_exemplars_and_the_end_mark_are_skipped() -> None:
    body = b'# TYPE w histogram\nw_bucket{le="+Inf"} 3 # {trace="x} y"} 0.5 12.5\n# EOF\n'
    found = read(body, {"w_bucket": "w"})
    assert found.series("w") == {(("le", "+Inf"),): 3.0}
    assert found.malformed_lines == 0


def test_label_values_may_hold_braces_escapes_and_line_separators() -> None:
    body = 'w{a="}{",b="x\\\\y\\"z\\nq",c="u\u2028v"} 1'.encode()
    assert read(body, {"w": "w"}).series("w") == {(("a", "}{"), ("b", 'x\\y"z\nq'), ("c", "u\u2028v")): 1.0}


def test_a_metric_is_filed_under_the_name_that_the_caller_gave_it() -> None:
    found = read(b"ray_vllm_x 1\n", {"vllm:x": "x", "ray_vllm_x": "x"})
    assert found.samples == {"x": {(): 1.0}}


@pytest.mark.parametrize("limit", ["MAX_SERIES", "MAX_SAMPLES"])
def test_of_a_metric_with_too_many_series_none_is_kept_and_the_others_are_unharmed(
    monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(exposition, limit, 3)
    body = "v 7\n" + "".join(f'w{{n="{n}"}} 1\n' for n in range(5))
    found = read(body.encode(), {"v": "v", "w": "w"})
    assert found.samples == {"v": {(): 7.0}}
    assert (found.dropped_samples, found.incomplete) == (5, {"w"})


def test_of_metrics_behind_too_many_bytes_or_lines_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposition, "MAX_WANTED_BYTES", 10)
    assert read(b"v 1234567890\nw 1\nx 1\n", {"v": "v", "w": "w"}).incomplete == {"w"}
    monkeypatch.setattr(exposition, "MAX_LINES", 2)
    assert read(b"# HELP w\nw 1\nx 1\nx 1\n", {"v": "v", "w": "w"}).incomplete == {"v", "w"}


def test_a_metric_with_a_line_that_cannot_be_read_is_incomplete() -> None:
    found = read(b"w 1\nw{ 2\nv 3\n", {"v": "v", "w": "w"})
    assert (found.malformed_lines, found.incomplete) == (1, {"w"})


def test_the_later_one_of_two_samples_of_one_series_counts() -> None:
    found = read(b'w{a="1",b="2"} 1\nw{b="2",a="1"} 2\n', {"w": "w"})
    assert found.series("w") == {(("a", "1"), ("b", "2")): 2.0}


_PIECES = st.sampled_from(
    ["{", "}", '"', "\\", ",", "=", " ", "#", "a", "b", 'a="b"', 'b="}"', "{}", "} ", "1", "2.5", "NaN", "\u00e9", "\t"]
)
_lines = st.lists(_PIECES, max_size=12).map("".join)


@given(st.lists(st.tuples(_lines, st.sampled_from(["1", "2", "x", '3 # {t="}"} 4', "5 6", ""])), max_size=6))
def test_what_is_remembered_of_earlier_bodies_changes_nothing(lines: list[tuple[str, str]]) -> None:
    body = "".join(f"wanted{line} {value}\n" for line, value in lines).encode()
    exposition._LABELS.clear()
    alone = [read(line, {"wanted": "wanted"}) for line in body.splitlines(keepends=True)]
    first = read(body, {"wanted": "wanted"})
    again = read(body, {"wanted": "wanted"})
    exposition._LABELS.clear()
    fresh = read(body, {"wanted": "wanted"})
    assert repr(first) == repr(again) == repr(fresh)
    assert sum(one.malformed_lines for one in alone) == fresh.malformed_lines


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposition, "MAX_KNOWN_LABELS", 10)
    for number in range(100):
        body = b'w{a="%d"} 1\nw{b="%s"} 1\n' % (number, b"x" * exposition.MAX_KNOWN_BYTES)
        assert len(read(body, {"w": "w"}).series("w")) == 2
    assert 0 < len(exposition._LABELS) <= 10
    assert all(len(head) < exposition.MAX_KNOWN_BYTES for head in exposition._LABELS)
