"""The agent as people start it: what it records, how it answers probes, and how it says what is wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from node_agent import __main__ as program
from node_agent import __version__, assembly
from node_agent.host.liveness import HEARTBEAT_FILE, Heartbeat
from node_agent.model import EntityKind
from node_agent.settings import SettingsError
from node_agent.uplink.recording import RecordedTick, load
from optiinfra.telemetry.v1 import telemetry_pb2
from tests.fakes.wire_reader import Decoded, Reader

ROOT = Path(__file__).parents[3]
PATIENCE_SECONDS = 60.0  # to start Python on a machine whose cores four other programs share took 18 s
SAID = "said"  # the file of what a started program says
# No GPU and no search: what is tested here is the program, not the collectors.
QUICK = ("--no-gpu-monitoring-enabled", "--no-discover-engines", "--sampling-interval-seconds", "0.5")


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without a .env, and an environment without our settings."""
    for name in list(os.environ):
        if name.startswith("OPTIINFRA_") or name in ("METRICS_COLLECTION_INTERVAL", "GPU_MONITORING_ENABLED"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{ROOT / 'proto' / 'gen'}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def start(elsewhere: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `python -m node_agent …`; whatever still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def begin(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "node_agent", *arguments, f"--state-dir={elsewhere / 'state'}"]
        with (elsewhere / SAID).open("w") as said:  # a file can be looked at while the process runs
            process = subprocess.Popen(command, stdout=said, stderr=said, text=True, cwd=elsewhere)
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()


def decoded(ticks: tuple[RecordedTick, ...]) -> list[list[tuple[str, str, dict[str, Decoded]]]]:
    reader, rows = Reader(), []
    for tick in ticks:
        reader.learn(tick.outgoing.announce)
        rows.append(reader.rows(tick.outgoing.tick))
    return rows


def memory_total_bytes() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("/proc/meminfo has no MemTotal")


def test_a_recording_of_this_machine_agrees_with_its_own_proc(
    elsewhere: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    recorder = start("record", "r.gz", "--seconds", "2", *QUICK)
    errors = ended(recorder, elsewhere)
    assert recorder.returncode == 0, errors
    recording = load(elsewhere / "r.gz")
    assert len(recording.ticks) >= 3, "2 s at 0.5 s"
    assert recording.hello.agent_version == __version__
    assert f"{len(recording.ticks)} ticks" in errors
    for rows in decoded(recording.ticks):
        (host,) = (values for table, _, values in rows if table == "host")
        assert host["memory_total_bytes"] == memory_total_bytes()
    reports = {report.collector: report for report in recording.ticks[-1].outgoing.tick.collectors}
    assert reports.keys() == {"system", "agent", "engine", "gpu"}
    assert reports["gpu"].outcome == telemetry_pb2.COLLECTOR_OUTCOME_DISABLED
    entities = [e for t in recording.ticks if t.outgoing.announce for e in t.outgoing.announce.entities]
    assert any(entity.kind == EntityKind.NODE.value for entity in entities)


def test_a_recording_ends_in_order_at_a_signal(elsewhere: Path, start: Callable[..., subprocess.Popen[str]]) -> None:
    recorder = start("record", "r.gz", *QUICK)
    recording = elsewhere / "r.gz"
    wait_for(lambda: recording.exists() and recording.stat().st_size > 500, recorder, elsewhere)
    recorder.send_signal(signal.SIGINT)
    errors = ended(recorder, elsewhere)
    assert recorder.returncode == 0, errors
    assert load(elsewhere / "r.gz").ticks


def test_a_running_agent_is_healthy_without_a_control_plane_and_stops_when_told(
    elsewhere: Path, start: Callable[..., subprocess.Popen[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    state = f"--state-dir={elsewhere / 'state'}"
    assert program.main(["healthy", state]) == 1
    assert "has not sampled yet" in capsys.readouterr().err
    running = start("run", "--server", "127.0.0.1:1", *QUICK)
    # The first sample and the first refused connection come within a millisecond, in either order: wait for both.
    wait_for(lambda: (elsewhere / "state" / HEARTBEAT_FILE).exists(), running, elsewhere)
    wait_for(lambda: "no link" in (elsewhere / SAID).read_text(), running, elsewhere)
    assert program.main(["healthy", state]) == 0
    running.send_signal(signal.SIGTERM)
    errors = ended(running, elsewhere)
    assert running.returncode == 0, errors
    assert "Traceback" not in errors
    assert errors.count("no link to 127.0.0.1:1") == 1, "once per outage"


def ended(process: subprocess.Popen[str], folder: Path) -> str:
    """Wait for the end, and give what was said."""
    process.wait(PATIENCE_SECONDS)
    return (folder / SAID).read_text()


def wait_for(holds: Callable[[], bool], process: subprocess.Popen[str], folder: Path) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert process.poll() is None, (folder / SAID).read_text()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("written", "age_seconds", "code"),
    [("5", 50, 0), ("5", 70, 1), ("300", 800, 0), ("300", 1000, 1), ("", 10, 0), ("", 70, 1)],
)
def test_an_agent_is_unhealthy_after_three_of_its_own_intervals_and_a_minute(
    elsewhere: Path, written: str, age_seconds: float, code: int
) -> None:
    path = elsewhere / HEARTBEAT_FILE
    path.write_text(written)
    os.utime(path, times=(time.time() - age_seconds,) * 2)
    assert program.main(["healthy", "--state-dir", str(elsewhere)]) == code


def test_the_heartbeat_says_when_the_next_one_is_due_and_outlives_a_full_disk(
    elsewhere: Path, caplog: pytest.LogCaptureFixture
) -> None:
    heartbeat = Heartbeat(elsewhere / "state" / "alive")
    heartbeat.beat(5.0)
    heartbeat.beat(5.0)
    assert len(caplog.records) == 1, "told once"
    (elsewhere / "state").mkdir()
    heartbeat.beat(0.5)
    assert (elsewhere / "state" / "alive").read_text() == "0.5\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["record", "there.gz"], "there.gz exists already; choose another name"),
        (["record", "no/such/folder/r.gz"], "no/such/folder/r.gz: No such file or directory"),
        (["record", "r.gz", "--seconds", "-1"], "--seconds is -1; more than 0 is accepted"),
        (["record", "r.gz", "--seconds", "nan"], "--seconds is nan; more than 0 is accepted"),
        (["record", "r.gz", "--state-dir", "there.gz"], "state_dir there.gz cannot be used"),
        (["record", "r.gz", "--sampling-interval-seconds", "soon"], "'soon'; a number is accepted"),
        (["replay", "there.gz"], "there.gz is no recording"),
        (["replay", "missing.gz"], "missing.gz: No such file or directory"),
        (["replay", "there.gz", "--speed", "-1"], "--speed is -1; 0 (as fast as it goes) and more are accepted"),
        (["run", "--server", "nowhere"], "write host:port"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(
    elsewhere: Path, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (elsewhere / "there.gz").write_text("something else")
    if "--state-dir" not in arguments:
        arguments = [*arguments, "--state-dir", str(elsewhere / "state")]
    assert program.main(arguments) == program.USAGE_ERROR == 2
    said = capsys.readouterr().err
    assert said.startswith("optiinfra-agent: ")
    assert sentence in said
    assert said.count("\n") == 1
    assert (elsewhere / "there.gz").read_text() == "something else"


def test_a_disk_that_fills_up_ends_a_recording_with_a_sentence(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(self: object, outgoing: object) -> int:
        raise OSError(28, "No space left on device", "r.gz")

    monkeypatch.setattr("node_agent.uplink.recording.Recorder.write", full)
    assert program.main(["record", "r.gz", "--state-dir", str(elsewhere / "state"), *QUICK]) == 2
    assert capsys.readouterr().err.endswith("optiinfra-agent: r.gz: No space left on device\n")


def test_an_unknown_verb_and_no_verb_are_wrong_usage() -> None:
    for arguments in ([], ["fly"]):
        with pytest.raises(SystemExit) as ended:
            program.main(arguments)
        assert ended.value.code == 2


def test_a_host_keeps_its_id_and_half_an_id_is_refused(tmp_path: Path) -> None:
    first = assembly.agent_id(tmp_path)
    assert assembly.agent_id(tmp_path) == first
    assert [path.name for path in tmp_path.iterdir()] == ["agent_id"]
    (tmp_path / "agent_id").write_text(first[:10])
    with pytest.raises(SettingsError, match="delete it to enrol as a new node"):
        assembly.agent_id(tmp_path)
