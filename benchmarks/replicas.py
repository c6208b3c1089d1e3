"""What a second and a third control plane add on one Postgres, and whether the model of capacity says so.

The model: a replica is one process that can use one core, all of them share one Postgres, and a tick costs each of
them what it costs with one replica. So `r` replicas take the lesser of r cores' worth of ticks, and of what all cores
together are good for; here the load process takes its part of those too.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from benchmarks.figures import Figure, Result
from benchmarks.fleet_scale import accounts
from benchmarks.ingest import Fleet
from benchmarks.processes import ControlPlane, cpu_seconds, descendants, folder
from control_plane.storage.embedded import EmbeddedPostgres

REPLICAS = (1, 2, 3)
# Enough that what a window holds (16 ticks of each) is more than is gathered for a commit.
NODES, WARM_UP_SECONDS, RUNS, RUN_SECONDS = 512, 5.0, 3, 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What happened in one stretch of time."""

    seconds: float
    ticks: float
    control_planes: float  # CPU-seconds, and so are the others
    postgres: float
    load: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """So many replicas, measured."""

    replicas: int
    watched: Sequence[Watched]
    milliseconds: Sequence[float]
    unaccounted: int

    def microseconds(self, *names: str) -> list[float]:
        """This will give the CPU time that a tick cost some of them."""
        return [sum(getattr(w, name) for name in names) / w.ticks * 1e6 for w in self.watched]


class Machine:
    """One Postgres and some control planes on it."""

    def __init__(self, servers: Sequence[ControlPlane], postgres_pid: int) -> None:
        """All of them run."""
        self.servers = servers
        self._postgres_pid = postgres_pid

    @property
    def address(self) -> str:
        """This will give where agents may go, as a fleet is told it."""
        return ",".join(f"127.0.0.1:{server.grpc_port}" for server in self.servers)

    def look(self, load: Fleet) -> tuple[float, float, float, float, float]:
        """This will read all counters: time, ticks, and CPU of control planes, Postgres and load."""
        return (
            time.monotonic(), sum(server.figures()["batches_committed"] for server in self.servers),
            cpu_seconds({server.pid for server in self.servers}),
            cpu_seconds({self._postgres_pid} | descendants(self._postgres_pid)), cpu_seconds({load.pid}),
        )  # fmt: skip


@contextmanager
def machine(replicas: int) -> Iterator[tuple[Machine, ExitStack]]:
    """This will start a Postgres and so many control planes."""
    with folder() as path, ExitStack() as stack:
        postgres = EmbeddedPostgres(path / "postgres")
        postgres.start()
        stack.callback(postgres.stop)
        pid = int((path / "postgres" / "pgdata" / "postmaster.pid").read_text(encoding="utf-8").split()[0])
        servers = []
        for number in range(replicas):
            server = ControlPlane(path / f"data-{number}", "--no-local-agent", external_url=postgres.url).start()
            stack.callback(server.stop)
            servers.append(server.wait_until_ready())
        yield Machine(servers, pid), stack


def run(replicas: int, runs: int, seconds: float) -> Outcome:
    """This will load some replicas as much as they take, with a fleet that is spread over them."""
    with machine(replicas) as (here, stack), folder() as path:
        whole = WARM_UP_SECONDS + runs * (seconds + 0.5)
        load = Fleet(here.address, path / "acknowledged", f"--nodes={NODES}", f"--seconds={whole:g}")
        stack.callback(load.kill)
        load.connected()
        time.sleep(WARM_UP_SECONDS)
        watched = []
        for _ in range(runs):
            before = here.look(load)
            time.sleep(seconds)
            watched.append(Watched(**dict(zip(
                ("seconds", "ticks", "control_planes", "postgres", "load"),
                (b - a for a, b in zip(before, here.look(load), strict=True)), strict=True,
            ))))  # fmt: skip
        played = load.finish()
        return Outcome(
            replicas=replicas, watched=watched, milliseconds=[took * 1000 for _, took in played.acknowledged],
            unaccounted=accounts(here.servers[0].database_url, played).unaccounted,
        )  # fmt: skip


def predicted(one: Outcome, replicas: int, cores: float) -> float:
    """This will give how many ticks a second the model expects of so many replicas, by what one was seen to cost."""
    of_a_replica, of_all = (
        statistics.median(one.microseconds(*names)) / 1e6
        for names in (("control_planes",), ("control_planes", "postgres", "load"))
    )
    return min(replicas / of_a_replica, cores / of_all)


def measure(*, quick: bool) -> Result:
    """This will load one, two and three replicas."""
    runs, seconds = (1, 4.0) if quick else (RUNS, RUN_SECONDS)
    outcomes = [run(replicas, runs, seconds) for replicas in REPLICAS]
    cores = len(os.sched_getaffinity(0))
    figures = []
    for outcome in outcomes:
        what = f"{outcome.replicas} replica{'s' if outcome.replicas > 1 else ''}"
        model = f"{what}: the model"
        figures += [
            Figure(name=f"{what}: ticks", unit="1/s", values=[w.ticks / w.seconds for w in outcome.watched],
                   floor=model),
            Figure(name=model, unit="1/s", values=[predicted(outcomes[0], outcome.replicas, cores)]),
            Figure(name=f"{what}: CPU of control planes", unit="µs a tick",
                   values=outcome.microseconds("control_planes")),
            Figure(name=f"{what}: CPU of Postgres", unit="µs a tick", values=outcome.microseconds("postgres")),
            Figure(name=f"{what}: CPU of the load process", unit="µs a tick", values=outcome.microseconds("load")),
            Figure(name=f"{what}: acknowledged after, p99", unit="ms",
                   values=[statistics.quantiles(outcome.milliseconds, n=100)[98]]),
            Figure(name=f"{what}: ticks unaccounted for", unit="", values=[outcome.unaccounted]),
        ]  # fmt: skip
    return Result(
        name="replicas",
        title="One, two and three replicas",
        explanation=(
            f"{NODES} nodes spread over the replicas send as fast as the window lets them, all on one Postgres and on "
            f"the {cores} cores of this machine, which the load process uses as well: what more replicas add here is "
            "what one process leaves unused. The model takes what a tick costs with one replica: as many ticks as that "
            "many cores of replicas are good for, or as all cores together are, whichever is less."
        ),
        figures=figures,
    )
