"""The programs under measurement, as processes of their own, and what they cost as the kernel counts it."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import quote

PATIENCE_SECONDS = 60.0
POLL_SECONDS = 0.005
# What takes less of a core for so long has done what there was to do.
QUIET_SECONDS, QUIET_CORES = 5.0, 0.15


@contextmanager
def folder() -> Iterator[Path]:
    """This will give a folder that Postgres' user can reach, and remove it afterwards."""
    path = Path(tempfile.mkdtemp(prefix="optiinfra-bench-"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def free_ports(count: int) -> list[int]:
    """This will give ports that nobody listens on at the moment."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def environment() -> dict[str, str]:
    """This will give our environment without any setting."""
    from control_plane.settings import PREFIX, environment_names

    ours = environment_names()
    return {name: value for name, value in os.environ.items() if name not in ours and not name.startswith(PREFIX)}


def until(look: Callable[[], Any], what: str, *, seconds: float = PATIENCE_SECONDS) -> Any:
    """This will look every few milliseconds until there is something, and give it."""
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come within {seconds:g} s")
        time.sleep(POLL_SECONDS)
    return seen


def cpu_seconds(pids: set[int]) -> float:
    """This will give the CPU time that processes have used: all threads, and children that have ended.

    From /proc/PID/task/*/schedstat, in nanoseconds (Documentation/scheduler/sched-stats.rst; threads that ended are
    not in it), and cutime and cstime of /proc/PID/stat, in clock ticks (proc(5)).
    """
    seconds = 0.0
    for pid in pids:
        try:
            for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
                seconds += int(path.read_text(encoding="utf-8").split()[0]) / 1e9
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rsplit(")", 1)[1].split()
        except OSError:  # it ended
            continue
        seconds += (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")
    return seconds


def until_quiet(pids: Callable[[], set[int]], *, at_most_seconds: float = 180.0) -> None:
    """This will return when some processes have had next to nothing to do for a while."""
    deadline = time.monotonic() + at_most_seconds
    while time.monotonic() < deadline:
        before = cpu_seconds(pids())
        time.sleep(QUIET_SECONDS)
        if cpu_seconds(pids()) - before < QUIET_CORES * QUIET_SECONDS:
            return


def resident_bytes(pid: int) -> int:
    """This will give the memory that a process holds at the moment."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"process {pid} has no memory any more")


def descendants(pid: int) -> set[int]:
    """This will give every process below `pid`."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        parents[int(entry.name)] = int(stat.rsplit(")", 1)[1].split()[1])
    found: set[int] = set()
    while grown := {child for child, parent in parents.items() if parent in found | {pid}} - found:
        found |= grown
    return found


class ControlPlane:
    """One `optiinfra up` in a process of its own, on a folder of its own."""

    def __init__(self, path: Path, *arguments: str, external_url: str | None = None, log: Path | None = None) -> None:
        """`path` is where its data goes; `external_url` a Postgres that is not its own, `log` a file for its log."""
        self.data_dir = path
        self._external_url = external_url
        self._log = log
        self.port, self.grpc_port = free_ports(2)
        self._command = [
            sys.executable, "-m", "control_plane", "up", f"--data-dir={path}", f"--port={self.port}",
            f"--grpc-port={self.grpc_port}", "--other-port=0", "--log-level=warning", *arguments,
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> ControlPlane:
        """This will start it and return at once."""
        database = {} if self._external_url is None else {"DATABASE_URL": self._external_url}
        with self._log.open("ab") if self._log else nullcontext() as log:
            self._process = subprocess.Popen(
                self._command, env=environment() | database, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=log, start_new_session=True,
            )  # fmt: skip
        return self

    @property
    def is_alive(self) -> bool:
        """This will say whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def wait_until_ready(self) -> ControlPlane:
        """This will wait until it serves."""
        until(lambda: self.status("/health/ready") == 200, "readiness")
        return self

    def stop(self) -> None:
        """This will end it as Ctrl-C does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(PATIENCE_SECONDS)

    def kill(self) -> None:
        """This will end it at whatever instruction it is."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        """This will give the control plane's own pid."""
        assert self._process is not None
        return self._process.pid

    @property
    def postgres_pids(self) -> set[int]:
        """This will give the pids of its Postgres: the server and whatever works for it."""
        server = int((self.data_dir / "postgres" / "pgdata" / "postmaster.pid").read_text(encoding="utf-8").split()[0])
        return {server} | descendants(server)

    @property
    def database_url(self) -> str:
        """This will give the way into its Postgres, past the control plane."""
        if self._external_url is not None:
            return self._external_url
        place = self.data_dir / "postgres"
        password = quote((place / "password").read_text(encoding="utf-8").strip(), safe="")
        return f"postgresql://optiinfra:{password}@/postgres?host={quote(str(place / 'socket'), safe='')}&port=5432"

    def status(self, path: str) -> int:
        """This will give an answer's HTTP status; 0 when nobody answers."""
        try:
            return self._ask(path)[0]
        except OSError:
            return 0

    def get(self, path: str) -> Any:
        """This will give an answer's JSON."""
        return json.loads(self._ask(path)[1])

    def figures(self) -> dict[str, float]:
        """This will give ingest's counters."""
        figures: dict[str, float] = self.get("/health/detailed")["parts"]["ingest"]["figures"]
        return figures

    def _ask(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@contextmanager
def control_plane(*arguments: str) -> Iterator[ControlPlane]:
    """This will give a running control plane on an empty folder."""
    with folder() as path:
        running = ControlPlane(path / "data", *arguments).start()
        try:
            yield running.wait_until_ready()
        finally:
            running.stop()
