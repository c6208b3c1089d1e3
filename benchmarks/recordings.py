"""What load generators measured of real engines, and what the agent reads in the same engines' metrics."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.figures import Figure, Result, Table, number
from benchmarks.load_recording import LATENCIES, Counts, Recording, asked, counted, observed, parsed, recordings
from control_plane.analysis.distributions import Quantile, quantile
from node_agent.clock import Instant
from node_agent.collectors.gpu_values import GpuReader
from node_agent.host.nvml import PynvmlDriver
from tests.fakes.recorded_pynvml import RecordedPynvml

RUNS, QUICK_RUNS = 30, 3
# Of gpu.jsonl, NVML's name and the factor to our unit, and our field.
GPU_FIELDS: Mapping[str, tuple[float, str]] = {
    "util_gpu": (0.01, "gpu_utilization_ratio"),
    "sm_util": (0.01, "sm_active_ratio"),
    "sm_occupancy": (0.01, "sm_occupancy_ratio"),
    "any_tensor_util": (0.01, "tensor_active_ratio"),
    "dram_bw_util": (0.01, "dram_active_ratio"),
    "power_mw": (0.001, "power_draw_watts"),
    "energy_mj": (0.001, "energy_joules_total"),
    "sm_mhz": (1.0, "sm_clock_megahertz"),
    "temp": (1.0, "temperature_gpu_celsius"),
    "mem_used": (1.0, "memory_used_bytes"),
    "pcie_rx_per_sec": (2.0**20, "pcie_receive_bytes_per_second"),
    "pcie_tx_per_sec": (2.0**20, "pcie_transmit_bytes_per_second"),
    "nvlink_total_rx_per_sec": (2.0**20, "nvlink_receive_bytes_per_second"),
    "nvlink_total_tx_per_sec": (2.0**20, "nvlink_transmit_bytes_per_second"),
}
_SHOWN_OF_A_GPU = ("util_gpu", "sm_util", "any_tensor_util", "dram_bw_util", "power_mw")


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentile:
    """One percentile as the clients measured it, and the bucket in which the agent sees it."""

    recording: str
    latency: str
    name: str  # p50
    measured: float
    bucket: Quantile

    @property
    def above_seconds(self) -> float:
        """This will give by how much the clients' number lies above the bucket: they wait for their own loop too."""
        return 0.0 if self.bucket.high is None else max(0.0, self.measured - self.bucket.high)

    @property
    def is_inside(self) -> bool:
        """This will say whether the clients' number lies in the bucket."""
        return self.measured >= self.bucket.low and not self.above_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuPair:
    """One number of gpu.jsonl in our unit, and what the agent's GPU reader made of the same row."""

    name: str
    recorded: float
    read: object


def percentiles(recording: Recording) -> list[Percentile]:
    """This will set every percentile that the load generator gave beside its bucket."""
    found = []
    for latency, field in LATENCIES.items():
        distribution = observed(recording, field)
        assert distribution is not None, field
        total = sum(distribution.counts)
        for name, measured in recording.summary[latency].items():
            # the load generator's p50 of n sorted values is the one with the index int(0.5 n)
            rank = min(int(float(name[1:]) / 100 * total) + 1, total)
            bucket = quantile(distribution, rank / total)
            assert bucket is not None
            found.append(
                Percentile(recording=recording.name, latency=latency, name=name, measured=measured, bucket=bucket)
            )
    return found


def gpu_pairs(recording: Recording) -> list[list[GpuPair]]:
    """This will let the agent's GPU reader look at every row of gpu.jsonl, behind a recorded NVML."""
    pairs = []
    with pytest.MonkeyPatch.context() as patch:
        nvml = RecordedPynvml()
        nvml.install(patch)
        driver = PynvmlDriver()
        driver.open()
        for row in recording.gpu_rows:
            now = Instant(wall=datetime.fromtimestamp(row["t"], UTC), monotonic_seconds=row["t"])
            nvml.show(row)
            reader = GpuReader(driver, 0, now=now, proc_root=Path("/nonexistent"))
            reader.look(Instant(wall=now.wall, monotonic_seconds=row["t"] - 1.0))  # GPM compares two looks
            values = reader.look(now).values
            known = {name: entry for name, entry in GPU_FIELDS.items() if name in row}
            pairs.append([GpuPair(name=n, recorded=row[n] * f, read=values[ours]) for n, (f, ours) in known.items()])
        driver.close()
    return pairs


def measure(*, quick: bool) -> Result:
    """This will read every recording, compare, and time the reading of a page."""
    found = [each for each in recordings() if each.summary]
    truth = {each.name: (asked(each), counted(each)) for each in found}
    inside = [percentile for each in found for percentile in percentiles(each)]
    gpu = {each.name: gpu_pairs(each) for each in found if each.gpu_rows}
    bodies = [body for each in found for _, body in each.pages]
    runs = QUICK_RUNS if quick else RUNS
    floor = "prometheus_client reads a page"
    outside = [p for p in inside if not p.is_inside]
    above = [f"{p.above_seconds * 1000:.1f} ms ({p.recording}, {p.latency} {p.name})" for p in outside]
    return Result(
        name="recordings",
        title="What load generators measured, and what the agent reads",
        explanation=(
            "Real engines under load, recorded whole (`tests/data/loads`): the load generator's own numbers beside "
            "what the agent reads in the engine's metrics between the first page and the last. The clients' tokens are "
            "known exactly, by the seed of their lengths. A percentile is right when the clients' number lies in the "
            "bucket that the server's histogram leaves for it; clients also wait for the network and their own loop. "
            "The floor of the time is Prometheus' own client library on the same pages."
        ),
        figures=[
            Figure(name="the agent reads a page", unit="ms", values=_times(parsed, bodies, runs), floor=floor),
            Figure(name=floor, unit="ms", values=_times(_with_the_library, bodies, runs)),
        ],
        tables=[_counts_table(truth), _percentile_table(inside), _gpu_table(gpu)],
        notes=[
            f"Counters equal to what the clients sent and got: {_agreement(truth.values())}.",
            f"Percentiles inside of their bucket: {len(inside) - len(outside)} of {len(inside)}; above it: "
            f"{', '.join(above) or 'none'}.",
            f"GPU numbers equal to the recorded ones: {_equal_gpu_numbers(gpu)}.",
        ],
    )


def _times(reads: Callable[[bytes], object], bodies: list[bytes], runs: int) -> list[float]:
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        for body in bodies[::10]:
            reads(body)
        times.append((time.perf_counter() - started) / len(bodies[::10]) * 1000)
    return times


def _with_the_library(body: bytes) -> int:
    return sum(len(family.samples) for family in text_string_to_metric_families(body.decode()))


def _counts_table(truth: Mapping[str, tuple[Counts, Counts]]) -> Table:
    head = [
        "recording",
        *(f"{f.name.replace('_', ' ')}, {who}" for f in fields(Counts) for who in ("clients", "agent")),
    ]
    rows = [
        [name, *(_count(each) for pair in zip(astuple(sent), astuple(seen), strict=True) for each in pair)]
        for name, (sent, seen) in truth.items()
    ]
    return Table(head=head, rows=rows)


def _count(value: float | None) -> str:
    return "unknown" if value is None else f"{value:,.0f}"


def _percentile_table(inside: list[Percentile]) -> Table:
    kinds = list(dict.fromkeys((p.latency, p.name) for p in inside))
    rows = []
    for name in dict.fromkeys(p.recording for p in inside):
        of_it = {(p.latency, p.name): p for p in inside if p.recording == name}
        rows.append([name, *(_interval(of_it[kind]) for kind in kinds)])
    return Table(head=["recording, seconds", *(f"{latency} {name}" for latency, name in kinds)], rows=rows)


def _interval(percentile: Percentile) -> str:
    high = "∞" if percentile.bucket.high is None else number(percentile.bucket.high)
    mark = "" if percentile.is_inside else " **above**"
    return f"{number(percentile.measured)} in {number(percentile.bucket.low)}…{high}{mark}"


def _gpu_table(gpu: Mapping[str, list[list[GpuPair]]]) -> Table:
    rows = []
    for name, looks in gpu.items():
        cells = [f"{len(looks)}"]
        for wanted in _SHOWN_OF_A_GPU:
            pairs = [pair for look in looks for pair in look if pair.name == wanted]
            read = [pair.read for pair in pairs if isinstance(pair.read, int | float)]
            recorded = statistics.fmean(pair.recorded for pair in pairs)
            cells.append(f"{recorded:.4g} / {statistics.fmean(read):.4g}" if len(read) == len(pairs) else "unknown")
        rows.append([name, *cells])
    head = [GPU_FIELDS[name][1].replace("_", " ") for name in _SHOWN_OF_A_GPU]
    return Table(head=["recording, mean recorded / read", "rows", *head], rows=rows)


def _agreement(truth: Iterable[tuple[Counts, Counts]]) -> str:
    pairs: list[tuple[Any, Any]] = [
        pair for sent, seen in truth for pair in zip(astuple(sent), astuple(seen), strict=True)
    ]
    known = [(sent, seen) for sent, seen in pairs if seen is not None]
    equal = sum(sent == seen for sent, seen in known)
    return f"{equal} of {len(known)}; {len(pairs) - len(known)} unknown, because the engine shows no such counter"


def _equal_gpu_numbers(gpu: Mapping[str, list[list[GpuPair]]]) -> str:
    pairs = [pair for looks in gpu.values() for look in looks for pair in look]
    equal = sum(isinstance(p.read, int | float) and abs(p.read - p.recorded) <= 1e-9 * abs(p.recorded) for p in pairs)
    return f"{equal} of {len(pairs)}"
