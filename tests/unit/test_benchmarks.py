"""Benchmarks are not timed here: only that they can be asked for, and that their document says what it must."""

from __future__ import annotations

import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import fleet, fleet_host, phases, same_values
from benchmarks.figures import Figure, Result, document, machine_line, number, table, versions_line
from node_agent.clock import SystemClock
from node_agent.uplink import wire
from optiinfra.telemetry.v1 import link_pb2, telemetry_pb2

REPOSITORY = Path(__file__).parents[2]
RESULT = Result(
    name="example",
    title="An example",
    explanation="What is measured, and the floor.",
    figures=[
        Figure(name="ours", unit="ms", values=[4.0, 2.0, 9.0], floor="floor"),
        Figure(name="floor", unit="ms", values=[1.0, 2.0, 3.0]),
    ],
    notes=["A remark."],
)


def test_help_names_every_benchmark() -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--help"],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (answer.returncode, answer.stderr) == (0, "")
    for name in benchmarks.BENCHMARKS:
        assert name in answer.stdout


def test_a_table_gives_the_spread_and_the_ratio_to_the_floor() -> None:
    head, rule, ours, floor = table(RESULT).splitlines()
    assert head.count("|") == rule.count("|") == ours.count("|")
    assert ours == "| ours | ms | 2 | 4 | 9 | 3 | 2 | floor |"
    assert floor == "| floor | ms | 1 | 2 | 3 | 3 |  |  |"


def test_a_floor_of_zero_gives_no_ratio() -> None:
    figures = [Figure(name="ours", unit="%", values=[1.0], floor="floor"), Figure(name="floor", unit="%", values=[0.0])]
    result = Result(name="n", title="t", explanation="e", figures=figures)
    assert result.ratio(figures[0]) is None


def test_the_document_says_where_how_and_that_the_machine_is_noisy() -> None:
    text = document([RESULT], machine=machine_line(), versions=versions_line("18.4"))
    for part in (
        "# Benchmarks\n", "shared, noisy virtual machine with two cores", "logical CPUs", "Postgres 18.4", "numpy ",
        "## An example\n", "`python -m benchmarks example`", "- A remark.\n",
    ):  # fmt: skip
        assert part in text
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (0.01234, "0.0123"), (1.5, "1.5"), (99.96, "100"), (1234.5, "1,234"), (2e6, "2,000,000")],
)
def test_numbers_have_the_digits_that_count(value: float, shown: str) -> None:
    assert number(value) == shown


def test_without_a_name_all_run_and_the_document_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmarks, "BENCHMARKS", {"example": lambda *, quick: RESULT})
    assert benchmarks.main(["--output", str(tmp_path / "benchmarks.md"), "--quick"]) == 0
    assert "## An example" in (tmp_path / "benchmarks.md").read_text()


def test_with_a_name_one_runs_and_is_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(benchmarks.BENCHMARKS, "startup", lambda *, quick: RESULT)
    assert benchmarks.main(["startup"]) == 0
    assert capsys.readouterr().out.startswith("## An example\n")


def test_with_a_name_its_section_alone_can_be_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "benchmarks.md"
    others = [replace(RESULT, name="before", title="Before"), replace(RESULT, name="after", title="After")]
    old = replace(RESULT, title="Old", notes=["An old remark."])
    path.write_text(document([others[0], old, others[1]], machine="m", versions="v"))
    monkeypatch.setitem(benchmarks.BENCHMARKS, "startup", lambda *, quick: RESULT)
    for _ in range(2):
        assert benchmarks.main(["startup", "--write", "--output", str(path)]) == 0
        assert path.read_text() == document([others[0], RESULT, others[1]], machine="m", versions="v")
    path.write_text(document([others[0]], machine="m", versions="v"))
    assert benchmarks.main(["startup", "--write", "--output", str(path)]) == 0
    assert path.read_text() == document([others[0], RESULT], machine="m", versions="v")
    assert capsys.readouterr().out


def test_a_hand_written_batch_is_what_protobuf_writes() -> None:
    _, message = wire.Encoder().encode(fleet_host.tick(7, SystemClock().now()))
    rest = type(message)()
    rest.CopyFrom(message)
    rest.ClearField("taken_at_unix_us")
    rest.ClearField("taken_at_monotonic_us")
    written = fleet.batch_message(
        70_000, message.taken_at_unix_us, message.taken_at_monotonic_us, rest.SerializeToString()
    )
    expected = link_pb2.AgentMessage(batch=telemetry_pb2.Batch(seq=70_000, ticks=[message]))
    assert link_pb2.AgentMessage.FromString(written) == expected


def test_phases_are_measured_on_files_and_a_file_that_is_none_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert phases.main([str(path) for path in sorted(phases.FOLDER.glob("h200-*.jsonl.gz"))]) == 0
    out = capsys.readouterr().out
    assert "h200-phases-whole: host_starved" in out
    assert "h200-x2-allreduce-then-stuck: stuck" in out
    assert max(abs(float(row[3])) for row in phases.measure(quick=True).tables[0].rows) < 5.0
    path = tmp_path / "x.jsonl"
    path.write_text("{}\n")
    assert phases.main([str(path)]) == 2
    assert "each with its time t" in capsys.readouterr().err


def test_peers_are_sent_the_numbers_that_we_are() -> None:
    past = same_values.Past(start_us=1_770_000_000_000_000, ticks=3)
    ticks = list(same_values.ticks_of(7, past))
    series = list(same_values.series(7, past))
    assert [fleet_host.known_values(tick) for tick in ticks] == [len(series)] * 3
    assert same_values.values_of(past) == 3 * len(series)
    assert len({labels for labels, _ in series}) == len(series), "no two series are one"
    for place, tick in enumerate(ticks):
        watts = [s.values["power_draw_watts"] for s in tick.samples if s.table == "gpu"]
        theirs = [values[place] for labels, values in series if b"_power_draw_watts" in labels]
        assert watts == theirs
    first, second = same_values.write_requests(7, past, 2)
    assert len(first) > len(second)
    assert struct.pack("<Bd", 0x09, series[0][1][2]) in second
