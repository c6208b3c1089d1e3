"""The Postgres that comes in the package, for one machine: a child of ours that lives and ends with us.

Use it where no database is given. Everything after it, migrations, pools, COPY, sees only a URL.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote

from control_plane.runtime.clock import Clock, SystemClock
from control_plane.storage.postgres_account import EmbeddedPostgresError, ServerAccount
from control_plane.storage.postgres_binaries import PostgresBinaries, find_binaries, reachable_by
from control_plane.storage.postgres_folder import PostgresFolder

__all__ = ["SETTINGS", "EmbeddedPostgres", "EmbeddedPostgresError", "keep_running"]

log = logging.getLogger(__name__)

_ROLE = "optiinfra"
_DATABASE = (
    "postgres"  # initdb makes it; the embedded server serves one application, so another would only be a step more
)
_DEFAULT_PORT = 5432  # without TCP it only names the socket

# Crash recovery replays up to max_wal_size: seconds on an SSD, minutes on a bad disk. pg_ctl's own 60 s are too few.
_START_TIMEOUT_SECONDS = 300.0
# A fast shutdown ends with a checkpoint, which writes at most the shared buffers.
_STOP_TIMEOUT_SECONDS = 60.0
# An immediate shutdown writes nothing.
_QUIT_TIMEOUT_SECONDS = 10.0
_POLL_SECONDS = 0.01

# How soon a server that died is noticed: below what the first retries of its clients take.
_WATCH_SECONDS = 0.25
# The first lets the orphans of a killed server end; the later ones do not hammer a fault that stays: a full disk, say.
_RESTART_SECONDS = (0.5, 1.0, 2.0, 5.0, 15.0, 60.0)
# One that answered for this long was well: its end is a first failure again.
_WELL_SECONDS = 60.0

# Given on the command line, where they win over any file: each line is a promise or fits a small neighbour of engines.
SETTINGS: Mapping[str, str] = MappingProxyType(
    {
        # An acknowledged sample is on disk: these are the defaults, and nobody may edit them away.
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        # Backups with pg_basebackup need replica, and two senders: one for the files, one for the log.
        "wal_level": "replica",
        "max_wal_senders": "4",
        # Full page images are most of the log of such a load; pglz, as the wheels come without lz4.
        "wal_compression": "pglz",
        # Fewer checkpoints write fewer full pages; recovery replays at most this much.
        "max_wal_size": "2GB",
        "checkpoint_timeout": "15min",
        # The hot end of the partitions of 1,000 nodes; the rest is the page cache's. Engines own this machine's memory.
        "shared_buffers": "128MB",
        # Huge pages that are reserved on this machine were reserved for an engine.
        "huge_pages": "off",
        # API pool, writer, workers and a person with psql, with room; each costs some 2 MiB.
        "max_connections": "60",
        # Parallel workers need /dev/shm, which containers cut to 64 MiB, and cores, which are the engines'.
        "max_parallel_workers_per_gather": "0",
        "max_parallel_maintenance_workers": "0",
        # Compiling costs more than our short queries run; some wheels come without it anyway.
        "jit": "off",
        # Rows come in bulk and leave by partition: look often, so that visibility maps and statistics are fresh.
        "autovacuum_naptime": "15s",
        # A transaction that somebody forgot would hold back vacuum for the whole database.
        "idle_in_transaction_session_timeout": "5min",
        # Stamps are UTC everywhere; so are the log's.
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_line_prefix": "%m [%p] ",
        # The log is for trouble: a line for each checkpoint would bury it.
        "log_checkpoints": "off",
        "log_lock_waits": "on",
        "logging_collector": "off",  # it would log past the file that we read reasons from
        "unix_socket_permissions": "0700",
    }
)


class EmbeddedPostgres:
    """One Postgres server on one folder. This will run it as a direct child, reachable over a Unix socket only.

    The server ends with us, however we end: `stop` and SIGKILL of ours both give a clean shutdown.
    Committed rows survive SIGKILL of everything. With `port` it also listens on 127.0.0.1, for
    tools such as Grafana. `prefix` names an installation other than that of the wheel.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int | None = None,
        prefix: Path | None = None,
        clock: Clock | None = None,
        start_timeout_seconds: float = _START_TIMEOUT_SECONDS,
    ) -> None:
        if port is not None and not 1 <= port <= 65535:
            raise EmbeddedPostgresError(f"{port} is not a TCP port: choose one from 1 to 65535, or none")
        self._folder = PostgresFolder(data_dir)
        self._port = port
        self._prefix = prefix
        self._clock = clock or SystemClock()
        self._start_timeout_seconds = start_timeout_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._binaries: PostgresBinaries | None = None
        self._version: str | None = None
        self._url: str | None = None

    @property
    def url(self) -> str:
        """This will give a `postgresql://` URL, password included, that psycopg and SQLAlchemy both understand."""
        if self._url is None:
            raise EmbeddedPostgresError("the embedded Postgres was not started")
        return self._url

    @property
    def pid(self) -> int | None:
        """This will give the server's pid, or None when it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def version(self) -> str:
        """This will give the version of the installed Postgres, such as "18.4"."""
        if self._version is None:
            self._version = find_binaries(self._prefix).version
        return self._version

    def start(self) -> None:
        """This will bring the server up, making or recovering its database as needed, and return when it answers.

        It blocks: under a second as a rule, up to `start_timeout_seconds` after a crash. It must be
        called from the main thread, because the kernel ends the server with the thread that started it.
        """
        _require_main_thread()
        if self._process is not None:
            raise EmbeddedPostgresError("the embedded Postgres was started before: stop it first")
        started = False
        try:
            self._bring_up()
            started = True
        except OSError as error:
            raise EmbeddedPostgresError(self._explain(error)) from error
        except subprocess.TimeoutExpired as error:
            raise EmbeddedPostgresError(f"the disk under {self._folder.root} is too slow: {error}") from error
        finally:
            if not started:  # a Ctrl-C included
                self.stop()

    def restart(self) -> None:
        """This will start a server that died, and return before it answers: `is_ready` tells. Main thread only.

        The folder stays ours meanwhile, and the URL the same. While it runs this does nothing.
        """
        _require_main_thread()
        if self._process is None or self._binaries is None:
            raise EmbeddedPostgresError("the embedded Postgres was not started")
        if self.pid is not None:
            return
        try:
            self._folder.forget_dead_server()
            self._spawn(ServerAccount.for_data(self._folder.pgdata), self._binaries)
        except OSError as error:
            raise EmbeddedPostgresError(self._explain(error)) from error

    @property
    def is_ready(self) -> bool:
        """This will tell whether the server runs and accepts connections."""
        pid = self.pid
        return pid is not None and self._folder.server_is_ready(pid)

    def why_it_ended(self) -> str:
        """This will say how the server that does not run any more ended."""
        code = self._process.returncode if self._process is not None else None
        if code is not None and code < 0:
            return f"by signal {-code}"
        return f"with code {code}: {self._folder.reason_in_log()}"

    def stop(self) -> None:
        """This will end the server, cleanly if it can within a minute, and leave the folder to others."""
        try:
            if self._process is not None:
                _end(self._process)
        finally:
            self._process = None
            self._url = None
            self._folder.release()

    def _bring_up(self) -> None:
        folder = self._folder
        account = ServerAccount.for_data(folder.pgdata)
        folder.require_reachable_by(account)
        folder.acquire(self._clock)
        binaries = reachable_by(account, find_binaries(self._prefix), copies=folder.binaries)
        self._binaries, self._version = binaries, binaries.version
        if folder.is_initialised:
            folder.require_version(binaries)
            self._await_predecessor()
        else:
            folder.initialise(binaries, account, role=_ROLE)
        url, process = self._spawn(account, binaries)
        self._await_ready(process)
        self._url = url

    def _spawn(self, account: ServerAccount, binaries: PostgresBinaries) -> tuple[str, subprocess.Popen[bytes]]:
        sockets = self._folder.socket_folder(account)
        url = self._url_for(sockets)
        with self._folder.open_log() as output:
            command: list[str | Path] = [binaries.program("postgres"), *self._arguments(sockets)]
            self._process = account.spawn(command, cwd=self._folder.root, log=output)
        return url, self._process

    def _arguments(self, sockets: Path) -> list[str]:
        settings = {
            **SETTINGS,
            "listen_addresses": "127.0.0.1" if self._port else "",
            "port": str(self._port or _DEFAULT_PORT),
            "unix_socket_directories": str(sockets),
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return ["-D", str(self._folder.pgdata), *options]

    def _url_for(self, sockets: Path) -> str:
        password = quote(self._folder.password(), safe="")
        host = quote(str(sockets), safe="")
        return f"postgresql://{_ROLE}:{password}@/{_DATABASE}?host={host}&port={self._port or _DEFAULT_PORT}"

    def _await_predecessor(self) -> None:
        """The server of an owner that was killed is shutting down, or was orphaned; nobody else owns the folder."""
        pid = self._folder.forget_dead_server()
        if pid is None:
            return
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGINT)
        deadline = self._clock.monotonic() + _STOP_TIMEOUT_SECONDS
        while self._folder.forget_dead_server() is not None:
            if self._clock.monotonic() > deadline:
                raise EmbeddedPostgresError(
                    f"another Postgres (pid {pid}) runs on {self._folder.pgdata} and does not end: stop it first"
                )
            time.sleep(_POLL_SECONDS)

    def _await_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = self._clock.monotonic() + self._start_timeout_seconds
        while not self._folder.server_is_ready(process.pid):
            try:
                process.wait(_POLL_SECONDS)
            except subprocess.TimeoutExpired:
                pass
            else:
                raise EmbeddedPostgresError(
                    f"Postgres did not start on {self._folder.root}: {self._folder.reason_in_log()}"
                )
            if self._clock.monotonic() > deadline:
                raise EmbeddedPostgresError(
                    f"Postgres was not ready on {self._folder.root} within {self._start_timeout_seconds:.0f} s;"
                    f" recovery goes on at the next start. Its log says: {self._folder.reason_in_log()}"
                )

    def _explain(self, error: OSError) -> str:
        if error.errno == errno.ENOSPC:
            return f"the disk under {self._folder.root} is full: {error}"
        if error.errno in {errno.EACCES, errno.EPERM}:
            return f"the data folder {self._folder.root} belongs to another user: {error}"
        return f"the embedded Postgres did not start on {self._folder.root}: {error}"


def running_url(data_dir: Path) -> str:
    """This will give the URL of the server that runs on this folder. Raises EmbeddedPostgresError: none does."""
    folder = PostgresFolder(data_dir)
    where = folder.running_at()
    if where is None:
        raise EmbeddedPostgresError(f"no database runs in {data_dir}; start it first: `optiinfra up`")
    sockets, port = where
    try:
        password = folder.password()
    except PermissionError as error:
        raise EmbeddedPostgresError(
            f"the database in {data_dir} is somebody else's: run this as who runs `optiinfra up`"
        ) from error
    return f"postgresql://{_ROLE}:{quote(password, safe='')}@/{_DATABASE}?host={quote(sockets, safe='')}&port={port}"


def _require_main_thread() -> None:
    if threading.current_thread() is not threading.main_thread():
        raise EmbeddedPostgresError(
            "the embedded Postgres must be started from the main thread: it ends with its thread"
        )


async def keep_running(server: EmbeddedPostgres, clock: Clock) -> None:
    """This will start `server` again whenever it dies, until cancelled. It must run on the main thread's loop.

    The loop stays free while the server recovers, so that the API can say that it is away.
    """
    failures = 0
    while True:
        started = clock.monotonic()
        while server.pid is not None:  # noqa: ASYNC110 - another process is waited for
            await asyncio.sleep(_WATCH_SECONDS)
        if clock.monotonic() - started > _WELL_SECONDS:
            failures = 0
        delay = _RESTART_SECONDS[min(failures, len(_RESTART_SECONDS) - 1)]
        failures += 1
        log.error("the embedded Postgres ended %s; it is started again in %g s", server.why_it_ended(), delay)
        await asyncio.sleep(delay)
        try:
            server.restart()
        except EmbeddedPostgresError as error:
            log.error("%s", error)
        if await _answers(server):
            log.warning("the embedded Postgres runs again")


async def _answers(server: EmbeddedPostgres) -> bool:
    """This will wait until the server accepts connections; False when it ended instead."""
    while not server.is_ready:
        if server.pid is None:
            return False
        await asyncio.sleep(_WATCH_SECONDS)
    return True


def _end(process: subprocess.Popen[bytes]) -> None:
    """Fast, then immediate, then hard: the second and third cost a recovery at the next start, but no committed row."""
    for number, patience in (
        (signal.SIGINT, _STOP_TIMEOUT_SECONDS),
        (signal.SIGQUIT, _QUIT_TIMEOUT_SECONDS),
        (signal.SIGKILL, _QUIT_TIMEOUT_SECONDS),
    ):
        process.send_signal(number)
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            continue
        return
