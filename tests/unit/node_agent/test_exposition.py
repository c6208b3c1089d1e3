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
        "wanted " + "1" * exposition.MAX_LINE_CHARACTERS,
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


def test_samples_beyond_the_limit_are_counted_and_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposition, "MAX_SAMPLES", 3)
    body = "".join(f'w{{n="{n}"}} 1\n' for n in range(5)).encode()
    found = read(body, {"w": "w"})
    assert len(found.series("w")) == 3
    assert found.dropped_samples == 2
