"""A fleet through the real door: certificates, one connection per node, paced, and every tick accounted for.

`python -m benchmarks fleet_scale` runs the sizes of the document; `python -m benchmarks.fleet_scale --nodes 2000
--seconds 60` runs one and prints it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from benchmarks.figures import Figure, Result, section
from benchmarks.fleet_host import ENGINES_PER_HOST, GPUS, known_values, tick
from benchmarks.fleet_identity import certify
from benchmarks.ingest import Fleet, Played
from benchmarks.processes import ControlPlane, cpu_seconds, folder, free_ports, resident_bytes
from control_plane.ingest.authority import Authority
from node_agent.clock import SystemClock

INTERVAL_SECONDS = 5.0
# Handshakes and first looks cost some 5 ms each; at this pace they leave room for what is connected already.
CONNECTS_PER_SECOND = 100
SETTLE_SECONDS = 15.0
# nodes, and seconds under watch; the last is the promise: ten minutes of 80,000 GPUs.
SIZES = ((1000, 120.0), (5000, 120.0), (10_000, 600.0))
QUICK_SIZES = ((200, 15.0),)
WINDOW_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Counters at one moment."""

    at: float
    ticks: float
    commits: float
    pending_bytes: float
    control_plane_seconds: float
    postgres_seconds: float
    load_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounts:
    """What was made, and what became of it."""

    made: int
    acknowledged: int
    stored: dict[str, int]  # rows by table
    repeated: int  # rows of hosts that another row of the same moment stands beside
    told_lost: int
    refused: int

    @property
    def unaccounted(self) -> int:
        """This will give the ticks that are neither stored whole, once, nor told lost; refusals count too."""
        per_tick = {"host": 1, "gpu": GPUS, "inference": ENGINES_PER_HOST}
        wrong = sum(abs(self.made * count - self.stored[table]) for table, count in per_tick.items())
        return wrong + self.repeated + self.told_lost + self.refused + (self.made - self.acknowledged)


def _look(server: ControlPlane, load: Fleet) -> Look:
    figures = server.figures()
    return Look(
        at=time.monotonic(),
        ticks=figures["batches_committed"],
        commits=figures["commits"],
        pending_bytes=figures["pending_bytes"],
        control_plane_seconds=cpu_seconds({server.pid}),
        postgres_seconds=cpu_seconds(server.postgres_pids),
        load_seconds=cpu_seconds({load.pid}),
    )


@contextmanager
def certified(count: int) -> Iterator[tuple[ControlPlane, Path, Path]]:
    """This will give a control plane that asks for certificates, a folder, and the file of `count` nodes'."""
    with folder() as path:
        (enrolment_port,) = free_ports(1)
        flags = ("--no-local-agent", "--grpc-tls=on", f"--enrolment-port={enrolment_port}")
        server = ControlPlane(path / "data", *flags).start()
        try:
            server.wait_until_ready()
            authority = Authority.open(path / "data" / "authority", datetime.now(tz=UTC))
            certify(path / "identities.json", authority, server.database_url, range(count))
            yield server, path, path / "identities.json"
        finally:
            server.stop()


def accounts(database_url: str, played: Played) -> Accounts:
    """This will compare what the fleet did with what the database holds."""
    with psycopg.connect(database_url) as connection:

        def number(query: str) -> int:
            row = connection.execute(query.encode()).fetchone()
            assert row is not None
            return int(row[0])

        return Accounts(
            made=sum(made for made, _ in played.nodes.values()),
            acknowledged=sum(done for _, done in played.nodes.values()),
            stored={name: number(f"SELECT count(*) FROM {name}_sample") for name in ("host", "gpu", "inference")},
            repeated=number(
                "SELECT coalesce(sum(n - 1), 0) FROM (SELECT count(*) AS n FROM host_sample "
                "GROUP BY entity_id, taken_at HAVING count(*) > 1) AS twice"
            ),
            told_lost=number("SELECT coalesce(sum(last_seq - first_seq + 1), 0) FROM sample_loss"),
            refused=number("SELECT coalesce(sum(count), 0) FROM ingest_refusal"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One size, measured."""

    nodes: int
    looks: Sequence[Look]
    played: Played
    accounts: Accounts
    resident_bytes: int

    def per_window(self, name: str, *, over: str = "at", scale: float = 1.0) -> list[float]:
        """This will give how much a counter grew in each window, for each unit that another grew by."""
        return [
            (getattr(b, name) - getattr(a, name)) / (getattr(b, over) - getattr(a, over)) * scale
            for a, b in zip(self.looks, self.looks[1:], strict=False)
        ]

    @property
    def milliseconds(self) -> list[float]:
        """This will give how long each acknowledgement took while it was watched."""
        began, ended = self.looks[0].at, self.looks[-1].at
        return [took * 1000 for at, took in self.played.acknowledged if began <= at < ended]


def run(nodes: int, seconds: float) -> Outcome:
    """This will play `nodes` for `seconds` after all are connected and settled."""
    ramp = nodes / CONNECTS_PER_SECOND
    with certified(nodes) as (server, path, identities):
        load = Fleet(
            f"127.0.0.1:{server.grpc_port}", path / "acknowledged", f"--nodes={nodes}", f"--ramp={ramp}",
            f"--interval={INTERVAL_SECONDS:g}", f"--seconds={seconds + SETTLE_SECONDS + 2}",
            f"--identities={identities}",
        )  # fmt: skip
        try:
            load.connected()
            time.sleep(SETTLE_SECONDS)
            looks = [_look(server, load)]
            windows = max(1, round(seconds / WINDOW_SECONDS))
            for _ in range(windows):
                time.sleep(seconds / windows)
                looks.append(_look(server, load))
            resident = resident_bytes(server.pid)
            played = load.finish()
        finally:
            load.kill()
        return Outcome(
            nodes=nodes, looks=looks, played=played, accounts=accounts(server.database_url, played),
            resident_bytes=resident,
        )  # fmt: skip


def _figures(outcome: Outcome) -> list[Figure]:
    what = f"{outcome.nodes:,} nodes"
    quantiles = statistics.quantiles(outcome.milliseconds, n=100, method="inclusive")
    ours, theirs = outcome.per_window("control_plane_seconds"), outcome.per_window("postgres_seconds")

    def figure(name: str, unit: str, values: Sequence[float]) -> Figure:
        return Figure(name=f"{what}: {name}", unit=unit, values=values)

    return [
        figure("ticks", "1/s", outcome.per_window("ticks")),
        figure("CPU in all", "cores", [a + b for a, b in zip(ours, theirs, strict=True)]),
        figure("CPU of the control plane", "cores", ours),
        figure("CPU of Postgres", "cores", theirs),
        figure("CPU of the control plane per tick", "µs",
               outcome.per_window("control_plane_seconds", over="ticks", scale=1e6)),
        figure("CPU of Postgres per tick", "µs", outcome.per_window("postgres_seconds", over="ticks", scale=1e6)),
        figure("CPU of the load process", "cores", outcome.per_window("load_seconds")),
        figure("commits", "1/s", outcome.per_window("commits")),
        figure("acknowledged after, p50", "ms", [quantiles[49]]),
        figure("acknowledged after, p99", "ms", [quantiles[98]]),
        figure("waiting to be committed", "MiB", [look.pending_bytes / 2**20 for look in outcome.looks]),
        figure("memory of the control plane", "MiB", [outcome.resident_bytes / 2**20]),
        figure("ticks made", "", [outcome.accounts.made]),
        figure("ticks unaccounted for", "", [outcome.accounts.unaccounted]),
        figure("reconnects", "", [outcome.played.reconnects]),
    ]  # fmt: skip


def result(outcomes: Sequence[Outcome]) -> Result:
    """This will put what was measured into words."""
    values = known_values(tick(0, SystemClock().now()))
    return Result(
        name="fleet_scale",
        title="A fleet of real streams",
        explanation=(
            "Nodes with 8 GPUs, 64 cores and two vLLM servers each, one TLS connection with a certificate of its own "
            f"per node, a tick of 11 rows and {values:,} known values every {INTERVAL_SECONDS:g} s and heartbeats as "
            "agents send them, from one load process into `optiinfra up --no-local-agent --grpc-tls on` with its "
            "embedded Postgres, fsync on; acknowledged after commit. Nodes connect spread over time; then what is "
            "measured begins. The CPU of the load process is apart. A tick is accounted for when it was acknowledged "
            "and all its rows are stored once."
        ),
        figures=[figure for outcome in outcomes for figure in _figures(outcome)],
    )


def measure(*, quick: bool) -> Result:
    """This will play one fleet after the other."""
    outcomes = []
    for nodes, seconds in QUICK_SIZES if quick else SIZES:
        print(f"fleet_scale: {nodes} nodes", file=sys.stderr, flush=True)
        outcomes.append(run(nodes, seconds))
    return result(outcomes)


def main() -> int:
    """This will play the one fleet that the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet_scale")
    parser.add_argument("--nodes", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=60.0)
    arguments = parser.parse_args()
    print(section(result([run(arguments.nodes, arguments.seconds)])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
