"""What a node that floods the door costs the others, and what memory grows to while Postgres stands still."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.figures import Figure, Result
from benchmarks.ingest import Fleet
from benchmarks.processes import ControlPlane, control_plane, environment, folder, resident_bytes

NODES, INTERVAL_SECONDS = 200, 1.0
WARM_UP_SECONDS, WATCH_SECONDS = 5.0, 20.0
STANDSTILL_SECONDS, LOOK_SECONDS = 30.0, 0.5
FLOODS = 4  # of them at once while Postgres stands still


class Flood:
    """A flooding node in a process of its own."""

    def __init__(self, server: ControlPlane, seconds: float, number: int = 0) -> None:
        """It floods for so long; each number is a node."""
        where = (f"--server=127.0.0.1:{server.grpc_port}", f"--number={number}")
        command = [sys.executable, "-m", "benchmarks.flood", *where]
        self._process = subprocess.Popen(
            [*command, f"--seconds={seconds}"], env=environment(), stdout=subprocess.PIPE
        )  # fmt: skip
        assert self._process.stdout is not None
        if self._process.stdout.readline() != b"connected\n":
            raise RuntimeError("the flood did not connect; it says why above")

    def finish(self) -> Mapping[str, int]:
        """This will wait for its end and give how many ticks were sent and acknowledged."""
        output, _ = self._process.communicate()
        told: Mapping[str, int] = json.loads(output)
        return told

    def kill(self) -> None:
        """This will end it at once."""
        self._process.kill()
        self._process.wait()


@contextmanager
def quiet_fleet(server: ControlPlane, path: Path, seconds: float) -> Iterator[Fleet]:
    """This will run a fleet that keeps its pace."""
    playing = Fleet(
        f"127.0.0.1:{server.grpc_port}", path / "acknowledged", f"--nodes={NODES}", f"--ramp={WARM_UP_SECONDS / 2}",
        f"--interval={INTERVAL_SECONDS:g}", f"--seconds={seconds:g}",
    )  # fmt: skip
    try:
        playing.connected()
        yield playing
    finally:
        playing.kill()


def _beside_a_flood(server: ControlPlane, path: Path, seconds: float) -> list[Figure]:
    """This will compare the latency of quiet nodes alone with that beside a flood."""
    flooded_seconds = WARM_UP_SECONDS + seconds
    with quiet_fleet(server, path, 2 * flooded_seconds + 2) as playing:
        time.sleep(WARM_UP_SECONDS)
        alone = (time.monotonic(), time.monotonic() + seconds)
        time.sleep(seconds)
        flooding = Flood(server, flooded_seconds)
        try:
            time.sleep(WARM_UP_SECONDS)
            beside = (time.monotonic(), time.monotonic() + seconds)
            before = server.figures()
            time.sleep(seconds)
            after = server.figures()
            flood = flooding.finish()
        finally:
            flooding.kill()
        played = playing.finish()
    missing = sum(made - done for made, done in played.nodes.values())
    figures = []
    for percent in (50, 99):
        floor = f"quiet nodes alone: acknowledged after, p{percent}"
        for what, window, against in (
            (floor, alone, None),
            (floor.replace("alone", "beside the flood"), beside, floor),
        ):
            took = [took * 1000 for at, took in played.acknowledged if window[0] <= at < window[1]]
            figures.append(Figure(name=what, unit="ms", values=[_percentile(took, percent)], floor=against))
    stored = flood["acknowledged"] / flooded_seconds
    held_back = after["held_back_seconds"] - before["held_back_seconds"]
    return [
        *figures,
        Figure(name="ticks of quiet nodes that were not acknowledged", unit="", values=[missing]),
        Figure(name="ticks of the flood that were stored", unit="1/s", values=[stored]),
        Figure(name="the flood was held back", unit="% of the time", values=[held_back / seconds * 100]),
    ]


def _while_postgres_stands_still(server: ControlPlane, path: Path, seconds: float) -> list[Figure]:
    """This will stop Postgres under a fleet and floods, and look how much memory they come to take."""
    with quiet_fleet(server, path, WARM_UP_SECONDS + seconds + 5) as playing:
        time.sleep(WARM_UP_SECONDS)
        resident, pending = [resident_bytes(server.pid)], 0.0
        stopped = server.postgres_pids
        floods: list[Flood] = []
        try:
            floods += [Flood(server, seconds, number) for number in range(FLOODS)]
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                resident.append(resident_bytes(server.pid))
                time.sleep(LOOK_SECONDS)
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
            for flood in floods:
                flood.kill()
        pending = server.figures()["pending_bytes"]
        played = playing.finish()
    missing = sum(made - done for made, done in played.nodes.values())
    before, floor = resident[0], "memory of the control plane before"
    return [
        Figure(name=floor, unit="MiB", values=[before / 2**20]),
        Figure(
            name="memory at most, while Postgres stands still", unit="MiB", values=[max(resident) / 2**20], floor=floor
        ),
        Figure(name="waiting to be committed when it goes on", unit="MiB", values=[pending / 2**20]),
        Figure(name="ticks that were not acknowledged in the end", unit="", values=[missing]),
    ]


def _percentile(values: Sequence[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def measure(*, quick: bool) -> Result:
    """This will flood a control plane, and stop its Postgres."""
    seconds, still = (6.0, 6.0) if quick else (WATCH_SECONDS, STANDSTILL_SECONDS)
    with control_plane("--no-local-agent") as server, folder() as path:
        figures = _beside_a_flood(server, path, seconds)
        figures += _while_postgres_stands_still(server, path, still)
    return Result(
        name="fairness",
        title="One node that floods, and a Postgres that stands still",
        explanation=(
            f"{NODES} nodes of 8 GPUs tick every {INTERVAL_SECONDS:g} s, alone and then beside a node that sends "
            "batches of 100 ticks for as long as gRPC takes them, without regard for its window. It is read no faster "
            "than its turn comes: what a stream may have waiting is bounded, and nodes take turns by bytes. Then "
            f"Postgres is stopped (SIGSTOP) for {still:g} s under the fleet and {FLOODS} floods: what is "
            "not read stays with the agents."
        ),
        figures=figures,
    )
