"""Counts what an agent sampled and what became of it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg

from benchmarks.processes import ControlPlane, environment, until
from node_agent.uplink.segment import SegmentDamaged, read_header, records

INTERVAL_SECONDS = 0.5  # the shortest that a host's owner can set

# After a few failures in a row an agent waits for up to a minute before it connects again.
RECONNECT_SECONDS = 150.0

Epochs = dict[bytes, int]  # epoch → its newest batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One thing that went wrong, and the count."""

    name: str
    sampled: int = 0
    committed: int = 0
    lost: int = 0
    note: str = ""
    was_run: bool = True

    @property
    def unaccounted(self) -> int:
        """This will give what nobody knows of."""
        return self.sampled - self.committed - self.lost


class Node:
    """One host: its agents come and go, its state stays."""

    def __init__(self, running: ControlPlane, name: str, state: Path, *, port: int | None = None) -> None:
        """`port` is where its agents find the control plane; by default where it listens."""
        self._running = running
        self._state = state
        self._port = port or running.grpc_port
        self._sampled: Epochs = {}
        self.name = name

    def start(self, *flags: str, port: int | None = None, program: Sequence[str] = ("-m", "node_agent")) -> Agent:
        """This will start an agent on it."""
        command = [
            sys.executable, *program, "run", f"--server=127.0.0.1:{port or self._port}", f"--state-dir={self._state}",
            f"--node-name={self.name}", f"--sampling-interval-seconds={INTERVAL_SECONDS}",
            "--no-gpu-monitoring-enabled", "--no-discover-engines", "--log-level=error", *flags,
        ]  # fmt: skip
        return Agent(self, subprocess.Popen(
            command, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
        ))  # fmt: skip

    def note(self) -> None:
        """This will look at what is on its disk, and at how far the control plane has stored it."""
        for seen in (self._on_disk(), self._cursors()):
            for epoch, seq in seen.items():
                self._sampled[epoch] = max(self._sampled.get(epoch, 0), seq)

    def sampled(self) -> int:
        """This will give the ticks that got a number, as far as anybody looked."""
        return sum(self._sampled.values())

    def wait_until_brought(self) -> None:
        """This will wait until the control plane has everything that is known of by now."""
        self.note()
        goal = dict(self._sampled)
        until(lambda: self._has(goal), f"everything of {self.name}", seconds=RECONNECT_SECONDS)

    def row(self, what: str, note: str = "") -> Row:
        """This will count."""
        self.note()
        return Row(
            name=what,
            sampled=self.sampled(),
            committed=self._one("SELECT count(*) FROM agent_sample JOIN node USING (node_id) WHERE name = %s"),
            lost=self._one(
                "SELECT coalesce(sum(last_seq - first_seq + 1), 0) FROM sample_loss JOIN node USING (node_id) "
                "WHERE name = %s"
            ),
            note=note,
        )

    def _has(self, goal: Epochs) -> bool:
        cursors = self._cursors()
        return all(cursors.get(epoch, 0) >= seq for epoch, seq in goal.items() if seq)

    def _on_disk(self) -> Epochs:
        found: Epochs = {}
        for path in (self._state / "spool").glob("*.segment"):
            try:
                data = path.read_bytes()
                epoch = read_header(data).epoch
            except (FileNotFoundError, SegmentDamaged):  # let go of meanwhile, or killed before the head was whole
                continue
            found[epoch] = max(found.get(epoch, 0), max((record.seq for record in records(data)), default=0))
        return found

    def _cursors(self) -> Epochs:
        query = "SELECT epoch, committed_seq FROM ingest_cursor JOIN node USING (node_id) WHERE name = %s"
        with psycopg.connect(self._running.database_url) as connection:
            return {bytes(epoch): seq for epoch, seq in connection.execute(query, (self.name,)).fetchall()}

    def _one(self, query: str) -> int:
        with psycopg.connect(self._running.database_url) as connection:
            found = connection.execute(query, (self.name,)).fetchone()
        assert found is not None
        return int(found[0])


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
        """This will end it by SIGKILL, and look at what it left."""
        self._process.kill()
        self._process.wait()
        self._node.note()

    def stop(self) -> None:
        """This will end it as a supervisor does, after all that is known of by now has been brought."""
        self._node.wait_until_brought()
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)
        self._node.note()
