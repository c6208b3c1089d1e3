"""A fleet of two over mutual TLS, as people set it up: whole processes, a token, a configuration, a kill of all."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.support.up import Up, clean_environment, eventually, folder_for_postgres, free_ports, optiinfra, running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

# A client that speaks HTTP/2 in plain text: the preface, and an empty SETTINGS frame.
PLAIN_HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"


class FarAgent:
    """An `optiinfra-agent` of another host, which only a token lets in."""

    def __init__(self, folder: Path, port: int) -> None:
        self.state, self.output_path = folder / "far", folder / "far.txt"
        self._command = [
            sys.executable, "-m", "node_agent", "run", f"--server=127.0.0.1:{port}", f"--state-dir={self.state}",
            "--node-name=far-host", "--no-gpu-monitoring-enabled", "--no-discover-engines",
        ]  # fmt: skip
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, **environment: str) -> None:
        with self.output_path.open("ab") as output:
            self._process = subprocess.Popen(
                self._command, cwd=self._folder, env=clean_environment(**environment), stdin=subprocess.DEVNULL,
                stdout=output, stderr=output,
            )  # fmt: skip

    def kill(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait(10)

    @property
    def output(self) -> str:
        return self.output_path.read_text() if self.output_path.exists() else ""

    @property
    def cadence(self) -> str:
        """What it has written of its own cadence since it was started."""
        alive = self.state / "alive"
        return alive.read_text().strip() if alive.exists() else ""


@contextmanager
def killed_at_the_end(agent: FarAgent) -> Iterator[FarAgent]:
    try:
        yield agent
    finally:
        agent.kill()


def far_node(up: Up) -> dict[str, Any] | None:
    found: list[dict[str, Any]] = up.get("/nodes")["items"]
    return next((n for n in found if n["name"] == "far-host" and n["streaming"] and n["last_sample_at"]), None)


def looks(up: Up, node_id: int) -> list[datetime]:
    """When the far host was looked at, oldest first."""
    with up.database() as connection:
        rows = connection.execute("SELECT taken_at FROM host_sample WHERE node_id = %s ORDER BY taken_at", (node_id,))
        return [taken_at for (taken_at,) in rows]


def gaps(moments: list[datetime]) -> list[float]:
    return [(later - earlier).total_seconds() for earlier, later in pairwise(moments)]


def test_a_host_joins_by_token_is_configured_and_comes_back_after_everything_was_killed() -> None:
    with folder_for_postgres() as folder:
        (enrolment_port,) = free_ports(1)
        certified = ("--grpc-host=127.0.0.1", "--grpc-tls=on", f"--enrolment-port={enrolment_port}")
        up = Up(folder, *certified, "--node-name=near-host")
        with running(up), killed_at_the_end(FarAgent(folder, up.grpc_port)) as agent:
            assert "certificates only" in up.output
            assert no_plain_text_is_spoken(up.grpc_port)
            agent.start()
            eventually(lambda: "no link to" in agent.output, what="a refusal of who has no token")
            assert far_node(up) is None
            agent.kill()

            token = optiinfra("join-token", f"--port={up.port}", cwd=folder).stdout.strip()
            agent.start(OPTIINFRA_JOIN_TOKEN=token)
            node = eventually(lambda: far_node(up), what=f"the far host\n{agent.output}")
            assert token not in agent.output
            node_id = int(node["node_id"])
            assert node["sampling_interval_seconds"] == 5.0

            wanted = {"sampling_interval_seconds": 0.5}
            status, said = up.put("/nodes/far-host/config", wanted)
            assert (status, said["status"], said["in_force"]) == (200, "applied", wanted)
            before = len(looks(up, node_id))
            eventually(lambda: len(looks(up, node_id)) > before + 5, what="samples at the new cadence")
            assert sum(gap < 1.0 for gap in gaps(looks(up, node_id)[before:])) > 2, "its own cadence is 5 s"
            assert (far_node(up) or {})["sampling_interval_seconds"] == 0.5
            _, said = up.put("/nodes/far-host/config", {"scrape_targets": ["http://169.254.169.254"]})
            assert said["status"] == "refused"
            assert (said["in_force"], said["in_force_revision"]) == (wanted, 2)
            assert up.put("/nodes/far-host/config", wanted)[1]["status"] == "applied"

            agent.kill()
            stored = looks(up, node_id)
            up.kill_everything()
            (agent.state / "alive").unlink()
            agent.start()  # without a token: its certificate is in its folder
            eventually(lambda: agent.cadence == "0.5", what=f"the kept configuration\n{agent.output}")
            up.start().wait_for_samples()
            eventually(lambda: far_node(up), what=f"the far host's return\n{agent.output}")
            eventually(lambda: len(looks(up, node_id)) > len(stored) + 5, what="what it sampled meanwhile, and since")
            back = far_node(up)
            assert back is not None
            assert (back["node_id"], back["lost_ticks"], back["refused_batches"]) == (node_id, 0, 0)
            assert back["sampling_interval_seconds"] == 0.5
            after = Counter(looks(up, node_id))
            assert set(stored) <= after.keys(), "a committed sample is gone"
            assert set(after.values()) == {1}, "a sample is there twice"
            assert up.get("/nodes/far-host/config")["status"] == "applied"
            assert "Traceback" not in agent.output


def no_plain_text_is_spoken(port: int) -> bool:
    """Whatever comes back to plain text is the end of the connection, or a TLS alert (its first byte is 21)."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(PLAIN_HTTP2)
        try:
            answer = connection.recv(64)
        except ConnectionResetError:
            return True
    return answer == b"" or answer[0] == 21
