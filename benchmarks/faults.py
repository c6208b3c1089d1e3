"""Kills a real agent at random moments and compares what it wrote down with what the control plane knows."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg

from benchmarks.figures import Figure, Result
from benchmarks.processes import ControlPlane, control_plane, environment, folder, free_ports, until
from node_agent.uplink.segment import SegmentDamaged, read_header, records

KILLS = 100
SEED = 5
# From before the first sample, an agent needs some 0.3 s to load, to well into sending.
LONGEST_LIFE_SECONDS = 2.5
INTERVAL_SECONDS = 0.5  # the shortest that a host's owner can set
# So many lives see no control plane at all: what they sample is a backlog for the next ones.
AWAY_SHARE = 0.4

Epochs = dict[bytes, int]  # epoch → its newest batch


def _agent(state: Path, port: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [
            sys.executable, "-m", "node_agent", "run", f"--server=127.0.0.1:{port}", f"--state-dir={state}",
            f"--sampling-interval-seconds={INTERVAL_SECONDS}", "--no-gpu-monitoring-enabled", "--no-discover-engines",
            "--log-level=error",
        ],
        env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


def _on_disk(state: Path) -> Epochs:
    found: Epochs = {}
    for path in (state / "spool").glob("*.segment"):
        data = path.read_bytes()
        try:
            epoch = read_header(data).epoch
        except SegmentDamaged:  # killed before the head was whole
            continue
        found[epoch] = max(found.get(epoch, 0), max((record.seq for record in records(data)), default=0))
    return found


def _committed(running: ControlPlane) -> Epochs:
    with psycopg.connect(running.database_url) as connection:
        rows = connection.execute("SELECT epoch, committed_seq FROM ingest_cursor").fetchall()
    return {bytes(epoch): seq for epoch, seq in rows}


def _count(running: ControlPlane, query: str) -> int:
    with psycopg.connect(running.database_url) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return int(row[0])


def _note(sampled: Epochs, seen: Epochs) -> None:
    for epoch, seq in seen.items():
        sampled[epoch] = max(sampled.get(epoch, 0), seq)


def measure(*, quick: bool) -> Result:
    """This will kill an agent again and again, let the last one finish, and count."""
    chance, kills = random.Random(SEED), 5 if quick else KILLS
    print(f"faults: seed {SEED}", file=sys.stderr)
    sampled: Epochs = {}
    (nobody,) = free_ports(1)
    with control_plane("--no-local-agent") as running, folder() as state:
        for _ in range(kills):
            process = _agent(state, nobody if chance.random() < AWAY_SHARE else running.grpc_port)
            time.sleep(chance.uniform(0, LONGEST_LIFE_SECONDS))
            process.send_signal(signal.SIGKILL)
            process.wait()
            _note(sampled, _on_disk(state))
        last = _agent(state, running.grpc_port)
        until(lambda: _brought(sampled, _committed(running)), "the backlog")
        last.send_signal(signal.SIGTERM)
        last.wait()
        _note(sampled, _on_disk(state))
        _note(sampled, _committed(running))
        committed = _count(running, "SELECT count(*) FROM host_sample")
        lost = _count(running, "SELECT coalesce(sum(last_seq - first_seq + 1), 0) FROM sample_loss")
    return _result(kills, sum(sampled.values()), committed, lost)


def _brought(sampled: Epochs, committed: Epochs) -> bool:
    return all(committed.get(epoch, 0) >= seq for epoch, seq in sampled.items() if seq)


def _result(kills: int, sampled: int, committed: int, lost: int) -> Result:
    values = {
        "kills": kills,
        "ticks sampled": sampled,
        "ticks committed": committed,
        "ticks reported lost": lost,
        "ticks unaccounted for": sampled - committed - lost,
    }
    return Result(
        name="faults",
        title="Faults",
        explanation=(
            "A real agent at 0.5 s is ended by SIGKILL at random moments (seeded), from before its first sample to "
            "well into sending; in some of its lives no control plane answers. What it had sampled is read from its "
            "disk spool after each kill and from the control plane's cursors; the last life sends what is left. What "
            "was sampled must equal what is committed plus what is reported lost, exactly."
        ),
        figures=[Figure(name=name, unit="", values=[float(value)]) for name, value in values.items()],
        notes=[f"Seed {SEED}. Full disks, torn files and clocks that jump: tests/integration/test_disk_spool.py."],
    )
