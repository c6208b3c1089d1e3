"""`optiinfra up`: one command, everything real, and nothing lost however it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support.postgres import PostgresForTests
from tests.support.up import (
    Up,
    alive,
    clean_environment,
    eventually,
    folder_for_postgres,
    free_ports,
    optiinfra,
    running,
)

OFTEN = "--sampling-interval-seconds=0.5"


@pytest.fixture
def folder() -> Iterator[Path]:
    with folder_for_postgres() as path:
        yield path


@pytest.fixture(scope="module")
def up() -> Iterator[Up]:
    """One that runs for all tests that only look."""
    with folder_for_postgres() as path, running(Up(path, OFTEN, "--node-name=host-under-test")) as up:
        yield up


def one_sentence(text: str) -> str:
    """The whole of stderr, which must be one line without a trace."""
    (line,) = text.strip().splitlines()
    assert line.startswith("optiinfra"), line
    return line


def assert_kept_once(before: list[tuple[int, datetime]], after: list[tuple[int, datetime]]) -> None:
    counts = Counter(after)
    assert set(before) <= counts.keys(), "a committed sample is gone"
    assert set(counts.values()) == {1}, "a sample is there twice"


# -- what a newcomer sees -------------------------------------------------------------------------


def test_up_says_where_to_look_and_what_it_found(up: Up) -> None:
    eventually(lambda: "  stop         Ctrl-C" in up.output, what="the greeting")
    for line in (
        "  database     embedded Postgres in ",
        f"  HTTP         127.0.0.1:{up.port}\n",
        f"  agents       127.0.0.1:{up.grpc_port} (gRPC)",
        f"  ready        http://localhost:{up.port}/dashboard, http://localhost:{up.port}/docs (REST)",
        "  found        ",
    ):
        assert line in up.output
    assert "Traceback" not in up.output
    assert "WARNING" not in up.output


def test_the_api_shows_this_machines_true_values(up: Up) -> None:
    up.wait_for_samples(2)  # the first look has no interval to tell shares of
    (host,) = up.get("/system/all?node=host-under-test")["items"]
    lines = Path("/proc/meminfo").read_text().splitlines()
    meminfo = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
    assert host["memory_total_bytes"] == meminfo["MemTotal"]
    assert host["swap_total_bytes"] == meminfo["SwapTotal"]
    assert host["cpu_logical_count"] == os.cpu_count()
    assert len(host["cpu_core_busy_ratio"]) == os.cpu_count()
    mounts = {mount["mount_point"]: mount for mount in host["filesystems"]}
    root = os.statvfs("/")
    assert mounts["/"]["total_bytes"] == root.f_blocks * root.f_frsize
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    assert host["uptime_seconds"] == pytest.approx(uptime, abs=5)
    assert host["age_seconds"] < 5
    (node,) = up.get("/nodes")["items"]
    assert (node["name"], node["state"], node["replayed"]) == ("host-under-test", "connected", False)
    assert node["clock_offset_seconds"] == pytest.approx(0, abs=0.5)


def test_a_second_up_on_the_same_folder_is_refused_in_one_sentence(up: Up, tmp_path: Path) -> None:
    port, grpc_port = free_ports(2)
    second = optiinfra(
        "up", f"--data-dir={up.data_dir}", f"--port={port}", f"--grpc-port={grpc_port}", "--other-port=0", cwd=tmp_path
    )
    assert second.returncode == 1
    assert f"in use by another process (pid {up.pid})" in one_sentence(second.stderr)
    assert up.status("/health/ready") == 200


@pytest.mark.slow
def test_migrating_a_folder_in_use_is_refused_in_one_sentence(up: Up, tmp_path: Path) -> None:
    answer = optiinfra("migrate", f"--data-dir={up.data_dir}", cwd=tmp_path)
    assert answer.returncode == 1
    assert f"in use by another process (pid {up.pid})" in one_sentence(answer.stderr)


@pytest.mark.parametrize(
    "flag",
    [
        pytest.param("--port", marks=pytest.mark.slow),
        "--grpc-port",
        pytest.param("--other-port", marks=pytest.mark.slow),
    ],
)
def test_a_port_that_is_taken_is_named_with_its_flag_and_no_database_is_started(flag: str, folder: Path) -> None:
    ports = dict(zip(("--port", "--grpc-port", "--other-port"), free_ports(3), strict=True))
    with socket.create_server(("127.0.0.1", ports[flag])):
        given = [f"{name}={port}" for name, port in ports.items()]
        answer = optiinfra("up", f"--data-dir={folder / 'data'}", *given, cwd=folder)
    assert answer.returncode == 2
    sentence = one_sentence(answer.stderr)
    assert f"port {ports[flag]} on 127.0.0.1 is taken; choose another with {flag}" in sentence
    assert not (folder / "data").exists()


def test_a_folder_that_cannot_be_made_is_one_sentence(folder: Path) -> None:
    (folder / "data").write_text("a file")
    port, grpc_port = free_ports(2)
    flags = (f"--data-dir={folder / 'data' / 'below'}", f"--port={port}", f"--grpc-port={grpc_port}", "--other-port=0")
    answer = optiinfra("up", *flags, cwd=folder)
    assert answer.returncode in (1, 2)
    assert str(folder / "data") in one_sentence(answer.stderr)


# -- settings -------------------------------------------------------------------------------------


def test_an_unknown_key_of_ours_is_refused_before_anything_starts(folder: Path) -> None:
    answer = optiinfra("up", f"--data-dir={folder / 'data'}", cwd=folder, OPTIINFRA_PROT="9000")
    assert answer.returncode == 2
    assert "OPTIINFRA_PROT" in one_sentence(answer.stderr)
    assert not (folder / "data").exists()


def test_settings_lists_every_setting_with_its_names_and_never_a_secret(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("OPTIINFRA_RETENTION_DAYS=3\nPORT=9000\n")
    url = "postgresql://someone:s3cret@db.example:5432/metrics"
    answer = optiinfra("settings", "--port=9001", cwd=tmp_path, DATABASE_URL=url, GROQ_API_KEY="gsk-s3cret")
    assert answer.returncode == 0
    for line in ("port = 9001", "retention_days = 3", "database_url = set", "groq_api_key = set", "OPTIINFRA_PORT"):
        assert line in answer.stdout
    assert "s3cret" not in answer.stdout + answer.stderr


@pytest.mark.slow
def test_an_external_database_a_dotenv_and_published_names_are_honoured(folder: Path, empty_database_url: str) -> None:
    (folder / ".env").write_text(
        f"OPTIINFRA_NODE_NAME=from-dotenv\n{OFTEN[2:].replace('-', '_').upper()}\n".replace(
            "SAMPLING", "OPTIINFRA_SAMPLING"
        )
    )
    (port,) = free_ports(1)
    environment = {"DATABASE_URL": empty_database_url, "PORT": str(port)}
    with running(Up(folder, environment=environment, port=port)) as up:
        (node,) = up.get("/nodes")["items"]
        assert (node["name"], node["sampling_interval_seconds"]) == ("from-dotenv", 0.5)
        assert not (up.data_dir / "postgres").exists()
        assert not [command for command in alive(up.everything()).values() if "postgres -D" in command]
        shown = up.output + str(up.get("/config")) + str(up.get("/health/detailed"))
    password = empty_database_url.split(":")[2].split("@")[0]
    assert len(password) > 8
    assert password not in shown + up.output
    assert "schema       empty → " in up.output


@pytest.mark.slow
def test_a_database_that_does_not_answer_is_one_sentence_without_its_password(folder: Path) -> None:
    port, grpc_port, closed = free_ports(3)
    flags = (f"--data-dir={folder}", f"--port={port}", f"--grpc-port={grpc_port}", "--other-port=0")
    answer = optiinfra("up", *flags, cwd=folder, DATABASE_URL=f"postgresql://u:s3cret@127.0.0.1:{closed}/x")
    assert answer.returncode == 1
    assert f"Postgres does not answer at postgresql://u:***@127.0.0.1:{closed}/x" in one_sentence(answer.stderr)
    assert "s3cret" not in answer.stdout + answer.stderr


@pytest.mark.slow
def test_migrate_brings_a_database_to_this_release_and_is_done_when_it_is_there(
    tmp_path: Path, empty_database_url: str, postgres_server: PostgresForTests
) -> None:
    first = optiinfra("migrate", cwd=tmp_path, DATABASE_URL=empty_database_url)
    assert (first.returncode, first.stderr) == (0, "")
    assert ": empty → " in first.stdout
    head = first.stdout.split("→ ")[1].strip()
    again = optiinfra("migrate", cwd=tmp_path, DATABASE_URL=empty_database_url)
    assert again.stdout.strip().endswith(f": {head} → {head}")
    assert "***" in again.stdout


# -- recordings -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of this host, and a moment after that."""
    folder = tmp_path_factory.mktemp("recording")
    answer = optiinfra(
        "record", "host.rec", "--seconds=2", OFTEN, "--node-name=recorded-host", f"--state-dir={folder / 'state'}",
        cwd=folder,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    assert "host.rec: " in answer.stderr
    time.sleep(0.5)
    return folder / "host.rec"


def test_a_recording_plays_through_the_real_door_as_a_node_that_is_plainly_a_replay(up: Up, recording: Path) -> None:
    started = datetime.now(UTC)
    answer = optiinfra(
        "replay", str(recording), "--speed=0", f"--server=127.0.0.1:{up.grpc_port}", cwd=recording.parent
    )
    assert answer.returncode == 0, answer.stderr
    assert "as node recorded-host" in answer.stderr
    node = up.get("/nodes/recorded-host")
    assert (node["replayed"], node["lost_ticks"], node["refused_batches"]) == (True, 0, 0)
    assert node["attributes"]["replayed_from"] == "recorded-host"
    with up.database() as connection:
        agent_ids = dict(connection.execute("SELECT name, agent_id FROM node").fetchall())
        rows = connection.execute(
            "SELECT h.taken_at FROM host_sample h JOIN node USING (node_id) WHERE name = 'recorded-host' ORDER BY 1"
        ).fetchall()
    assert agent_ids["recorded-host"].startswith("replay-")
    assert not agent_ids["host-under-test"].startswith("replay-")
    assert f"{len(rows)} ticks acknowledged" in answer.stderr
    assert rows[-1][0] >= started, "the last sample is stamped with the moment it was played"
    assert timedelta(seconds=1) < rows[-1][0] - rows[0][0] < timedelta(seconds=3), "the spacing stays as recorded"


def test_a_replay_that_keeps_its_times_plays_under_another_name_and_takes_as_long_as_asked(
    up: Up, recording: Path
) -> None:
    started = time.monotonic()
    answer = optiinfra(
        "replay", str(recording), "--speed=4", "--keep-times", "--as-node=as-it-was",
        f"--server=127.0.0.1:{up.grpc_port}", cwd=recording.parent,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    assert time.monotonic() - started < 10
    node = up.get("/nodes/as-it-was")
    assert datetime.fromisoformat(node["last_sample_at"]).timestamp() < recording.stat().st_mtime + 0.5
    assert node["attributes"]["replayed_from"] == "recorded-host"


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + b"\x05" * 40])
def test_a_file_that_is_no_recording_is_one_sentence(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "some.rec").write_bytes(content)
    answer = optiinfra("replay", "some.rec", cwd=tmp_path)
    assert answer.returncode == 2
    assert "some.rec" in one_sentence(answer.stderr)


def test_replaying_a_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    answer = optiinfra("replay", "none.rec", cwd=tmp_path)
    assert answer.returncode == 2
    assert "none.rec" in one_sentence(answer.stderr)


def test_a_recording_is_never_overwritten(recording: Path) -> None:
    before = recording.read_bytes()
    answer = optiinfra("record", str(recording), f"--state-dir={recording.parent / 'state'}", cwd=recording.parent)
    assert answer.returncode == 2
    assert "exists already" in one_sentence(answer.stderr)
    assert recording.read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda n: n.name)
def test_an_interrupted_recording_still_plays(number: signal.Signals, up: Up, tmp_path: Path) -> None:
    name = f"interrupted-by-{number.name.lower()}"
    flags = [OFTEN, f"--node-name={name}", f"--state-dir={tmp_path / 'state'}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "control_plane", "record", "host.rec", *flags],
        cwd=tmp_path, env=clean_environment(), stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    time.sleep(3)
    os.killpg(process.pid, number)
    process.communicate(timeout=10)
    assert process.returncode == (-number if number is signal.SIGKILL else 0)
    server = f"--server=127.0.0.1:{up.grpc_port}"
    answer = optiinfra("replay", "host.rec", "--speed=0", server, cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert int(answer.stderr.split(" ticks acknowledged")[0].split()[-1]) >= 2
    assert up.get(f"/nodes/{name}")["replayed"] is True


# -- how it ends ----------------------------------------------------------------------------------


def test_ctrl_c_stops_everything_and_the_next_start_has_the_history(folder: Path) -> None:
    up = Up(folder, OFTEN)
    with running(up):
        (node,) = up.get("/nodes")["items"]
        before, belongs = up.host_samples(), up.everything()
        assert len(belongs) > 3
        up.signal_group(signal.SIGINT)
        assert up.wait(within_seconds=10) == 0
        assert not alive(belongs)
        assert up.output.endswith("stopped; the history stays where it is\n")
    with running(up):
        (again,) = up.get("/nodes")["items"]
        assert (again["node_id"], again["first_seen_at"]) == (node["node_id"], node["first_seen_at"])
        assert again["lost_ticks"] == 0
        after = up.host_samples()
        assert_kept_once(before, after)
        history = up.get("/system/history?field=memory_used_bytes&since=15m&step=1s")["items"][0]["points"]
        assert sum(point["samples"] for point in history) >= len(before)
    assert "Traceback" not in up.output


@pytest.mark.slow
def test_sigterm_stops_as_ctrl_c_does(folder: Path) -> None:
    with running(Up(folder, OFTEN)) as up:
        belongs = up.everything()
        os.kill(up.pid, signal.SIGTERM)
        assert up.wait(within_seconds=10) == 0
        assert not alive(belongs)
        assert up.output.endswith("stopped; the history stays where it is\n")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
@pytest.mark.parametrize("after_seconds", [0.4, 0.8, 1.2, 1.6, 2.0])
def test_an_interrupted_start_leaves_no_process_and_no_half_database(
    number: signal.Signals, after_seconds: float, folder: Path
) -> None:
    up = Up(folder, OFTEN).start()
    time.sleep(after_seconds)
    belongs = up.everything()
    up.signal_group(number)
    assert up.wait(within_seconds=20) in (0, 130, -number), up.output
    assert "Traceback" not in up.output
    eventually(lambda: not alive(belongs), what="everybody's end")
    with running(up):
        assert up.get("/nodes")["items"]


@pytest.mark.slow
def test_a_power_cut_loses_no_committed_sample_and_doubles_none(folder: Path) -> None:
    up = Up(folder, OFTEN)
    before: list[tuple[int, datetime]] = []
    for _ in range(3):
        up.start().wait_for_samples(3)
        after = up.host_samples()
        assert_kept_once(before, after)
        before = after
        up.kill_everything()
    with running(up):
        assert_kept_once(before, up.host_samples())
        assert len(up.get("/nodes")["items"]) == 1


@pytest.mark.slow
def test_killing_the_control_plane_alone_leaves_no_orphan_and_loses_nothing(folder: Path) -> None:
    up = Up(folder, OFTEN).start().wait_for_samples(3)
    before, belongs = up.host_samples(), up.everything()
    assert up.agent_pids
    os.kill(up.pid, signal.SIGKILL)
    assert up.wait(within_seconds=5) == -signal.SIGKILL
    eventually(lambda: not alive(belongs), within_seconds=15, what="the end of the agent and the database")
    with running(up):
        assert_kept_once(before, up.host_samples())
    assert "not properly shut down" not in (up.data_dir / "postgres" / "postgres.log").read_text()


@pytest.mark.slow
def test_a_control_plane_that_comes_back_at_once_finds_its_ports_and_its_folder(folder: Path) -> None:
    up = Up(folder, OFTEN).start().wait_for_samples()
    before = up.host_samples()
    os.kill(up.pid, signal.SIGKILL)
    up.wait(within_seconds=5)
    with running(up):
        assert_kept_once(before, up.host_samples())


@pytest.mark.slow
def test_an_agent_that_is_killed_is_started_again_and_samples_go_on(folder: Path) -> None:
    with running(Up(folder, OFTEN)) as up:
        (agent,) = up.agent_pids
        os.kill(agent, signal.SIGKILL)
        (restarted,) = eventually(lambda: up.agent_pids - {agent}, what="another agent")
        assert restarted != agent
        killed_at = datetime.now(UTC)
        eventually(lambda: up.host_samples()[-1][1] > killed_at, what="a sample of the new agent")
        (node,) = up.get("/nodes")["items"]
        assert node["lost_ticks"] == 0
        assert "the local agent ended with code -9; it is started again in 1 s" in up.output


@pytest.mark.slow
def test_a_database_that_is_killed_is_seen_comes_back_by_itself_and_nothing_is_lost(folder: Path) -> None:
    with running(Up(folder, OFTEN)) as up:
        before, first = up.host_samples(), up.postgres_pid
        os.kill(first, signal.SIGKILL)
        eventually(lambda: up.status("/health/ready") == 503, within_seconds=10, what="an honest probe")
        assert up.status("/health/live") == 200
        assert up.status("/nodes") in (200, 503)
        eventually(up.is_ready, what=f"the database\n{up.output}")
        assert up.postgres_pid != first
        back_at = datetime.now(UTC)
        eventually(lambda: up.host_samples()[-1][1] > back_at, what="a sample after the outage")
        after = up.host_samples()
        assert_kept_once(before, after)
        times = [taken_at for _, taken_at in after]
        gaps = [later - earlier for earlier, later in pairwise(times)]
        assert max(gaps) < timedelta(seconds=2), "what was sampled during the outage was kept and stored"
        (node,) = up.get("/nodes")["items"]
        assert node["lost_ticks"] == 0
        assert "the embedded Postgres ended by signal 9; it is started again in 0.5 s" in up.output
    assert "Traceback" not in up.output


@pytest.mark.slow
def test_a_database_that_dies_again_and_again_is_started_again_and_again(folder: Path) -> None:
    with running(Up(folder, OFTEN)) as up:
        for _ in range(3):
            os.kill(up.postgres_pid, signal.SIGKILL)
            eventually(lambda: up.status("/health/ready") == 503, within_seconds=10, what="an honest probe")
            eventually(up.is_ready, what=f"the database\n{up.output}")
        belongs = up.everything()
        up.signal_group(signal.SIGINT)
        assert up.wait(within_seconds=10) == 0
        assert not alive(belongs)


@pytest.mark.slow
def test_ctrl_c_while_the_database_is_down_still_stops_everything(folder: Path) -> None:
    with running(Up(folder, OFTEN)) as up:
        belongs = up.everything()
        os.kill(up.postgres_pid, signal.SIGKILL)
        up.signal_group(signal.SIGINT)
        assert up.wait(within_seconds=30) == 0, up.output
        assert not alive(belongs | up.everything())


@pytest.mark.slow
def test_the_fleets_cadence_is_taken_over_by_an_agent_that_connects() -> None:
    with folder_for_postgres() as folder, running(Up(folder, "--fleet-sampling-interval-seconds", "1")) as up:
        up.wait_for_samples(4)
        node = eventually(
            lambda: next((n for n in up.get("/nodes")["items"] if n["sampling_interval_seconds"] == 1), None),
            what="the fleet's cadence",
        )
        assert node["lost_ticks"] == 0
        gaps = [b - a for (_, a), (_, b) in pairwise(up.host_samples())]
        assert min(gap.total_seconds() for gap in gaps) < 2, "the local agent's own cadence is 5 s"
