"""A disk that somebody else fills."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.faults.accounting import Node, Row
from benchmarks.faults.bad_network import BadNetwork
from benchmarks.processes import ControlPlane, folder

DISK_BYTES = 4 << 20
NAME = "disk full"
FULL_SECONDS, QUICK_FULL_SECONDS = 15.0, 4.0
AFTER_SECONDS = 8.0  # longer than the agent leaves a disk alone that has failed


def full(running: ControlPlane, *, quick: bool) -> Row:
    """This will fill an agent's disk while it has no link, free it, and kill the agent."""
    with folder() as path, BadNetwork(running.grpc_port) as network, _small_disk(path / "small") as problem:
        if problem:
            return Row(name=NAME, note=f"**NOT RUN: {problem} (only root may mount a small disk)**.")
        node = Node(running, "full", path / "small" / "state", ledger=path / "ledger", port=network.port)
        agent = node.start(f"--spool-bytes={1 << 20}")
        time.sleep(4.0)
        network.refuse()
        others = path / "small" / "somebody-else"
        seen = os.statvfs(path / "small")
        others.write_bytes(b"x" * (seen.f_bavail * seen.f_frsize - 20_000))
        time.sleep(QUICK_FULL_SECONDS if quick else FULL_SECONDS)
        agent.kill()
        agent = node.start(f"--spool-bytes={1 << 20}")
        time.sleep(QUICK_FULL_SECONDS if quick else FULL_SECONDS)
        others.unlink()
        time.sleep(AFTER_SECONDS)
        agent.kill()
        network.allow()
        node.start().stop()
        return Row(
            name=f"{NAME} while there is no link, kill -9, then free again, kill -9",
            account=node.account(),
            note=f"a tmpfs of {DISK_BYTES >> 20} MiB; the kills took what was in memory alone while the disk was full.",
        )


@contextmanager
def _small_disk(path: Path) -> Iterator[str]:
    """A file system of its own. Gives why there is none, or nothing."""
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(path)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        yield mounted.stderr.strip() if mounted.returncode else ""
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", "--lazy", str(path)], check=True)
