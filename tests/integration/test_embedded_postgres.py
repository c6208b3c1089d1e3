"""The Postgres in the package: it starts, keeps what was committed, is private, and ends with its owner."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy

from control_plane.storage.embedded import EmbeddedPostgres, EmbeddedPostgresError
from control_plane.storage.postgres_account import ServerAccount
from control_plane.storage.postgres_binaries import find_binaries

REPOSITORY = Path(__file__).parents[2]
AS_ROOT = os.geteuid() == 0
only_as_root = pytest.mark.skipif(not AS_ROOT, reason="needs root, to become another user")

# Starts a server, says so, and then does nothing until it is killed.
OWNER = """
import signal, sys, time
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a runner in the background hands down that it is ignored
from control_plane.storage.embedded import EmbeddedPostgres
postgres = EmbeddedPostgres(Path(sys.argv[1]))
postgres.start()
try:
    print(postgres.pid, postgres.url, flush=True)  # whoever reads this may interrupt before the next line is reached
    time.sleep(600)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the server's user can reach; pytest's own are closed to others."""
    path = Path(tempfile.mkdtemp(prefix="optiinfra-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def postgres(folder: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(folder / "data")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def owner(folder: Path) -> Iterator[subprocess.Popen[str]]:
    process = start_owner(folder / "data")
    yield process
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()
    until(lambda: not server_lives(folder))


def start_owner(data: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", OWNER, data],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def first_line(process: subprocess.Popen[str]) -> tuple[int, str]:
    assert process.stdout is not None
    pid, url = process.stdout.readline().split()
    return int(pid), url


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def server_lives(folder: Path) -> bool:
    try:
        return lives(int((folder / "data" / "pgdata" / "postmaster.pid").read_text().split()[0]))
    except (FileNotFoundError, IndexError):
        return False


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def write_row(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("create table if not exists kept (id int primary key)")
        connection.execute("insert into kept select count(*) from kept")


def count_rows(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("select count(*) from kept").fetchone()
    assert row is not None
    return int(row[0])


def setting(url: str, name: str) -> str:
    with psycopg.connect(url) as connection:
        row = connection.execute("select current_setting(%s)", [name]).fetchone()
    assert row is not None
    return str(row[0])


def test_a_cold_start_gives_a_url_that_psycopg_and_sqlalchemy_understand(postgres: EmbeddedPostgres) -> None:
    assert postgres.pid is not None
    assert postgres.version.split(".")[0].isdigit()
    write_row(postgres.url)
    engine = sqlalchemy.create_engine(postgres.url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection:
        assert connection.execute(sqlalchemy.text("select count(*) from kept")).scalar() == 1
    engine.dispose()


def test_an_acknowledged_commit_is_on_a_checked_disk(postgres: EmbeddedPostgres) -> None:
    for name in ("fsync", "synchronous_commit", "full_page_writes", "data_checksums"):
        assert setting(postgres.url, name) == "on"
    assert setting(postgres.url, "wal_level") == "replica"
    assert setting(postgres.url, "TimeZone") == "UTC"


def test_a_warm_start_keeps_the_rows_and_the_password(folder: Path) -> None:
    server = EmbeddedPostgres(folder / "data")
    urls = []
    for expected in (1, 2):
        server.start()
        write_row(server.url)
        assert count_rows(server.url) == expected
        urls.append(server.url)
        server.stop()
        server.stop()  # once more does no harm
        assert server.pid is None
    assert urls[0] == urls[1]


def test_the_server_is_closed_to_the_network_and_to_other_users(postgres: EmbeddedPostgres, folder: Path) -> None:
    inodes = {str(entry.readlink()) for entry in Path(f"/proc/{postgres.pid}/fd").iterdir()}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            assert f"socket:[{line.split()[9]}]" not in inodes, "it listens on TCP"
    for name, mode in (("password", 0o600), ("socket", 0o700), ("pgdata", 0o700), ("postgres.log", 0o600)):
        assert stat.S_IMODE((folder / "data" / name).stat().st_mode) == mode
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(postgres.url.replace(postgres.url.split(":")[2].split("@")[0], "wrong"))


def test_a_given_port_listens_on_loopback_only_and_asks_for_the_password(folder: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = EmbeddedPostgres(folder / "data", port=port)
    server.start()
    try:
        assert setting(server.url, "listen_addresses") == "127.0.0.1"
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(host="127.0.0.1", port=port, user="optiinfra", dbname="postgres", password="wrong")
    finally:
        server.stop()


def test_a_port_in_use_is_named_as_the_reason(folder: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        server = EmbeddedPostgres(folder / "data", port=holder.getsockname()[1])
        with pytest.raises(EmbeddedPostgresError, match="could not"):
            server.start()
    assert server.pid is None


def test_kill_9_of_server_and_owner_keeps_committed_rows(folder: Path, owner: subprocess.Popen[str]) -> None:
    pid, url = first_line(owner)
    write_row(url)
    os.kill(pid, signal.SIGKILL)
    owner.kill()
    server = EmbeddedPostgres(folder / "data")
    server.start()
    try:
        assert count_rows(server.url) == 1
    finally:
        server.stop()


def test_kill_9_of_the_owner_ends_the_server_cleanly(folder: Path, owner: subprocess.Popen[str]) -> None:
    pid, url = first_line(owner)
    write_row(url)
    owner.kill()
    until(lambda: not lives(pid))
    assert "database system is shut down" in (folder / "data" / "postgres.log").read_text()


def test_a_restart_waits_for_the_server_of_a_killed_owner(folder: Path, owner: subprocess.Popen[str]) -> None:
    pid, url = first_line(owner)
    write_row(url)
    os.kill(pid, signal.SIGSTOP)  # too slow to be gone when the next owner comes
    owner.kill()
    owner.wait()
    threading.Timer(0.5, os.kill, (pid, signal.SIGCONT)).start()
    server = EmbeddedPostgres(folder / "data")
    server.start()
    try:
        assert not lives(pid)
        assert count_rows(server.url) == 1
    finally:
        server.stop()


def test_a_second_owner_is_refused_with_the_folder_and_the_first_ones_pid(
    folder: Path, owner: subprocess.Popen[str]
) -> None:
    pid, _ = first_line(owner)
    with pytest.raises(EmbeddedPostgresError, match=rf"{folder}/data .*pid {owner.pid}"):
        EmbeddedPostgres(folder / "data").start()
    assert lives(pid)


def test_ctrl_c_in_the_terminal_reaches_the_owner_and_not_the_server(owner: subprocess.Popen[str]) -> None:
    pid, url = first_line(owner)
    os.killpg(os.getpgid(owner.pid), signal.SIGINT)
    assert owner.stdout is not None
    assert owner.stdout.readline() == "interrupted\n"
    write_row(url)
    assert lives(pid)


@pytest.mark.slow
def test_a_path_too_long_for_a_socket_takes_a_short_private_folder(folder: Path) -> None:
    data = folder / ("long-" * 20) / "data"
    server = EmbeddedPostgres(data)
    server.start()
    try:
        sockets = Path(setting(server.url, "unix_socket_directories"))
        assert not sockets.is_relative_to(folder)
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    finally:
        server.stop()
    shutil.rmtree(sockets)


@pytest.mark.slow
def test_a_path_that_would_be_read_as_a_list_takes_a_plain_folder(folder: Path) -> None:
    server = EmbeddedPostgres(folder / "a,b: c")
    server.start()
    try:
        sockets = Path(setting(server.url, "unix_socket_directories"))
        assert not sockets.is_relative_to(folder)
    finally:
        server.stop()
    shutil.rmtree(sockets)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["zombie", "other program"])
def test_the_pid_file_of_a_dead_server_does_not_prevent_a_start(folder: Path, kind: str) -> None:
    server = EmbeddedPostgres(folder / "data")
    server.start()
    write_row(server.url)
    assert server.pid is not None
    pid_file = folder / "data" / "pgdata" / "postmaster.pid"
    lines = pid_file.read_text().splitlines(keepends=True)
    server.stop()
    other = subprocess.Popen(["sleep", "0" if kind == "zombie" else "60"])
    if kind == "zombie":
        until(lambda: not lives(other.pid))
    pid_file.write_text("".join([f"{other.pid}\n", *lines[1:]]))
    try:
        server.start()
        assert count_rows(server.url) == 1
    finally:
        server.stop()
        other.kill()
        other.wait()


def test_a_start_outside_the_main_thread_is_refused(folder: Path) -> None:
    refused: list[EmbeddedPostgresError] = []

    def start() -> None:
        try:
            EmbeddedPostgres(folder / "data").start()
        except EmbeddedPostgresError as error:
            refused.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert "main thread" in str(refused[0])


@pytest.mark.slow
def test_data_of_another_major_version_is_refused(folder: Path) -> None:
    server = EmbeddedPostgres(folder / "data")
    server.start()
    server.stop()
    (folder / "data" / "pgdata" / "PG_VERSION").write_text("9\n")
    with pytest.raises(EmbeddedPostgresError, match="written by Postgres 9"):
        server.start()


def test_a_lost_password_file_is_named(folder: Path) -> None:
    server = EmbeddedPostgres(folder / "data")
    server.start()
    server.stop()
    (folder / "data" / "password").unlink()
    with pytest.raises(EmbeddedPostgresError, match="password file"):
        server.start()


@pytest.mark.slow
def test_an_interrupted_initialisation_is_done_again(folder: Path) -> None:
    half = folder / "data" / "pgdata.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    server = EmbeddedPostgres(folder / "data")
    server.start()
    server.stop()
    assert not half.exists()


@pytest.mark.slow
def test_a_broken_database_is_refused_with_the_logs_own_reason(folder: Path) -> None:
    server = EmbeddedPostgres(folder / "data")
    server.start()
    server.stop()
    (folder / "data" / "pgdata" / "global" / "pg_control").unlink()
    with pytest.raises(EmbeddedPostgresError, match="pg_control"):
        server.start()
    assert server.pid is None


@pytest.mark.slow
def test_a_large_log_is_set_aside_at_start(folder: Path) -> None:
    server = EmbeddedPostgres(folder / "data")
    server.start()
    server.stop()
    log = folder / "data" / "postgres.log"
    log.write_bytes(b"x" * (10 * 1024 * 1024 + 1))
    server.start()
    server.stop()
    assert log.stat().st_size < 100_000
    assert log.with_name("postgres.log.1").stat().st_size > 10 * 1024 * 1024


def test_a_full_disk_is_named_as_such(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_run = ServerAccount.run

    def run(account: ServerAccount, command: list[str], *, cwd: Path) -> subprocess.CompletedProcess[str]:
        if "initdb" not in str(command[0]):
            return real_run(account, command, cwd=cwd)
        output = 'initdb: error: could not write to file "x": No space left on device\n'
        return subprocess.CompletedProcess(command, 1, stdout=output)

    monkeypatch.setattr(ServerAccount, "run", run)
    with pytest.raises(EmbeddedPostgresError, match="the disk is full"):
        EmbeddedPostgres(folder / "data").start()
    assert not (folder / "data" / "pgdata.new").exists()


@only_as_root
def test_as_root_a_folder_that_nobody_can_enter_is_refused_and_left_alone(folder: Path) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(EmbeddedPostgresError, match=rf"cannot enter {closed}"):
        EmbeddedPostgres(closed / "data").start()
    assert list(closed.iterdir()) == []
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@pytest.mark.slow
@only_as_root
def test_as_root_binaries_that_nobody_can_reach_are_copied(folder: Path) -> None:
    installed = find_binaries().prefix
    package = folder / "closed" / installed.parent.name
    shutil.copytree(installed, package / installed.name, symlinks=True)
    libraries = installed.parent.with_name(f"{installed.parent.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, package.with_name(libraries.name), symlinks=True)
    (folder / "closed").chmod(0o700)
    server = EmbeddedPostgres(folder / "data", prefix=package / installed.name)
    server.start()
    try:
        program = Path(f"/proc/{server.pid}/exe").readlink()
        assert program.is_relative_to(folder / "data" / "binaries")
        assert program.stat().st_uid == 0
    finally:
        server.stop()


@only_as_root
def test_as_root_only_the_folders_that_the_server_writes_change_hands(folder: Path) -> None:
    server = EmbeddedPostgres(folder / "data")
    server.start()
    try:
        assert Path(f"/proc/{server.pid}").stat().st_uid != 0
    finally:
        server.stop()
    owners = {path.name: path.stat().st_uid == 0 for path in (folder / "data").iterdir()}
    assert owners == {"lock": True, "postgres.log": True, "password": False, "pgdata": False, "socket": False}
    assert (folder / "data").stat().st_uid == 0


@pytest.mark.slow
@only_as_root
def test_an_ordinary_user_runs_it_and_root_goes_on_with_the_same_data(folder: Path) -> None:
    folder.chmod(0o777)
    script = """
import os, sys
from pathlib import Path
import psycopg
from control_plane.storage.embedded import EmbeddedPostgres
os.setgroups([]); os.setgid(1); os.setuid(1)  # daemon, which every Linux has
postgres = EmbeddedPostgres(Path(sys.argv[1]))
postgres.start()
with psycopg.connect(postgres.url) as connection:
    connection.execute("create table kept as select 1 as id")
postgres.stop()
"""
    # It becomes that user by itself: the interpreter of a test machine may lie where only root can start it.
    command = [sys.executable, "-c", script, str(folder / "data")]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    server = EmbeddedPostgres(folder / "data")
    server.start()
    try:
        assert count_rows(server.url) == 1
        assert Path(f"/proc/{server.pid}").stat().st_uid == 1
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("says", "version"),
    [("postgres (PostgreSQL) 18.4", "18.4"), ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", "15.18")],
)
def test_the_version_of_a_distributions_postgres_is_understood(tmp_path: Path, says: str, version: str) -> None:
    program = tmp_path / "bin" / "postgres"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho '{says}'\n")
    program.chmod(0o755)
    assert EmbeddedPostgres(tmp_path / "data", prefix=tmp_path).version == version
