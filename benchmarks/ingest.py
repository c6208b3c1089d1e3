"""How much goes through the real door: gRPC in, committed rows out."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg.rows import TupleRow

from benchmarks.figures import Figure, Result
from benchmarks.processes import ControlPlane, control_plane, cpu_seconds, environment, folder

RUNS, RUN_SECONDS = 3, 8.0
# Enough that windows (16 batches each) hold more than one commit takes.
SATURATING_NODES = 256
PACED_NODES, PACED_INTERVAL_SECONDS, PACED_SECONDS = 500, 5.0, 15.0
WARM_UP_SECONDS = 3.0
COMMITS_OF_A_FLOOR = 5
TABLES = ("gpu", "host", "inference")


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What happened between two looks at the control plane."""

    began: float
    seconds: float
    ticks: float
    rows: float
    commits: float
    control_plane_seconds: float
    postgres_seconds: float

    def latencies(self, acknowledged: Sequence[tuple[float, float]]) -> list[float]:
        """This will give the latencies, in ms, of what was acknowledged meanwhile."""
        return [took * 1000 for at, took in acknowledged if self.began <= at < self.began + self.seconds]


def _look(server: ControlPlane) -> tuple[float, dict[str, float], float, float]:
    return time.monotonic(), server.figures(), cpu_seconds({server.pid}), cpu_seconds(server.postgres_pids)


def _watch(server: ControlPlane, seconds: float) -> Window:
    at, figures, ours, theirs = _look(server)
    time.sleep(seconds)
    until, later, ours_later, theirs_later = _look(server)
    return Window(
        began=at,
        seconds=until - at,
        ticks=later["batches_committed"] - figures["batches_committed"],
        rows=later["rows_committed"] - figures["rows_committed"],
        commits=later["commits"] - figures["commits"],
        control_plane_seconds=ours_later - ours,
        postgres_seconds=theirs_later - theirs,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """What a fleet did, as its process tells at its end."""

    acknowledged: Sequence[tuple[float, float]]  # (monotonic time, seconds it took) of every batch
    nodes: Mapping[str, tuple[int, int]]  # by number: ticks made and ticks acknowledged
    refused: Mapping[str, int]
    reconnects: int


class Fleet:
    """A fleet in a process of its own."""

    def __init__(self, server: str, acknowledged: Path, *arguments: str) -> None:
        """`server` is host:port, or several with commas; `acknowledged` is a file that it may write."""
        self._acknowledged = acknowledged
        command = [
            sys.executable, "-m", "benchmarks.fleet", f"--server={server}", f"--acknowledged={acknowledged}", *arguments
        ]  # fmt: skip
        self._process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE)

    @property
    def pid(self) -> int:
        """This will give the process's id."""
        return self._process.pid

    def connected(self) -> None:
        """This will return when every node is connected."""
        assert self._process.stdout is not None
        if self._process.stdout.readline() != b"connected\n":
            raise RuntimeError("the fleet did not connect; it says why above")

    def finish(self) -> Played:
        """This will wait for the end."""
        output, _ = self._process.communicate()
        if self._process.returncode:
            raise RuntimeError("the fleet did not come to its end; it says why above")
        told = json.loads(output)
        pairs = array("d")
        pairs.frombytes(self._acknowledged.read_bytes())
        return Played(acknowledged=list(zip(pairs[::2], pairs[1::2], strict=True)), **told)

    def kill(self) -> None:
        """This will end it at once."""
        self._process.kill()
        self._process.wait()


@contextmanager
def fleet(server: ControlPlane, *arguments: str) -> Iterator[Callable[[], list[tuple[float, float]]]]:
    """This will run a fleet; what it gives waits for its end and tells the latencies."""
    with folder() as path:
        playing = Fleet(f"127.0.0.1:{server.grpc_port}", path / "acknowledged", *arguments)
        try:
            playing.connected()

            def finish() -> list[tuple[float, float]]:
                played = playing.finish()
                if played.refused:
                    raise ValueError(f"refused: {played.refused}")
                return list(played.acknowledged)

            yield finish
        finally:
            playing.kill()


def _copy_rates(server: ControlPlane, rows_per_commit: float, runs: int) -> tuple[list[float], list[float]]:
    """This will COPY rows, as they were stored, into the same tables: rows a second, and CPU seconds per 1,000 rows."""
    rates, costs = [], []
    with psycopg.connect(server.database_url, autocommit=True) as connection:
        stored = {table: _count(connection, table) for table in TABLES}
        share = min(1.0, rows_per_commit / sum(stored.values()))
        counts = {table: max(1, round(count * share)) for table, count in stored.items()}
        rows = sum(counts.values())
        for run in range(runs):
            seconds, used = 0.0, 0.0
            for commit in range(COMMITS_OF_A_FLOOR):
                shift = run * COMMITS_OF_A_FLOOR + commit + 1
                ready_made = {table: _as_bytes(connection, table, count, shift) for table, count in counts.items()}
                started, used_before = time.monotonic(), cpu_seconds(server.postgres_pids)
                _copy(connection, ready_made)
                seconds += time.monotonic() - started
                used += cpu_seconds(server.postgres_pids) - used_before
            rates.append(rows * COMMITS_OF_A_FLOOR / seconds)
            costs.append(used / (rows * COMMITS_OF_A_FLOOR) * 1000)
    return rates, costs


def _count(connection: psycopg.Connection[TupleRow], table: str) -> int:
    row = connection.execute(f"SELECT count(*) FROM {table}_sample").fetchone()
    assert row is not None
    count: int = row[0]
    return count


def _as_bytes(connection: psycopg.Connection[TupleRow], table: str, count: int, shift_seconds: int) -> bytes:
    """This will give stored rows as COPY reads them, later by some seconds: an index of ever the same is no floor."""
    query = "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum"
    names = [name for (name,) in connection.execute(query, (f"{table}_sample",))]
    shifted = ", ".join(f"taken_at + interval '{shift_seconds} s'" if name == "taken_at" else name for name in names)
    statement = f"COPY (SELECT {shifted} FROM {table}_sample LIMIT {count}) TO STDOUT (FORMAT BINARY)"
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        return b"".join(bytes(part) for part in copy)


def _copy(connection: psycopg.Connection[TupleRow], ready_made: Mapping[str, bytes]) -> None:
    with connection.transaction(), connection.cursor() as cursor:
        for table, data in ready_made.items():
            with cursor.copy(f"COPY {table}_sample FROM STDIN (FORMAT BINARY)") as copy:
                copy.write(data)


def _percentile(values: Sequence[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def _saturated(server: ControlPlane, runs: int, seconds: float) -> list[Figure]:
    whole = WARM_UP_SECONDS + runs * (seconds + 0.5)
    with fleet(server, f"--nodes={SATURATING_NODES}", f"--seconds={whole:g}") as finish:
        time.sleep(WARM_UP_SECONDS)
        windows = [_watch(server, seconds) for _ in range(runs)]
        acknowledged = finish()
    rows_per_commit = [w.rows / w.commits for w in windows]
    copy_rates, copy_costs = _copy_rates(server, statistics.median(rows_per_commit), runs)
    latencies = [w.latencies(acknowledged) for w in windows]
    floor, cost_floor = "floor: COPY of ready-made bytes", "floor: Postgres' CPU of that COPY"

    def figure(name: str, unit: str, values: list[float], against: str | None = None) -> Figure:
        return Figure(name=name, unit=unit, values=values, floor=against)

    return [
        figure("saturated: rows", "1/s", [w.rows / w.seconds for w in windows], floor),
        figure(floor, "rows/s", copy_rates),
        figure("saturated: ticks", "1/s", [w.ticks / w.seconds for w in windows]),
        figure("saturated: rows in a commit", "rows", rows_per_commit),
        figure("saturated: CPU of control plane and Postgres", "s per 1,000 rows",
               [(w.control_plane_seconds + w.postgres_seconds) / w.rows * 1000 for w in windows], cost_floor),
        figure("saturated: CPU of the control plane", "s per 1,000 rows",
               [w.control_plane_seconds / w.rows * 1000 for w in windows]),
        figure("saturated: CPU of Postgres", "s per 1,000 rows",
               [w.postgres_seconds / w.rows * 1000 for w in windows], cost_floor),
        figure(cost_floor, "s per 1,000 rows", copy_costs),
        figure("saturated: acknowledged after, p50", "ms", [_percentile(ms, 50) for ms in latencies]),
        figure("saturated: acknowledged after, p99", "ms", [_percentile(ms, 99) for ms in latencies]),
    ]  # fmt: skip


def _paced(server: ControlPlane, runs: int, seconds: float) -> list[Figure]:
    whole = PACED_INTERVAL_SECONDS + 1 + runs * (seconds + 0.5)
    flags = (f"--nodes={PACED_NODES}", f"--interval={PACED_INTERVAL_SECONDS:g}", f"--seconds={whole:g}")
    with fleet(server, "--first=100000", *flags) as finish:
        time.sleep(PACED_INTERVAL_SECONDS + 1)  # until every node has ticked, and was stored for the first time
        windows = [_watch(server, seconds) for _ in range(runs)]
        acknowledged = finish()
    latencies = [w.latencies(acknowledged) for w in windows]
    what = f"{PACED_NODES} nodes at {PACED_INTERVAL_SECONDS:g} s"
    floor = "floor: gathering for a commit"
    return [
        Figure(name=f"{what}: rows", unit="1/s", values=[w.rows / w.seconds for w in windows]),
        Figure(name=f"{what}: CPU of the control plane", unit="% of a core",
               values=[w.control_plane_seconds / w.seconds * 100 for w in windows]),
        Figure(name=f"{what}: CPU of Postgres", unit="% of a core",
               values=[w.postgres_seconds / w.seconds * 100 for w in windows]),
        Figure(name=f"{what}: acknowledged after, p50", unit="ms", floor=floor,
               values=[_percentile(ms, 50) for ms in latencies]),
        Figure(name=f"{what}: acknowledged after, p99", unit="ms", floor=floor,
               values=[_percentile(ms, 99) for ms in latencies]),
        Figure(name=floor, unit="ms", values=[_gather_milliseconds()]),
    ]  # fmt: skip


def _gather_milliseconds() -> float:
    from control_plane.ingest.writer import gather_seconds

    return gather_seconds(PACED_NODES, 0.0) * 1000


def measure(*, quick: bool) -> Result:
    """This will load a control plane as much as it takes, and then as much as a fleet of 4,000 GPUs does."""
    runs, seconds = (1, 4.0) if quick else (RUNS, RUN_SECONDS)
    figures: list[Figure] = []
    with control_plane("--no-local-agent") as server:
        figures += _saturated(server, runs, seconds)
    with control_plane("--no-local-agent") as server:
        figures += _paced(server, 1 if quick else 2, 6.0 if quick else PACED_SECONDS)
    return Result(
        name="ingest",
        title="Ingest",
        explanation=(
            "Real gRPC streams, one connection each, from a load process into `optiinfra up --no-local-agent`, to rows "
            "that are committed and acknowledged. A tick is 11 rows with some 750 values: 8 GPUs, the host with 64 "
            "cores, and 2 engines with 10 histograms each. Saturated, each of "
            f"{SATURATING_NODES} nodes sends as fast as the window lets it; the load process, the control plane and "
            "Postgres then share the two cores. The floor is COPY of ready-made bytes of the same rows into the same "
            "tables in as large commits, by one client and without `*_latest`, cursors, checks or acknowledgements. "
            f"Paced, {PACED_NODES} nodes of 8 GPUs tick every {PACED_INTERVAL_SECONDS:g} s; the floor of their "
            "latency is the time for which commits gather, which each batch waits for half of on average and all of "
            "at worst."
        ),
        figures=figures,
    )
