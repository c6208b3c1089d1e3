"""The same values into Prometheus, into VictoriaMetrics and through our door, one after the other in the same run.

Both peers are Debian's packages (`apt-get install prometheus victoria-metrics`); without them there is nothing to
measure. They are sent what Prometheus' own agents send, remote writes, each with twelve samples of every series of a
node: the batches that they take with the least work.
"""

from __future__ import annotations

import asyncio
import http.client
import shutil
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import psycopg

from benchmarks.figures import Figure, Result
from benchmarks.ingest import Fleet
from benchmarks.processes import ControlPlane, cpu_seconds, folder, free_ports, resident_bytes, until, until_quiet
from benchmarks.same_values import GPUS, INTERVAL_US, SERVERS, Past, values_of, write_requests
from control_plane.storage.embedded import EmbeddedPostgres
from control_plane.storage.packing.job import PackingJob
from control_plane.storage.rollups.job import RollupJob
from control_plane.storage.session import Database
from node_agent.clock import SystemClock

RUNS, NODES, TICKS = 3, 200, 60
QUICK = (1, 20, 24)
SAMPLES_AT_ONCE, CONNECTIONS = 12, 4
PEERS = ("prometheus", "victoria-metrics")
AT_MOST_SECONDS = 180.0  # for rollups
LOOSE_TABLES = ("gpu_sample", "host_sample", "inference_sample", "gpu_latest", "host_latest", "inference_latest")


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What one of them needed for all values."""

    cpu_seconds: float  # until all is taken; of ours and Postgres, until it is acknowledged
    cpu_seconds_in_all: float  # until it has nothing more to do for them: rollups, merges
    wall_seconds: float
    bytes_on_disk: float
    bytes_later: float  # when it is old: a block, merged parts, packed
    resident_bytes: int


class Peer:
    """One of the peers, as a process of its own on an empty folder."""

    def __init__(self, program: str, path: Path) -> None:
        """`program` is one of PEERS."""
        (self.port,) = free_ports(1)
        self._program, self._path = program, path
        path.mkdir()
        place = f"127.0.0.1:{self.port}"
        if program == "prometheus":
            (path / "prometheus.yml").write_text("global: {scrape_interval: 1h}\n", encoding="utf-8")
            flags = [
                f"--config.file={path / 'prometheus.yml'}", f"--storage.tsdb.path={path / 'data'}",
                f"--web.listen-address={place}", "--web.enable-remote-write-receiver", "--web.enable-admin-api",
                "--log.level=error",
            ]  # fmt: skip
        else:
            flags = [f"-storageDataPath={path / 'data'}", f"-httpListenAddr={place}", "-loggerLevel=ERROR"]
        self._process = subprocess.Popen([program, *flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(self._is_ready, f"{program}'s readiness")

    def _is_ready(self) -> bool:
        try:
            return self._get("/-/ready" if self._program == "prometheus" else "/health") == 200
        except OSError:
            return False

    @property
    def pid(self) -> int:
        """This will give the process's id."""
        return self._process.pid

    def _get(self, path: str, method: str = "GET") -> int:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method)
        with urllib.request.urlopen(request, timeout=120) as answer:
            return int(answer.status)

    def send(self, requests: Sequence[Sequence[bytes]]) -> None:
        """This will write all requests: a node's in their order, over a few connections."""
        shares = [requests[number::CONNECTIONS] for number in range(CONNECTIONS)]
        failed: list[BaseException] = []

        def work(share: Sequence[Sequence[bytes]]) -> None:
            try:
                self._write(share)
            except BaseException as error:  # boundary: another thread's failure is raised by who waits for it
                failed.append(error)

        threads = [threading.Thread(target=work, args=(share,)) for share in shares]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failed:
            raise failed[0]

    def _write(self, share: Sequence[Sequence[bytes]]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        headers = {
            "Content-Encoding": "snappy", "Content-Type": "application/x-protobuf",
            "X-Prometheus-Remote-Write-Version": "0.1.0",
        }  # fmt: skip
        for moment in zip(*share, strict=True):
            for body in moment:
                connection.request("POST", "/api/v1/write", body=body, headers=headers)
                answer = connection.getresponse()
                said = answer.read()
                if answer.status not in (200, 204):
                    raise RuntimeError(f"{self._program} answered {answer.status}: {said[:200]!r}")
        connection.close()

    def bytes_on_disk(self) -> float:
        """This will have it write down what it holds back, and weigh what it has written as values came in."""
        if self._program != "prometheus":
            self._get("/internal/force_flush")
            until_quiet(lambda: {self.pid})  # it writes what it has in memory within seconds
        return float(_size(self._path / "data"))

    def settle(self) -> None:
        """This will have it do what it does later on."""
        if self._program == "prometheus":
            self._get("/api/v1/admin/tsdb/snapshot", "POST")
        else:
            self._get("/internal/force_merge")
        until_quiet(lambda: {self.pid})

    def bytes_later(self) -> float:
        """This will weigh what it keeps: of Prometheus the block, without the log that it then drops."""
        return float(_size(self._path / "data" / ("snapshots" if self._program == "prometheus" else "")))

    def stop(self) -> None:
        """This will end it."""
        self._process.terminate()
        self._process.wait()


def _size(path: Path) -> int:
    return sum(each.stat().st_blocks * 512 for each in path.rglob("*") if each.is_file() and not each.is_symlink())


def _peer(program: str, requests: Sequence[Sequence[bytes]]) -> Taken:
    with folder() as path:
        peer = Peer(program, path / program)
        try:
            started, before = time.monotonic(), cpu_seconds({peer.pid})
            peer.send(requests)
            wall, taken = time.monotonic() - started, cpu_seconds({peer.pid}) - before
            resident, on_disk = resident_bytes(peer.pid), peer.bytes_on_disk()
            peer.settle()
            return Taken(
                cpu_seconds=taken, cpu_seconds_in_all=cpu_seconds({peer.pid}) - before, wall_seconds=wall,
                bytes_on_disk=on_disk, bytes_later=peer.bytes_later(), resident_bytes=resident,
            )  # fmt: skip
        finally:
            peer.stop()


@contextmanager
def _loaded(server: ControlPlane, path: Path, nodes: int, past: Past) -> Iterator[Fleet]:
    fleet = Fleet(
        f"127.0.0.1:{server.grpc_port}", path / "acknowledged", f"--nodes={nodes}", f"--ticks={past.ticks}",
        f"--past={past.start_us}",
    )  # fmt: skip
    try:
        yield fleet
    finally:
        fleet.kill()


def _ours(nodes: int, past: Past) -> Taken:
    with folder() as path:
        server = ControlPlane(path / "data", "--no-local-agent").start()
        try:
            server.wait_until_ready()

            def pids() -> set[int]:
                return {server.pid} | server.postgres_pids

            with _loaded(server, path, nodes, past) as fleet:
                fleet.connected()
                started, before = time.monotonic(), cpu_seconds(pids())
                played = fleet.finish()
                wall, taken = time.monotonic() - started, cpu_seconds(pids()) - before
            if played.refused or any(made != done for made, done in played.nodes.values()):
                raise ValueError(f"not all was taken: {played.refused}")
            resident = resident_bytes(server.pid) + _private_bytes(server.postgres_pids)
            until(lambda: _is_rolled_up(server.database_url, past), "the rollups", seconds=AT_MOST_SECONDS)
            in_all = cpu_seconds(pids()) - before
            loose = _table_bytes(server.database_url, LOOSE_TABLES)
        finally:
            server.stop()
        packed = asyncio.run(_packed_bytes(path / "data" / "postgres"))
    return Taken(
        cpu_seconds=taken, cpu_seconds_in_all=in_all, wall_seconds=wall, bytes_on_disk=loose, bytes_later=packed,
        resident_bytes=resident,
    )  # fmt: skip


def _is_rolled_up(url: str, past: Past) -> bool:
    """This will look, at most twice a second, whether the minutes are made, and those made anew that came late."""
    time.sleep(0.5)
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT NOT EXISTS (SELECT FROM rollup_due) AND until >= to_timestamp(%s) FROM rollup_progress "
            "WHERE name = 'minute'",
            (past.at_us(past.ticks - 1) / 1e6,),
        ).fetchone()
    return row is not None and bool(row[0])


def _private_bytes(pids: set[int]) -> int:
    """This will give the memory of Postgres' processes, each shared page once (proc(5), smaps_rollup's Pss)."""
    total = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
        except OSError:  # it ended
            continue
        total += sum(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:"))
    return total


def _table_bytes(url: str, parents: Sequence[str]) -> float:
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT sum(pg_total_relation_size(relid)) FROM unnest(%s::text[]) parent, "
            "LATERAL (SELECT relid FROM pg_partition_tree(parent::regclass) WHERE isleaf "
            "UNION SELECT parent::regclass) each",
            (list(parents),),
        ).fetchone()
    assert row is not None
    return float(row[0])


async def _packed_bytes(place: Path) -> float:
    """This will pack the day as it is packed once it has been over for a day, and weigh it."""
    postgres = EmbeddedPostgres(place)
    postgres.start()
    try:
        database, later = Database(postgres.url), SystemClock().now().wall + timedelta(days=3)
        for job in (
            RollupJob(database, holder="benchmark", now=lambda: later),
            PackingJob(database, holder="benchmark", now=lambda: later, after=timedelta(days=1)),
        ):
            while job.work().more:
                pass
            job.close()
        await database.close()
        return _table_bytes(postgres.url, ["packed_sample"])
    finally:
        postgres.stop()


def _figures(name: str, taken: Sequence[Taken], values: int, floors: Sequence[str]) -> Iterator[Figure]:
    """This will write down what one needed; ours comes once beside each floor."""

    def lines(what: str, unit: str, numbers: list[float]) -> Iterator[Figure]:
        for floor in floors or (None,):
            suffix = f" (against {floor})" if floor and len(floors) > 1 else ""
            yield Figure(
                name=f"{name}: {what}{suffix}", unit=unit, values=numbers, floor=f"{floor}: {what}" if floor else None
            )

    yield from lines("values", "million per CPU-second", [values / t.cpu_seconds / 1e6 for t in taken])
    yield from lines(
        "values, all that is made of them too", "million per CPU-second",
        [values / t.cpu_seconds_in_all / 1e6 for t in taken],
    )  # fmt: skip
    yield from lines("bytes of a value, as it came", "bytes", [t.bytes_on_disk / values for t in taken])
    yield from lines("bytes of a value, once it is old", "bytes", [t.bytes_later / values for t in taken])
    yield from lines("memory", "MiB", [t.resident_bytes / 2**20 for t in taken])
    yield Figure(name=f"{name}: wall time", unit="s", values=[t.wall_seconds for t in taken])


def measure(*, quick: bool) -> Result:
    """This will send the same values to all, in turns."""
    runs, nodes, ticks = QUICK if quick else (RUNS, NODES, TICKS)
    peers = [program for program in PEERS if shutil.which(program)]
    notes = [f"Not measured: {program} is not installed." for program in PEERS if program not in peers]
    found: dict[str, list[Taken]] = {name: [] for name in (*peers, "ours")}
    values = 0
    for _ in range(runs):
        # In the middle of the last minutes, so that nothing is too old for any of them, and never in two days.
        now_us = int(SystemClock().now().wall.timestamp()) * 1_000_000
        past = Past(start_us=now_us - (ticks + 12) * INTERVAL_US, ticks=ticks)
        values = nodes * values_of(past)
        requests = [write_requests(node, past, SAMPLES_AT_ONCE) for node in range(nodes)]
        for program in peers:
            print(f"peers: {program}", file=sys.stderr, flush=True)
            found[program].append(_peer(program, requests))
        del requests
        print("peers: ours", file=sys.stderr, flush=True)
        found["ours"].append(_ours(nodes, past))
    figures = [figure for program in peers for figure in _figures(program, found[program], values, ())]
    figures += _figures("ours", found["ours"], values, peers)
    median = {name: statistics.median(t.cpu_seconds for t in taken) for name, taken in found.items()}
    notes += [
        f"{nodes} nodes of {GPUS} GPUs and {SERVERS} inference servers, {ticks} ticks 5 s apart, {values:,} values; "
        "CPU-seconds until all was taken: " + ", ".join(f"{name} {cpu:.1f}" for name, cpu in median.items()) + "."
    ]
    return Result(
        name="peers",
        title="The same values into Prometheus and VictoriaMetrics",
        explanation=(
            "The same numbers, in the same order, into each: gauges that walk and counters that grow as a busy fleet's "
            "do. The peers get remote writes, snappy in literals, each with "
            f"{SAMPLES_AT_ONCE} samples of every series of a node, over {CONNECTIONS} connections; their CPU and "
            "memory are those of their process, what they hold is on no disk yet when they answer. We get one tick per "
            "message over one gRPC stream per node, as agents send them; acknowledged after commit with fsync on, CPU "
            "and memory of the control plane and Postgres together, with admission, newest rows and alerts. *All that "
            "is made of them too* adds what comes later: our rollups of minutes, nodes and the fleet, made of data "
            "that came late; Prometheus' block; VictoriaMetrics' merges. Bytes hold indexes and all: of Prometheus "
            "the log and then a snapshot's block, of ours loose rows and then the packed day."
        ),
        figures=figures,
        notes=notes,
    )
