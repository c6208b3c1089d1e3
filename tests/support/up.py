"""`optiinfra` as people run it: whole processes, a folder of their own, ports that are free, real signals."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import psycopg

from control_plane.settings import PREFIX, environment_names

REPOSITORY = Path(__file__).parents[2]
# Generous, since other tests may keep the machine busy: no rule is about these.
START_SECONDS, ANSWER_SECONDS = 60.0, 20.0

T = TypeVar("T")


def eventually(look: Callable[[], T], *, within_seconds: float = 30.0, what: str = "it") -> T:
    """This will look until there is something to see, and give it."""
    deadline = time.monotonic() + within_seconds
    while not (seen := look()):
        assert time.monotonic() < deadline, f"{what} did not come within {within_seconds:g} s"
        time.sleep(0.05)
    return seen


def free_ports(count: int) -> list[int]:
    """This will give ports that nobody listens on at the moment."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def clean_environment(**added: str) -> dict[str, str]:
    """This will give our environment without any setting of the control plane, and with `added`."""
    ours = environment_names()
    kept = {name: value for name, value in os.environ.items() if name not in ours and not name.startswith(PREFIX)}
    paths = f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'proto' / 'gen'}"
    return kept | {"PYTHONPATH": paths} | added


@contextmanager
def folder_for_postgres() -> Iterator[Path]:
    """This will give a folder that the server's user can reach; pytest's own are closed to others."""
    path = Path(tempfile.mkdtemp(prefix="optiinfra-up-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def optiinfra(*arguments: str, cwd: Path, timeout: float = 60, **environment: str) -> subprocess.CompletedProcess[str]:
    """This will run one verb to its end."""
    return subprocess.run(
        [sys.executable, "-m", "control_plane", *arguments],
        cwd=cwd, env=clean_environment(**environment), capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip


def descendants(pid: int) -> set[int]:
    """This will give every process below `pid`."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (status := _status(int(entry.name))):
            parents[int(entry.name)] = status[1]
    found: set[int] = set()
    while grown := {child for child, parent in parents.items() if parent in found | {pid}} - found:
        found |= grown
    return found


def alive(pids: set[int]) -> dict[int, str]:
    """This will give those that run, with their command lines; what is dead and not buried does not count."""
    out = {}
    for pid in pids:
        status = _status(pid)
        if status is not None and status[0] not in "ZX":
            out[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return out


def _status(pid: int) -> tuple[str, int] | None:
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text(errors="replace").rsplit(")", 1)[1].split()[:2]
    except OSError:
        return None
    return state, int(parent)


class Up:
    """One `optiinfra up`, in a process group of its own as a terminal's job has."""

    def __init__(
        self, folder: Path, *arguments: str, environment: Mapping[str, str] | None = None, port: int | None = None
    ) -> None:
        """`folder` is where it is started and keeps its data; `port` is what it will listen on when no flag says so."""
        self.folder = folder
        self.data_dir = folder / "data"
        free = free_ports(2)
        self.port = port or free[0]
        self.grpc_port = free[1]
        self.arguments = ["--data-dir", str(self.data_dir), "--grpc-port", str(self.grpc_port), *arguments]
        if port is None:
            self.arguments += ["--port", str(self.port), "--other-port", "0"]
        self._environment = clean_environment(**(environment or {}))
        self._process: subprocess.Popen[bytes] | None = None
        self._output_path = folder / "output.txt"

    def start(self) -> Up:
        """This will start it and return at once."""
        with self._output_path.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "control_plane", "up", *self.arguments],
                cwd=self.folder, env=self._environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,
                # Who runs the tests in the background hands down that Ctrl-C is ignored; a terminal does not.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )  # fmt: skip
        return self

    def wait_for_samples(self, count: int = 1) -> Up:
        """This will wait until it is ready and a host was sampled `count` times since this start."""
        eventually(lambda: self.is_ready(), within_seconds=START_SECONDS, what=f"readiness\n{self.output}")
        rows = lambda: self.get("/health/detailed")["parts"]["ingest"]["figures"]["batches_committed"]  # noqa: E731
        eventually(lambda: rows() >= count, what=f"sample {count}\n{self.output}")
        return self

    @property
    def pid(self) -> int:
        """This will give the control plane's pid."""
        assert self._process is not None
        return self._process.pid

    @property
    def output(self) -> str:
        """This will give all that it has printed, since the first start."""
        return self._output_path.read_text()

    @property
    def postgres_pid(self) -> int:
        """This will give the pid of the embedded Postgres as it says itself."""
        return int((self.data_dir / "postgres" / "pgdata" / "postmaster.pid").read_text().split()[0])

    @property
    def agent_pids(self) -> set[int]:
        """This will give the pid of the local agent, if there is one."""
        return {pid for pid, command in alive(descendants(self.pid)).items() if "-m node_agent run" in command}

    def everything(self) -> set[int]:
        """This will give the pids of all that belongs to it."""
        return {self.pid} | descendants(self.pid)

    def is_ready(self) -> bool:
        """This will ask the probe's question."""
        assert self._process is not None
        assert self._process.poll() is None, f"it ended with {self._process.returncode}:\n{self.output}"
        return self.status("/health/ready") == 200

    def status(self, path: str) -> int:
        """This will give the HTTP status of an answer; 0 for none."""
        try:
            with urllib.request.urlopen(self._url(path), timeout=ANSWER_SECONDS) as answer:
                status: int = answer.status
                return status
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        except OSError:
            return 0

    def get(self, path: str) -> Any:
        """This will give an answer's JSON."""
        with urllib.request.urlopen(self._url(path), timeout=ANSWER_SECONDS) as answer:
            return json.load(answer)

    def put(self, path: str, body: Mapping[str, object]) -> tuple[int, Any]:
        """This will put a JSON body and give the status and the answer's JSON."""
        return self._send("PUT", path, body)

    def post(self, path: str, body: Mapping[str, object]) -> tuple[int, Any]:
        """This will post a JSON body and give the status and the answer's JSON."""
        return self._send("POST", path, body)

    def _send(self, method: str, path: str, body: Mapping[str, object]) -> tuple[int, Any]:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self._url(path), json.dumps(body).encode(), headers, method=method)
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
            return answer.status, json.load(answer)

    def _url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def signal_group(self, number: signal.Signals) -> None:
        """This will signal the process group, as a terminal does on Ctrl-C."""
        os.killpg(self.pid, number)

    def wait(self, *, within_seconds: float) -> int:
        """This will wait for its end and give the exit code."""
        assert self._process is not None
        return self._process.wait(within_seconds)

    def stop(self) -> int:
        """This will end it as Ctrl-C does; what has ended already stays ended."""
        assert self._process is not None
        if self._process.poll() is None:
            self.signal_group(signal.SIGINT)
        return self.wait(within_seconds=30)

    def kill_everything(self) -> None:
        """This will pull the plug: the control plane, its agent and its database, at one moment."""
        pids = self.everything()
        for pid in [self.pid, *(pids - {self.pid})]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.wait(within_seconds=10)
        eventually(lambda: not alive(pids), what="everybody's end")

    @contextmanager
    def database(self) -> Iterator[psycopg.Connection[Any]]:
        """This will connect to the embedded Postgres, past the control plane."""
        folder = self.data_dir / "postgres"
        password = quote((folder / "password").read_text().strip(), safe="")
        url = f"postgresql://optiinfra:{password}@/postgres?host={quote(str(folder / 'socket'), safe='')}&port=5432"
        with psycopg.connect(url, autocommit=True) as connection:
            yield connection

    def host_samples(self) -> list[tuple[int, datetime]]:
        """This will give (entity, time) of every stored look at a host, oldest first."""
        with self.database() as connection:
            return list(connection.execute("SELECT entity_id, taken_at FROM host_sample ORDER BY taken_at, entity_id"))


@contextmanager
def running(up: Up) -> Iterator[Up]:
    """This will give it started and sampled, and leave nothing of it behind."""
    up.start()
    try:
        yield up.wait_for_samples()
    finally:
        try:
            up.stop()
        except subprocess.TimeoutExpired:
            up.kill_everything()
            raise
