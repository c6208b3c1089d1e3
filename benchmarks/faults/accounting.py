"""Counts what an agent sampled and what became of it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg

from benchmarks import ledger
from benchmarks.faults.book import Account, account
from benchmarks.ledger import Number, Taken
from benchmarks.processes import ControlPlane, environment, until

INTERVAL_SECONDS = 0.5  # the shortest that a host's owner can set

# After a few failures in a row an agent waits for up to a minute before it connects again.
RECONNECT_SECONDS = 150.0

Epochs = dict[bytes, int]  # epoch → its newest batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One thing that went wrong, and the count."""

    name: str
    account: Account | None = None  # None: it could not be done here
    note: str = ""


class Node:
    """One host: its agents come and go, its state stays."""

    def __init__(self, running: ControlPlane, name: str, state: Path, *, ledger: Path, port: int | None = None) -> None:
        """`ledger` is where its agents write down what they sample, on a disk without faults.

        `port` is where its agents find the control plane; by default where it listens.
        """
        self.ledger = ledger
        self._running = running
        self._state = state
        self._port = port or running.grpc_port
        self.name = name

    def start(self, *flags: str, port: int | None = None, shift: Path | None = None) -> Agent:
        """This will start an agent on it. `shift` is a file that says how far its wall clock is ahead."""
        command = [
            sys.executable, "-m", "benchmarks.ledger", str(self.ledger), str(shift or ""), "run",
            f"--server=127.0.0.1:{port or self._port}", f"--state-dir={self._state}",
            f"--node-name={self.name}", f"--sampling-interval-seconds={INTERVAL_SECONDS}",
            "--no-gpu-monitoring-enabled", "--no-discover-engines", "--log-level=error", *flags,
        ]  # fmt: skip
        return Agent(self, subprocess.Popen(
            command, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
        ))  # fmt: skip

    def wait_until_brought(self) -> None:
        """This will wait until the control plane knows of every tick that has a number by now, or for long enough."""
        goal: Epochs = {}
        for tick in self.taken():
            if tick.number is not None:
                epoch, seq = tick.number
                goal[epoch] = max(goal.get(epoch, 0), seq)
        with suppress(TimeoutError):  # what is missing then is in the account
            until(lambda: self._has(goal), f"everything of {self.name}", seconds=RECONNECT_SECONDS)

    def account(self) -> Account:
        """This will say what became of each tick."""
        return account(self.taken(), self._stored(), self._lost())

    def taken(self) -> Sequence[Taken]:
        """This will give the ticks that its agents wrote down."""
        return ledger.read(self.ledger)

    def _has(self, goal: Epochs) -> bool:
        cursors = self._cursors()
        return all(cursors.get(epoch, 0) >= seq for epoch, seq in goal.items() if seq)

    def _cursors(self) -> Epochs:
        query = "SELECT epoch, committed_seq FROM ingest_cursor JOIN node USING (node_id) WHERE name = %s"
        with psycopg.connect(self._running.database_url) as connection:
            return {bytes(epoch): seq for epoch, seq in connection.execute(query, (self.name,)).fetchall()}

    def _stored(self) -> list[float]:
        query = (
            "SELECT extract(epoch FROM taken_at)::float8 FROM agent_sample JOIN node USING (node_id) WHERE name = %s"
        )
        with psycopg.connect(self._running.database_url) as connection:
            return [at for (at,) in connection.execute(query, (self.name,)).fetchall()]

    def _lost(self) -> list[Number]:
        query = "SELECT epoch, first_seq, last_seq FROM sample_loss JOIN node USING (node_id) WHERE name = %s"
        with psycopg.connect(self._running.database_url) as connection:
            ranges = connection.execute(query, (self.name,)).fetchall()
        return [(bytes(epoch), seq) for epoch, first, last in ranges for seq in range(first, last + 1)]


class Agent:
    """One agent process on a node."""

    def __init__(self, node: Node, process: subprocess.Popen[bytes]) -> None:
        """It runs already."""
        self._node = node
        self._process = process

    @property
    def pid(self) -> int:
        """This will give its pid."""
        return self._process.pid

    def kill(self) -> None:
        """This will end it by SIGKILL."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """This will end it as a supervisor does, after all that is known of by now has been brought."""
        self._node.wait_until_brought()
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)
