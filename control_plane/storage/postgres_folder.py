"""The folder of an embedded Postgres on disk: who owns it, what lies where, what a crash left behind.

<root>/lock          held by the one process that may run a server here; its pid is inside
<root>/password      of the one role, 0600
<root>/pgdata/       Postgres's own
<root>/socket/       where clients connect, unless the path is too long for a socket
<root>/binaries/     a copy of the programs, where the server's user cannot reach the installed ones
<root>/postgres.log  and .1, the one before
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
import shutil
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

from control_plane.runtime.clock import Clock
from control_plane.storage.postgres_account import EmbeddedPostgresError, ServerAccount
from control_plane.storage.postgres_binaries import PostgresBinaries

# sockaddr_un.sun_path holds 108 bytes, the final NUL included (unix(7)).
_LONGEST_SOCKET_PATH_BYTES = 107
_LONGEST_SOCKET_NAME = ".s.PGSQL.65535"

# libpq and the server split lists of hosts at commas, SQLAlchemy splits hosts at colons: such paths need a detour.
_PLAIN_PATH = re.compile(r"[A-Za-z0-9/._+-]+")

# A server that logs its warnings writes some KiB a day; more than this means trouble that repeats itself.
_LARGEST_LOG_BYTES = 10 * 1024 * 1024

# An owner that was killed a moment ago holds the lock until the kernel has closed its files.
_LOCK_PATIENCE_SECONDS = 2.0
_POLL_SECONDS = 0.02

# Enough of the log to hold the reason of a failed start, few enough to be read in a terminal.
_REASON_LINES = 4
_REASON_BYTES = 64 * 1024


class PostgresFolder:
    """The files around one embedded Postgres. One process at a time owns them, from `acquire` to `release`."""

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.abspath(root)).resolve()  # noqa: PTH100  (absolute even if the current folder is gone)
        self.pgdata = self.root / "pgdata"
        self.log_path = self.root / "postgres.log"
        self.binaries = self.root / "binaries"
        self._password_path = self.root / "password"
        self._lock: IO[str] | None = None
        self._log_start = 0

    def acquire(self, clock: Clock) -> None:
        """This will create the folder when it is missing and become its one owner, or say who that is."""
        _make_open_folders(self.root)
        lock = (self.root / "lock").open("a+", encoding="utf-8")
        deadline = clock.monotonic() + _LOCK_PATIENCE_SECONDS
        while not _try_lock(lock):
            if clock.monotonic() > deadline:
                lock.seek(0)
                owner = lock.read().strip() or "unknown"
                lock.close()
                raise EmbeddedPostgresError(
                    f"the data folder {self.root} is in use by another process (pid {owner}):"
                    " stop that one, or choose another folder"
                )
            time.sleep(_POLL_SECONDS)
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        self._lock = lock  # not inherited by children: it ends with us, however we end

    def release(self) -> None:
        """This will let another process own the folder."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def require_reachable_by(self, account: ServerAccount) -> None:
        """This will refuse a folder that the server's user cannot enter, rather than open folders that are not ours."""
        closed = account.first_closed_folder(self.root)
        if closed is not None:
            remedy = f", or run `chmod o+x {closed}`" if closed == self.root else ""  # never advise to open /root
            raise EmbeddedPostgresError(
                f"Postgres refuses to run as root, and user {account.name}, as whom it would run instead, cannot enter"
                f" {closed}: choose a data folder outside of it (such as /var/lib/optiinfra), start as an ordinary user"
                f"{remedy}"
            )

    def require_version(self, binaries: PostgresBinaries) -> None:
        """This will refuse data that another major version of Postgres wrote."""
        written_by = (self.pgdata / "PG_VERSION").read_text(encoding="utf-8").strip()
        if written_by != binaries.major:
            raise EmbeddedPostgresError(
                f"the data in {self.pgdata} was written by Postgres {written_by}, and the installed"
                f" {binaries.version} cannot read it: dump it with the package version that wrote it,"
                " or start with an empty folder"
            )

    @property
    def is_initialised(self) -> bool:
        """This will tell whether there is data."""
        return (self.pgdata / "PG_VERSION").exists()

    def initialise(self, binaries: PostgresBinaries, account: ServerAccount, *, role: str) -> None:
        """This will make an empty database, whole or not at all: it gets its name when all of it is on disk."""
        staging = self.root / "pgdata.new"
        if staging.exists():
            shutil.rmtree(staging)
        staging.mkdir(mode=0o700)
        account.own(staging)
        self._write_password(account)
        answer = account.run(
            [
                binaries.program("initdb"),
                f"--pgdata={staging}",
                f"--username={role}",
                f"--pwfile={self._password_path}",
                "--auth-local=scram-sha-256",  # the socket's folder is closed to others, and one lock is no lock
                "--auth-host=scram-sha-256",
                "--data-checksums",  # a disk that lies is noticed when it is read, not when it is believed
                "--encoding=UTF8",
                "--locale=C",  # sorts by byte: no update of libc can change the order under an index
                "--no-instructions",
            ],
            cwd=self.root,
        )
        if answer.returncode != 0:
            shutil.rmtree(staging, ignore_errors=True)
            raise EmbeddedPostgresError(f"no database could be made in {self.root}: {_reason(answer.stdout)}")
        staging.rename(self.pgdata)
        _sync_folder(self.root)

    def _write_password(self, account: ServerAccount) -> None:
        self._password_path.unlink(missing_ok=True)
        descriptor = os.open(self._password_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(secrets.token_urlsafe(24) + "\n")  # 192 bits
            file.flush()
            os.fsync(file.fileno())
        account.own(self._password_path)  # initdb, which runs as that user, has to read it

    def password(self) -> str:
        """This will give the password of the database's one role."""
        try:
            return self._password_path.read_text(encoding="utf-8").strip()
        except FileNotFoundError as error:
            raise EmbeddedPostgresError(
                f"the database in {self.pgdata} is there, but its password file {self._password_path} is gone:"
                " restore that file, or start with an empty folder"
            ) from error

    def socket_folder(self, account: ServerAccount) -> Path:
        """This will give a folder, closed to others, in which the server can put its socket."""
        for folder in self._socket_folders():
            too_long = len(os.fsencode(folder / _LONGEST_SOCKET_NAME)) > _LONGEST_SOCKET_PATH_BYTES
            if too_long or not _PLAIN_PATH.fullmatch(str(folder)):
                continue
            if not folder.parent.is_dir() or account.first_closed_folder(folder.parent) is not None:
                continue
            _make_private_folder(folder, account)
            for leftover in folder.glob(".s.PGSQL.*"):  # we own the data folder, so no server uses these any more
                leftover.unlink()
            return folder
        raise EmbeddedPostgresError(
            f"no folder for the database's socket: {self.root} is too long a path, and /tmp closed"
        )

    def _socket_folders(self) -> list[Path]:
        digest = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:12]
        runtime = os.environ.get("XDG_RUNTIME_DIR")
        candidates = [self.root / "socket"]
        if runtime and Path(runtime).is_absolute():
            candidates.append(Path(runtime) / f"optiinfra-{digest}")
        # /tmp by name: TMPDIR may be as long as the path that does not fit. _make_private_folder checks whose it is.
        candidates.append(Path("/tmp") / f"optiinfra-{os.geteuid()}-{digest}")  # noqa: S108
        return candidates

    def open_log(self) -> IO[bytes]:
        """This will open the server's log for appending, after setting a large one aside."""
        if self.log_path.exists() and self.log_path.stat().st_size > _LARGEST_LOG_BYTES:
            self.log_path.replace(self.log_path.with_name(f"{self.log_path.name}.1"))
        log = self.log_path.open("ab")
        self.log_path.chmod(0o600)  # a failed statement is logged with its values
        self._log_start = log.tell()
        return log

    def reason_in_log(self) -> str:
        """This will give what the log says last, since it was opened, about why something failed."""
        with self.log_path.open("rb") as log:
            log.seek(max(self._log_start, log.seek(0, os.SEEK_END) - _REASON_BYTES))
            return _reason(log.read().decode(errors="replace"))

    def server_is_ready(self, pid: int) -> bool:
        """This will tell whether the server with this pid accepts connections: line 8 of its pid file says so."""
        lines = self._pid_file_lines()
        return len(lines) > 7 and lines[0].strip() == str(pid) and lines[7].strip() == "ready"

    def forget_dead_server(self) -> int | None:
        """This will remove the traces of a server that ended without its leave, or give the pid of one that lives.

        Postgres takes the pid file of a zombie (pid 1 of a container need not reap) or of another
        program that got the number for a running server, and refuses to start. We hold the lock of
        the folder, so nobody else starts a server here meanwhile; and Postgres still checks that no
        process holds the shared memory of this data.
        """
        lines = self._pid_file_lines()
        if not lines or not lines[0].strip().isdigit():
            return None
        pid = int(lines[0])
        if _is_postgres_on(self.pgdata, pid):
            return pid
        (self.pgdata / "postmaster.pid").unlink(missing_ok=True)
        return None

    def running_at(self) -> tuple[str, int] | None:
        """This will give the socket folder and port of the server that runs here; None when there is none."""
        lines = self._pid_file_lines()  # lines 4 and 5: port, first socket folder
        if len(lines) < 5 or not lines[0].strip().isdigit() or not _is_postgres_on(self.pgdata, int(lines[0])):
            return None
        return lines[4].strip(), int(lines[3])

    def _pid_file_lines(self) -> list[str]:
        try:
            return (self.pgdata / "postmaster.pid").read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return []


def _try_lock(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_postgres_on(pgdata: Path, pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rsplit(")", 1)[1].split()[0]
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, IndexError):  # it ended
        return False
    return state not in "ZX" and arguments[0].endswith(b"postgres") and os.fsencode(pgdata) in arguments


def _make_open_folders(folder: Path) -> None:
    """Folders of our own making can be entered by the server's user, whatever the umask; what exists stays as it is."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        path.chmod(0o755)


def _make_private_folder(folder: Path, account: ServerAccount) -> None:
    """In /tmp anybody may have made it before us: it must be a folder, be the server's or ours, and be closed."""
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid not in {account.uid, os.geteuid()}:
        raise EmbeddedPostgresError(f"{folder}, meant for the database's socket, belongs to somebody else: remove it")
    account.own(folder)
    folder.chmod(0o700)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(output: str) -> str:
    """The lines that name an error, or else the last ones."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if re.search(r"\b(FATAL|PANIC|ERROR|HINT|error|could not)\b", line)]
    reason = " | ".join((telling or lines)[-_REASON_LINES:]) or "no reason was given"
    if "No space left on device" in output:
        return f"the disk is full ({reason})"
    return reason
